// SPDX-License-Identifier: Apache-2.0
// The library against the real gRPC server, with a driver in memory behind it.
import { once } from 'node:events';
import { startFixture, type Fixture } from '../../../sidecar/src/testing/sidecar_fixture';
import { FakeDriver, type FakePublication } from '../../../sidecar/src/testing/fake_native';
import {
  BackPressuredError,
  ClosedError,
  MessageTooLongError,
  NotConnectedError,
  OutcomeUnknownError,
  OutriggerClient,
  SlowSubscriberError,
  UnknownTopicError,
  type Message,
  type Publisher,
  type Subscription,
  type SubscriptionItem,
} from './index';

let fixture: Fixture;
let client: OutriggerClient;

beforeEach(async () => {
  fixture = await startFixture();
  client = new OutriggerClient({ address: `unix:${fixture.sidecar.socket}` });
});
afterEach(async () => {
  fixture.driver.revive();
  await client.close();
  await fixture.close();
});

async function take<T>(from: AsyncIterator<T>, count: number): Promise<T[]> {
  const out: T[] = [];
  while (out.length < count) {
    const next = await from.next();
    if (next.done === true) {
      break;
    }
    out.push(next.value);
  }
  return out;
}

async function until<T extends SubscriptionItem['kind']>(
  items: AsyncIterator<SubscriptionItem>,
  kind: T,
): Promise<Extract<SubscriptionItem, { kind: T }>> {
  for (;;) {
    const next = await items.next();
    if (next.done === true) {
      throw new Error(`ended before ${kind}`);
    }
    if (next.value.kind === kind) {
      return next.value as Extract<SubscriptionItem, { kind: T }>;
    }
  }
}

async function pair(
  publisher: Parameters<OutriggerClient['publisher']>[1] = {},
  subscription: Parameters<OutriggerClient['subscribe']>[1] = {},
): Promise<{ publisher: Publisher; subscription: Subscription }> {
  const made = {
    subscription: client.subscribe('local', subscription),
    publisher: client.publisher('local', publisher),
  };
  await made.subscription.ready();
  await made.publisher.whenConnected();
  return made;
}

describe('publisher', () => {
  it('tells its limits, and publishes in order from publish, publishAll and send', async () => {
    const { publisher, subscription } = await pair();
    expect(await publisher.ready()).toMatchObject({ streamId: 7, maxMessageBytes: 65536 });
    const receipts = Promise.all([publisher.publish('a'), publisher.publishAll(['b', Buffer.from('c')])]);
    expect(publisher.send('d')).toBe(true);
    const messages = subscription[Symbol.asyncIterator]();
    const got = await take<Message>(messages, 4);
    expect(got.map((each) => each.payload.toString())).toEqual(['a', 'b', 'c', 'd']);
    expect((await receipts).map((each) => each.accepted)).toEqual([1, 2]);
    await publisher.flush();
    expect(publisher.stats).toMatchObject({ accepted: 4, refused: 0, batches: 1 });
  });

  it('puts what one turn publishes into batches of at most the set size', async () => {
    const { publisher, subscription } = await pair({ maxBatchBytes: 4096, maxInFlightBatches: 4 });
    const payloads = Array.from({ length: 1000 }, (_, i) => Buffer.alloc(100, i));
    const receipt = publisher.publishAll(payloads);
    const got = await take<Message>(subscription[Symbol.asyncIterator](), 1000);
    expect(got.map((each) => each.payload)).toEqual(payloads);
    expect((await receipt).accepted).toBe(1000);
    expect(publisher.stats.batches).toBe(Math.ceil(1000 / Math.floor(4096 / 102)));
  });

  it('sends a message longer than a batch alone, and refuses one longer than the maximum without asking', async () => {
    const { publisher, subscription } = await pair({ maxBatchBytes: 4096 });
    const long = Buffer.alloc(60_000, 9);
    await publisher.publishAll(['short', long, 'short']);
    const got = await take<Message>(subscription[Symbol.asyncIterator](), 3);
    expect(got[1]?.payload).toEqual(long);
    const before = publisher.stats.batches;
    await expect(publisher.publish(Buffer.alloc(65_537))).rejects.toThrow(MessageTooLongError);
    expect(publisher.stats).toMatchObject({ batches: before, refused: 1 });
  });

  it('keeps a message that is too long apart from others before the maximum is known', async () => {
    const subscription = client.subscribe('local');
    await subscription.ready();
    const publisher = client.publisher('local');
    const [first, tooLong, last] = [
      publisher.publish('first'),
      publisher.publish(Buffer.alloc(65_537)),
      publisher.publish('last'),
    ];
    await expect(tooLong).rejects.toThrow(MessageTooLongError);
    expect([(await first).accepted, (await last).accepted]).toEqual([1, 1]);
  });

  it('rejects with the status under "fail", and says how many got through', async () => {
    const { publisher } = await pair({ backPressure: 'fail' });
    fixture.driver.room = 2;
    const refused = once(publisher, 'refused');
    const error = await publisher.publishAll(['a', 'b', 'c', 'd']).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(BackPressuredError);
    expect(error).toMatchObject({ accepted: 2, status: 'BACK_PRESSURED', retryable: true });
    expect(await refused).toEqual(['BACK_PRESSURED', 2]);
  });

  it('rejects without a subscriber under "fail", drops and counts under "drop"', async () => {
    const failing = client.publisher('local', { backPressure: 'fail' });
    await expect(failing.publish('x')).rejects.toThrow(NotConnectedError);
    const dropping = client.publisher('local', { backPressure: 'drop' });
    expect(await dropping.publishAll(['x', 'y'])).toMatchObject({ accepted: 0, dropped: 2 });
    expect(dropping.stats.dropped).toBe(2);
  });

  it('waits for room under "wait", in the sidecar and in this process, and keeps the order', async () => {
    const { publisher, subscription } = await pair({ maxBufferedBytes: 3000, maxBatchBytes: 1000 });
    fixture.driver.room = 5;
    const payloads = Array.from({ length: 60 }, (_, i) => Buffer.alloc(200, i));
    const receipt = publisher.publishAll(payloads);
    expect(publisher.send(Buffer.alloc(200, 60))).toBe(false);
    const messages = subscription[Symbol.asyncIterator]();
    await take(messages, 5);
    fixture.driver.grantRoom(1000);
    const rest = await take<Message>(messages, 56);
    expect(rest.map((each) => each.payload[0])).toEqual(Array.from({ length: 56 }, (_, i) => i + 5));
    expect((await receipt).accepted).toBe(60);
    await publisher.drained();
    expect(publisher.send('more')).toBe(true);
  });

  it('refuses what goes beyond its buffer under "fail"', async () => {
    const publisher = client.publisher('local', { backPressure: 'fail', maxBufferedBytes: 100 });
    expect(publisher.send(Buffer.alloc(200))).toBe(false); // taken, but the next one should wait
    await expect(publisher.publish('x')).rejects.toMatchObject({ name: 'BufferFullError', retryable: true });
  });

  it('fails for good with a typed error for a topic that does not exist', async () => {
    const publisher = client.publisher('locla');
    const failed = once(publisher, 'failed');
    await expect(publisher.ready()).rejects.toThrow(UnknownTopicError);
    expect(await failed).toMatchObject([{ metadata: { nearest: 'local' } }]);
    await expect(publisher.publish('x')).rejects.toThrow(UnknownTopicError);
  });

  it('ends its stream in order at close, after its messages', async () => {
    const { publisher, subscription } = await pair();
    const items = subscription.items();
    publisher.send('last words');
    const native = [...fixture.driver.publications][0] as FakePublication;
    await publisher.close();
    expect(native.closedInOrder).toBe(true);
    expect((await until(items, 'batch')).messages[0]?.toString()).toBe('last words');
    expect((await until(items, 'imageUnavailable')).reason).toBe('END_OF_STREAM');
    await expect(publisher.publish('x')).rejects.toThrow(ClosedError);
  });

  it('opens a new stream when the positions are used up', async () => {
    const { publisher } = await pair({ backPressure: 'fail' });
    const reopened = once(publisher, 'reopened');
    fixture.driver.nextStatus = 'MAX_POSITION_EXCEEDED';
    await expect(publisher.publish('x')).rejects.toMatchObject({ status: 'MAX_POSITION_EXCEEDED' });
    fixture.driver.nextStatus = undefined;
    await reopened;
    await publisher.whenConnected();
    expect((await publisher.publish('y')).accepted).toBe(1);
  });
});

describe('subscription', () => {
  it('grants credit by itself as messages are consumed, and never more than its window', async () => {
    const { publisher, subscription } = await pair({}, { windowMessages: 8, windowBytes: 1 << 20 });
    const native = [...fixture.driver.subscriptions][0];
    const receipt = publisher.publishAll(Array.from({ length: 100 }, (_, i) => `${i}`));
    await receipt;
    expect(native?.credit.messages).toBe(0); // eight were delivered, and nobody has read
    const got = await take<Message>(subscription[Symbol.asyncIterator](), 100);
    expect(got.map((each) => each.payload.toString())).toEqual(Array.from({ length: 100 }, (_, i) => `${i}`));
  });

  it('gives batches and events in order', async () => {
    const { publisher, subscription } = await pair();
    const items = subscription.items();
    await publisher.publishAll(['a', 'b']);
    await publisher.close();
    const kinds: string[] = [];
    let item: SubscriptionItem;
    do {
      item = (await items.next()).value as SubscriptionItem;
      kinds.push(item.kind);
    } while (item.kind !== 'imageUnavailable');
    expect(kinds).toEqual(['imageAvailable', 'batch', 'batch', 'imageUnavailable']);
  });

  it('ends its iterations at close, and closes when a loop is left', async () => {
    const { publisher, subscription } = await pair();
    await publisher.publishAll(['a', 'b']);
    for await (const batch of subscription.batches()) {
      expect(batch.messages[0]?.toString()).toBe('a');
      break;
    }
    while (fixture.driver.subscriptions.size > 0) {
      await new Promise(setImmediate);
    }
    const other = client.subscribe('local');
    const pending = other.items().next();
    other.close();
    expect(await pending).toEqual({ done: true, value: undefined });
  });

  it('throws a typed error from the loop when it was too slow', async () => {
    const { publisher, subscription } = await pair(
      {},
      { slowPolicy: 'disconnectAfter', disconnectAfterMs: 1, windowMessages: 1 },
    );
    await publisher.publishAll(['a', 'b', 'c']);
    while (fixture.driver.subscriptions.size > 0) {
      await new Promise(setImmediate);
    }
    const messages = subscription[Symbol.asyncIterator]();
    await messages.next();
    await expect(messages.next()).rejects.toThrow(SlowSubscriberError);
    await expect(subscription.ready()).rejects.toMatchObject({ reason: 'SLOW_SUBSCRIBER' });
  });

  it('passes gaps of policy "skip" on, counted', async () => {
    const { publisher, subscription } = await pair({}, { slowPolicy: 'skip', windowMessages: 1 });
    await publisher.publishAll(['a', 'b', 'c']);
    const gap = await until(subscription.items(), 'gap');
    expect(gap).toMatchObject({ reason: 'SKIPPED', messages: 2 });
    expect(subscription.stats.gaps).toBe(1);
  });
});

describe('a sidecar that restarts', () => {
  it('is found again: publishers and subscriptions go on, in-flight messages are unknown, a gap is an event', async () => {
    await client.close();
    await fixture.close();
    fixture = await startFixture({ drainTimeout: '0ms' });
    client = new OutriggerClient({ address: `unix:${fixture.sidecar.socket}` });
    const reconnect = { initialMs: 5, maxMs: 20 };
    const { publisher, subscription } = await pair({ reconnect }, { reconnect });
    const items = subscription.items();
    await publisher.publish('before');
    const { sessionId, position } = await until(items, 'batch');

    fixture.driver.room = 0;
    const inFlight = publisher.publish('in flight').catch((error: unknown) => error);
    while (fixture.driver.waits === 0) {
      await new Promise(setImmediate);
    }
    const reopened = once(publisher, 'reopened');
    const socket = fixture.sidecar.socket as string;
    await fixture.sidecar.drain(); // with no time to drain: the streams are cut
    expect(await inFlight).toBeInstanceOf(OutcomeUnknownError);
    const queued = publisher.publish('queued while away');
    expect(await until(items, 'imageUnavailable')).toMatchObject({
      sessionId,
      position,
      reason: 'CONNECTION_LOST',
    });
    expect((await until(items, 'reconnecting')).error.retryable).toBe(true);

    const driver = new FakeDriver();
    driver.reuseSession(sessionId);
    const next = await startFixture({ grpcSocket: socket }, driver);
    await reopened;
    await until(items, 'reopened');
    expect(await until(items, 'gap')).toMatchObject({
      sessionId,
      fromPosition: position,
      reason: 'REJOINED',
    });
    expect((await until(items, 'batch')).messages[0]?.toString()).toBe('queued while away');
    expect((await queued).accepted).toBe(1);
    expect(publisher.stats.unknown).toBe(1);
    await client.close();
    await next.close();
  });

  it('is not waited for when reconnecting is off, or its attempts are used up', async () => {
    const off = client.publisher('local', { reconnect: false });
    await off.ready();
    const twice = client.publisher('local', { reconnect: { initialMs: 1, maxMs: 1, maxAttempts: 2 } });
    await twice.ready();
    let attempts = 0;
    twice.on('reconnecting', () => attempts++);
    const failed = Promise.all([once(off, 'failed'), once(twice, 'failed')]);
    await fixture.sidecar.drain();
    expect(await failed).toMatchObject([[{ name: 'UnavailableError' }], [{ name: 'UnavailableError' }]]);
    expect(attempts).toBe(2);
  });

  it('goes on after the driver behind it was lost, with events', async () => {
    const { publisher, subscription } = await pair();
    const items = subscription.items();
    await publisher.publish('one');
    await until(items, 'batch');
    const reopened = once(publisher, 'reopened');
    fixture.driver.die();
    expect((await until(items, 'imageUnavailable')).reason).toBe('DRIVER_LOST');
    fixture.driver.revive();
    await reopened;
    await publisher.publish('two');
    expect((await until(items, 'batch')).messages[0]?.toString()).toBe('two');
  });
});
