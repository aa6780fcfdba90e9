// SPDX-License-Identifier: Apache-2.0
// What every image must do when it runs, whoever made it: `make image`, or a container engine from the Dockerfile. Needs root, for namespaces.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { OutriggerClient } from '../../clients/typescript/src';
import { kImagePaths, kPodPaths, kSidecarId } from '../../operator/src/webhook/layout';
import { until } from '../sidecar/support';
import { Container } from './container';

const kNone = '0000000000000000';

/** `root` is the unpacked image; `folder` is for what a pod shares. */
export async function runsAsInAPod(root: string, folder: string): Promise<void> {
  // What a runtime does for a pod: mount points, and the ConfigMap.
  mkdirSync(join(root, kPodPaths.memory), { recursive: true });
  mkdirSync(join(root, kPodPaths.own), { recursive: true });
  mkdirSync(join(root, kPodPaths.topicsDirectory), { recursive: true });
  const topics = [
    { name: 'local', streamId: 1, channel: 'aeron:ipc' },
    { name: 'network', streamId: 2, subscribers: ['127.0.0.1:40200'] },
  ];
  writeFileSync(join(root, kPodPaths.topicsFile), JSON.stringify({ topics }));
  const container = new Container(root, folder);
  const socket = join(container.socketFolder, 'outrigger.sock');
  const client = new OutriggerClient({ address: `unix:${socket}` });
  try {
    const failed = container.exited.then(() => Promise.reject(new Error(`it ended: ${container.output}`)));
    failed.catch(() => undefined);
    await Promise.race([until('the socket is there', () => existsSync(socket)), failed]);
    await Promise.race([movesMessages(client, ['local', 'network']), failed]);
    hasNoRights(container);
    expect(readdirSync(container.socketFolder)).toEqual(['outrigger.sock']);
    answers(container);

    await client.close();
    container.terminate();
    expect(await container.exited).toBe(0);
    expect(container.output).toContain('drain done');
  } finally {
    await client.close();
    await container.end();
  }
}

async function movesMessages(client: OutriggerClient, topics: readonly string[]): Promise<void> {
  for (const topic of topics) {
    const subscription = client.subscribe(topic);
    const publisher = client.publisher(topic, { backPressure: 'wait' });
    await publisher.whenConnected();
    const receipt = publisher.publish(`over ${topic}`);
    for await (const { payload } of subscription) {
      expect(payload.toString()).toBe(`over ${topic}`);
      break;
    }
    await receipt;
    subscription.close();
    await publisher.close();
  }
}

function hasNoRights(container: Container): void {
  const status = (pid: number): Record<string, string> =>
    Object.fromEntries(
      readFileSync(`/proc/${pid}/status`, 'utf8')
        .split('\n')
        .map((line) => line.split(':\t') as [string, string]),
    );
  expect(container.processes.length).toBe(3);
  for (const pid of container.processes) {
    const { Name, CapEff, CapPrm, CapInh, CapAmb, NoNewPrivs, Uid, Gid } = status(pid);
    expect({ Name, CapEff, CapPrm, CapInh, CapAmb, NoNewPrivs, Uid, Gid }).toEqual({
      Name,
      ...{ CapEff: kNone, CapPrm: kNone, CapInh: kNone, CapAmb: kNone, NoNewPrivs: '1' },
      ...{ Uid: Array(4).fill(kSidecarId).join('\t'), Gid: Array(4).fill(kSidecarId).join('\t') },
    });
  }
  expect(status(container.init)).toMatchObject({ Name: 'outrigger-init', NSpid: `${container.init}\t1` });
}

function answers(container: Container): void {
  const { version } = JSON.parse(readFileSync(join(__dirname, '../../package.json'), 'utf8')) as {
    version: string;
  };
  expect(container.exec(kImagePaths.command, '--version').trim()).toBe(version);
  // The other entry point of the image: all that it loads is there.
  expect(container.exec(kImagePaths.node, kImagePaths.operator, '--help')).toContain('outrigger-operator');

  const ready = [
    '/usr/bin/node',
    '-e',
    'fetch("http://127.0.0.1:9464/readyz").then((r) => console.log(r.status))',
  ];
  expect(container.exec(...ready).trim()).toBe('200');
  expect(container.exec(kImagePaths.command, 'leave', '--json').trim()).toBe('{"streams":0}');
  expect(container.exec(...ready).trim()).toBe('503');
  expect(() => container.exec('/usr/bin/node', '-e', 'fs.writeFileSync("/etc/x", "")')).toThrow(/EROFS/);
}

/** A command line that runs a program of the image as root, in mounts and a network of its own. */
function inside(root: string, env: readonly string[], ...program: readonly string[]): string[] {
  const script = `
    set -e
    mount --bind "$1" "$1"
    mount -t proc proc "$1/proc"
    mount --rbind /sys "$1/sys"
    mount --rbind /dev "$1/dev"
    root=$1; shift
    exec /usr/bin/env -i "$@"`;
  return [
    ...['unshare', '--mount', '--net', '--propagation', 'private', 'bash', '-c', script, 'image', root],
    ...env,
    ...['/usr/bin/setpriv', '--pdeathsig', 'KILL', '/usr/sbin/chroot', root, ...program],
  ];
}

function runInside(root: string, ...program: readonly string[]): string {
  const [command = '', ...args] = inside(root, [], ...program);
  return execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

/** Of the variant with DPDK. A device that sends to nowhere: needs the EAL, a bus, a mempool and a poll-mode driver, each from a file of its own. */
export async function runsOnDpdk(root: string): Promise<void> {
  const env = [
    'AERON_DIR=/tmp/driver',
    'OUTRIGGER_BACKENDS=dpdk',
    'OUTRIGGER_DPDK_ARGS=--no-huge -m 64 --no-pci --vdev=net_null0',
    'OUTRIGGER_DPDK_ADDRESSES=10.9.0.1/24',
  ];
  const [command = '', ...args] = inside(root, env, '/usr/bin/outrigger-driver');
  const driver = spawn(command, args, { stdio: ['ignore', 'ignore', 'pipe'] });
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
}

interface BackendReport {
  readonly name: string;
  readonly availability: string;
  readonly causes: readonly { readonly what: string; readonly cause: string }[];
}

/** What the image's own driver says of a backend. */
export function explained(root: string, backend: string): BackendReport {
  const { backends } = JSON.parse(runInside(root, '/usr/bin/outrigger-driver', '--explain', '--json')) as {
    backends: BackendReport[];
  };
  const report = backends.find(({ name }) => name === backend);
  if (report === undefined) throw new Error(`explain says nothing of ${backend}`);
  return report;
}

/** Of the variant with DPDK: what lacks is a device or the right to it, not the module, libibverbs or a driver of a device. */
export function hasVerbs(root: string): void {
  const { availability, causes } = explained(root, 'verbs');
  expect(availability).not.toBe('not built');
  const parts = ['RDMA', 'RDMA libraries', 'outrigger-verbs.so'];
  expect(causes.filter(({ what }) => parts.includes(what))).toEqual([]);

  const named = readdirSync(join(root, 'etc/libibverbs.d')).map((file) =>
    readFileSync(join(root, 'etc/libibverbs.d', file), 'utf8')
      .trim()
      .replace(/^driver /, ''),
  );
  // NVIDIA, Intel, Broadcom, AWS, Azure; and the one without hardware.
  expect(named).toEqual(expect.arrayContaining(['mlx5', 'irdma', 'bnxt_re', 'efa', 'mana', 'rxe']));
  const [libraries = ''] = readdirSync(join(root, 'usr/lib')).filter((name) => name.endsWith('-linux-gnu'));
  const folder = join('/usr/lib', libraries, 'libibverbs');
  const files = readdirSync(join(root, folder));
  for (const name of named) {
    const file = files.find((each) => each.startsWith(`lib${name}-rdmav`));
    expect([name, file]).toEqual([name, expect.any(String)]);
    expect(runInside(root, loader(root), '--list', join(folder, file ?? ''))).not.toContain('not found');
  }
}

/** The image's dynamic loader, which lists what a library needs; there is no ldd. */
function loader(root: string): string {
  const [name = ''] = readdirSync(join(root, 'usr/lib64')).filter((each) => each.startsWith('ld-linux'));
  return join('/lib64', name);
}
