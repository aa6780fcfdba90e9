// SPDX-License-Identifier: Apache-2.0
// kill -9 under load: the others are told, streams go on when the process is back, and what is missing is an event.
import { once } from 'node:events';
import type { Publisher } from '../../clients/typescript/src';
import { Cluster, Collector, numbered, until, type Node } from './support';

jest.setTimeout(120_000);

let cluster: Cluster;
let stopLoad: () => Promise<void>;
beforeEach(() => {
  cluster = new Cluster();
  stopLoad = () => Promise.resolve();
});
afterEach(async () => {
  await stopLoad();
  await cluster.stop();
});

interface Pair {
  readonly source: Node;
  readonly sink: Node;
  readonly collector: Collector;
  readonly publisher: Publisher;
}

async function pair(): Promise<Pair> {
  const nodes = await cluster.add(2, ['--driver-timeout=2s']);
  const [source, sink] = nodes as [Node, Node];
  cluster.writeTopics([{ name: 'crash', streamId: 21, subscribers: [sink.endpoint] }]);
  nodes.forEach((node) => node.start());
  const reconnect = { maxMs: 100 };
  const collector = new Collector(sink.client.subscribe('crash', { reconnect }));
  await collector.subscription.ready();
  const publisher = source.client.publisher('crash', { reconnect, waitTimeoutMs: 60_000 });
  await publisher.whenConnected();
  return { source, sink, collector, publisher };
}

/** Publishes without end; each message goes out when the one before has its result, so that the numbers never run ahead. */
function load(publisher: Publisher): { sent: () => number } {
  const state = { running: true };
  let sent = 0;
  const loop = (async () => {
    while (state.running) {
      await publisher
        .publishAll(Array.from({ length: 50 }, () => numbered(1, sent++)))
        .catch(() => undefined);
    }
  })();
  stopLoad = async () => {
    state.running = false;
    await publisher.close(1000);
    await loop;
  };
  return { sent: () => sent };
}

/** Nothing twice and nothing out of order, whatever was lost. */
function expectOrdered(collector: Collector): void {
  for (const check of collector.checks.values()) {
    expect({ duplicated: check.duplicated, outOfOrder: check.outOfOrder }).toEqual({
      duplicated: 0,
      outOfOrder: 0,
    });
  }
}

describe('kill -9 under load', () => {
  it("of the subscriber's driver: its end is an event, the subscription rejoins, what is missing is a gap", async () => {
    const { sink, collector, publisher } = await pair();
    load(publisher);
    await until('messages', () => collector.messages > 1000);
    const [before] = collector.seen('imageAvailable');
    expect(await sink.driver.signal('SIGKILL')).toBe('SIGKILL');
    await until('the loss', () => collector.seen('imageUnavailable').length > 0);
    const [lost] = collector.seen('imageUnavailable');
    expect(lost).toMatchObject({ reason: 'DRIVER_LOST', sessionId: before?.sessionId });
    const had = collector.messages;
    sink.driver.start();
    await until('messages again', () => collector.messages > had + 1000);
    const again = collector.seen('imageAvailable').at(-1);
    if (again?.sessionId === before?.sessionId) {
      // The publisher's stream went on: between the two positions lies what this subscriber missed.
      expect(collector.seen('gap').at(-1)).toMatchObject({
        sessionId: before?.sessionId,
        fromPosition: lost?.position,
        toPosition: again?.joinPosition,
        reason: 'REJOINED',
      });
    }
    expectOrdered(collector);
  });

  it("of the publisher's driver: the publisher opens again, the subscriber sees the old stream end and a new one", async () => {
    const { source, collector, publisher } = await pair();
    load(publisher);
    await until('messages', () => collector.messages > 1000);
    const session = publisher.info?.sessionId;
    const reopened = once(publisher, 'reopened');
    await source.driver.signal('SIGKILL');
    source.driver.start();
    await reopened;
    expect(publisher.info?.sessionId).not.toBe(session);
    const had = collector.messages;
    await until('messages of the new session', () => collector.messages > had + 1000);
    await until('the end of the old session', () =>
      collector
        .seen('imageUnavailable')
        .some((each) => each.sessionId === session && each.reason === 'TIMED_OUT'),
    );
    expectOrdered(collector);
  });

  it("of the subscriber's sidecar: the client rejoins, with a gap when something is missing; driver and publisher go on", async () => {
    const { sink, collector, publisher } = await pair();
    load(publisher);
    await until('messages', () => collector.messages > 1000);
    const driver = sink.driver.pid;
    await sink.sidecar.signal('SIGKILL');
    sink.sidecar.start();
    await until('the stream again', () => collector.seen('reopened').length === 1);
    const had = collector.messages;
    await until('messages again', () => collector.messages > had + 1000);
    expect(collector.seen('imageUnavailable')[0]).toMatchObject({ reason: 'CONNECTION_LOST' });
    // The driver held the stream at what the dead sidecar had consumed: what that had not handed on is missing, if anything.
    const missing = [...collector.checks.values()].some((check) => check.lost() > 0);
    expect(collector.seen('gap').map((each) => each.reason)).toEqual(missing ? ['REJOINED'] : []);
    expect(() => process.kill(driver, 0)).not.toThrow();
    expectOrdered(collector);
  });

  it("of the publisher's sidecar: the publisher goes on in a new session and knows what it does not know", async () => {
    const { source, collector, publisher } = await pair();
    const { sent } = load(publisher);
    await until('messages', () => collector.messages > 1000);
    const reopened = once(publisher, 'reopened');
    await source.sidecar.signal('SIGKILL');
    source.sidecar.start();
    await reopened;
    const had = collector.messages;
    await until('messages again', () => collector.messages > had + 1000);
    const { accepted, unknown, refused } = publisher.stats;
    expect(refused).toBe(0);
    expect(accepted + unknown).toBeLessThanOrEqual(sent());
    expectOrdered(collector);
  });
});
