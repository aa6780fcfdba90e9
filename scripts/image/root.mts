// SPDX-License-Identifier: Apache-2.0
// The file system of the image: base system, Node, and the tree as `make build` leaves it, at /usr/lib/outrigger, without what only builds and
// tests need. Users, folders and links that a container expects. No shell, no package manager.
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  globSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { installedPackages, packagesFor, unpack, type DebianPackage } from './packages.mts';
import { fileMode, folderMode } from './tar.mts';

export const kVariants = ['default', 'dpdk'] as const;
export type Variant = (typeof kVariants)[number];

/** Where the tree is in the image. */
export const kHome = 'usr/lib/outrigger';

export interface NpmPackage {
  readonly name: string;
  readonly version: string;
  readonly license: string;
  readonly integrity: string;
}

export interface Contents {
  readonly packages: readonly DebianPackage[];
  readonly modules: readonly NpmPackage[];
  readonly nodeVersion: string;
}

/** Native programs of the image, and what each variant adds. */
const kPrograms = [
  'outrigger-driver',
  'outrigger-init',
  'outrigger-probe',
  'outrigger-nicd',
  'outrigger.node',
];
/** Shared objects that a driver loads when it is asked for their backends, and what they are built with. */
const kModules: Readonly<Record<Variant, Readonly<Record<string, string>>>> = {
  default: {},
  dpdk: {
    'outrigger-dpdk.so': 'libdpdk-dev and librte-meta-net',
    'outrigger-verbs.so': 'libibverbs-dev and ibverbs-providers',
  },
};

/** Poll-mode drivers of NICs that clouds and data centres have, the virtual ones, and what every start of DPDK loads. */
const kDpdkPackages = new RegExp(
  '^librte-(' +
    [
      'net-(e1000|ixgbe|i40e|iavf|ice|igc|mlx5|bnxt|ena|gve|virtio|vmxnet3|netvsc|af-packet|af-xdp|tap|ring|null)',
      'mempool-(ring|stack)',
      'bus-(pci|vdev|auxiliary|vmbus)',
    ].join('|') +
    ')-?\\d\\d$',
);

/** What libibverbs loads for a device: as the files in /etc/libibverbs.d name them, in a folder of their own. */
const kRdmaPackage = 'ibverbs-providers';

const kSystemFiles: Readonly<Record<string, string>> = {
  'etc/passwd': [
    'root:x:0:0:root:/:/usr/sbin/nologin',
    'outrigger:x:65532:65532:outrigger:/:/usr/sbin/nologin',
    'nobody:x:65534:65534:nobody:/:/usr/sbin/nologin',
  ].join('\n'),
  'etc/group': ['root:x:0:', 'outrigger:x:65532:', 'nogroup:x:65534:'].join('\n'),
  'etc/nsswitch.conf': ['passwd: files', 'group: files', 'hosts: files dns'].join('\n'),
  // Node takes a file without an ending for CommonJS; the kernel reads the first line, so that no shell is needed.
  'usr/bin/outrigger': `#!/usr/bin/node\nrequire('/${kHome}/build/ts/sidecar/src/cli.js');`,
};

function modulesOf(variant: Variant): readonly string[] {
  return Object.keys(kModules[variant]);
}

export function requireBuild(variant: Variant): void {
  const needed = [
    ...kPrograms.map((name) => `build/native/${name}`),
    'build/ts/sidecar/src/main.js',
    ...modulesOf(variant).map((name) => `build/native/${name}`),
  ];
  for (const path of needed) {
    if (existsSync(path)) continue;
    const packages = kModules[variant][basename(path)];
    throw new Error(
      `${path} is missing: ${packages === undefined ? '' : `install ${packages}, then `}run make build`,
    );
  }
}

/** The build without debug information, which is three quarters of it. */
function strip(from: string, to: string): void {
  mkdirSync(dirname(to), { recursive: true });
  execFileSync('strip', ['--strip-unneeded', '-o', to, from]);
  chmodSync(to, 0o755);
}

function copyPrograms(root: string, variant: Variant): void {
  const folder = join(root, kHome, 'build/native');
  for (const name of [...kPrograms, ...modulesOf(variant)]) {
    strip(join('build/native', name), join(folder, name));
  }
  for (const name of ['outrigger-driver', 'outrigger-init', 'outrigger-nicd']) {
    symlinkSync(`../lib/outrigger/build/native/${name}`, join(root, 'usr/bin', name));
  }
  strip('node_modules/node/bin/node', join(root, 'usr/bin/node'));
}

/** Compiled TypeScript but for tests and what they lean on. */
function copyScripts(root: string): void {
  const wanted = globSync('build/ts/{sidecar,operator,clients}/**/*.js').filter(
    (path) => !/\.test\.js$|\/testing(\/|\.js$)|\/testdata\//.test(path),
  );
  for (const path of [...wanted, ...globSync('proto/**/*.proto'), 'package.json', 'LICENSE']) {
    const to = join(root, kHome, path);
    mkdirSync(dirname(to), { recursive: true });
    copyFileSync(path, to);
  }
}

interface LockedPackage {
  readonly version?: string;
  readonly dev?: boolean;
  readonly devOptional?: boolean;
  readonly optional?: boolean;
  readonly license?: string;
  readonly integrity?: string;
}

/** Types, source maps and prose are two thirds of what packages ship. */
function isNeeded(path: string): boolean {
  return (
    !/\.(d\.[cm]?ts|[cm]?ts|map|md|markdown|flow|tsbuildinfo)$/.test(path) ||
    /licen[cs]e/i.test(basename(path))
  );
}

/** Folders that packages ship for those who develop them. */
const kForDevelopers = /^\/(tests?|__tests__|docs|examples?|benchmarks?|coverage|\.github)(\/|$)/;

/** The packages of package-lock.json that production needs; node_modules must have the same. */
function copyModules(root: string): NpmPackage[] {
  const { packages } = JSON.parse(readFileSync('package-lock.json', 'utf8')) as {
    packages: Record<string, LockedPackage>;
  };
  const modules: NpmPackage[] = [];
  for (const [path, locked] of Object.entries(packages)) {
    if (path === '' || locked.dev === true || locked.devOptional === true) continue;
    const manifest = join(path, 'package.json');
    if (!existsSync(manifest)) {
      if (locked.optional === true) continue;
      throw new Error(`${path} is missing: run npm ci`);
    }
    const { version, license } = JSON.parse(readFileSync(manifest, 'utf8')) as {
      version: string;
      license?: string;
    };
    if (version !== locked.version) {
      throw new Error(`${path} is ${version}, package-lock.json has ${locked.version}: run npm ci`);
    }
    cpSync(path, join(root, kHome, path), {
      recursive: true,
      filter: (from) =>
        isNeeded(from) &&
        !kForDevelopers.test(from.slice(path.length)) &&
        !from.slice(path.length).includes('/node_modules'),
    });
    modules.push({
      name: path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length),
      version,
      license: locked.license ?? license ?? 'NOASSERTION',
      integrity: locked.integrity ?? '',
    });
  }
  return modules;
}

function makeSkeleton(root: string): void {
  rmSync(root, { recursive: true, force: true });
  for (const folder of [
    'usr/bin',
    'usr/sbin',
    'usr/lib',
    'usr/lib64',
    'etc',
    'dev',
    'proc',
    'sys',
    'tmp',
    'run/outrigger',
  ]) {
    mkdirSync(join(root, folder), { recursive: true });
  }
  for (const name of ['bin', 'sbin', 'lib', 'lib64']) symlinkSync(`usr/${name}`, join(root, name));
}

function finish(root: string): void {
  for (const [path, text] of Object.entries(kSystemFiles)) {
    mkdirSync(join(root, dirname(path)), { recursive: true });
    writeFileSync(join(root, path), `${text}\n`);
  }
  chmodSync(join(root, 'usr/bin/outrigger'), 0o755);
  // Whoever the container runs as may make a socket there; in a pod a volume is mounted over it.
  for (const folder of ['tmp', 'run/outrigger']) chmodSync(join(root, folder), 0o1777);
}

/** Modes, and as root owners, as an archive of the folder has them: a container engine copies it as it is, with those of whoever packed an npm package. */
export function settle(folder: string): void {
  const asRoot = process.getuid?.() === 0;
  for (const name of readdirSync(folder)) {
    const path = join(folder, name);
    const stat = lstatSync(path);
    if (asRoot) lchownSync(path, 0, 0);
    if (stat.isDirectory()) {
      chmodSync(path, folderMode(stat.mode));
      settle(path);
    } else if (stat.isFile()) {
      chmodSync(path, fileMode(stat.mode));
    }
  }
}

/** Packages of what knows NICs: loaded by name at run time, so in no list of libraries. */
function devicePackages(): string[] {
  const dpdk = installedPackages(kDpdkPackages);
  if (dpdk.length === 0) throw new Error('no DPDK drivers are installed: install librte-meta-net');
  const rdma = installedPackages(new RegExp(`^${kRdmaPackage}$`));
  if (rdma.length === 0) throw new Error(`no RDMA drivers are installed: install ${kRdmaPackage}`);
  return [...dpdk, ...rdma];
}

/** Makes the file system in `root`; what was there goes. */
export function makeRoot(root: string, variant: Variant, cache: string): Contents {
  requireBuild(variant);
  makeSkeleton(root);
  const devices = variant === 'dpdk' ? devicePackages() : [];
  const drivers = devices.flatMap((name) =>
    execFileSync('dpkg-query', ['-L', name], { encoding: 'utf8' })
      .split('\n')
      .filter((path) => /\/(librte_\w+\.so\.[\d.]+|libibverbs\/lib\w+-rdmav\d+\.so)$/.test(path)),
  );
  const programs = [...kPrograms, ...modulesOf(variant)].map((name) => join('build/native', name));
  // base-files says which system it is, for people and scanners.
  const names = packagesFor(
    ['node_modules/node/bin/node', ...programs, ...drivers],
    ['base-files', ...devices],
  );
  const packages = unpack(names, root, cache);
  copyPrograms(root, variant);
  copyScripts(root);
  const modules = copyModules(root);
  finish(root);
  const nodeVersion = execFileSync('node_modules/node/bin/node', ['--version'], { encoding: 'utf8' })
    .trim()
    .slice(1);
  return { packages, modules, nodeVersion };
}
