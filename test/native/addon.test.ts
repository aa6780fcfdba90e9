// SPDX-License-Identifier: Apache-2.0
// The addon against a real driver process: publishing, subscribing, credit and the policies of slow subscribers.
import { native } from '../../sidecar/src/native/index';
import type { NativeClient, NativePublication } from '../../sidecar/src/native/types';
import {
  Collector,
  decodeResponse,
  Driver,
  encodeBatch,
  numbered,
  publishAll,
  SubscribeResponse,
  until,
} from './support';

let driver: Driver;
let client: NativeClient;
let lost: string[];
let nextStream = 1000;

beforeAll(async () => {
  driver = await Driver.start();
});
afterAll(() => driver.stop());
beforeEach(async () => {
  lost = [];
  client = await native.connect({ directory: driver.directory, onDriverLost: (reason) => lost.push(reason) });
});
afterEach(async () => {
  await client.close();
  expect(lost).toEqual([]);
});

const kPlenty = [1e9, 1e12] as const;
const kIpc = 'aeron:ipc';

async function pair(
  collector: Collector,
  options: Parameters<Collector['open']>[3] = {},
  channel = kIpc,
  exclusive = false,
): Promise<NativePublication> {
  const streamId = nextStream++;
  await collector.open(client, channel, streamId, options);
  const publication = await client.addPublication({ channel, streamId, exclusive });
  await until('a connection', () => publication.isConnected);
  return publication;
}

test.each([
  ['IPC, shared publication', kIpc, false],
  ['IPC, exclusive publication', kIpc, true],
  ['UDP over loopback, shared publication', 'aeron:udp?endpoint=127.0.0.1:24871', false],
  ['UDP over loopback, exclusive publication', 'aeron:udp?endpoint=127.0.0.1:24872', true],
])(
  'a million messages arrive once, in order and whole: %s',
  async (_name, channel, exclusive) => {
    const collector = new Collector();
    const publication = await pair(collector, {}, channel, exclusive);
    collector.subscription?.addCredit(...kPlenty);
    const count = 1_000_000;
    expect(await publishAll(publication, count, 64)).toBe(count);
    await until('the last message', () => collector.messages >= count, 60_000);
    expect(collector.firstWrong).toBeUndefined();
    expect(collector.messages).toBe(count);
    expect(collector.subscription?.stats()).toMatchObject({
      messages: BigInt(count),
      bytes: BigInt(count * 64),
      skipped: 0n,
      gaps: 0n,
      images: 1,
    });
  },
  180_000,
);

test('responses are the very bytes that protobufjs writes', async () => {
  const collector = new Collector(true);
  const publication = await pair(collector);
  collector.subscription?.addCredit(...kPlenty);
  for (const [i, length] of [12, 0, 1, 127, 128, 1376, 1377, 16_384, 100_000].entries()) {
    const message = length < 12 ? Buffer.alloc(length) : numbered(i, length);
    expect(publication.offerBatch(encodeBatch(i, [message])).status).toBe('ACCEPTED');
  }
  await until('nine messages', () => collector.messages === 9);
  await publication.close();
  await until('the end of the stream', () => collector.eventsOf('imageUnavailable').length === 1);
  expect(collector.order[0]).toBe('imageAvailable');
  expect(collector.order.at(-1)).toBe('imageUnavailable');
  for (const response of collector.responses) {
    const again = SubscribeResponse.encode(SubscribeResponse.decode(response)).finish();
    expect(Buffer.compare(response, again)).toBe(0);
  }
});

test('an image says where it begins and, at the end of its stream, where it ended and why', async () => {
  const collector = new Collector();
  const publication = await pair(collector);
  collector.subscription?.addCredit(...kPlenty);
  const result = publication.offerBatch(encodeBatch(9, [numbered(0, 100), numbered(1, 100)]));
  expect(result).toEqual({
    status: 'ACCEPTED',
    accepted: 2,
    total: 2,
    position: 320n,
    sequence: 9n,
    bytes: 200,
  });
  await until('two messages', () => collector.messages === 2);
  await publication.close();
  await until('the end of the stream', () => collector.eventsOf('imageUnavailable').length === 1);
  expect(collector.eventsOf('imageAvailable')[0]).toMatchObject({
    sessionId: publication.sessionId,
    joinPosition: '0',
    source: 'aeron:ipc',
  });
  expect(collector.eventsOf('imageUnavailable')[0]).toEqual({
    sessionId: publication.sessionId,
    position: '320',
    reason: 1,
  });
  expect(publication.isClosed).toBe(true);
  expect(publication.offerBatch(encodeBatch(1, [Buffer.alloc(1)])).status).toBe('CLOSED');
});

test('a message over the maximum stops the batch; what stands before it is accepted', async () => {
  for (const exclusive of [false, true]) {
    const collector = new Collector();
    const publication = await pair(collector, {}, kIpc, exclusive);
    collector.subscription?.addCredit(...kPlenty);
    const messages = [numbered(0, 20), numbered(1, publication.maxMessageBytes + 1), numbered(1, 20)];
    const result = publication.offerBatch(encodeBatch(1, messages));
    expect(result).toMatchObject({ status: 'MESSAGE_TOO_LONG', accepted: 1, total: 3, bytes: 20 });
    await publishFrom(publication, 1, publication.maxMessageBytes);
    await until('both messages', () => collector.messages === 2);
    expect(collector.firstWrong).toBeUndefined();
  }
});

async function publishFrom(publication: NativePublication, sequence: number, length: number): Promise<void> {
  const result = await publication.offerBatchWait(
    encodeBatch(sequence, [numbered(sequence, length)]),
    0,
    5000,
  );
  expect(result).toMatchObject({ status: 'ACCEPTED', accepted: 1 });
}

test('bytes that are no batch are refused with the reason, and nothing of them is offered', async () => {
  const collector = new Collector();
  const publication = await pair(collector);
  const good = encodeBatch(1, [Buffer.alloc(10), Buffer.alloc(20)]);
  const refused: [Buffer, RegExp][] = [
    [Buffer.alloc(0), /holds no batch/],
    [good.subarray(0, good.length - 1), /middle of a field/],
    [Buffer.concat([good, Buffer.from([0x0a, 0x00])]), /is an open/],
    [Buffer.concat([good, Buffer.from([0x07])]), /wire type|field number/],
    [Buffer.concat([good, Buffer.alloc(11, 0xff)]), /64 bits/],
  ];
  for (const [bytes, reason] of refused) {
    expect(() => publication.offerBatch(bytes)).toThrow(
      expect.objectContaining({
        name: 'NativeError',
        code: 'INVALID_ARGUMENT',
        message: expect.stringMatching(reason) as string,
      }) as Error,
    );
    await expect(publication.offerBatchWait(bytes, 0, 10)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
  }
  expect(publication.position().position).toBe(0n);
});

test('a batch that waits is accepted when a subscriber comes', async () => {
  const streamId = nextStream++;
  const publication = await client.addPublication({ channel: kIpc, streamId, exclusive: false });
  const batch = encodeBatch(4, [numbered(0, 50), numbered(1, 50), numbered(2, 50)]);
  expect(publication.offerBatch(batch)).toMatchObject({ status: 'NOT_CONNECTED', accepted: 0, position: 0n });
  const waited = publication.offerBatchWait(batch, 0, 20_000);
  batch.fill(0xff); // the bytes were taken when the call was made
  const collector = new Collector();
  (await collector.open(client, kIpc, streamId)).addCredit(...kPlenty);
  expect(await waited).toMatchObject({ status: 'ACCEPTED', accepted: 3, total: 3, sequence: 4n });
  await until('three messages', () => collector.messages === 3);
  expect(collector.firstWrong).toBeUndefined();
});

test('a batch whose wait is over answers how far it came', async () => {
  const publication = await client.addPublication({ channel: kIpc, streamId: nextStream++, exclusive: true });
  const result = await publication.offerBatchWait(encodeBatch(4, [Buffer.alloc(1)]), 0, 20);
  expect(result).toMatchObject({ status: 'NOT_CONNECTED', accepted: 0, total: 1 });
});

test('offers that wait for one publication are accepted in their order', async () => {
  const streamId = nextStream++;
  const publication = await client.addPublication({ channel: kIpc, streamId, exclusive: true });
  const results = Array.from({ length: 20 }, (_, i) =>
    publication.offerBatchWait(encodeBatch(i, [numbered(2 * i, 40), numbered(2 * i + 1, 40)]), 0, 20_000),
  );
  const collector = new Collector();
  (await collector.open(client, kIpc, streamId)).addCredit(...kPlenty);
  expect((await Promise.all(results)).every((each) => each.accepted === 2)).toBe(true);
  await until('all messages', () => collector.messages === 40);
  expect(collector.firstWrong).toBeUndefined();
});

test('closing a publication ends the offers that wait for it', async () => {
  const publication = await client.addPublication({
    channel: kIpc,
    streamId: nextStream++,
    exclusive: false,
  });
  const waited = publication.offerBatchWait(encodeBatch(1, [Buffer.alloc(1)]), 0, 60_000);
  await publication.close();
  expect(await waited).toMatchObject({ status: 'CLOSED', accepted: 0 });
});

test('BLOCK: nothing is delivered beyond the credit, the publisher is held back, and nothing is lost', async () => {
  const collector = new Collector();
  const publication = await pair(collector, { slowPolicy: 'BLOCK' });
  collector.subscription?.addCredit(10, 2000);
  const all = publishAll(publication, 20_000, 200);
  await until('the credit is used', () => collector.messages === 10);
  await until('back pressure', () => {
    const { position, limit } = publication.position();
    return position >= limit;
  });
  await until('an event that says so', () => collector.eventsOf('laggingMs').length > 0);
  expect(collector.messages).toBe(10);
  expect(collector.eventsOf('laggingMs')[0]).toBeGreaterThanOrEqual(1000);
  collector.subscription?.addCredit(1e6, 900); // five messages: the last one may overdraw the bytes
  await until('the bytes are used', () => collector.messages === 15);
  collector.subscription?.addCredit(1e6, 1e9);
  await all;
  await until('the rest', () => collector.messages === 20_000);
  expect(collector.firstWrong).toBeUndefined();
}, 60_000);

test('DISCONNECT_AFTER: a subscriber without credit is ended once, and the publisher goes on', async () => {
  const collector = new Collector();
  const publication = await pair(collector, { slowPolicy: 'DISCONNECT_AFTER', disconnectAfterMs: 200 });
  const other = new Collector();
  (await other.open(client, kIpc, publication.streamId)).addCredit(...kPlenty);
  await until('the other image', () => other.eventsOf('imageAvailable').length === 1);
  await publishAll(publication, 20_000, 200);
  await until('the end', () => collector.ends.length > 0);
  await until('all messages at the other', () => other.messages === 20_000);
  expect(collector.ends).toEqual(['SLOW']);
  expect(collector.messages).toBe(0);
  expect(other.firstWrong).toBeUndefined();
});

test('DISCONNECT_AFTER: without messages there is nothing to be slow with', async () => {
  const idle = new Collector();
  await pair(idle, { slowPolicy: 'DISCONNECT_AFTER', disconnectAfterMs: 1 });
  const busy = new Collector();
  const publication = await pair(busy);
  busy.subscription?.addCredit(...kPlenty);
  await publishAll(publication, 20_000, 200);
  await until('much more than a millisecond of messages', () => busy.messages === 20_000);
  expect(idle.ends).toEqual([]);
});

test('SKIP: what there is no credit for is skipped, counted and said, and costs others nothing', async () => {
  const collector = new Collector();
  const publication = await pair(collector, { slowPolicy: 'SKIP' });
  const other = new Collector();
  (await other.open(client, kIpc, publication.streamId)).addCredit(...kPlenty);
  await until('the other image', () => other.eventsOf('imageAvailable').length === 1);
  collector.subscription?.addCredit(5, 1e9);
  await publishAll(publication, 30_000, 200);
  await until('all messages at the other', () => other.messages === 30_000);
  const skippedNow = (): bigint => collector.subscription?.stats().skipped ?? 0n;
  await until('everything is skipped', () => skippedNow() === 29_995n);
  collector.subscription?.addCredit(1, 1e9);
  const last = publication.offerBatch(encodeBatch(1, [numbered(30_000, 100)]));
  await until('the newest message', () => collector.messages === 6);
  const gaps = collector.eventsOf('gap');
  expect(gaps.reduce((sum, each) => sum + Number(each.messages), 0)).toBe(29_995);
  expect(gaps.every((each) => each.reason === 1 && each.sessionId === publication.sessionId)).toBe(true);
  expect(gaps[0]?.fromPosition).toBe(String(5 * 256));
  expect(BigInt(gaps.at(-1)?.toPosition ?? 0)).toBeLessThanOrEqual(last.position - 160n);
  expect(collector.order.at(-1)).toBe('batch');
  expect(other.firstWrong).toBeUndefined();
});

test('batches stay under their size; a longer message travels alone', async () => {
  const collector = new Collector(true);
  const publication = await pair(collector, { maxBatchBytes: 1000 });
  const messages = [300, 300, 300, 300, 5000, 300, 700, 1].map((length, i) => numbered(i, length));
  expect(publication.offerBatch(encodeBatch(1, messages)).accepted).toBe(8);
  collector.subscription?.addCredit(...kPlenty);
  await until('eight messages', () => collector.messages === 8);
  const sizes = collector.responses
    .map((each) => decodeResponse(each).batch)
    .filter((each) => each !== undefined)
    .map((each) => each.messages.map((message) => message.length));
  expect(sizes).toEqual([[300, 300, 300], [300], [5000], [300, 700], [12]]);
});

test('drained tells when everything has left, and when not within the time', async () => {
  const collector = new Collector();
  const publication = await pair(collector);
  expect(await publication.drained(1000)).toBe(true);
  publication.offerBatch(encodeBatch(1, [numbered(0, 100)]));
  expect(await publication.drained(50)).toBe(false);
  collector.subscription?.addCredit(...kPlenty);
  expect(await publication.drained(5000)).toBe(true);
});

test('a manual multi-destination publication reaches the destinations it is given, and no longer those taken away', async () => {
  const streamId = nextStream++;
  const near = new Collector();
  const far = new Collector();
  (await near.open(client, 'aeron:udp?endpoint=127.0.0.1:24873', streamId)).addCredit(...kPlenty);
  (await far.open(client, 'aeron:udp?endpoint=127.0.0.1:24874', streamId)).addCredit(...kPlenty);
  const channel = 'aeron:udp?control-mode=manual|control=127.0.0.1:24875';
  const publication = await client.addPublication({ channel, streamId, exclusive: true });
  expect(typeof (await publication.addDestination('aeron:udp?endpoint=127.0.0.1:24873'))).toBe('bigint');
  await publication.addDestination('aeron:udp?endpoint=127.0.0.1:24874');
  await until('both images', () => near.events.length === 1 && far.events.length === 1);
  await publishAll(publication, 100, 50);
  await until('messages at both', () => near.messages === 100 && far.messages === 100);
  await publication.removeDestination('aeron:udp?endpoint=127.0.0.1:24874');
  expect(publication.isConnected).toBe(true);
});

test('a channel that the driver refuses is a typed error with the code of the driver', async () => {
  await expect(
    client.addPublication({ channel: 'aeron:nonsense', streamId: 1, exclusive: false }),
  ).rejects.toMatchObject({
    name: 'NativeError',
    code: 'DRIVER_REFUSED',
    driverErrorCode: expect.any(Number) as number,
  });
  await expect(new Collector().open(client, 'aeron:nonsense', 1)).rejects.toMatchObject({
    code: 'DRIVER_REFUSED',
  });
  const publication = await client.addPublication({
    channel: kIpc,
    streamId: nextStream++,
    exclusive: false,
  });
  await expect(publication.addDestination('aeron:udp?endpoint=127.0.0.1:1')).rejects.toMatchObject({
    code: 'DRIVER_REFUSED',
  });
});

test('arguments out of range are refused by name before the driver hears of them', async () => {
  const refuse = { code: 'INVALID_ARGUMENT' };
  await expect(
    client.addPublication({ channel: kIpc, streamId: 2 ** 31, exclusive: false }),
  ).rejects.toMatchObject(refuse);
  await expect(new Collector().open(client, kIpc, 1, { maxBatchBytes: 0 })).rejects.toMatchObject(refuse);
  await expect(
    client.addPublication({ channel: 'a'.repeat(5000), streamId: 1, exclusive: false }),
  ).rejects.toMatchObject(refuse);
  const collector = new Collector();
  await pair(collector);
  expect(() => collector.subscription?.addCredit(-1, 0)).toThrow(expect.objectContaining(refuse) as Error);
  expect(() => collector.subscription?.addCredit(0.5, 0)).toThrow(expect.objectContaining(refuse) as Error);
});

test('counters, errors, losses and the driver itself can be read, with and without a client', async () => {
  const publication = await client.addPublication({
    channel: kIpc,
    streamId: nextStream++,
    exclusive: false,
  });
  const limits = client
    .counters()
    .filter((each) => each.typeId === 1 && each.key.readInt32LE(8) === publication.sessionId);
  expect(limits).toHaveLength(1);
  expect(limits[0]?.label).toContain('pub-lmt');
  expect(limits[0]?.key).toHaveLength(112);
  expect(native.readCounters(driver.directory).length).toBeGreaterThan(20);
  expect(Array.isArray(client.errors()) && Array.isArray(native.readErrors(driver.directory))).toBe(true);
  expect(client.losses()).toEqual(native.readLosses(driver.directory));
  expect(client.driver()).toMatchObject({ pid: native.readDriver(driver.directory).pid });
  expect(client.driver().heartbeatAgeMs).toBeLessThan(5000);
});

test('a closed client answers CLOSED, and closing again is nothing', async () => {
  const publication = await client.addPublication({
    channel: kIpc,
    streamId: nextStream++,
    exclusive: false,
  });
  // Its answer is looked at here and now: it may come before the client is closed.
  const opening = client
    .addPublication({ channel: kIpc, streamId: nextStream++, exclusive: false })
    .catch((error: unknown) => expect(error).toMatchObject({ code: 'CLOSED' }));
  const closing = Promise.all([client.close(), client.close()]);
  await closing;
  await client.close();
  await opening;
  const closed = { code: 'CLOSED' };
  await expect(client.addPublication({ channel: kIpc, streamId: 1, exclusive: false })).rejects.toMatchObject(
    closed,
  );
  await expect(new Collector().open(client, kIpc, 1)).rejects.toMatchObject(closed);
  await expect(publication.drained(10)).rejects.toMatchObject(closed);
  expect(publication.offerBatch(encodeBatch(1, [Buffer.alloc(1)])).status).toBe('CLOSED');
  expect(client.counters().length).toBeGreaterThan(0);
});

test('connecting where no driver is says so after the time it was given', async () => {
  await expect(
    native.connect({ directory: `${driver.folder}/nothing-here`, onDriverLost: () => undefined }, 50),
  ).rejects.toMatchObject({
    code: 'DRIVER_UNAVAILABLE',
    message: expect.stringContaining('nothing-here') as string,
  });
  expect(() => native.readCounters(`${driver.folder}/nothing-here`)).toThrow(
    expect.objectContaining({ code: 'DRIVER_UNAVAILABLE' }) as Error,
  );
});
