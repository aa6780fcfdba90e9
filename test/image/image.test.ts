// SPDX-License-Identifier: Apache-2.0
// The container image: what is in the archive, and that it runs as a pod would run it: an ordinary user without capabilities, a read-only root,
// init as PID 1, told what injection tells it. Needs `make build`; running it needs root, for namespaces.
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { OutriggerClient } from '../../clients/typescript/src';
import { defaultProfileSpec } from '../../operator/src/api/sidecar_profile';
import {
  kArguments,
  kEntrypoint,
  kImagePaths,
  kPodPaths,
  kSidecarId,
} from '../../operator/src/webhook/layout';
import { sidecarResources } from '../../operator/src/webhook/resources';
import { sidecarContainer } from '../../operator/src/webhook/sidecar_container';
import { environmentOf } from '../../operator/src/webhook/testing';
import { until } from '../sidecar/support';
import { readImage, type ImageArchive, type TarEntry } from './archive';

jest.setTimeout(600_000); // packing a hundred MiB three times, on a machine that may be busy

const kRoot = resolve(__dirname, '../..');
const isRoot = process.getuid?.() === 0;

/** Kept between runs: what apt fetched is the same each time. */
const kDebs = join(kRoot, 'build/image/debs');

let folder: string;
let image: ImageArchive;
let entries: readonly TarEntry[];
let paths: ReadonlySet<string>;

function makeImage(name: string, ...more: readonly string[]): string {
  const to = join(folder, name);
  mkdirSync(to);
  mkdirSync(kDebs, { recursive: true });
  symlinkSync(kDebs, join(to, 'debs'));
  const args = ['scripts/image/main.mts', '--folder', to, '--reference', 'localhost/outrigger:test', ...more];
  execFileSync(join(kRoot, 'node_modules/.bin/node'), args, { cwd: kRoot, encoding: 'utf8' });
  return join(to, 'outrigger.tar');
}

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'outrigger-image-'));
  image = readImage(makeImage('first'));
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
    expect(readImage(makeImage('second')).digest).toBe(image.digest);
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

/** The image in namespaces of its own, as a kubelet would run the container of an injected pod. */
class Container {
  readonly volumes = { socket: join(folder, 'socket'), memory: join(folder, 'memory') };
  readonly exited: Promise<number | null>;
  output = '';
  private readonly child: ChildProcess;

  constructor(readonly root: string) {
    for (const volume of Object.values(this.volumes)) {
      mkdirSync(volume, { recursive: true });
    }
    // As the kubelet makes an emptyDir with an fsGroup.
    execFileSync('chown', [`0:${kSidecarId}`, this.volumes.socket]);
    chmodSync(this.volumes.socket, 0o2777);
    const spec = defaultProfileSpec();
    const container = sidecarContainer({
      spec,
      image: 'localhost/outrigger:test',
      resources: sidecarResources(spec, false),
      ipv6: false,
      hostNetwork: false,
      udpPort: spec.udpPorts.first,
      hasTopics: true,
      graceSeconds: 30,
    });
    const env = { ...environmentOf(container, '127.0.0.1'), PATH: '/usr/bin' };
    const script = `
      set -e
      ip link set lo up
      mount --bind "$1" "$1"
      mount -t proc proc "$1/proc"
      mount --bind "$2" "$1${kPodPaths.socketDirectory}"
      mount -t tmpfs -o size=129m,mode=2777,gid=${kSidecarId} tmpfs "$1${kPodPaths.memory}"
      mount -t tmpfs -o size=64m,mode=2777,gid=${kSidecarId} tmpfs "$1${kPodPaths.own}"
      mount -o remount,bind,ro "$1"
      root=$1; shift 2
      exec /usr/bin/env -i "$@"`;
    const command = [
      ...Object.entries(env).map(([name, value]) => `${name}=${value}`),
      ...['/usr/bin/setpriv', '--no-new-privs', '--pdeathsig', 'KILL'],
      ...['/usr/sbin/chroot', `--userspec=${kSidecarId}:${kSidecarId}`, `--groups=${kSidecarId}`, root],
      ...(container.command ?? []),
      ...(container.args ?? []),
    ];
    this.child = spawn(
      'unshare',
      [
        ...['--mount', '--pid', '--net', '--fork', '--kill-child', '--propagation', 'private'],
        ...['bash', '-c', script, 'container', root, this.volumes.socket, ...command],
      ],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    );
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream?.on('data', (data: Buffer) => (this.output += data.toString()));
    }
    this.exited = once(this.child, 'close').then(([code]) => code as number | null);
  }

  /** PID 1 of the container, as we see it. */
  get init(): number {
    const pid = this.child.pid ?? 0;
    const init = Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim());
    if (!(init > 0)) throw new Error('the container has no process yet');
    return init;
  }

  get processes(): readonly number[] {
    const children = (pid: number): number[] =>
      readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean).map(Number);
    const all = (pid: number): number[] => [pid, ...children(pid).flatMap(all)];
    return all(this.init);
  }

  /** Runs a command in it, as `kubectl exec` and a preStop hook do. */
  exec(...command: readonly string[]): string {
    const inside = ['nsenter', '-t', `${this.init}`, '-m', '-n', '-p', '--'];
    const user = ['chroot', `--userspec=${kSidecarId}:${kSidecarId}`, '--groups=', this.root];
    const [program = '', ...args] = [...inside, ...user, ...command];
    return execFileSync(program, args, {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
    });
  }

  terminate(): void {
    process.kill(this.init, 'SIGTERM');
  }

  async end(): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null) {
      try {
        // First the container itself: it gave up its parent-death signal with its user, would go on alone and hold our pipes open.
        process.kill(this.init, 'SIGKILL');
      } catch {
        // It has not begun, or is gone.
      }
      this.child.kill('SIGKILL');
      await this.exited;
    }
  }
}

function unpack(root: string): void {
  for (const { path, type, mode, target, data } of entries) {
    const to = join(root, path);
    if (type === '5') {
      mkdirSync(to, { recursive: true });
      chmodSync(to, mode);
    } else if (type === '2') {
      symlinkSync(target, to);
    } else {
      mkdirSync(dirname(to), { recursive: true });
      writeFileSync(to, data);
      chmodSync(to, mode);
    }
  }
}

(isRoot ? describe : describe.skip)('the container', () => {
  let container: Container | undefined;
  let client: OutriggerClient | undefined;

  afterEach(async () => {
    await client?.close();
    await container?.end();
    container = undefined;
  });

  it('moves messages, with no capability, on a read-only root, and drains at SIGTERM', async () => {
    const root = join(folder, 'root');
    mkdirSync(root, { mode: 0o755 });
    chmodSync(folder, 0o755);
    unpack(root);
    // What a runtime does for a pod: mount points, and the ConfigMap.
    mkdirSync(join(root, kPodPaths.memory), { recursive: true });
    mkdirSync(join(root, kPodPaths.own), { recursive: true });
    mkdirSync(join(root, kPodPaths.topicsDirectory), { recursive: true });
    const topics = [
      { name: 'local', streamId: 1, channel: 'aeron:ipc' },
      { name: 'network', streamId: 2, subscribers: ['127.0.0.1:40200'] },
    ];
    writeFileSync(join(root, kPodPaths.topicsFile), JSON.stringify({ topics }));

    const running = (container = new Container(root));
    const socket = join(running.volumes.socket, 'outrigger.sock');
    const failed = running.exited.then(() => Promise.reject(new Error(`it ended: ${running.output}`)));
    failed.catch(() => undefined);
    await Promise.race([until('the socket is there', () => existsSync(socket)), failed]);
    client = new OutriggerClient({ address: `unix:${socket}` });
    for (const topic of ['local', 'network']) {
      const subscription = client.subscribe(topic);
      const publisher = client.publisher(topic, { backPressure: 'wait' });
      await Promise.race([publisher.whenConnected(), failed]);
      const receipt = publisher.publish(`over ${topic}`);
      for await (const { payload } of subscription) {
        expect(payload.toString()).toBe(`over ${topic}`);
        break;
      }
      await receipt;
      subscription.close();
      await publisher.close();
    }

    const status = (pid: number): Record<string, string> =>
      Object.fromEntries(
        readFileSync(`/proc/${pid}/status`, 'utf8')
          .split('\n')
          .map((line) => line.split(':\t') as [string, string]),
      );
    expect(running.processes.length).toBe(3);
    for (const pid of running.processes) {
      const { Name, CapEff, CapPrm, CapInh, CapAmb, NoNewPrivs, Uid, Gid } = status(pid);
      expect({ Name, CapEff, CapPrm, CapInh, CapAmb, NoNewPrivs, Uid, Gid }).toEqual({
        Name,
        ...{ CapEff: kNone, CapPrm: kNone, CapInh: kNone, CapAmb: kNone, NoNewPrivs: '1' },
        ...{ Uid: Array(4).fill(kSidecarId).join('\t'), Gid: Array(4).fill(kSidecarId).join('\t') },
      });
    }
    expect(status(running.init)).toMatchObject({ Name: 'outrigger-init', NSpid: `${running.init}\t1` });
    expect(readdirSync(running.volumes.socket)).toEqual(['outrigger.sock']);

    // The other entry point of the image: all that it loads is there.
    expect(running.exec(kImagePaths.node, kImagePaths.operator, '--help')).toContain('outrigger-operator');

    const ready = [
      '/usr/bin/node',
      '-e',
      'fetch("http://127.0.0.1:9464/readyz").then((r) => console.log(r.status))',
    ];
    expect(running.exec(...ready).trim()).toBe('200');
    expect(running.exec(kImagePaths.command, 'leave', '--json').trim()).toBe('{"streams":0}');
    expect(running.exec(...ready).trim()).toBe('503');
    expect(() => running.exec('/usr/bin/node', '-e', 'fs.writeFileSync("/etc/x", "")')).toThrow(/EROFS/);

    await client.close();
    client = undefined;
    running.terminate();
    expect(await running.exited).toBe(0);
    expect(running.output).toContain('drain done');
  });
});

(isRoot && existsSync(join(kRoot, 'build/native/outrigger-dpdk.so')) ? describe : describe.skip)(
  'the variant with DPDK',
  () => {
    it('has all that DPDK loads: a driver runs on one of its devices', async () => {
      makeImage('dpdk', '--variant', 'dpdk', '--root-only');
      const root = join(folder, 'dpdk/outrigger-dpdk-root');
      chmodSync(folder, 0o755);
      // A device that sends to nowhere: needs the EAL, a bus, a mempool and a poll-mode driver, each from a file of its own.
      const env = [
        'AERON_DIR=/tmp/driver',
        'OUTRIGGER_BACKENDS=dpdk',
        'OUTRIGGER_DPDK_ARGS=--no-huge -m 64 --no-pci --vdev=net_null0',
        'OUTRIGGER_DPDK_ADDRESSES=10.9.0.1/24',
      ];
      const script = `
        set -e
        mount --bind "$1" "$1"
        mount -t proc proc "$1/proc"
        mount --rbind /sys "$1/sys"
        mount --rbind /dev "$1/dev"
        root=$1; shift
        exec /usr/bin/env -i "$@" /usr/bin/setpriv --pdeathsig KILL /usr/sbin/chroot "$root" /usr/bin/outrigger-driver`;
      const driver = spawn(
        'unshare',
        ['--mount', '--net', '--propagation', 'private', 'bash', '-c', script, 'dpdk', root, ...env],
        { stdio: ['ignore', 'ignore', 'pipe'] },
      );
      let log = '';
      driver.stderr.on('data', (data: Buffer) => (log += data.toString()));
      const exited = once(driver, 'close');
      try {
        await until(
          'the driver is ready, or has ended',
          () => log.includes('driver is ready') || driver.exitCode !== null,
        );
        expect(log).toMatch(/"backend":"dpdk".*"msg":"driver is ready"/);
      } finally {
        driver.kill('SIGTERM');
        await exited;
      }
    });
  },
);

const kNone = '0000000000000000';
