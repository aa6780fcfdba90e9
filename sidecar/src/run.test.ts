// SPDX-License-Identifier: Apache-2.0
// The sidecar as a process: help, bad settings, signals.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { kExitConfig, kExitOk, kExitUnavailable, runSidecarProcess } from './run';
import { FakeDriver } from './testing/fake_native';
import { connectTo } from './testing/grpc_client';

let folder: string;
let written: { out: string; err: string };

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'outrigger-run-'));
  written = { out: '', err: '' };
  jest.spyOn(process.stdout, 'write').mockImplementation((chunk) => ((written.out += String(chunk)), true));
  jest.spyOn(process.stderr, 'write').mockImplementation((chunk) => ((written.err += String(chunk)), true));
});
afterEach(() => {
  jest.restoreAllMocks();
  rmSync(folder, { recursive: true, force: true });
});

const refuse = (): never => {
  throw new Error('must not be loaded');
};

describe('process', () => {
  it('teaches with --help, without the native client', async () => {
    expect(await runSidecarProcess(['--help'], {}, refuse)).toBe(kExitOk);
    expect(written.out).toContain('--grpc-socket');
    expect(written.out).toContain('OUTRIGGER_TOPICS_FILE');
  });

  it('ends with its own status and one line a problem for bad settings', async () => {
    expect(await runSidecarProcess(['--log-level', 'loud', '--drian-timeout=1s'], {}, refuse)).toBe(
      kExitConfig,
    );
    expect(written.err.split('\n').filter((each) => each !== '')).toEqual([
      'outrigger: flag --drian-timeout: unknown; did you mean --drain-timeout?',
      expect.stringContaining('flag --log-level: "loud"'),
    ]);
  });

  it('ends with another status when it can not start', async () => {
    const file = join(folder, 'topics.yaml');
    writeFileSync(file, 'topics: 5');
    const status = await runSidecarProcess(
      ['--log-level=silent', `--topics-file=${file}`, `--grpc-socket=${folder}/s`, '--http-listen='],
      {},
      () => new FakeDriver(),
    );
    expect(status).toBe(kExitUnavailable);
    expect(written.err).toContain(file);
  });

  it('drains on SIGTERM and ends well', async () => {
    const socket = join(folder, 's');
    const over = runSidecarProcess(
      ['--log-level=silent', `--grpc-socket=${socket}`, '--http-listen=', '--allow-channels'],
      {},
      () => new FakeDriver(),
    );
    const client = connectTo(`unix:${socket}`);
    while ((await client.call('health', 'check').catch(() => ({ status: '' })))['status'] !== 'SERVING') {
      await new Promise(setImmediate);
    }
    const publisher = client
      .publish()
      .write({ open: { target: { channel: { uri: 'aeron:ipc', streamId: 1 } } } });
    await publisher.next((answer) => answer['opened']);
    process.emit('SIGTERM');
    expect(await over).toBe(kExitOk);
    expect(await publisher.ended()).toMatchObject({ details: expect.stringContaining('shutting down') });
    client.close();
  });
});
