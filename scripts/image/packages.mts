// SPDX-License-Identifier: Apache-2.0
// What of Debian (or Ubuntu) an image needs: the packages that own the shared libraries which our programs load, unpacked without running
// anything of theirs. The versions are those that are installed here, since our programs were linked against them.
import { execFileSync } from 'node:child_process';
import { existsSync, globSync, mkdirSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export interface DebianPackage {
  readonly name: string;
  readonly version: string;
  readonly architecture: string;
  /** Its stanza, as the archive has it. */
  readonly control: string;
}

function run(command: string, args: readonly string[], cwd?: string): string {
  return execFileSync(command, args, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    maxBuffer: 64 * 1024 ** 2,
    ...(cwd === undefined ? {} : { cwd }),
  });
}

/** Shared libraries that the programs load, as paths on this machine. */
function librariesOf(programs: readonly string[]): Set<string> {
  const libraries = new Set<string>();
  for (const program of programs) {
    for (const line of run('ldd', [program]).split('\n')) {
      if (line.includes('not found'))
        throw new Error(`${program}: ${line.trim()}: install it, then build again`);
      const path = /(?:=> )?(\/\S+) \(0x/.exec(line)?.[1];
      if (path !== undefined) libraries.add(path);
    }
  }
  return libraries;
}

/** Packages that own files. With merged /usr a file has two names, and dpkg knows one of them. */
function ownersOf(files: Iterable<string>): string[] {
  const owners = new Set<string>();
  for (const file of files) {
    const real = realpathSync(file);
    const names = [
      file,
      real,
      file.replace(/^\/usr\//, '/'),
      real.replace(/^\/usr\//, '/'),
      `/usr${file}`,
      `/usr${real}`,
    ];
    const owner = names.map(ownerOf).find((each) => each !== undefined);
    if (owner === undefined) {
      throw new Error(
        `${file} belongs to no Debian package, so an image can't have it; install the package instead`,
      );
    }
    owners.add(owner);
  }
  return [...owners].sort();
}

function ownerOf(file: string): string | undefined {
  try {
    return run('dpkg-query', ['-S', file]).split('\n')[0]?.split(': ')[0]?.split(',')[0];
  } catch {
    return undefined;
  }
}

function field(control: string, key: string): string {
  return new RegExp(`^${key}: (.*)$`, 'm').exec(control)?.[1] ?? '';
}

/** Names of the packages that the programs need, and of more. */
export function packagesFor(programs: readonly string[], more: readonly string[]): string[] {
  return [...new Set([...ownersOf(librariesOf(programs)), ...more])].sort();
}

/** Installed packages whose names match, for what is loaded at run time and so is in no list of libraries. */
export function installedPackages(pattern: RegExp): string[] {
  return run('dpkg-query', ['-W', '-f', '${db:Status-Status} ${Package}\n'])
    .split('\n')
    .filter((line) => line.startsWith('installed ') && pattern.test(line.slice('installed '.length)))
    .map((line) => line.slice('installed '.length));
}

interface Versioned {
  readonly name: string;
  readonly version: string;
  readonly architecture: string;
}

function installed(name: string): Versioned {
  const control = run('dpkg-query', ['-s', name]);
  return {
    name: field(control, 'Package'),
    version: field(control, 'Version'),
    architecture: field(control, 'Architecture'),
  };
}

/** As apt names it: a colon can't be in a file's name. */
function archiveName({ name, version, architecture }: Versioned): string {
  return `${name}_${version.replaceAll(':', '%3a')}_${architecture}.deb`;
}

function tryDownload(wanted: Versioned, cache: string): string | undefined {
  const file = join(cache, archiveName(wanted));
  if (!existsSync(file)) {
    try {
      run('apt-get', ['-qq', 'download', `${wanted.name}=${wanted.version}`], cache);
    } catch {
      return undefined;
    }
  }
  return existsSync(file) ? file : undefined;
}

/** Those that the mirrors have in the version that is installed here, all at once: apt takes a second to begin. The rest is fetched one by one. */
function prefetch(names: readonly string[], cache: string): void {
  mkdirSync(cache, { recursive: true });
  const missing = names.map(installed).filter((each) => !existsSync(join(cache, archiveName(each))));
  if (missing.length === 0) return;
  const offered = new Set(
    run('apt-cache', ['madison', ...missing.map(({ name }) => name)])
      .split('\n')
      .map((line) =>
        line
          .split('|', 2)
          .map((cell) => cell.trim())
          .join('='),
      ),
  );
  const wanted = missing.map(({ name, version }) => `${name}=${version}`).filter((each) => offered.has(each));
  if (wanted.length === 0) return;
  try {
    run('apt-get', ['-qq', 'download', ...wanted], cache);
  } catch {
    // Lists of yesterday: fetched one by one, it is said what is wrong.
  }
}

/**
 * The archive of a package, kept in `cache`. Mirrors keep the newest version of a release only: where the one that is installed is gone, the
 * newest of the same release takes its place, since within a release libraries stay compatible.
 */
function download(name: string, cache: string): string {
  const here = installed(name);
  const candidate = (): Versioned => ({
    ...here,
    version: field(run('apt-cache', ['show', '--no-all-versions', here.name]), 'Version'),
  });
  const file = tryDownload(here, cache);
  if (file !== undefined) return file;
  try {
    const newest = tryDownload(candidate(), cache);
    if (newest !== undefined) return newest;
  } catch {
    // apt knows nothing of it yet.
  }
  // No lists, or old ones. Without root they stay as they are.
  if (process.getuid?.() === 0) run('apt-get', ['-qq', 'update']);
  const updated = tryDownload(candidate(), cache);
  if (updated === undefined)
    throw new Error(
      `apt-get download ${here.name} does not work: run apt-get update as root, then try again`,
    );
  return updated;
}

/** Nobody reads these in an image. Licences stay, as their terms ask. */
const kUnwanted = [
  'usr/share/man',
  'usr/share/locale',
  'usr/share/lintian',
  'usr/share/info',
  'usr/share/bug',
  'usr/share/gcc',
  'usr/share/gdb',
  'usr/share/dict',
  'usr/lib/*/gconv',
  'usr/lib/*/audit',
  'usr/lib/*/perl5',
  'usr/share/perl5',
  'usr/lib/debug',
  'etc/ld.so.conf.d/*',
];

/** Unpacks the packages into a root; no script of theirs runs, so nothing needs root. Answers what was taken. */
export function unpack(names: readonly string[], root: string, cache: string): DebianPackage[] {
  prefetch(names, cache);
  const packages = names.map((name) => unpackOne(name, root, cache));
  const documents = globSync('usr/share/doc/*/*', { cwd: root }).filter(
    (path) => !path.endsWith('/copyright'),
  );
  for (const path of [...globSync(kUnwanted, { cwd: root }), ...documents]) {
    rmSync(join(root, path), { recursive: true, force: true });
  }
  return packages;
}

function unpackOne(name: string, root: string, cache: string): DebianPackage {
  const archive = download(name, cache);
  // The root has merged /usr: a folder lib/ of the archive must not take the place of the link lib.
  const unpackInto =
    'dpkg-deb --fsys-tarfile "$1" | tar -C "$2" -x --keep-directory-symlink --no-same-owner --no-same-permissions -f -';
  run('bash', ['-o', 'pipefail', '-c', unpackInto, 'unpack', archive, root]);
  const control = run('dpkg-deb', ['-f', archive]);
  const taken = {
    name: field(control, 'Package'),
    version: field(control, 'Version'),
    architecture: field(control, 'Architecture'),
    control,
  };
  // Where scanners look in images without dpkg.
  const status = join(root, 'var/lib/dpkg/status.d');
  mkdirSync(status, { recursive: true });
  writeFileSync(join(status, taken.name), `${control.trimEnd()}\nStatus: install ok installed\n`);
  return taken;
}
