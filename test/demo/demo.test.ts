// SPDX-License-Identifier: Apache-2.0
// `outrigger demo` as a user runs it: the result, its keys, and that nothing is left behind however it ends. Needs `make build`.
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { othersReach } from '../sidecar/support';

const kCommand = join(__dirname, '../../bin/outrigger');
const kNobody = 65534;
const isRoot = process.getuid?.() === 0;

jest.setTimeout(180_000);

interface Run {
  readonly child: ChildProcess;
  readonly over: Promise<{ status: number | null; out: string; err: string }>;
}

function start(args: readonly string[], user: { uid?: number; gid?: number } = {}): Run {
  const child = spawn(kCommand, ['demo', ...args], { stdio: ['ignore', 'pipe', 'pipe'], cwd: '/', ...user });
  let out = '';
  let err = '';
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()));
  const over = new Promise<{ status: number | null; out: string; err: string }>((resolve) =>
    child.once('close', (status) => resolve({ status, out, err })),
  );
  return { child, over };
}

function read(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return ''; // a process that has ended meanwhile
  }
}

/** Processes of the demo with this pid, itself excepted. */
function processesOf(pid: number): string[] {
  return readdirSync('/proc')
    .filter((each) => /^\d+$/.test(each) && Number(each) !== pid)
    .map((each) => read(`/proc/${each}/cmdline`) + read(`/proc/${each}/environ`))
    .filter((text) => text.includes(`outrigger-demo-${pid}-`));
}

/** Everything that the demo with this pid may have made. */
function leftOf(pid: number): string[] {
  const mark = `outrigger-demo-${pid}-`;
  const namespaces = isRoot ? execFileSync('ip', ['netns', 'list'], { encoding: 'utf8' }).split('\n') : [];
  return [
    ...namespaces,
    ...readdirSync('/dev/shm'),
    ...readdirSync(tmpdir()),
    ...(existsSync('/run/netns') ? readdirSync('/run/netns') : []),
    ...processesOf(pid),
  ].filter((each) => each.includes(mark));
}

const kLatencyKeys = ['p50', 'p90', 'p99', 'p999', 'max'];

function expectResult(out: string): Record<string, unknown> {
  const result = JSON.parse(out) as Record<string, Record<string, number>>;
  expect(Object.keys(result)).toEqual([
    'backend',
    'seconds',
    'sent',
    'received',
    'lost',
    'duplicated',
    'outOfOrder',
    'msgsPerSecond',
    'mbPerSecond',
    'appLatencyUs',
    'engineLatencyUs',
  ]);
  for (const key of ['appLatencyUs', 'engineLatencyUs']) {
    const latency = result[key] as Record<string, number>;
    expect(Object.keys(latency)).toEqual(kLatencyKeys);
    const values = Object.values(latency);
    expect(values).toEqual([...values].sort((a, b) => a - b));
    expect(values[0]).toBeGreaterThan(0);
  }
  return result;
}

describe('demo', () => {
  it.each([
    ['mmsg', []],
    ['socket', []],
    ['mmsg', ['--loss', '5']],
    ['socket', ['--loss', '10', '--size', '4000', '--rate', '500']],
  ])('delivers every message once and in order on %s %j, and leaves nothing', async (backend, more) => {
    const args = ['--backend', backend, '--seconds', '2', '--rate', '2000', '--json', ...more];
    const run = start(args);
    const { status, out, err } = await run.over;
    expect(err).toBe('');
    const sent = more.includes('--rate') ? 1000 : 4000;
    expect(expectResult(out)).toMatchObject({
      backend,
      sent,
      received: sent,
      lost: 0,
      duplicated: 0,
      outOfOrder: 0,
    });
    expect(status).toBe(0);
    expect(leftOf(run.child.pid as number)).toEqual([]);
  });

  it.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)('leaves nothing after %s in its midst', async (signal, expected) => {
    const run = start(['--seconds', '60']);
    const pid = run.child.pid as number;
    while (!processesOf(pid).some((text) => text.includes('publisher_app'))) {
      expect(run.child.exitCode).toBeNull();
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    expect(leftOf(pid)).not.toEqual([]);
    run.child.kill(signal);
    const { status } = await run.over;
    expect(status).toBe(expected);
    expect(leftOf(pid)).toEqual([]);
  });

  it('ends with an error, and leaves nothing, when a driver dies', async () => {
    const run = start(['--seconds', '60']);
    const pid = run.child.pid as number;
    let driver = 0;
    while (driver === 0) {
      expect(run.child.exitCode).toBeNull();
      await new Promise((resolve) => setTimeout(resolve, 20));
      for (const each of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
        const mine = read(`/proc/${each}/environ`).includes(`AERON_DIR=/dev/shm/outrigger-demo-${pid}-a`);
        if (mine && read(`/proc/${each}/comm`).startsWith('outrigger-drive')) {
          driver = Number(each);
        }
      }
    }
    process.kill(driver, 'SIGKILL');
    const { status, err } = await run.over;
    expect(status).toBe(1);
    expect(err).toContain('driver a ended with SIGKILL');
    expect(leftOf(pid)).toEqual([]);
  });

  (isRoot && othersReach(kCommand) ? it : it.skip)('runs on loopback without root, and says so', async () => {
    const run = start(['--seconds', '1', '--rate', '500'], { uid: kNobody, gid: kNobody });
    const { status, out, err } = await run.over;
    expect(err).toBe('');
    expect(out).toContain('loopback, one host: network namespaces need root');
    expect(out).toMatch(/lost +0/);
    expect(status).toBe(0);
    expect(leftOf(run.child.pid as number)).toEqual([]);
  });
});
