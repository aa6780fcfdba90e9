// SPDX-License-Identifier: Apache-2.0
// Every way for a client of the addon to end: the driver dies, objects are dropped instead of closed, workers and processes end in the
// middle of traffic.
import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ModuleKind, ScriptTarget, transpileModule } from 'typescript';
import { native } from '../../sidecar/src/native/index';
import type { NativeClient } from '../../sidecar/src/native/types';
import { Collector, Driver, encodeBatch, kRepository, numbered, until } from './support';

let driver: Driver;
let facade: string;

/** The facade as plain JavaScript, for children that run without jest. */
function compileFacade(folder: string): string {
  mkdirSync(folder);
  for (const name of ['index', 'types']) {
    const source = readFileSync(join(kRepository, 'sidecar', 'src', 'native', `${name}.ts`), 'utf8');
    const options = { module: ModuleKind.CommonJS, target: ScriptTarget.ES2023 };
    writeFileSync(
      join(folder, `${name}.js`),
      transpileModule(source, { compilerOptions: options }).outputText,
    );
  }
  return join(folder, 'index.js');
}

beforeAll(async () => {
  driver = await Driver.start();
  facade = compileFacade(join(driver.folder, 'facade'));
});
afterAll(() => driver.stop());

/** Clients of the test that runs; a failed one must not keep the process. */
const clients: NativeClient[] = [];
afterEach(() => Promise.all(clients.splice(0).map((each) => each.close())));

async function connect(onDriverLost: (reason: string) => void): Promise<NativeClient> {
  const client = await native.connect({ directory: driver.directory, onDriverLost });
  clients.push(client);
  return client;
}

interface Ended {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly output: string;
}

function runChild(nodeArguments: readonly string[], script: string, ...rest: string[]): Promise<Ended> {
  const path = join(__dirname, 'children', script);
  const child = spawn(process.execPath, [...nodeArguments, path, facade, driver.directory, ...rest], {
    env: {
      ...process.env,
      OUTRIGGER_ADDON:
        process.env['OUTRIGGER_ADDON'] ?? join(kRepository, 'build', 'native', 'outrigger.node'),
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  child.stdout.on('data', (data: Buffer) => (output += data.toString()));
  child.stderr.on('data', (data: Buffer) => (output += data.toString()));
  return new Promise((done) => child.on('close', (status, signal) => done({ status, signal, output })));
}

test('dropped objects: publications are closed, subscriptions deliver on, bytes stay, memory does not grow', async () => {
  const ended = await runChild(['--expose-gc'], 'gc.cjs');
  expect(ended).toEqual({ status: 0, signal: null, output: 'done\n' });
}, 120_000);

test('workers have clients of their own and may be ended at any moment', async () => {
  const ended = await runChild([], 'worker.cjs');
  expect(ended).toEqual({ status: 0, signal: null, output: 'done\n' });
}, 120_000);

test('a process that exits in the middle of traffic ends with its own status', async () => {
  expect(await runChild([], 'exit.cjs', 'exit')).toEqual({ status: 7, signal: null, output: 'busy\n' });
}, 60_000);

test('what a callback throws is an uncaught exception like any other', async () => {
  const ended = await runChild([], 'exit.cjs', 'throw');
  expect(ended).toMatchObject({ status: 1, signal: null });
  expect(ended.output).toContain('thrown by a callback');
}, 60_000);

test('the driver is killed at random moments: typed errors, one event each, and the next driver works', async () => {
  const seed = Number(process.env['OUTRIGGER_SEED'] ?? Date.now() % 1_000_000);
  let state = seed;
  const random = (below: number): number => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fff_ffff;
    return state % below;
  };
  for (let round = 0; round < 8; round++) {
    const label = `seed ${seed}, round ${round}`;
    const lost: string[] = [];
    const client = await connect((reason) => lost.push(reason));
    const collector = new Collector();
    const idle = new Collector();
    const streamId = 9000 + round;
    const channel = round % 2 === 0 ? 'aeron:ipc' : 'aeron:udp?endpoint=127.0.0.1:24876';
    (await collector.open(client, channel, streamId)).addCredit(1e9, 1e12);
    await idle.open(client, 'aeron:ipc', 1);
    const publication = await client.addPublication({ channel, streamId, exclusive: round % 3 === 0 });
    await until('a connection', () => publication.isConnected);

    let sent = 0;
    const stop = new AbortController();
    const traffic = (async (): Promise<string> => {
      while (!stop.signal.aborted) {
        const batch = encodeBatch(
          sent,
          Array.from({ length: 50 }, (_, i) => numbered(sent + i, 100 + random(3000))),
        );
        const result = await publication.offerBatchWait(batch, 0, 30_000);
        sent += result.accepted;
        if (result.status !== 'ACCEPTED') {
          return result.status;
        }
        await new Promise((done) => setImmediate(done));
      }
      return 'ACCEPTED';
    })();
    const unconnected = await client.addPublication({ channel: 'aeron:ipc', streamId: 2, exclusive: false });
    const waiting = unconnected.offerBatchWait(encodeBatch(1, [Buffer.alloc(10)]), 0, 600_000);

    const enough = 1 + random(5000);
    await until(`${enough} messages`, () => collector.messages >= enough);
    const killed = driver.kill('SIGKILL');
    const opening = client.addPublication({ channel: 'aeron:ipc', streamId: 3, exclusive: false });
    const openingEnd = opening.then(
      () => 'opened',
      (error: { code: string }) => error.code,
    );
    await killed;
    await until('the loss is told', () => lost.length > 0);
    await until('the ends are told', () => collector.ends.length > 0 && idle.ends.length > 0);
    stop.abort();
    expect([label, collector.ends, idle.ends, lost.length]).toEqual([
      label,
      ['DRIVER_LOST'],
      ['DRIVER_LOST'],
      1,
    ]);
    expect(['CLOSED', 'ACCEPTED']).toContain(await traffic);
    expect((await waiting).status).toBe('CLOSED');
    expect(['opened', 'DRIVER_UNAVAILABLE']).toContain(await openingEnd);
    expect(publication.isClosed).toBe(true);
    expect(publication.isConnected).toBe(false);
    expect(publication.offerBatch(encodeBatch(1, [Buffer.alloc(1)])).status).toBe('CLOSED');
    await expect(
      client.addPublication({ channel: 'aeron:ipc', streamId: 3, exclusive: false }),
    ).rejects.toMatchObject({ code: 'DRIVER_UNAVAILABLE' });
    await expect(publication.drained(1000)).resolves.toBe(false);
    expect([label, collector.firstWrong]).toEqual([label, undefined]);
    // The end of the driver is the subscription's end, not that of each image: who opened it knows where they stood.
    expect(collector.eventsOf('imageUnavailable')).toEqual([]);
    await client.close();
    await driver.start();
  }
}, 180_000);

test('a driver that ends in order is lost all the same', async () => {
  const lost: string[] = [];
  const client = await connect((reason) => lost.push(reason));
  const collector = new Collector();
  await collector.open(client, 'aeron:ipc', 77);
  await driver.kill('SIGTERM');
  await until('the loss is told', () => lost.length > 0, 30_000);
  expect(collector.ends).toEqual(['DRIVER_LOST']);
  await client.close();
  await driver.start();
}, 60_000);
