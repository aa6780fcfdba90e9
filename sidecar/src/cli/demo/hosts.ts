// SPDX-License-Identifier: Apache-2.0
// The two hosts of the demo: network namespaces joined by a veth pair, or, without the right to make them, loopback. Made and removed here.
import { execFileSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';

export interface Host {
  readonly name: 'a' | 'b';
  readonly address: string;
  /** The one with that address. */
  readonly interface: string;
  /** Words that go before a command so that it runs on this host. */
  readonly prefix: readonly string[];
}

export interface Hosts {
  readonly a: Host;
  readonly b: Host;
  /** What stands for the network, in words. */
  readonly description: string;
  /** Ports on host b that are free: of the app's topic and of the engine's stream. */
  readonly ports: readonly [number, number];
  remove(): void;
}

const kPrefix = 'outrigger-demo-';
const kAddresses = { a: '10.55.0.1', b: '10.55.0.2' } as const;

function ip(...args: string[]): string {
  return execFileSync('ip', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

function reasonOf(error: unknown): string {
  const { stderr, message } = error as { stderr?: string; message: string };
  return (stderr ?? '').trim() || message;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** Namespaces of demos that were killed before they could remove them. */
function sweep(): void {
  for (const line of ip('netns', 'list').split('\n')) {
    const [name = ''] = line.split(' ');
    const pid = Number(/^outrigger-demo-(\d+)-[ab]$/.exec(name)?.[1] ?? NaN);
    if (Number.isInteger(pid) && !isAlive(pid)) {
      for (const left of ip('netns', 'pids', name).split('\n').filter(Boolean)) {
        process.kill(Number(left), 'SIGKILL');
      }
      ip('netns', 'delete', name);
    }
  }
}

function namespaces(): Hosts {
  sweep();
  const names = { a: `${kPrefix}${process.pid}-a`, b: `${kPrefix}${process.pid}-b` };
  const remove = (): void => {
    for (const name of Object.values(names)) {
      try {
        ip('netns', 'delete', name); // its end of the veth pair goes with it, and so the other one
      } catch {
        // It was not made, or is gone already.
      }
    }
  };
  try {
    ip('netns', 'add', names.a);
    ip('netns', 'add', names.b);
    // Both ends are made inside, so that their names can't clash with any on this machine.
    ip('-n', names.a, 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', names.b);
    for (const side of ['a', 'b'] as const) {
      ip('-n', names[side], 'address', 'add', `${kAddresses[side]}/24`, 'dev', 'eth0');
      ip('-n', names[side], 'link', 'set', 'eth0', 'up');
      ip('-n', names[side], 'link', 'set', 'lo', 'up');
    }
  } catch (error) {
    remove();
    throw error;
  }
  const host = (name: 'a' | 'b'): Host => ({
    name,
    address: kAddresses[name],
    interface: 'eth0',
    prefix: ['ip', 'netns', 'exec', names[name]],
  });
  return {
    a: host('a'),
    b: host('b'),
    description: 'two network namespaces and a veth pair, MTU 1500',
    ports: [40_123, 40_124],
    remove,
  };
}

async function freePorts(): Promise<[number, number]> {
  const sockets = [createSocket('udp4'), createSocket('udp4')];
  const ports: number[] = [];
  for (const socket of sockets) {
    socket.bind(0, '127.0.0.1');
    await once(socket, 'listening');
    ports.push(socket.address().port);
  }
  sockets.forEach((socket) => socket.close());
  return ports as [number, number];
}

async function loopback(why: string): Promise<Hosts> {
  const host = (name: 'a' | 'b'): Host => ({ name, address: '127.0.0.1', interface: 'lo', prefix: [] });
  return {
    a: host('a'),
    b: host('b'),
    description: `loopback, one host: ${why}`,
    ports: await freePorts(),
    remove: () => undefined,
  };
}

/** Network namespaces where that is possible, else loopback, with the reason in its description. */
export async function makeHosts(): Promise<Hosts> {
  if (process.getuid?.() !== 0) {
    return loopback('network namespaces need root');
  }
  try {
    return namespaces();
  } catch (error) {
    return loopback(`network namespaces can't be made: ${reasonOf(error)}`);
  }
}
