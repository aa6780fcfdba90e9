// SPDX-License-Identifier: Apache-2.0
// The container image: what is in the archive, and that it runs as a pod would run it: an ordinary user without capabilities, a read-only root,
// init as PID 1, told what injection tells it. Needs `make build`; running it needs root, for namespaces.
import { chmodSync, existsSync, lstatSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { kArguments, kEntrypoint, kImagePaths, kSidecarId } from '../../operator/src/webhook/layout';
import { readImage, type ImageArchive, type TarEntry } from './archive';
import { hasVerbs, runsAsInAPod, runsOnDpdk } from './checks';
import { unpack } from './container';
import { makeImage } from './made';

jest.setTimeout(600_000); // packing a hundred MiB three times, on a machine that may be busy

const kRoot = resolve(__dirname, '../..');
const isRoot = process.getuid?.() === 0;

let folder: string;
let image: ImageArchive;
let entries: readonly TarEntry[];
let paths: ReadonlySet<string>;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'outrigger-image-'));
  image = readImage(join(makeImage(join(folder, 'first')), 'outrigger.tar'));
  entries = image.layers.flat();
  paths = new Set(entries.map(({ path }) => path));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('the archive', () => {
  it('says how it is run, as injection does', () => {
    expect(image.config).toMatchObject({
      User: `${kSidecarId}:${kSidecarId}`,
      Entrypoint: kEntrypoint,
      Cmd: kArguments,
    });
    const { version } = JSON.parse(readFileSync(join(kRoot, 'package.json'), 'utf8')) as { version: string };
    expect(readFileSync(join(kRoot, 'Dockerfile'), 'utf8')).toContain(`ARG VERSION=${version}\n`);
    expect(image.config.Labels).toMatchObject({
      'org.opencontainers.image.title': 'outrigger',
      'org.opencontainers.image.licenses': 'Apache-2.0',
      'org.opencontainers.image.version': version,
    });
    expect(image.annotations).toMatchObject({ 'io.containerd.image.name': 'localhost/outrigger:test' });
    expect(image.config.Env).toContain('NODE_ENV=production');
  });

  it('is the same, to the digest, when it is made again', () => {
    expect(readImage(join(makeImage(join(folder, 'second')), 'outrigger.tar')).digest).toBe(image.digest);
  });

  it('gives no right to anybody: no capability of a file, no setuid, no owner but root, no device', () => {
    for (const { path, type, mode, uid, gid, pax } of entries) {
      expect([path, uid, gid]).toEqual([path, 0, 0]);
      expect([path, mode & 0o6000]).toEqual([path, 0]);
      expect(['0', '2', '5']).toContain(type);
      // Extended attributes, and so capabilities, would be records of SCHILY.xattr.
      expect(pax.filter((key) => !['path', 'linkpath'].includes(key))).toEqual([]);
    }
  });

  it('is what the folder holds that a container engine copies, to modes and owners', () => {
    const root = join(folder, 'first/outrigger-root');
    const differing = entries.filter(({ path, mode, type }) => {
      const stat = lstatSync(join(root, path));
      const owned = !isRoot || (stat.uid === 0 && stat.gid === 0);
      return !owned || (type !== '2' && (stat.mode & 0o7777) !== mode);
    });
    expect(differing.map(({ path }) => path)).toEqual([]);
    const inside = (below: string): string[] =>
      readdirSync(join(root, below)).flatMap((name) => {
        const path = below === '' ? name : `${below}/${name}`;
        return lstatSync(join(root, path)).isDirectory() ? [path, ...inside(path)] : [path];
      });
    expect(inside('').sort()).toEqual([...paths].sort());
  });

  it('has nothing that others may write, but sticky folders', () => {
    const writable = entries.filter(({ type, mode }) => type !== '2' && (mode & 0o022) !== 0);
    expect(writable.map(({ path, mode }) => [path, mode])).toEqual([
      ['run/outrigger', 0o1777],
      ['tmp', 0o1777],
    ]);
  });

  it('has neither a shell nor a package manager nor what only builds and tests need', () => {
    const programs = entries.filter(
      ({ type, mode }) => type !== '5' && (type === '2' || (mode & 0o111) !== 0),
    );
    const unwanted = ['sh', 'bash', 'dash', 'busybox', 'apt-get', 'dpkg', 'npm', 'npx', 'tsc'];
    expect(programs.filter(({ path }) => unwanted.includes(path.split('/').at(-1) ?? ''))).toEqual([]);
    const home = 'usr/lib/outrigger';
    expect([...paths].filter((path) => path.startsWith(home) && /\.(ts|map|test\.js)$/.test(path))).toEqual(
      [],
    );
    for (const name of ['typescript', 'jest', 'eslint', 'node']) {
      expect(paths.has(`${home}/node_modules/${name}`)).toBe(false);
    }
  });

  it('has every program that injection and operator name', () => {
    for (const path of Object.values(kImagePaths)) {
      expect(paths).toContain(path.slice(1));
    }
  });

  it('lists in its bill of materials every npm package and every Debian package that it has', () => {
    const bill = entries.find(({ path }) => path === 'usr/share/outrigger/sbom.cdx.json');
    expect(readFileSync(join(folder, 'first/outrigger.sbom.cdx.json'))).toEqual(bill?.data);
    const { bomFormat, components } = JSON.parse(String(bill?.data)) as {
      bomFormat: string;
      components: { purl?: string; name: string; version: string }[];
    };
    expect(bomFormat).toBe('CycloneDX');
    const listed = components.flatMap(({ purl, name, version }) =>
      purl === undefined ? [] : [`${purl.split('/')[0]} ${name}@${version}`],
    );
    const found = entries.flatMap(({ path, data }) => {
      if (/\/node_modules\/(@[^/]+\/)?[^/@]+\/package\.json$/.test(path)) {
        const { name, version } = JSON.parse(String(data)) as { name: string; version: string };
        return [`pkg:npm ${name}@${version}`];
      }
      if (path.startsWith('var/lib/dpkg/status.d/') && data.length > 0) {
        const field = (key: string) => new RegExp(`^${key}: (.*)$`, 'm').exec(String(data))?.[1];
        return [`pkg:deb ${field('Package')}@${field('Version')}`];
      }
      return [];
    });
    expect(found.length).toBeGreaterThan(50);
    expect(listed).toEqual(expect.arrayContaining([...new Set(found)]));
    expect(listed).toContainEqual(expect.stringMatching(/^pkg:generic node@24\./));
    expect(listed.length).toBe(new Set(found).size + 1);
  });
});

(isRoot ? describe : describe.skip)('the container', () => {
  it('moves messages, with no capability, on a read-only root, and drains at SIGTERM', async () => {
    const root = join(folder, 'root');
    chmodSync(folder, 0o755);
    unpack(entries, root);
    await runsAsInAPod(root, folder);
  });
});

const kHasModules = ['dpdk', 'verbs'].every((name) =>
  existsSync(join(kRoot, `build/native/outrigger-${name}.so`)),
);

(isRoot && kHasModules ? describe : describe.skip)('the variant with DPDK', () => {
  let root: string;

  beforeAll(() => {
    makeImage(join(folder, 'dpdk'), '--variant', 'dpdk', '--root-only');
    root = join(folder, 'dpdk/outrigger-dpdk-root');
    chmodSync(folder, 0o755);
  });

  it('has all that DPDK loads: a driver runs on one of its devices', async () => {
    await runsOnDpdk(root);
  });

  it('has RDMA too: the backend verbs lacks nothing but a device', () => {
    hasVerbs(root);
  });
});
