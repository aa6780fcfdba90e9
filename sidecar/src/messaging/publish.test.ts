// SPDX-License-Identifier: Apache-2.0
// Publish streams as a gRPC client on the UNIX socket sees them.
import { status, type ServiceError } from '@grpc/grpc-js';
import { writeFileSync, renameSync } from 'node:fs';
import { statusDetails, type Recorder } from '../testing/grpc_client';
import { kTopics, startFixture, type Fixture } from '../testing/sidecar_fixture';

type Result = { sequence?: string; accepted?: number; status: string; position?: string; dropped?: number };

let fixture: Fixture;

const opened = (stream: Recorder) =>
  stream.next((answer) => answer['opened'] as { sessionId: number; streamId: number } | undefined);
const result = (stream: Recorder) => stream.next((answer) => answer['result'] as Result | undefined);
const batch = (sequence: number, ...messages: string[]) => ({
  batch: { sequence, messages: messages.map((each) => Buffer.from(each)) },
});
const openTopic = (topic: string, more: object = {}) => ({ open: { target: { topic }, ...more } });

async function subscriber(topic = 'local'): Promise<Recorder> {
  const stream = fixture.client
    .subscribe()
    .write({ open: { target: { topic }, initialCredit: { messages: 1e6, bytes: 1e9 } } });
  await stream.next((answer) => answer['opened'] as object);
  return stream;
}

async function errorOf(stream: Recorder): Promise<ServiceError> {
  const error = await stream.ended();
  expect(error).toBeDefined();
  return error as ServiceError;
}

describe('publish', () => {
  beforeEach(async () => {
    fixture = await startFixture({ maxPendingBatches: 4 });
  });
  afterEach(() => fixture.close());

  it('answers each batch once, in order, and delivers', async () => {
    const receiver = await subscriber();
    const stream = fixture.client.publish().write(openTopic('local'));
    expect(await opened(stream)).toMatchObject({ streamId: 7 });
    for (let i = 1; i <= 50; i++) {
      stream.write(batch(i, `a${i}`, `b${i}`));
    }
    for (let i = 1; i <= 50; i++) {
      expect(await result(stream)).toMatchObject({
        sequence: `${i}`,
        accepted: 2,
        status: 'PUBLISH_STATUS_ACCEPTED',
      });
    }
    const received: string[] = [];
    while (received.length < 100) {
      received.push(
        ...(
          await receiver.next((answer) => (answer['batch'] as { messages: Buffer[] } | undefined)?.messages)
        ).map(String),
      );
    }
    expect(received.slice(0, 3)).toEqual(['a1', 'b1', 'a2']);
    stream.stream.end();
    expect(await stream.ended()).toBeUndefined();
  });

  it('shares a publication between streams of a topic and closes it with the last one', async () => {
    const first = fixture.client.publish().write(openTopic('local'));
    const second = fixture.client.publish().write(openTopic('local'));
    const exclusive = fixture.client.publish().write(openTopic('local', { exclusive: true }));
    const sessions = (await Promise.all([first, second, exclusive].map(opened))).map(
      (each) => each.sessionId,
    );
    expect(sessions[0]).toBe(sessions[1]);
    expect(sessions[2]).not.toBe(sessions[0]);
    expect(fixture.driver.publications.size).toBe(2);
    for (const stream of [first, exclusive]) {
      stream.stream.end();
      await stream.ended();
    }
    expect(fixture.driver.publications.size).toBe(1);
    second.stream.end();
    await second.ended();
    expect(fixture.driver.publications.size).toBe(0);
  });

  it('FAIL answers at once with what was accepted', async () => {
    await subscriber();
    fixture.driver.room = 3;
    const stream = fixture.client.publish().write(openTopic('local'));
    stream.write(batch(9, '1', '2', '3', '4', '5'));
    expect(await result(stream)).toMatchObject({
      sequence: '9',
      accepted: 3,
      status: 'PUBLISH_STATUS_BACK_PRESSURED',
    });
  });

  it('says NOT_CONNECTED without a subscriber and tells when one comes', async () => {
    const stream = fixture.client.publish().write(openTopic('local'));
    stream.write(batch(1, 'x'));
    expect(await result(stream)).toMatchObject({ status: 'PUBLISH_STATUS_NOT_CONNECTED' });
    await subscriber();
    expect(
      await stream.next((answer) => (answer['event'] as { connected?: boolean } | undefined)?.connected),
    ).toBe(true);
  });

  it('WAIT keeps trying and adds up what it got', async () => {
    await subscriber();
    fixture.driver.room = 1;
    const stream = fixture.client
      .publish()
      .write(openTopic('local', { backPressure: 'BACK_PRESSURE_POLICY_WAIT', waitTimeoutMs: 60_000 }));
    stream.write(batch(1, '1', '2', '3'));
    stream.write(batch(2, '4'));
    await opened(stream);
    while (fixture.driver.waits === 0) {
      await new Promise(setImmediate);
    }
    fixture.driver.grantRoom(10);
    expect(await result(stream)).toMatchObject({
      sequence: '1',
      accepted: 3,
      status: 'PUBLISH_STATUS_ACCEPTED',
    });
    expect(await result(stream)).toMatchObject({
      sequence: '2',
      accepted: 1,
      status: 'PUBLISH_STATUS_ACCEPTED',
    });
  });

  it('WAIT gives up at its deadline and says why', async () => {
    await subscriber();
    fixture.driver.room = 1;
    const stream = fixture.client
      .publish()
      .write(openTopic('local', { backPressure: 'BACK_PRESSURE_POLICY_WAIT', waitTimeoutMs: 20 }));
    stream.write(batch(1, '1', '2'));
    expect(await result(stream)).toMatchObject({ accepted: 1, status: 'PUBLISH_STATUS_BACK_PRESSURED' });
  });

  it('DROP drops the rest, counts it and says so', async () => {
    await subscriber();
    fixture.driver.room = 1;
    const stream = fixture.client
      .publish()
      .write(openTopic('local', { backPressure: 'BACK_PRESSURE_POLICY_DROP' }));
    stream.write(batch(1, '1', '2', '3'));
    expect(await result(stream)).toMatchObject({
      accepted: 1,
      dropped: 2,
      status: 'PUBLISH_STATUS_BACK_PRESSURED',
    });
  });

  it('answers a message over the maximum in band and goes on', async () => {
    await subscriber();
    const stream = fixture.client.publish().write(openTopic('local'));
    stream.write(batch(1, 'fine', 'x'.repeat(65 * 1024), 'never'));
    expect(await result(stream)).toMatchObject({ accepted: 1, status: 'PUBLISH_STATUS_MESSAGE_TOO_LONG' });
    stream.write(batch(2, 'fine again'));
    expect(await result(stream)).toMatchObject({ accepted: 1, status: 'PUBLISH_STATUS_ACCEPTED' });
  });

  it('refuses a request over the gRPC limit without harm to another stream', async () => {
    await fixture.close();
    fixture = await startFixture({ maxMessageBytes: '64KiB' });
    await subscriber();
    const other = fixture.client.publish().write(openTopic('local'));
    await opened(other);
    const stream = fixture.client.publish().write(openTopic('local'));
    stream.write(batch(1, 'x'.repeat(80 * 1024)));
    expect((await errorOf(stream)).code).toBe(status.RESOURCE_EXHAUSTED);
    other.write(batch(1, 'y'));
    expect(await result(other)).toMatchObject({ status: 'PUBLISH_STATUS_ACCEPTED' });
  });

  it('names an unknown topic and the nearest known one, with google.rpc details', async () => {
    const error = await errorOf(fixture.client.publish().write(openTopic('qoutes')));
    expect(error.code).toBe(status.NOT_FOUND);
    expect(error.details).toContain('did you mean "quotes"');
    const decoded = statusDetails(error);
    expect(decoded).toMatchObject({ code: status.NOT_FOUND, message: error.details });
    expect(decoded.details[0]).toMatchObject({ type: 'type.googleapis.com/google.rpc.ErrorInfo' });
    expect(decoded.details[0]?.fields).toEqual([
      'UNKNOWN_TOPIC',
      'outrigger.dev',
      'topic',
      'qoutes',
      'nearest',
      'quotes',
    ]);
  });

  it('refuses malformed opens with the field at fault', async () => {
    const missing = await errorOf(fixture.client.publish().write({ open: {} }));
    expect(missing.code).toBe(status.INVALID_ARGUMENT);
    expect(statusDetails(missing).details[1]).toMatchObject({
      type: 'type.googleapis.com/google.rpc.BadRequest',
      fields: ['target', expect.any(String)],
    });
    const wait = await errorOf(
      fixture.client.publish().write(openTopic('local', { waitTimeoutMs: 700_000 })),
    );
    expect(wait.details).toContain('open.wait_timeout_ms');
    const twice = await errorOf(fixture.client.publish().write(openTopic('local')).write(openTopic('local')));
    expect(twice.details).toContain('twice');
    const noOpen = await errorOf(fixture.client.publish().write(batch(1, 'x')));
    expect(noOpen.code).toBe(status.FAILED_PRECONDITION);
  });

  it('refuses channels unless they are allowed', async () => {
    const channel = { open: { target: { channel: { uri: 'aeron:ipc', streamId: 3 } } } };
    expect(await opened(fixture.client.publish().write(channel))).toMatchObject({ streamId: 3 });
    const bad = await errorOf(
      fixture.client.publish().write({ open: { target: { channel: { uri: 'tcp://x', streamId: 3 } } } }),
    );
    expect(bad.code).toBe(status.INVALID_ARGUMENT);
    await fixture.close();
    fixture = await startFixture({ allowChannels: false });
    expect((await errorOf(fixture.client.publish().write(channel))).code).toBe(status.PERMISSION_DENIED);
  });

  it('stops reading a client that floods, and forgets nothing of what it sent', async () => {
    await subscriber();
    fixture.driver.room = 0;
    const stream = fixture.client
      .publish()
      .write(openTopic('local', { backPressure: 'BACK_PRESSURE_POLICY_WAIT', waitTimeoutMs: 600_000 }));
    await opened(stream);
    const session = [
      ...(fixture.sidecar as unknown as { messaging: { publishers: Set<{ queue: Buffer[] }> } }).messaging
        .publishers,
    ][0];
    const big = 'x'.repeat(60 * 1024);
    for (let i = 1; i <= 400; i++) {
      stream.write(batch(i, big));
    }
    const other = await subscriber('quotes'); // the server is alive, and other streams go on
    while (session === undefined || session.queue.length < 4) {
      await new Promise(setImmediate);
    }
    // grpc-js holds up to one object buffer of requests beyond those that it was asked for.
    expect(session.queue.length).toBeLessThanOrEqual(4 + 16);
    fixture.driver.grantRoom(1000);
    for (let i = 1; i <= 400; i++) {
      expect((await result(stream)).sequence).toBe(`${i}`);
    }
    expect(other.over).toBe(false);
  });

  it('lists every publisher of a topic as one destination, and follows the file live', async () => {
    const stream = fixture.client.publish().write(openTopic('quotes'));
    const { sessionId } = await opened(stream);
    const publication = [...fixture.driver.publications][0];
    expect(publication?.options.channel).toContain('control-mode=manual|fc=min');
    expect([...(publication?.destinations ?? [])]).toEqual(['aeron:udp?endpoint=10.0.0.1:40123']);
    const topics = structuredClone(kTopics);
    (topics.topics[1] as { subscribers: string[] }).subscribers = ['10.0.0.2:1', '10.0.0.3:1'];
    writeFileSync(`${fixture.topicsFile}.new`, JSON.stringify(topics));
    renameSync(`${fixture.topicsFile}.new`, fixture.topicsFile);
    while (publication?.destinations.has('aeron:udp?endpoint=10.0.0.3:1') !== true) {
      await new Promise(setImmediate);
    }
    expect([...publication.destinations]).toEqual([
      'aeron:udp?endpoint=10.0.0.2:1',
      'aeron:udp?endpoint=10.0.0.3:1',
    ]);
    expect(publication.sessionId).toBe(sessionId);
    expect(stream.over).toBe(false);
  });

  it('goes on when one destination is refused', async () => {
    fixture.driver.refusedDestinations.add('aeron:udp?endpoint=10.0.0.1:40123');
    expect(await opened(fixture.client.publish().write(openTopic('quotes')))).toMatchObject({
      streamId: 1001,
    });
  });

  it('ends the streams of a topic that is removed', async () => {
    const stream = fixture.client.publish().write(openTopic('local'));
    await opened(stream);
    writeFileSync(`${fixture.topicsFile}.new`, '{"topics": []}');
    renameSync(`${fixture.topicsFile}.new`, fixture.topicsFile);
    const error = await errorOf(stream);
    expect(error.code).toBe(status.NOT_FOUND);
    expect(error.details).toContain('was removed');
  });

  it('re-opens when the driver comes back and says so; FAIL answers CLOSED in between', async () => {
    const stream = fixture.client.publish().write(openTopic('local'));
    const before = await opened(stream);
    fixture.driver.die();
    stream.write(batch(5, 'x', 'y'));
    expect(await result(stream)).toMatchObject({ sequence: '5', status: 'PUBLISH_STATUS_CLOSED' });
    fixture.driver.revive();
    const after = await stream.next(
      (answer) => (answer['event'] as { reopened?: { sessionId: number } } | undefined)?.reopened,
    );
    expect(after.sessionId).not.toBe(before.sessionId);
    await subscriber();
    stream.write(batch(6, 'z'));
    expect(await result(stream)).toMatchObject({ sequence: '6', status: 'PUBLISH_STATUS_ACCEPTED' });
  });

  it('WAIT outlives a driver that comes back', async () => {
    await subscriber();
    const stream = fixture.client
      .publish()
      .write(openTopic('local', { backPressure: 'BACK_PRESSURE_POLICY_WAIT', waitTimeoutMs: 60_000 }));
    await opened(stream);
    fixture.driver.die();
    stream.write(batch(1, 'x'));
    fixture.driver.revive();
    expect(await result(stream)).toMatchObject({ accepted: 1, status: 'PUBLISH_STATUS_ACCEPTED' });
  });

  it('answers UNAVAILABLE while no driver is there', async () => {
    fixture.driver.die('crashed');
    const error = await errorOf(fixture.client.publish().write(openTopic('local')));
    expect(error.code).toBe(status.UNAVAILABLE);
    expect(error.details).toContain('driver is away');
  });

  it('refuses streams over maxStreams, and only those', async () => {
    await fixture.close();
    fixture = await startFixture({ maxStreams: 1 });
    const first = fixture.client.publish().write(openTopic('local'));
    await opened(first);
    expect((await errorOf(fixture.client.publish().write(openTopic('local')))).code).toBe(
      status.RESOURCE_EXHAUSTED,
    );
    expect(first.over).toBe(false);
  });

  it('ends streams that never open, so that they hold no place', async () => {
    await fixture.close();
    fixture = await startFixture({ openTimeout: '20ms', maxStreams: 2 });
    for (const silent of [fixture.client.publish(), fixture.client.subscribe()]) {
      silent.stream.resume();
      const error = await errorOf(silent);
      expect(error.code).toBe(status.DEADLINE_EXCEEDED);
      expect(statusDetails(error).details[0]?.fields).toContain('NOT_OPENED');
    }
    const publisher = fixture.client.publish().write({ open: { target: { topic: 'local' } } });
    await publisher.next((answer) => answer['opened']);
  });

  it('a cancelled stream gives its publication back', async () => {
    const stream = fixture.client.publish().write(openTopic('local'));
    await opened(stream);
    stream.stream.cancel();
    while (fixture.driver.publications.size > 0) {
      await new Promise(setImmediate);
    }
  });
});
