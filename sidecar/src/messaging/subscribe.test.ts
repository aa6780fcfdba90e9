// SPDX-License-Identifier: Apache-2.0
// Subscribe streams as a gRPC client on the UNIX socket sees them.
import { status, type ServiceError } from '@grpc/grpc-js';
import { once } from 'node:events';
import { statusDetails, type Recorder } from '../testing/grpc_client';
import { startFixture, type Fixture } from '../testing/sidecar_fixture';

let fixture: Fixture;

type Event = {
  imageAvailable?: object;
  imageUnavailable?: { reason: string };
  gap?: { reason: string; messages?: string };
};

const open = (topic: string, more: object = {}) => ({ open: { target: { topic }, ...more } });
const opened = (stream: Recorder) => stream.next((answer) => answer['opened'] as object);
const event = <K extends keyof Event>(stream: Recorder, kind: K) =>
  stream.next((answer) => (answer['event'] as Event | undefined)?.[kind]);
const messages = async (stream: Recorder, count: number): Promise<string[]> => {
  const received: string[] = [];
  while (received.length < count) {
    received.push(
      ...(
        await stream.next((answer) => (answer['batch'] as { messages: Buffer[] } | undefined)?.messages)
      ).map(String),
    );
  }
  return received;
};

async function publish(topic: string, ...texts: string[]): Promise<Recorder> {
  const stream = fixture.client.publish().write(open(topic));
  stream.write({ batch: { sequence: 1, messages: texts.map((each) => Buffer.from(each)) } });
  await stream.next((answer) => answer['result'] as object);
  return stream;
}

describe('subscribe', () => {
  beforeEach(async () => {
    fixture = await startFixture();
  });
  afterEach(() => fixture.close());

  it('sends nothing without credit and everything with it', async () => {
    const stream = fixture.client.subscribe().write(open('local'));
    await opened(stream);
    await publish('local', 'a', 'b', 'c');
    await event(stream, 'imageAvailable');
    stream.write({ credit: { messages: 2, bytes: 100 } });
    expect(await messages(stream, 2)).toEqual(['a', 'b']);
    expect(stream.answers.filter((each) => each['batch'] !== undefined)).toHaveLength(2);
    stream.write({ credit: { messages: 2, bytes: 100 } });
    expect(await messages(stream, 1)).toEqual(['c']);
  });

  it('binds the own endpoint of a topic with subscribers', async () => {
    await opened(fixture.client.subscribe().write(open('quotes')));
    expect([...fixture.driver.subscriptions][0]?.options).toMatchObject({
      channel: 'aeron:udp?endpoint=10.0.0.1:40123',
      streamId: 1001,
    });
  });

  it('says which setting is missing when it has no endpoint', async () => {
    await fixture.close();
    fixture = await startFixture({ endpoints: [] });
    const error = (await fixture.client.subscribe().write(open('quotes')).ended()) as ServiceError;
    expect(error.code).toBe(status.FAILED_PRECONDITION);
    expect(error.details).toContain('endpoints');
  });

  it('BLOCK waits for credit as long as it takes', async () => {
    const stream = fixture.client
      .subscribe()
      .write(open('local', { slowPolicy: 'SLOW_SUBSCRIBER_POLICY_BLOCK' }));
    await opened(stream);
    await publish('local', 'kept');
    await event(stream, 'imageAvailable');
    expect(stream.over).toBe(false);
    stream.write({ credit: { messages: 1, bytes: 1 } });
    expect(await messages(stream, 1)).toEqual(['kept']);
  });

  it('DISCONNECT_AFTER ends a subscriber that grants no credit, and nobody else', async () => {
    const other = fixture.client
      .subscribe()
      .write(open('local', { initialCredit: { messages: 10, bytes: 1000 } }));
    await opened(other);
    const stream = fixture.client
      .subscribe()
      .write(open('local', { slowPolicy: 'SLOW_SUBSCRIBER_POLICY_DISCONNECT_AFTER', disconnectAfterMs: 5 }));
    await opened(stream);
    await publish('local', 'a');
    const error = (await stream.ended()) as ServiceError;
    expect(error.code).toBe(status.DEADLINE_EXCEEDED);
    expect(statusDetails(error).details[0]?.fields).toContain('SLOW_SUBSCRIBER');
    expect(await messages(other, 1)).toEqual(['a']);
    expect(other.over).toBe(false);
  });

  it('SKIP reports what was skipped', async () => {
    const stream = fixture.client
      .subscribe()
      .write(open('local', { slowPolicy: 'SLOW_SUBSCRIBER_POLICY_SKIP' }));
    await opened(stream);
    await publish('local', 'a', 'b');
    expect(await event(stream, 'gap')).toMatchObject({ reason: 'GAP_REASON_SKIPPED', messages: '2' });
  });

  it('never hands out more credit than its buffer, however much a client grants', async () => {
    await fixture.close();
    fixture = await startFixture({ subscriberBuffer: '256KiB' });
    const stream = fixture.client
      .subscribe()
      .write(open('local', { initialCredit: { messages: 4_000_000_000, bytes: '9000000000000000000' } }));
    await opened(stream);
    const subscription = [...fixture.driver.subscriptions][0];
    expect(subscription?.credit).toEqual({ messages: 1 << 20, bytes: 256 * 1024 });
    const publisher = fixture.client.publish().write(open('local'));
    const text = 'x'.repeat(50_000);
    for (let i = 0; i < 40; i++) {
      publisher.write({ batch: { sequence: i, messages: [Buffer.from(text)] } });
    }
    expect(await messages(stream, 40)).toHaveLength(40); // consumed credit is granted again
  });

  it('tells the end of a publisher', async () => {
    const stream = fixture.client
      .subscribe()
      .write(open('local', { initialCredit: { messages: 10, bytes: 1000 } }));
    await opened(stream);
    const publisher = await publish('local', 'a');
    publisher.stream.end();
    expect(await event(stream, 'imageUnavailable')).toMatchObject({ reason: 'IMAGE_END_END_OF_STREAM' });
  });

  it('rejoins after the driver was lost, with the end of the image and an explicit gap', async () => {
    const stream = fixture.client
      .subscribe()
      .write(open('local', { initialCredit: { messages: 100, bytes: 10_000 } }));
    await opened(stream);
    const publisher = await publish('local', 'before');
    const { sessionId } = await publisher.next(
      () => publisher.answers.find((each) => each['opened'])?.['opened'] as { sessionId: number },
    );
    expect(await messages(stream, 1)).toEqual(['before']);
    const up = once(fixture.sidecar.link, 'up');
    fixture.driver.die();
    expect(await event(stream, 'imageUnavailable')).toMatchObject({
      reason: 'IMAGE_END_DRIVER_LOST',
      sessionId,
      position: '38',
    });
    fixture.driver.revive();
    fixture.driver.reuseSession(sessionId);
    fixture.driver.joinAt = 4096n;
    await up;
    publisher.write({ batch: { sequence: 2, messages: [Buffer.from('after')] } });
    expect(await event(stream, 'gap')).toMatchObject({
      sessionId,
      fromPosition: '38',
      reason: 'GAP_REASON_REJOINED',
    });
    expect(stream.over).toBe(false);
  });

  it('refuses malformed opens with the field at fault', async () => {
    const codeOf = async (request: object): Promise<[number, string]> => {
      const error = (await fixture.client.subscribe().write(request).ended()) as ServiceError;
      return [error.code, error.details];
    };
    expect(await codeOf(open('nope'))).toEqual([
      status.NOT_FOUND,
      expect.stringContaining('topic "nope" does not exist'),
    ]);
    expect(await codeOf(open('local', { maxBatchBytes: 5_000_000 }))).toEqual([
      status.INVALID_ARGUMENT,
      expect.stringContaining('open.max_batch_bytes'),
    ]);
    expect(await codeOf(open('local', { disconnectAfterMs: 700_000 }))).toEqual([
      status.INVALID_ARGUMENT,
      expect.stringContaining('open.disconnect_after_ms'),
    ]);
    expect(await codeOf({ credit: { messages: 1 } })).toEqual([
      status.FAILED_PRECONDITION,
      expect.stringContaining('must be open'),
    ]);
    expect(await codeOf({})).toEqual([
      status.INVALID_ARGUMENT,
      expect.stringContaining('neither open nor credit'),
    ]);
  });

  it('gives the subscription back when the client goes', async () => {
    const stream = fixture.client.subscribe().write(open('local'));
    await opened(stream);
    stream.stream.cancel();
    while (fixture.driver.subscriptions.size > 0) {
      await new Promise(setImmediate);
    }
  });
});
