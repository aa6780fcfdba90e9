// SPDX-License-Identifier: Apache-2.0
// Replicas with as many topics as an API server of a limited rate carries, on a clock of the test. Sidecars are streams without anything behind them.
import pino from 'pino';
import { kSystemClock } from '../base/clock';
import { TokenBucket } from '../base/token_bucket';
import { ApiError } from '../kit/api_error';
import { Directory, kDirectoryDefaults } from './directory';
import type { DirectorySession, JoinRequest } from './session';
import { FakeCluster, tokenOf, topicResource } from './testing';

const log = pino({ level: 'silent' });
const kLeaseMs = kDirectoryDefaults.leaseMs;
const kRate = kDirectoryDefaults.writesPerSecond;

/** The API server as one replica has it: so many writes a second, each with its time. */
class LimitedCluster extends FakeCluster {
  private answers: Promise<void> | undefined;
  private readonly bucket = new TokenBucket(kRate, 2 * kRate, kSystemClock);

  constructor(
    private readonly common: FakeCluster,
    private readonly latencyMs: number,
  ) {
    super();
  }

  override async applySlice(slice: Parameters<FakeCluster['applySlice']>[0]): Promise<void> {
    await this.turn();
    await this.common.applySlice(slice);
  }

  override async deleteSlice(namespace: string, name: string): Promise<void> {
    await this.turn();
    await this.common.deleteSlice(namespace, name);
  }

  override isFresh(): boolean {
    return this.common.isFresh();
  }

  private async turn(): Promise<void> {
    await this.bucket.take(new AbortController().signal);
    // Answers come together: fewer timers, of which each costs the test a turn of the real event loop.
    this.answers ??= new Promise((resolve) =>
      setTimeout(() => {
        this.answers = undefined;
        resolve();
      }, this.latencyMs),
    );
    await this.answers;
  }
}

interface State {
  readonly topic: string;
  readonly subscribers: readonly { readonly pod: string }[];
}

/** A pod with one stream: knows of each topic who subscribes, as it was told last, and each time that somebody was missing who was told of before. */
class Watcher {
  readonly subscribers = new Map<string, readonly string[]>();
  readonly lost: string[] = [];
  private session: DirectorySession | undefined;

  constructor(
    readonly pod: string,
    private at: Directory,
  ) {}

  async join(
    role: 'ROLE_PUBLISHER' | 'ROLE_SUBSCRIBER',
    topics: readonly string[],
    at = this.at,
  ): Promise<void> {
    this.at = at;
    const stream = {
      send: (response: object) => {
        const { topic } = response as { topic?: State };
        if (topic !== undefined) {
          this.told(topic);
        }
        return true;
      },
      end: () => undefined,
    };
    const session = await at.admit(tokenOf(this.pod), stream, new AbortController().signal);
    this.session = session;
    const say = (request: object): void =>
      session.onRequest({ request: Object.keys(request)[0], ...request } as unknown as JoinRequest);
    const endpoints = [{ network: 'vlan', address: '10.0.0.1', port: 40_123, mtu: 1500 }]; // not looked up
    say({ hello: { instanceId: this.pod, endpoints, version: 't' } });
    await jest.advanceTimersByTimeAsync(1);
    topics.forEach((topic) => say({ register: { topic, role } }));
    say({ heartbeat: {} });
  }

  /** Without a word. */
  break(): void {
    this.at.left(this.session as DirectorySession);
  }

  release(topic: string): void {
    this.session?.onRequest({ request: 'unregister', unregister: { topic, role: 'ROLE_SUBSCRIBER' } });
  }

  private told({ topic, subscribers }: State): void {
    const now = subscribers.map(({ pod }) => pod).sort();
    const before = this.subscribers.get(topic) ?? [];
    before
      .filter((each) => !now.includes(each))
      .forEach((each) => this.lost.push(`${topic} ${each} at ${Date.now()}`));
    this.subscribers.set(topic, now);
  }
}

const topicsOf = (from: number, to: number): readonly string[] =>
  Array.from({ length: to - from }, (_, i) => `t${from + i}`);

async function pass(ms: number): Promise<void> {
  await jest.advanceTimersByTimeAsync(ms);
}

/** Lets time pass in steps until it is so, and answers how long that took. */
async function passUntil(condition: () => boolean, atMostMs: number, stepMs = 50): Promise<number> {
  for (let ms = 0; ms <= atMostMs; ms += stepMs) {
    if (condition()) {
      return ms;
    }
    await pass(stepMs);
  }
  throw new Error(`not within ${atMostMs} ms: ${condition.toString()}`);
}

jest.setTimeout(120_000);

describe('a directory with many topics', () => {
  const kTopics = 2000;
  /** Fewer than one pod may register at once. */
  const kOfPod = 500;
  let common: FakeCluster;
  let replicas: Directory[];

  beforeEach(() => {
    jest.useFakeTimers({ now: 1_800_000_000_000 });
    common = new FakeCluster();
    replicas = [];
    common.onSlice = (slice, deleted) =>
      replicas.forEach((each) =>
        deleted
          ? each.sliceDeleted(slice.metadata.namespace ?? '', slice.metadata.name ?? '')
          : each.sliceSet(slice),
      );
  });
  afterEach(async () => {
    const closing = Promise.all(replicas.map((each) => each.close()));
    await pass(60_000);
    await closing;
    jest.useRealTimers();
  });

  function replica(name: string, latencyMs = 20): Directory {
    const made = new Directory(
      new LimitedCluster(common, latencyMs),
      { ...kDirectoryDefaults, replica: name },
      log,
    );
    made.namespaceSet('shop', {});
    topicsOf(0, kTopics).forEach((topic) => made.topicSet(topicResource(topic)));
    common.slices.forEach((slice) => made.sliceSet(slice));
    made.start();
    replicas.push(made);
    return made;
  }

  /** Subscribers of the topics at one replica, and who is told of them at another. */
  async function members(
    [a, b]: readonly [Directory, Directory],
    from: number,
    to: number,
  ): Promise<{ readonly subscribers: Watcher[]; readonly publishers: Watcher[] }> {
    const [subscribers, publishers]: [Watcher[], Watcher[]] = [[], []];
    for (let first = from; first < to; first += kOfPod) {
      const topics = topicsOf(first, Math.min(to, first + kOfPod));
      const [subscriber, publisher] = [new Watcher(`s${first}`, a), new Watcher(`p${first}`, b)];
      await subscriber.join('ROLE_SUBSCRIBER', topics);
      await publisher.join('ROLE_PUBLISHER', topics);
      subscribers.push(subscriber);
      publishers.push(publisher);
    }
    return { subscribers, publishers };
  }

  const knows = (publisher: Watcher, topic: string, pod: string): boolean =>
    publisher.subscribers.get(topic)?.includes(`shop/${pod}`) === true;
  const knowsAll = (publisher: Watcher, pod: string, from: number, to: number): boolean =>
    topicsOf(from, to).every((topic) => knows(publisher, topic, pod));
  const lostBy = (watchers: readonly Watcher[]): readonly string[] => watchers.flatMap(({ lost }) => lost);

  it('loses no living member, and tells of a new one within a second while it renews the others', async () => {
    const [a, b] = [replica('a'), replica('b')];
    const { publishers } = await members([a, b], 0, kTopics);
    const first = publishers[0] as Watcher;
    // All are new at once: as fast as the API server takes them.
    await passUntil(
      () => publishers.every((each, i) => knowsAll(each, `s${i * kOfPod}`, i * kOfPod, (i + 1) * kOfPod)),
      ((2 * kTopics) / kRate) * 1000,
    );
    await pass(2 * kLeaseMs);
    const before = a.stats.sliceWrites;
    for (const [index, topic] of ['t3', 't300', 't499'].entries()) {
      const newcomer = new Watcher(`new${index}`, a);
      await newcomer.join('ROLE_SUBSCRIBER', [topic]);
      expect(await passUntil(() => knows(first, topic, newcomer.pod), 1000)).toBeLessThanOrEqual(1000);
      await pass(20_000);
    }
    await pass(300_000);
    expect(lostBy(publishers)).toEqual([]);
    // They were renewed all the time, by half of what may be written.
    const perSecond = (a.stats.sliceWrites - before) / 360;
    expect(perSecond).toBeGreaterThan(kRate / 4);
    expect(perSecond).toBeLessThanOrEqual(kRate / 2 + 1);
  });

  it('loses none, and tells as soon, where the API server takes its time', async () => {
    const [a, b] = [replica('a', 300), replica('b', 300)];
    const { publishers } = await members([a, b], 0, 400);
    await pass(60_000);
    const newcomer = new Watcher('new', a);
    await newcomer.join('ROLE_SUBSCRIBER', ['t3']);
    await passUntil(() => knows(publishers[0] as Watcher, 't3', 'new'), 1000);
    await pass(240_000);
    expect(lostBy(publishers)).toEqual([]);
  });

  it('loses none while they become many, and few again', async () => {
    const [a, b] = [replica('a'), replica('b')];
    const few = await members([a, b], 0, 200);
    await pass(kLeaseMs);
    expect(knowsAll(few.publishers[0] as Watcher, 's0', 0, 200)).toBe(true);
    const many = await members([a, b], 200, kTopics);
    await pass(100_000);
    // Few again: what was written while they were many holds for long, and must not stand before what is short.
    many.subscribers.forEach((each, i) =>
      topicsOf(200 + i * kOfPod, Math.min(kTopics, 200 + (i + 1) * kOfPod)).forEach((topic) =>
        each.release(topic),
      ),
    );
    await pass(120_000);
    expect(lostBy(few.publishers)).toEqual([]);
    expect(lostBy(many.publishers)).toHaveLength(kTopics - 200);
    const leases = [...common.slices.values()].flatMap(({ spec }) =>
      spec.members.filter(({ pod }) => pod === 's0').map(({ lease }) => lease.durationSeconds),
    );
    expect(new Set(leases)).toEqual(new Set([kLeaseMs / 1000]));
  });

  it('loses none by an outage of the API server, however long', async () => {
    const [a, b] = [replica('a'), replica('b')];
    const { publishers } = await members([a, b], 0, kTopics);
    await pass(200_000);
    common.away = true;
    await pass(600_000);
    common.away = false;
    const before = a.stats.sliceWrites;
    await pass(20_000);
    // All of them are late, and still leave half to what changes; two seconds' worth may have gathered.
    expect(a.stats.sliceWrites - before).toBeLessThanOrEqual((22 * kRate) / 2 + 10);
    await pass(280_000);
    expect(lostBy(publishers)).toEqual([]);
  });

  it('loses none whose replica ends, while another writes them all anew', async () => {
    const [a, b, c] = [replica('a'), replica('b'), replica('c')];
    const { subscribers, publishers } = await members([a, b], 0, kTopics);
    await pass(200_000);
    await Promise.all([a.close(), pass(1000)]);
    for (const [i, each] of subscribers.entries()) {
      await each.join('ROLE_SUBSCRIBER', topicsOf(i * kOfPod, (i + 1) * kOfPod), c);
    }
    await pass(300_000);
    expect(lostBy(publishers)).toEqual([]);
  });

  it('ends members that are gone with their replica, by the lease that was written for them', async () => {
    const [a, b] = [replica('a'), replica('b')];
    const { subscribers, publishers } = await members([a, b], 0, kTopics);
    await pass(200_000);
    const longest = Math.max(
      ...[...common.slices.values()].flatMap(({ spec }) =>
        spec.members.filter(({ role }) => role === 'Subscriber').map(({ lease }) => lease.durationSeconds),
      ),
    );
    // Three times what it takes to renew them with half of the rate.
    expect(longest).toBe((3 * kTopics) / (kRate / 2));
    subscribers.forEach((each) => each.break());
    await Promise.all([a.close(), pass(1000)]);
    await pass(longest * 1000 + 2000);
    expect(lostBy(publishers)).toHaveLength(kTopics);
  });

  it('tells of a pod that ends after its replica did, and it does not come back with the slice that is left', async () => {
    const [a, b] = [replica('a'), replica('b')];
    const { subscribers, publishers } = await members([a, b], 0, kTopics);
    const [subscriber, publisher] = [subscribers[0] as Watcher, publishers[0] as Watcher];
    await pass(200_000);
    await Promise.all([a.close(), pass(1000)]);
    await subscriber.join('ROLE_SUBSCRIBER', ['t1'], b);
    await pass(1000);
    expect(knows(publisher, 't1', 's0')).toBe(true);
    subscriber.break();
    await pass(kLeaseMs + 2000);
    expect(knows(publisher, 't1', 's0')).toBe(false);
    for (let i = 0; i < 30; i++) {
      await pass(10_000);
      expect(knows(publisher, 't1', 's0')).toBe(false);
    }
    expect(b.stats.instances).toBe(publishers.length);
  });

  it('goes on with the others where one topic is refused', async () => {
    const [a, b] = [replica('a'), replica('b')];
    const apply = common.applySlice.bind(common);
    common.applySlice = (slice) =>
      slice.spec.topic === 't0'
        ? Promise.reject(new ApiError(403, 'Forbidden', 'the namespace is being terminated'))
        : apply(slice);
    const { publishers } = await members([a, b], 0, 100);
    await pass(10_000);
    const publisher = publishers[0] as Watcher;
    expect(knowsAll(publisher, 's0', 1, 100)).toBe(true);
    expect(knows(publisher, 't0', 's0')).toBe(false);
    expect(a.stats.topicsWaiting).toBe(1);
    const failures = a.stats.sliceFailures;
    await pass(300_000);
    expect(a.stats.sliceFailures - failures).toBeLessThanOrEqual(300 / 30 + 3);
    common.applySlice = apply;
    await passUntil(() => knows(publisher, 't0', 's0'), 35_000);
    expect(a.stats.topicsWaiting).toBe(0);
    expect(lostBy(publishers)).toEqual([]);
  });

  it('writes a slice again that somebody else removed', async () => {
    const [a, b] = [replica('a'), replica('b')];
    await members([a, b], 0, 10);
    await pass(2000);
    const [name] = [...common.slices].find(([, { spec }]) => spec.topic === 't5') as [string, object];
    await common.deleteSlice('shop', name);
    await passUntil(() => common.slices.has(name), 1000);
  });

  it('writes a slice again that somebody else removed just as it was written', async () => {
    const [a, b] = [replica('a'), replica('b')];
    const apply = common.applySlice.bind(common);
    const removed: string[] = [];
    common.applySlice = async (slice) => {
      await apply(slice);
      if (slice.spec.topic === 't5' && removed.length === 0) {
        removed.push(slice.metadata.name as string);
        await common.deleteSlice('shop', slice.metadata.name as string); // its writer knows no answer yet
      }
    };
    await members([a, b], 0, 10);
    await passUntil(() => removed.length > 0, 2000);
    const [name] = removed as [string];
    await passUntil(() => common.slices.has(name), 1000);
  });
});
