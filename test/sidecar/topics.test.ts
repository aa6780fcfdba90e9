// SPDX-License-Identifier: Apache-2.0
// Topics by name over real drivers: one to many, many to one, many to many, members that come later, the last messages of a drain.
import { Cluster, Collector, numbered, until, type Node } from './support';
import type { Publisher, PublisherOptions, SubscriptionItem } from '../../clients/typescript/src';

jest.setTimeout(120_000);

let cluster: Cluster;
beforeEach(() => {
  cluster = new Cluster();
});
afterEach(() => cluster.stop());

const kMessages = 5000;

async function subscribers(nodes: readonly Node[], topic: string): Promise<Collector[]> {
  const collectors = nodes.map(
    (node) => new Collector(node.client.subscribe(topic, { reconnect: { maxMs: 100 } })),
  );
  await Promise.all(collectors.map((each) => each.subscription.ready()));
  return collectors;
}

function publisherOn(node: Node, topic: string, options: PublisherOptions = {}): Publisher {
  return node.client.publisher(topic, { waitTimeoutMs: 30_000, reconnect: { maxMs: 100 }, ...options });
}

/** Publishes so many numbered messages once all images are there; a message before that is for those only who are connected. */
async function publish(publisher: Publisher, number: number, from = 0, count = kMessages): Promise<void> {
  for (let i = from; i < from + count; i++) {
    if (!publisher.send(numbered(number, i))) {
      await publisher.drained();
    }
  }
  await publisher.flush();
  expect(publisher.stats).toMatchObject({ accepted: from + count, refused: 0, dropped: 0, unknown: 0 });
}

function images(collector: Collector): number {
  return collector.seen('imageAvailable').length;
}

describe('a topic', () => {
  it('reaches several subscribers on other sidecars from one publisher', async () => {
    const nodes = await cluster.add(4);
    const [source, ...sinks] = nodes as [Node, ...Node[]];
    cluster.writeTopics([
      { name: 'fan', streamId: 11, flowControl: 'min', subscribers: sinks.map((each) => each.endpoint) },
    ]);
    nodes.forEach((node) => node.start());
    const collectors = await subscribers(sinks, 'fan');
    const publisher = publisherOn(source, 'fan');
    await until('an image on each', () => collectors.every((each) => images(each) === 1));
    await publish(publisher, 1);
    await publisher.close();
    await until('the end of each', () =>
      collectors.every((each) => each.seen('imageUnavailable').length === 1),
    );
    for (const collector of collectors) {
      collector.expectClean(1, kMessages);
      expect(collector.seen('imageUnavailable')).toMatchObject([{ reason: 'END_OF_STREAM' }]);
      expect(collector.seen('gap')).toEqual([]);
    }
    const scrape = await source.metrics();
    expect(scrape).toContain(`outrigger_published_messages_total{topic="fan"} ${kMessages}`);
    expect(scrape).toContain('outrigger_grpc_streams{topic="fan",kind="publish"} 0');
    const delivered = await (sinks[0] as Node).metrics();
    expect(delivered).toContain(`outrigger_delivered_messages_total{topic="fan"} ${kMessages}`);
  });

  it('carries several publishers, of one sidecar and of others, to one subscriber', async () => {
    const nodes = await cluster.add(3);
    const [sink, one, two] = nodes as [Node, Node, Node];
    cluster.writeTopics([{ name: 'funnel', streamId: 12, subscribers: [sink.endpoint] }]);
    nodes.forEach((node) => node.start());
    const [collector] = (await subscribers([sink], 'funnel')) as [Collector];
    const publishers = [
      publisherOn(one, 'funnel'),
      publisherOn(one, 'funnel'), // shares the session of the first
      publisherOn(one, 'funnel', { exclusive: true }),
      publisherOn(two, 'funnel'),
    ];
    await until('three images', () => images(collector) === 3);
    await Promise.all(publishers.map((publisher, number) => publish(publisher, number)));
    await until('all messages', () => collector.messages === publishers.length * kMessages);
    publishers.forEach((_, number) => collector.expectClean(number, kMessages));
    const infos = await Promise.all(publishers.map((publisher) => publisher.ready()));
    expect(new Set(infos.map((info) => info.sessionId)).size).toBe(3);
    expect(infos[0]?.sessionId).toBe(infos[1]?.sessionId);
  });

  it('carries many to many, also within one sidecar', async () => {
    const nodes = await cluster.add(3);
    cluster.writeTopics([
      { name: 'mesh', streamId: 13, flowControl: 'min', subscribers: nodes.map((each) => each.endpoint) },
    ]);
    nodes.forEach((node) => node.start());
    const collectors = await subscribers(nodes, 'mesh');
    const publishers = nodes.map((node) => publisherOn(node, 'mesh'));
    await until('every image everywhere', () => collectors.every((each) => images(each) === nodes.length));
    await Promise.all(publishers.map((publisher, number) => publish(publisher, number)));
    await until('all messages', () => collectors.every((each) => each.messages === nodes.length * kMessages));
    for (const collector of collectors) {
      publishers.forEach((_, number) => collector.expectClean(number, kMessages));
      expect(collector.seen('gap')).toEqual([]);
    }
  });

  it('takes in a subscriber that its file names later, and lets one go', async () => {
    const nodes = await cluster.add(3);
    const [source, first, later] = nodes as [Node, Node, Node];
    const topic = (...sinks: Node[]): void =>
      cluster.writeTopics([{ name: 'grow', streamId: 14, subscribers: sinks.map((each) => each.endpoint) }]);
    topic(first);
    nodes.forEach((node) => node.start());
    const [before] = (await subscribers([first], 'grow')) as [Collector];
    const publisher = publisherOn(source, 'grow');
    await publisher.whenConnected();
    await publish(publisher, 1, 0, 100);
    topic(first, later);
    const [after] = (await subscribers([later], 'grow')) as [Collector];
    await until('its image', () => images(after) === 1);
    await publish(publisher, 1, 100, 100);
    await until('the second hundred on both', () => before.messages === 200 && after.last.get(1) === 199);
    before.expectClean(1, 200);
    after.expectClean(1, after.messages);
    topic(later);
    await until(
      'the end of the image that is no member any more',
      () => before.seen('imageUnavailable').length === 1,
    );
    await publish(publisher, 1, 200, 100);
    await until('the third hundred', () => after.last.get(1) === 299);
    expect(before.messages).toBe(200);
  });
});

describe('SIGTERM', () => {
  it('delivers the last messages: what was accepted arrives, the stream ends in order', async () => {
    const nodes = await cluster.add(2);
    const [source, sink] = nodes as [Node, Node];
    cluster.writeTopics([{ name: 'last', streamId: 15, subscribers: [sink.endpoint] }]);
    nodes.forEach((node) => node.start());
    const [collector] = (await subscribers([sink], 'last')) as [Collector];
    await source.metrics(); // it serves: the publisher does not connect twice
    const publisher = publisherOn(source, 'last', { reconnect: false });
    await publisher.whenConnected();
    const failed = new Promise((resolve) => publisher.once('failed', resolve));
    // In the midst of a stream that goes on until the sidecar ends it.
    let sent = 0;
    let stopping: Promise<number | string> | undefined;
    const timer = setInterval(() => {
      for (let i = 0; i < 200; i++) {
        publisher.send(numbered(1, sent++, 1000));
      }
      if (sent === 4000) {
        stopping = source.sidecar.signal('SIGTERM');
      }
    }, 1);
    void failed.then(() => clearInterval(timer));
    expect(await failed).toMatchObject({ name: 'UnavailableError', reason: 'DRAINING' });
    expect(await stopping).toBe(0);
    expect(await source.driver.signal('SIGTERM')).toBe(0);
    const { accepted } = publisher.stats;
    expect(accepted).toBeGreaterThan(0);
    await until('the end of the stream', () => collector.seen('imageUnavailable').length === 1);
    expect(collector.seen('imageUnavailable')).toMatchObject([{ reason: 'END_OF_STREAM' }]);
    // What was in flight when the stream ended may have been published too; nothing accepted is missing.
    expect(collector.messages).toBeGreaterThanOrEqual(accepted);
    collector.expectClean(1, collector.messages);
    expect(collector.seen('gap')).toEqual([]);
  });

  it('delivers the last messages to subscribers of the same sidecar too', async () => {
    const [node] = (await cluster.add(1)) as [Node];
    cluster.writeTopics([]);
    node.start();
    await node.metrics();
    const target = { channel: 'aeron:ipc', streamId: 16 };
    const collector = new Collector(node.client.subscribe(target));
    const publisher = node.client.publisher(target, { reconnect: false });
    await publisher.whenConnected();
    await publish(publisher, 1);
    expect(await node.sidecar.signal('SIGTERM')).toBe(0);
    await until('the end of the stream', () => collector.seen('imageUnavailable').length > 0);
    collector.expectClean(1, kMessages);
    expect(collector.seen('imageUnavailable')[0]).toMatchObject({ reason: 'END_OF_STREAM' });
  });
});

describe('a subscriber that grants no credit', () => {
  it.each(['skip', 'disconnectAfter'] as const)(
    'costs the others no message and no time under %s',
    async (slowPolicy) => {
      const nodes = await cluster.add(2);
      const [source, sink] = nodes as [Node, Node];
      cluster.writeTopics([{ name: 'slow', streamId: 17, subscribers: [sink.endpoint] }]);
      nodes.forEach((node) => node.start());
      const [healthy] = (await subscribers([sink], 'slow')) as [Collector];
      const stalled = sink.client.subscribe('slow', {
        slowPolicy,
        disconnectAfterMs: 200,
        windowMessages: 1,
      });
      await stalled.ready();
      const publisher = publisherOn(source, 'slow');
      await until('the image', () => images(healthy) === 1);
      // More than a window and than a term: without the policy it would stop here.
      for (let from = 0; from < 4 * kMessages; from += kMessages) {
        await publish(publisher, 1, from);
      }
      await until('all messages', () => healthy.messages === 4 * kMessages);
      healthy.expectClean(1, 4 * kMessages);
      const items = stalled.items();
      expect(((await items.next()).value as SubscriptionItem).kind).toBe('imageAvailable');
      expect(((await items.next()).value as SubscriptionItem).kind).toBe('batch');
      if (slowPolicy === 'skip') {
        expect((await items.next()).value).toMatchObject({ kind: 'gap', reason: 'SKIPPED' });
      } else {
        await expect(items.next()).rejects.toMatchObject({ name: 'SlowSubscriberError' });
      }
      stalled.close();
    },
  );

  it('stops the publisher under block, loses nothing, and goes on when it reads', async () => {
    const nodes = await cluster.add(2);
    const [source, sink] = nodes as [Node, Node];
    cluster.writeTopics([{ name: 'block', streamId: 18, subscribers: [sink.endpoint] }]);
    nodes.forEach((node) => node.start());
    const stalled = sink.client.subscribe('block', { windowMessages: 10 });
    await stalled.ready();
    const publisher = publisherOn(source, 'block', { backPressure: 'fail' });
    await publisher.whenConnected();
    let sent = 0;
    let refused: unknown;
    while (refused === undefined) {
      await publisher.publish(numbered(1, sent, 1000)).then(
        () => sent++,
        (error: unknown) => (refused = error),
      );
    }
    expect(refused).toMatchObject({ name: 'BackPressuredError' });
    const collector = new Collector(stalled);
    await until('everything that was accepted', () => collector.messages === sent);
    collector.expectClean(1, sent);
    await until('room again', async () =>
      publisher.publish(numbered(1, sent, 1000)).then(
        () => true,
        () => false,
      ),
    );
  });
});
