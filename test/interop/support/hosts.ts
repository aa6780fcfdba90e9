// SPDX-License-Identifier: Apache-2.0
// Two hosts of a test: network namespaces joined by a veth pair, with an IPv4 and an IPv6 address each.
import { randomBytes } from 'node:crypto';
import { execFile, spawn, type ChildProcess, type SpawnOptions } from 'node:child_process';
import { promisify } from 'node:util';

const run = promisify(execFile);

export interface Host {
  readonly ipv4: string;
  readonly ipv6: string;
  /** As a URI has it: the IPv6 address in brackets. */
  address(family: Family): string;
  /** Starts a program on this host. The child has the program's own process id. */
  spawn(command: string, args: readonly string[], options: SpawnOptions): ChildProcess;
  /** Takes its interface down, or up again. IPv6 addresses go with it. */
  setLink(state: 'up' | 'down'): Promise<void>;
  setMtu(bytes: number): Promise<void>;
}

export type Family = 'IPv4' | 'IPv6';

export interface HostPair {
  readonly a: Host;
  readonly b: Host;
  close(): Promise<void>;
}

let namespaces = 0;

/** Random too: a test file that could not clean up must not be in the way of the next one. */
function uniqueName(): string {
  return `ogi${process.pid}${String.fromCharCode(97 + namespaces++)}${randomBytes(2).toString('hex')}-`;
}

/** All of it replaces itself by the next, so that the child is the program. It dies with the test process, however that dies. */
function spawnIn(
  namespace: string,
  command: readonly string[],
  options: SpawnOptions,
  children: Set<ChildProcess>,
): ChildProcess {
  const child = spawn('ip', ['netns', 'exec', namespace, ...command], options);
  children.add(child);
  child.once('close', () => children.delete(child));
  return child;
}

async function removeAll(children: Set<ChildProcess>, names: readonly string[]): Promise<void> {
  for (const child of children) {
    child.kill('SIGKILL');
  }
  for (const name of names) {
    await run('ip', ['netns', 'del', name]).catch(() => undefined);
  }
}

export interface Namespace {
  readonly name: string;
  spawn(command: readonly string[], options: SpawnOptions): ChildProcess;
  close(): Promise<void>;
}

/** One with nothing but its loopback. */
export async function makeNamespace(): Promise<Namespace> {
  const name = `${uniqueName()}p`;
  const children = new Set<ChildProcess>();
  await run('ip', ['netns', 'add', name]);
  await run('ip', ['-n', name, 'link', 'set', 'lo', 'up']);
  return {
    name,
    spawn: (command, options) => spawnIn(name, command, options, children),
    close: () => removeAll(children, [name]),
  };
}

function host(namespace: string, ipv4: string, ipv6: string, children: Set<ChildProcess>): Host {
  return {
    ipv4,
    ipv6,
    address: (family) => (family === 'IPv4' ? ipv4 : `[${ipv6}]`),
    spawn: (command, args, options) =>
      spawnIn(namespace, ['setpriv', '--pdeathsig', 'KILL', command, ...args], options, children),
    setLink: async (state) => {
      await run('ip', ['-n', namespace, 'link', 'set', 'eth0', state]);
    },
    setMtu: async (bytes) => {
      await run('ip', ['-n', namespace, 'link', 'set', 'eth0', 'mtu', String(bytes)]);
    },
  };
}

/** This machine's loopback, for what needs no network. */
export const localHost: Host = {
  ipv4: '127.0.0.1',
  ipv6: '::1',
  address: (family) => (family === 'IPv4' ? '127.0.0.1' : '[::1]'),
  spawn: (command, args, options) => spawn(command, args, options),
  setLink: () => Promise.reject(new Error('loopback stays up')),
  setMtu: () => Promise.reject(new Error('loopback keeps its MTU')),
};

/** Needs root. Both hosts are gone, with all that is in them, after close(): also what a test that failed left running. */
export async function makeHosts(): Promise<HostPair> {
  const base = uniqueName();
  const names = [`${base}0`, `${base}1`] as const;
  const children = new Set<ChildProcess>();
  const close = (): Promise<void> => removeAll(children, names);
  try {
    for (const name of names) {
      await run('ip', ['netns', 'add', name]);
      await run('ip', ['-n', name, 'link', 'set', 'lo', 'up']);
    }
    await run('ip', [
      '-n',
      names[0],
      'link',
      'add',
      'eth0',
      'type',
      'veth',
      'peer',
      'name',
      'eth0',
      'netns',
      names[1],
    ]);
    for (const [i, name] of names.entries()) {
      await run('ip', ['-n', name, 'address', 'add', `10.91.0.${i + 1}/24`, 'dev', 'eth0']);
      // nodad: the address is usable at once.
      await run('ip', ['-n', name, 'address', 'add', `fd91::${i + 1}/64`, 'dev', 'eth0', 'nodad']);
      await run('ip', ['-n', name, 'link', 'set', 'eth0', 'up']);
    }
  } catch (error) {
    await close();
    throw error;
  }
  return {
    a: host(names[0], '10.91.0.1', 'fd91::1', children),
    b: host(names[1], '10.91.0.2', 'fd91::2', children),
    close,
  };
}
