// SPDX-License-Identifier: Apache-2.0
// The images that a container engine made from the Dockerfile (the script beside this): the same as those of `make image`, and they run. Their
// archives are in OUTRIGGER_ENGINE_IMAGES. Needs `make build` with the modules for DPDK and RDMA, and root, for namespaces: `scripts/test dockerfile`.
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { readImage, type ImageArchive, type TarEntry } from '../archive';
import { hasVerbs, runsAsInAPod, runsOnDpdk } from '../checks';
import { unpack } from '../container';
import { makeImage } from '../made';

jest.setTimeout(600_000); // packing and unpacking a hundred MiB some times, on a machine that may be busy

const kImages = process.env.OUTRIGGER_ENGINE_IMAGES ?? resolve(__dirname, '../../../build/engine');
const kHome = 'usr/lib/outrigger';
const kBill = 'usr/share/outrigger/sbom.cdx.json';

type Files = ReadonlyMap<string, TarEntry>;

function filesOf({ layers }: ImageArchive): Files {
  return new Map(
    layers
      .flat()
      .map((entry) => [entry.path.replace(/^\.\/?/, ''), entry] as const)
      .filter(([path]) => path !== ''),
  );
}

function text(files: Files, path: string): string {
  const file = files.get(path);
  if (file === undefined) throw new Error(`the image has no ${path}`);
  return file.data.toString();
}

/** What a package of the distribution brought, which has other files in another release. */
function isOfSystem(path: string): boolean {
  return !path.startsWith(kHome) && !path.startsWith('usr/bin/') && path !== kBill;
}

/** What was compiled or put together where the image was made: alike, not the same. */
function isMadeThere(path: string): boolean {
  return path.startsWith(`${kHome}/build/native/`) || path === kBill;
}

interface Bill {
  readonly metadata: { readonly timestamp: string; readonly component: object };
  readonly components: readonly { readonly name: string; readonly version: string; readonly purl?: string }[];
}

let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'outrigger-engine-'));
  chmodSync(folder, 0o755);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe.each([
  ['outrigger', 'default'],
  ['outrigger-dpdk', 'dpdk'],
])('the image %s of a container engine', (name, variant) => {
  let image: ImageArchive;
  let ours: ImageArchive;
  let files: Files;
  let wanted: Files;
  /** Both are of one release of one distribution. */
  let comparable: boolean;

  beforeAll(() => {
    image = readImage(join(kImages, `${name}.tar`));
    ours = readImage(join(makeImage(join(folder, variant), '--variant', variant), `${name}.tar`));
    files = filesOf(image);
    wanted = filesOf(ours);
    comparable = text(files, 'etc/debian_version') === text(wanted, 'etc/debian_version');
  });

  it('is configured as that of make image', () => {
    expect(image.config).toEqual(ours.config);
  });

  it('has the same files, with the same modes, owners and targets', () => {
    const list = (all: Files): string[] =>
      [...all]
        .filter(([path]) => comparable || !isOfSystem(path))
        .map(
          ([path, { type, mode, uid, gid, target }]) =>
            `${path} ${type} ${mode.toString(8)} ${uid}:${gid} ${target}`,
        )
        .sort();
    expect(list(files)).toEqual(list(wanted));
  });

  it('gives no file a capability or another attribute', () => {
    const attributes = [...files.values()].flatMap(({ path, pax }) =>
      pax.filter((key) => key.startsWith('SCHILY.xattr')).map((key) => `${path} ${key}`),
    );
    expect(attributes).toEqual([]);
  });

  it('has the same in these files, but for what was compiled', () => {
    const differing = [...wanted].filter(
      ([path, { data }]) =>
        !isOfSystem(path) && !isMadeThere(path) && files.get(path)?.data.equals(data) !== true,
    );
    expect(differing.map(([path]) => path)).toEqual([]);
    const size = (all: Files): number => [...all.values()].reduce((sum, { data }) => sum + data.length, 0);
    if (comparable) expect(Math.abs(size(files) / size(wanted) - 1)).toBeLessThan(0.02);
  });

  it('has a bill of materials of the same things', () => {
    const [mine, theirs] = [files, wanted].map((all) => JSON.parse(text(all, kBill)) as Bill) as [Bill, Bill];
    expect(mine.metadata).toEqual(theirs.metadata);
    const list = ({ components }: Bill): string[] =>
      components
        .filter(({ purl }) => comparable || purl?.startsWith('pkg:deb/') === false)
        // Packages of a release get fixes: here those that are installed, there the newest.
        .map((each) =>
          each.purl?.startsWith('pkg:deb/') === true ? each.name : `${each.name}@${each.version}`,
        );
    expect(list(mine)).toEqual(list(theirs));
  });

  it('moves messages, with no capability, on a read-only root, and drains at SIGTERM', async () => {
    const root = join(folder, `${name}-root`);
    unpack(image.layers.flat(), root);
    await runsAsInAPod(root, join(folder, `${name}-pod`));
  });
});

describe('the image with DPDK of a container engine', () => {
  let root: string;

  beforeAll(() => {
    root = join(folder, 'dpdk-root');
    unpack(readImage(join(kImages, 'outrigger-dpdk.tar')).layers.flat(), root);
  });

  it('has all that DPDK loads: a driver runs on one of its devices', async () => {
    await runsOnDpdk(root);
  });

  it('has RDMA too: the backend verbs lacks nothing but a device', () => {
    hasVerbs(root);
  });
});
