// SPDX-License-Identifier: Apache-2.0
// `outrigger explain` over a real driver, and over none.
import { execFileSync, spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { nativeProgram } from '../../sidecar/src/cli/installation';
import { until } from './support';

jest.setTimeout(60_000);

const kCommand = join(__dirname, '../../bin/outrigger');

interface Explained {
  readonly directory: string;
  readonly driver: {
    readonly backend: string;
    readonly pid: number;
    readonly facts: Record<string, string>;
    readonly threads: Record<string, string>;
    readonly notBetter: { name: string; reason: string }[];
  } | null;
  readonly wouldUse: string;
  readonly order: string[];
  readonly backends: { name: string; availability: string; causes: { fix: string }[] }[];
  readonly preloads: { name: string; availability: string; cause: string }[];
}

let folder: string;
let directory: string;
let driver: ChildProcess | undefined;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'outrigger-explain-test-'));
  directory = join(folder, 'driver');
});
afterEach(async () => {
  if (driver !== undefined) {
    driver.kill('SIGTERM');
    await once(driver, 'exit');
    driver = undefined;
  }
  rmSync(folder, { recursive: true, force: true });
});

async function startDriver(env: Record<string, string>): Promise<void> {
  driver = spawn(nativeProgram('outrigger-driver'), [], {
    env: { ...process.env, AERON_DIR: directory, ...env },
    stdio: 'ignore',
  });
  await until('the driver', () => existsSync(join(directory, 'backend.json')));
}

function explain(env: Record<string, string> = {}, ...args: string[]) {
  const { status, stdout, stderr } = spawnSync(kCommand, ['explain', '-d', directory, ...args], {
    encoding: 'utf8',
    env: { ...process.env, ...env },
  });
  return { status, stdout, stderr };
}

function explained(env: Record<string, string> = {}): Explained {
  const { stdout, stderr } = explain(env, '--json');
  expect(stderr).toBe('');
  return JSON.parse(stdout) as Explained;
}

/** A library that any program can load, under another name. */
function fakeLibrary(name: string): string {
  const libc = execFileSync('sh', ['-c', "ldd /bin/sh | awk '/libc.so/ {print $3}'"], { encoding: 'utf8' });
  const path = join(folder, name);
  copyFileSync(join(libc.trim(), '..', 'libm.so.6'), path);
  return path;
}

describe('outrigger explain', () => {
  it('says of each backend whether it can be had, why not, and what to do', () => {
    const found = explained();
    expect(found.driver).toBeNull();
    expect(found.backends.map(({ name }) => name)).toEqual(expect.arrayContaining(['mmsg', 'socket']));
    for (const { availability, causes } of found.backends) {
      expect(['available', 'degraded', 'impossible', 'not built']).toContain(availability);
      causes.forEach(({ fix }) => expect(fix).not.toBe(''));
    }
    expect(found.wouldUse).toBe('mmsg');
    expect(explain().stdout).toContain(`no driver runs in ${directory}`);
  });

  it('says what the driver of the directory runs with, and probes with its settings', async () => {
    await startDriver({
      OUTRIGGER_BACKENDS: 'socket,mmsg',
      OUTRIGGER_UDP_SEGMENT: 'off',
      AERON_THREADING_MODE: 'DEDICATED',
    });
    const found = explained();
    expect(found.driver).toMatchObject({
      backend: 'socket',
      pid: driver?.pid,
      facts: { mode: 'kernel' },
      threads: { mode: 'dedicated', sender: 'or-sender' },
      notBetter: [],
    });
    expect(found.order).toEqual(['socket', 'mmsg']);
    expect(found.backends.find(({ name }) => name === 'mmsg')).toMatchObject({
      availability: 'degraded',
      causes: [{ what: 'UDP_SEGMENT', fix: 'unset OUTRIGGER_UDP_SEGMENT' }],
    });
    // The environment of who asks comes first.
    expect(explained({ OUTRIGGER_BACKENDS: 'mmsg' }).wouldUse).toBe('mmsg');
    const { stdout, status } = explain();
    expect(status).toBe(0);
    expect(stdout).toMatch(/^driver \d+ in .* runs socket since 20/);
    expect(stdout).toMatch(/^socket +in use /m);
  });

  it('finds a preloaded socket library', () => {
    const path = fakeLibrary('libvma.so');
    const text = execFileSync(nativeProgram('outrigger-driver'), ['--explain', '--json'], {
      encoding: 'utf8',
      env: { ...process.env, LD_PRELOAD: path },
    });
    const found = JSON.parse(text) as Explained;
    expect(found.preloads.find(({ name }) => name === 'vma')).toMatchObject({ availability: 'active' });
    expect(found.preloads.find(({ name }) => name === 'onload')).toMatchObject({
      availability: 'not loaded',
    });
    expect(found.backends.find(({ name }) => name === 'mmsg')).toMatchObject({ facts: { mode: 'vma' } });
  });

  it('says so when a setting is wrong', () => {
    const { status, stderr } = explain({ OUTRIGGER_XDP_MODE: 'skb' });
    expect(status).toBe(78);
    expect(stderr).toContain('OUTRIGGER_XDP_MODE=skb is not valid');
  });
});
