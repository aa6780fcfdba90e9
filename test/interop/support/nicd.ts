// SPDX-License-Identifier: Apache-2.0
// A node for outrigger-nicd: nicd on the host that has the interface, and a pod, which has no interface and whose programs may do nothing.
import { execFile } from 'node:child_process';
import { chownSync, mkdtempSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import type { ChildProcess } from 'node:child_process';
import { temporaryDirectory } from './drivers';
import { makeNamespace, type Host } from './hosts';
import { nativeProgram } from './peer';
import { until } from './until';

const run = promisify(execFile);

/** For what does not end as it is told. */
const kEndMs = 20_000;

/** "nobody": no file here is its. */
export const kPodUser = 65534;

// As a container's: another user, nothing to become more, no capability, not even a way to one.
const kPowerless = [
  ...['setpriv', '--reuid', `${kPodUser}`, '--regid', `${kPodUser}`, '--clear-groups', '--no-new-privs'],
  ...['--inh-caps=-all', '--bounding-set=-all', '--pdeathsig', 'KILL'],
];

export interface Pod {
  /** What runs there has the addresses of `node` only by nicd. */
  readonly host: Host;
  /** For a driver's directory; the pod's user may write there. Goes with the driver. */
  directory(): string;
  /** Names of its interfaces. */
  interfaces(): Promise<readonly string[]>;
  close(): Promise<void>;
}

export async function makePod(node: Host): Promise<Pod> {
  const namespace = await makeNamespace();
  return {
    host: {
      ...node,
      spawn: (command, args, options) => namespace.spawn([...kPowerless, command, ...args], options),
      setLink: () => Promise.reject(new Error('a pod has no interface')),
      setMtu: () => Promise.reject(new Error('a pod has no interface')),
    },
    directory: () => {
      const parent = temporaryDirectory();
      chownSync(parent, kPodUser, kPodUser);
      return join(parent, 'driver');
    },
    interfaces: async () => {
      const { stdout } = await run('ip', ['-n', namespace.name, '-json', 'link']);
      return (JSON.parse(stdout) as { ifname: string }[]).map(({ ifname }) => ifname);
    },
    close: () => namespace.close(),
  };
}

/** outrigger-nicd on a host, with its programs pinned; it can be killed and started again. */
export class Nicd {
  readonly socket: string;
  private child: ChildProcess | undefined;
  private closed: Promise<unknown> = Promise.resolve();
  private readonly lines: string[] = [];

  private constructor(
    private readonly host: Host,
    private readonly folder: string,
    private readonly flags: readonly string[],
  ) {
    this.socket = join(folder, 'nicd.sock');
  }

  static async start(host: Host, ...flags: string[]): Promise<Nicd> {
    const folder = mkdtempSync(join(tmpdir(), 'outrigger-nicd-e2e-'));
    chownSync(folder, kPodUser, 0);
    const nicd = new Nicd(host, folder, flags);
    // Here and not by nicd: what one run of `ip netns exec` mounts is gone with it, and with it the pins.
    mkdirSync(nicd.pins);
    try {
      await run('mount', ['-t', 'bpf', 'outrigger-test', nicd.pins]);
      await nicd.start();
    } catch (error) {
      await nicd.close();
      throw error;
    }
    return nicd;
  }

  get pins(): string {
    return join(this.folder, 'bpf');
  }

  /** Environment of a driver that takes its device from here. */
  get env(): Readonly<Record<string, string>> {
    return { OUTRIGGER_NICD_SOCKET: this.socket, OUTRIGGER_INTERFACE: 'eth0', OUTRIGGER_HUGEPAGES: 'false' };
  }

  /** Returns when it serves. */
  async start(): Promise<void> {
    const flags = [
      ...['--socket', this.socket, '--socket-mode', '0666', '--state-dir', join(this.folder, 'state')],
      ...['--bpf-dir', this.pins, '--interface', 'eth0', '--allow-uid', `${kPodUser}`, ...this.flags],
    ];
    const from = this.lines.length;
    this.child = this.host.spawn(nativeProgram('outrigger-nicd'), flags, {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    this.closed = once(this.child, 'close');
    if (this.child.stderr) {
      createInterface({ input: this.child.stderr }).on('line', (line) => this.lines.push(line));
    }
    await this.untilLogged('nicd is ready', 1, from);
  }

  /** So many lines with this text, from the given one on. */
  async untilLogged(text: string, count = 1, from = 0): Promise<void> {
    const seen = (): number => this.lines.slice(from).filter((line) => line.includes(text)).length;
    await until(
      `nicd's log has ${count} times '${text}': ${this.lines.slice(-20).join('\n')}`,
      () => seen() >= count,
    );
  }

  get logged(): number {
    return this.lines.length;
  }

  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    if (this.child === undefined) {
      return;
    }
    const { child } = this;
    child.kill(signal);
    const late = setTimeout(() => child.kill('SIGKILL'), kEndMs);
    await this.closed; // also when it ended by itself before
    clearTimeout(late);
    this.child = undefined;
  }

  /** As an operator would who takes it for a program that is left over. */
  async pullProgram(): Promise<void> {
    const entry = readdirSync(this.pins).find((name) => name.startsWith('if'));
    if (entry === undefined) {
      throw new Error(`no program is pinned in ${this.pins}`);
    }
    await run('bpftool', ['link', 'detach', 'pinned', join(this.pins, entry, 'link')]);
  }

  /** What it keeps of sessions: files of records, pins. */
  leftovers(): readonly string[] {
    // The file system's own two files stand in each bpffs.
    const pins = readdirSync(this.pins).filter((name) => !name.endsWith('.debug'));
    return [...readdirSync(join(this.folder, 'state')), ...pins];
  }

  async close(): Promise<void> {
    await this.kill('SIGTERM');
    // Not there when it could not be mounted.
    await run('umount', ['--lazy', this.pins]).catch(() => undefined);
    rmSync(this.folder, { recursive: true, force: true });
  }
}
