// SPDX-License-Identifier: Apache-2.0
// Makes the container image without a container engine and without a base image: `make image`. Needs the build. See docs/image.md.
//
//   node scripts/image/main.mts [--variant dpdk] [--folder build/image] [--reference localhost/outrigger:dev] [--root-only]
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { checkBudget, inMiB } from './budget.mts';
import { imageConfig } from './dockerfile.mts';
import { writeImage, type Layer } from './oci.mts';
import { kHome, kVariants, makeRoot, settle, type Variant } from './root.mts';
import { sbom } from './sbom.mts';
import { entriesOf, tar } from './tar.mts';

const kSbomPath = 'usr/share/outrigger/sbom.cdx.json';

function git(...args: string[]): string {
  try {
    return execFileSync('git', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  } catch {
    return ''; // a tree without its history, as in a container's build
  }
}

/** Time stamp of everything in the image: that of the commit, so that the same commit gives the same image. */
function epochOf(): number {
  return Number(process.env.SOURCE_DATE_EPOCH ?? git('log', '-1', '--format=%ct')) || 0;
}

function osRelease(root: string): { id: string; version: string } {
  const path = join(root, 'usr/lib/os-release');
  const text = existsSync(path) ? readFileSync(path, 'utf8') : '';
  const field = (key: string): string =>
    new RegExp(`^${key}="?([^"\\n]*)"?$`, 'm').exec(text)?.[1] ?? 'unknown';
  return { id: field('ID'), version: field('VERSION_ID') };
}

/** What changes least comes first, so that a node that has an older image fetches only what is new. */
function layersOf(root: string, epoch: number): Layer[] {
  const ours = (path: string): boolean =>
    path.startsWith(kHome) || path === kSbomPath || path.startsWith('usr/bin/outrigger');
  const node = (path: string): boolean => path === 'usr/bin/node';
  const layer = (comment: string, wanted: (path: string) => boolean): Layer => ({
    comment,
    archive: tar(entriesOf(root, wanted), epoch),
  });
  return [
    layer('base system', (path) => !ours(path) && !node(path)),
    layer('Node', node),
    layer('Outrigger', ours),
  ];
}

function variantOf(text: string): Variant {
  const variant = kVariants.find((each) => each === text);
  if (variant === undefined) throw new Error(`--variant ${text}: unknown; allowed: ${kVariants.join(', ')}`);
  return variant;
}

function main(): void {
  const { values } = parseArgs({
    options: {
      variant: { type: 'string', default: 'default' },
      folder: { type: 'string', default: 'build/image' },
      reference: { type: 'string', default: process.env.IMAGE_REF ?? '' },
      'root-only': { type: 'boolean', default: false },
    },
  });
  const variant = variantOf(values.variant);
  const name = variant === 'default' ? 'outrigger' : `outrigger-${variant}`;
  const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string };
  const epoch = epochOf();
  const root = join(values.folder, `${name}-root`);

  const contents = makeRoot(root, variant, join(values.folder, 'debs'));
  const bill = sbom({ ...contents, version, variant, epoch, distribution: osRelease(root) });
  mkdirSync(join(root, dirname(kSbomPath)), { recursive: true });
  writeFileSync(join(root, kSbomPath), bill);
  writeFileSync(join(values.folder, `${name}.sbom.cdx.json`), bill);
  settle(root);
  if (values['root-only']) return;

  const revision = git('rev-parse', 'HEAD');
  const config = imageConfig(
    readFileSync('Dockerfile', 'utf8'),
    variant === 'default' ? 'outrigger' : variant,
    {
      VERSION: version,
      REVISION: revision,
    },
  );
  const archive = join(values.folder, `${name}.tar`);
  const reference = values.reference === '' ? `localhost/${name}:dev` : values.reference;
  const architecture = process.arch === 'x64' ? 'amd64' : process.arch;
  const layers = layersOf(root, epoch);
  const written = writeImage(archive, { reference, config, layers, epoch, architecture });
  checkBudget(variant, written.compressedBytes, written.unpackedBytes);
  writeFileSync(join(values.folder, `${name}.digest`), `${written.digest}\n`);
  console.log(
    `${archive}: ${reference}@${written.digest}, ${inMiB(written.compressedBytes)} MiB compressed, ${inMiB(written.unpackedBytes)} unpacked`,
  );
}

try {
  main();
} catch (error) {
  console.error(`image: ${(error as Error).message}`);
  process.exitCode = 1;
}
