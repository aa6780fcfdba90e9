// SPDX-License-Identifier: Apache-2.0
// What a container runs: outrigger-init with the real driver and the real sidecar under it. What init does with any two programs is tested
// in native/test/init.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { OutriggerClient } from '../../clients/typescript/src/index';
import { until } from '../interop/support/until';

jest.setTimeout(120_000);

const kRoot = resolve(__dirname, '..', '..');

interface Line {
  readonly name?: string;
  readonly msg: string;
  readonly child?: string;
  readonly childPid?: number;
}

class Container {
  readonly folder = mkdtempSync(join(tmpdir(), 'outrigger-container-'));
  readonly directory = join(this.folder, 'driver');
  readonly socket = join(this.folder, 'grpc.sock');
  readonly exited: Promise<number | null>;
  readonly output = { text: '' };
  private readonly child: ChildProcess;

  constructor(environment: Record<string, string> = {}) {
    const topicsFile = join(this.folder, 'topics.json');
    writeFileSync(
      topicsFile,
      JSON.stringify({ topics: [{ name: 'local', streamId: 1, channel: 'aeron:ipc' }] }),
    );
    const sidecar = [process.execPath, join(kRoot, 'build/ts/sidecar/src/main.js')];
    this.child = spawn(
      join(kRoot, 'build/native/outrigger-init'),
      [
        ...['--backoff-min', '10ms', '--drain-timeout', '60s'],
        ...['--driver', join(kRoot, 'build/native/outrigger-driver')],
        ...['--sidecar', ...sidecar],
      ],
      {
        stdio: ['ignore', 'pipe', 'pipe'],
        env: {
          ...process.env,
          AERON_DIR: this.directory,
          OUTRIGGER_GRPC_SOCKET: this.socket,
          OUTRIGGER_HTTP_LISTEN: '',
          OUTRIGGER_TOPICS_FILE: topicsFile,
          OUTRIGGER_DRIVER_TIMEOUT: '2s',
          ...environment,
        },
      },
    );
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream?.on('data', (data: Buffer) => (this.output.text += data.toString()));
    }
    this.exited = once(this.child, 'close').then(([code]) => code as number | null);
  }

  /** Lines of init's own log, so far. */
  lines(): Line[] {
    return this.output.text
      .split('\n')
      .filter((line) => line.includes('"name":"init"') && line.endsWith('}'))
      .map((line) => JSON.parse(line) as Line);
  }

  started(child: string): number[] {
    return this.lines()
      .filter((line) => line.msg === `started ${child}`)
      .map((line) => line.childPid ?? 0);
  }

  signal(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }

  async end(): Promise<void> {
    if (this.child.exitCode === null) {
      this.signal('SIGTERM');
      await this.exited;
    }
    rmSync(this.folder, { recursive: true, force: true });
  }
}

let container: Container | undefined;
let client: OutriggerClient | undefined;

afterEach(async () => {
  await client?.close();
  client = undefined;
  await container?.end();
  container = undefined;
});

/** Messages until one comes through: it is all up, and stays so for this one. */
async function sendThrough(text: string): Promise<void> {
  const publisher = client?.publisher('local', { backPressure: 'wait' });
  const subscription = client?.subscribe('local');
  if (publisher === undefined || subscription === undefined) throw new Error('no client');
  await publisher.whenConnected();
  const receipt = publisher.publish(text);
  for await (const message of subscription) {
    if (message.payload.toString() === text) break;
  }
  await receipt;
  subscription.close();
  await publisher.close();
}

function connect(to: Container): OutriggerClient {
  return new OutriggerClient({ address: `unix:${to.socket}` });
}

it('moves messages, and at SIGTERM ends with status 0 and leaves no file', async () => {
  container = new Container();
  client = connect(container);
  await sendThrough('hello');
  await client.close();
  client = undefined;
  container.signal('SIGTERM');
  expect(await container.exited).toBe(0);
  expect(existsSync(container.socket)).toBe(false);
  expect(existsSync(container.directory)).toBe(false);
});

it.each([
  ['driver', 'sidecar'],
  ['sidecar', 'driver'],
] as const)('carries on when the %s is killed, with the %s as it was', async (victim, other) => {
  const running = (container = new Container());
  client = connect(running);
  await sendThrough('before');
  const [pid = 0] = running.started(victim);
  process.kill(pid, 'SIGKILL');
  await until(`a second ${victim}`, () => running.started(victim).length === 2);
  await sendThrough('after');
  expect(running.started(other)).toHaveLength(1);
  expect(running.started(victim)).toHaveLength(2);
});

it('gives up on a setting that the sidecar refuses, and says which', async () => {
  container = new Container({ OUTRIGGER_LOG_LEVEL: 'loud' });
  expect(await container.exited).toBe(78);
  expect(container.output.text).toContain('OUTRIGGER_LOG_LEVEL');
  expect(container.started('sidecar')).toHaveLength(3);
});

it('gives up on a setting that the driver refuses, and says which', async () => {
  container = new Container({ AERON_MTU_LENGTH: '7' });
  expect(await container.exited).toBe(78);
  expect(container.output.text).toContain('AERON_MTU_LENGTH');
});
