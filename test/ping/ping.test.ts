// SPDX-License-Identifier: Apache-2.0
// `outrigger ping` against `outrigger reflect` over a veth pair, natively and generically. Needs root and `make build`.
import { spawnSync, type ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { join } from 'node:path';
import { makeHosts, type Host, type HostPair } from '../interop/support/hosts';

const kCommand = join(__dirname, '../../bin/outrigger');

jest.setTimeout(120_000);

let hosts: HostPair;
beforeAll(async () => {
  hosts = await makeHosts();
});
afterAll(async () => {
  await hosts.close();
});

interface Ended {
  readonly status: number | null;
  readonly out: string;
  readonly err: string;
}

function run(host: Host, args: readonly string[]): Promise<Ended> {
  const child = host.spawn(kCommand, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let out = '';
  let err = '';
  child.stdout?.on('data', (chunk: Buffer) => (out += chunk.toString()));
  child.stderr?.on('data', (chunk: Buffer) => (err += chunk.toString()));
  return new Promise((resolve) => child.once('close', (status) => resolve({ status, out, err })));
}

interface Reflector {
  readonly child: ChildProcess;
  readonly ready: Record<string, unknown>;
  /** What it said last. */
  stop(): Promise<Record<string, unknown>>;
}

async function reflect(host: Host, args: readonly string[]): Promise<Reflector> {
  const child = host.spawn(kCommand, ['reflect', '--interface', 'eth0', '--json', ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const lines: string[] = [];
  const closed = new Promise<void>((resolve) => child.once('close', () => resolve()));
  const first = new Promise<string>((resolve, reject) => {
    createInterface({ input: child.stdout as NodeJS.ReadableStream }).on('line', (line) => {
      lines.push(line);
      resolve(line);
    });
    void closed.then(() => reject(new Error('the reflector ended before it was ready')));
  });
  const ready = JSON.parse(await first) as Record<string, unknown>;
  return {
    child,
    ready,
    stop: async () => {
      child.kill('SIGINT');
      await closed;
      return JSON.parse(lines.at(-1) ?? '{}') as Record<string, unknown>;
    },
  };
}

interface Result {
  readonly sent: number;
  readonly received: number;
  readonly lost: number;
  readonly duplicates: number;
  readonly via: string;
  readonly rttUs: Record<string, number>;
}

describe.each(['native', 'generic'])('a %s reflector', (mode) => {
  let reflector: Reflector;
  beforeAll(async () => {
    reflector = await reflect(hosts.b, ['--mode', mode]);
  });
  let reflected = 0;
  afterAll(async () => {
    const ended = await reflector.stop();
    expect(ended.reflected).toBeGreaterThanOrEqual(reflected);
  });

  test('says where and how it reflects', () => {
    expect(reflector.ready).toMatchObject({ event: 'reflecting', interface: 'eth0', port: 40399, mode });
  });

  test.each([
    { via: 'socket', family: 'IPv4', wait: 'spin' },
    { via: 'socket', family: 'IPv6', wait: 'sleep' },
    { via: 'xdp', family: 'IPv4', wait: 'sleep' },
    { via: 'xdp', family: 'IPv6', wait: 'spin' },
  ] as const)('answers every probe over $family, sent by $via, waited for by $wait', async (each) => {
    const host = each.family === 'IPv4' ? hosts.b.ipv4 : hosts.b.ipv6;
    const args = ['ping', '--xdp', host, '--via', each.via, '--wait', each.wait, '-n', '500', '-i', '500us'];
    const ended = await run(hosts.a, [...args, '--size', '200', '--json']);
    expect(ended.err).toBe('');
    const result = JSON.parse(ended.out) as Result;
    expect(result).toMatchObject({ sent: 500, received: 500, lost: 0, duplicates: 0 });
    expect(result.via).toContain(each.via);
    expect(Object.keys(result.rttUs)).toEqual(['min', 'p50', 'p90', 'p99', 'p999', 'max']);
    const { min = 0, p50 = 0, max = 0 } = result.rttUs;
    expect(min).toBeGreaterThan(0);
    expect(p50).toBeGreaterThanOrEqual(min);
    expect(max).toBeGreaterThanOrEqual(p50);
    expect(ended.status).toBe(0);
    reflected += 500;
  });

  test('is named by a second one, which leaves it alone', async () => {
    const second = await run(hosts.b, ['reflect', '--interface', 'eth0']);
    expect(second.status).toBe(69);
    expect(second.err).toMatch(
      /interface eth0 .*program \d+ 'echo' \(tag [0-9a-f]{16}, (native|generic)\) is there and stays/,
    );
  });
});

test('a table for people', async () => {
  const reflector = await reflect(hosts.b, []);
  const ended = await run(hosts.a, ['ping', '--xdp', hosts.b.ipv4, '-n', '100']);
  await reflector.stop();
  expect(ended.out).toMatch(
    /XDP reflector at 10\.91\.0\.2:40399 from eth0 by socket: 64 bytes every 1000 µs/,
  );
  expect(ended.out).toContain('100 of 100 answered');
  expect(ended.out).toMatch(/min µs +p50 +p90 +p99 +p99\.9 +max/);
});

test('a killed reflector takes its program with it, and a ping then says what is missing', async () => {
  const reflector = await reflect(hosts.b, []);
  const pid = reflector.child.pid ?? 0;
  // The command's child is a session of its own: found by its parent.
  const probe = spawnSync('ps', ['-o', 'pid=', '--ppid', `${pid}`], { encoding: 'utf8' }).stdout.trim();
  process.kill(Number(probe), 'SIGKILL');
  await new Promise((resolve) => reflector.child.once('close', resolve));
  const ended = await run(hosts.a, ['ping', '--xdp', hosts.b.ipv4, '--timeout', '1']);
  expect(ended.status).toBe(69);
  expect(ended.err).toContain(
    `no reflector answers at ${hosts.b.ipv4}:40399: start one there with \`outrigger reflect\``,
  );
});

test.each([
  { args: ['ping', '--xdp', '10.91.0.2', '--interval', '0us'], says: 'allowed: a duration of 1us or more' },
  {
    args: ['ping', '--xdp', '10.91.0.2', '--via', 'carrier-pigeon'],
    says: 'Allowed choices are socket, xdp',
  },
  { args: ['ping', '--xdp', '10.91.0.2', '--mode', 'native'], says: '--mode goes with --via xdp' },
  { args: ['reflect', '--port', '0'], says: 'allowed: a whole number, 1 to 65535' },
])('$args is refused with the reason', async ({ args, says }) => {
  const ended = await run(hosts.a, args);
  expect(ended.status).toBe(64);
  expect(ended.err).toContain(says);
});

test('an interface that is not there is named', async () => {
  const ended = await run(hosts.b, ['reflect', '--interface', 'eth7']);
  expect(ended.status).toBe(69);
  expect(ended.err).toContain("interface 'eth7' does not exist here, there are: ");
});
