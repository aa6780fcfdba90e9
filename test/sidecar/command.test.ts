// SPDX-License-Identifier: Apache-2.0
// bin/outrigger over a real driver: run with a driver and an app, pub and sub in a pipe, bench, the tools on a directory.
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { nativeProgram } from '../../sidecar/src/cli/installation';
import { loadConfig } from '../../sidecar/src/config/load';
import { until } from './support';

jest.setTimeout(120_000);

const kCommand = join(__dirname, '../../bin/outrigger');

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'outrigger-command-test-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

interface Result {
  readonly status: number | null;
  readonly out: string;
  readonly err: string;
}

function start(args: readonly string[]): {
  pid: number;
  signal(name: NodeJS.Signals): void;
  over: Promise<Result>;
} {
  const child = spawn(kCommand, args, { stdio: ['ignore', 'pipe', 'pipe'], cwd: folder });
  let out = '';
  let err = '';
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()));
  return {
    pid: child.pid as number,
    signal: (name) => void child.kill(name),
    over: new Promise((resolve) => child.once('close', (status) => resolve({ status, out, err }))),
  };
}

/** `outrigger run --driver ... -- sh -c script`, everything in the folder of this test. */
function runWith(script: string, more: readonly string[] = []): ReturnType<typeof start> {
  return start([
    'run',
    '--driver',
    `--driver-directory=${join(folder, 'driver')}`,
    `--grpc-socket=${join(folder, 'grpc.sock')}`,
    '--http-listen=',
    '--allow-channels',
    '--log-level=warn',
    ...more,
    '--',
    'sh',
    '-c',
    script,
  ]);
}

const kTarget = '--channel aeron:ipc --stream 9';

describe('outrigger run', () => {
  it("takes every variable of the driver's in its own environment", () => {
    const help = execFileSync(nativeProgram('outrigger-driver'), ['--help'], { encoding: 'utf8' });
    const names = [...help.matchAll(/^ {2}(OUTRIGGER_\w+)$/gm)].map(([, name]) => name as string);
    expect(names).toContain('OUTRIGGER_BACKENDS');
    expect(() =>
      loadConfig({ argv: [], env: Object.fromEntries(names.map((name) => [name, ''])) }),
    ).not.toThrow();
  });

  it("gives an app a driver and a sidecar, and ends with the app's status", async () => {
    const { status, out } = await runWith(`
      ${kCommand} sub ${kTarget} --count 1000 --check --format none --json > sub.json & sub=$!
      ${kCommand} pub ${kTarget} --count 1000 --json || exit 1
      wait $sub || exit 2
      ${kCommand} stat --json || exit 3
      exit 7`).over;
    expect(status).toBe(7);
    const lines = out
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(lines.find((line) => 'accepted' in line)).toMatchObject({ accepted: 1000, refused: 0 });
    expect(lines.find((line) => 'counters' in line)).toMatchObject({
      backend: 'mmsg',
      directory: join(folder, 'driver'),
    });
    const summary = readFileSync(join(folder, 'sub.json'), 'utf8').trim().split('\n').at(-1) as string;
    expect(JSON.parse(summary)).toMatchObject({
      received: 1000,
      lost: 0,
      duplicated: 0,
      outOfOrder: 0,
      corrupt: 0,
    });
    expect(readdirSync(folder)).toEqual(['sub.json']); // neither socket nor directory is left
  });

  it('gives its driver the backends that it was told', async () => {
    const { status, out } = await runWith(`${kCommand} stat --json`, ['--backends=socket,mmsg']).over;
    expect(status).toBe(0);
    expect(JSON.parse(out)).toMatchObject({ backend: 'socket' });
  });

  it('refuses backends for a driver that it does not start', async () => {
    const { status, err } = await start(['run', '--backends=socket']).over;
    expect(status).toBe(64);
    expect(err).toContain('--backends=socket is of a driver that this command starts: add --driver');
  });

  it('starts a driver that was killed again, and the streams go on', async () => {
    const { status, err } = await runWith(`
      driver=$(${kCommand} stat --json | sed 's/.*"pid":\\([0-9]*\\).*/\\1/')
      kill -9 $driver
      until ${kCommand} stat --json 2>/dev/null | grep -v "\\"pid\\":$driver" | grep -q pid; do sleep 0.1; done
      ${kCommand} sub ${kTarget} --count 10 --quiet > sub.txt & sub=$!
      seq 10 | ${kCommand} pub ${kTarget} || exit 1
      wait $sub || exit 2`).over;
    expect({ status, err }).toMatchObject({
      status: 0,
      err: expect.stringContaining('it is started again') as string,
    });
    expect(readFileSync(join(folder, 'sub.txt'), 'utf8')).toBe('1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n');
  });

  it('ends the app, then itself, at SIGTERM', async () => {
    const run = runWith('trap "echo told; exit 5" TERM; touch started; while :; do sleep 0.05; done');
    await until('the app', () => readdirSync(folder).includes('started'));
    run.signal('SIGTERM');
    const { status, out } = await run.over;
    expect(out).toBe('told\n');
    expect(status).toBe(5);
  });
});

describe('outrigger bench', () => {
  it('measures throughput and latency, and checks every message', async () => {
    const { status, out } = await runWith(`exec ${kCommand} bench ${kTarget} --seconds 1 --rate 500 --json`)
      .over;
    expect(status).toBe(0);
    const result = JSON.parse(out) as Record<string, Record<string, number>>;
    for (const phase of ['throughput', 'latency']) {
      expect(result[phase]).toMatchObject({ lost: 0, duplicated: 0, outOfOrder: 0 });
      expect(result[phase]?.['received']).toBe(result[phase]?.['sent']);
    }
    expect(result['latency']?.['sent']).toBe(500);
  });
});

describe('without a driver', () => {
  it.each(['stat', 'errors', 'loss'])('%s names the directory and ends with 69', async (command) => {
    const directory = join(folder, 'nothing');
    const { status, err } = await start([command, '--dir', directory]).over;
    expect(status).toBe(69);
    expect(err).toContain(directory);
  });
});
