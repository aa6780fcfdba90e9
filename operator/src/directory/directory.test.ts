// SPDX-License-Identifier: Apache-2.0
// Replicas of the directory with real sidecar clients on them, and an API server in memory. No network and no driver.
import pino from 'pino';
import { DirectoryClient } from '../../../sidecar/src/directory/directory_client';
import { parseEndpoint, type Role } from '../../../sidecar/src/directory/messages';
import { TopicCache } from '../../../sidecar/src/directory/topic_cache';
import { RpcCode, RpcError } from '../../../sidecar/src/grpc/rpc_error';
import { until as awaitThat } from '../../../sidecar/src/testing/until';
import { TopicStore } from '../../../sidecar/src/topics/topic_store';
import { ApiError } from '../kit/api_error';
import { Directory, kDirectoryDefaults } from './directory';
import { FakeCluster, inProcess, tokenOf, topicResource } from './testing';

const log = pino({ level: 'silent' });

class Replica {
  readonly directory: Directory;
  constructor(
    readonly cluster: FakeCluster,
    readonly name: string,
    now: () => number,
    options: Partial<typeof kDirectoryDefaults> = {},
  ) {
    this.directory = new Directory(cluster, { ...kDirectoryDefaults, replica: name, ...options }, log, now);
    this.directory.start();
    this.directory.namespaceSet('shop', { team: 'shop' });
  }
}

class Pod {
  readonly topics = new TopicStore('');
  readonly client: DirectoryClient;
  readonly revoked: { topic: string; role: Role; error: RpcError }[] = [];

  constructor(
    readonly name: string,
    address: string,
    public target: Directory | undefined,
    cache = new TopicCache('', [], () => undefined),
    namespace = 'shop',
  ) {
    const token = tokenOf(name, namespace);
    this.client = new DirectoryClient(
      inProcess(
        () => this.target,
        () => token,
      ),
      this.topics,
      cache,
      {
        endpoints: [parseEndpoint(`${address}:40123`)],
        version: 'test',
        answerTimeoutMs: 300,
        minRetryMs: 10,
        maxRetryMs: 20,
      },
      log,
    );
    this.client.on('revoked', (change) => this.revoked.push(change));
    this.client.start();
  }

  /** Its stream breaks, without a word; it does not come back before it gets another target. */
  cut(): void {
    this.target = undefined;
    const internals = this.client as unknown as {
      stream: { close(): void };
      onEnd(reason: string): void;
    };
    internals.stream.close();
    internals.onEnd('cut');
  }

  subscribersOf(topic: string): readonly string[] {
    return this.topics.get(topic)?.subscribers ?? [];
  }
}

function until(condition: () => boolean): Promise<void> {
  return awaitThat(condition.toString(), condition);
}

/** Leases are looked at once a second, by the clock of the test: a whole look at what is now. */
async function sweep({ directory }: { directory: Directory }): Promise<void> {
  const before = directory.stats.sweeps;
  await until(() => directory.stats.sweeps > before);
}

jest.setTimeout(30_000);

describe('the directory', () => {
  let now = 1_800_000_000_000;
  let cluster: FakeCluster;
  let a: Replica;
  const pods: Pod[] = [];
  const replicas: Replica[] = [];

  function replica(name: string, options: Partial<typeof kDirectoryDefaults> = {}): Replica {
    const made = new Replica(cluster, name, () => now, options);
    made.directory.topicSet(topicResource('orders'));
    cluster.slices.forEach((slice) => made.directory.sliceSet(slice));
    replicas.push(made);
    return made;
  }

  function pod(
    name: string,
    address: string,
    target: Directory | undefined = a.directory,
    cache?: TopicCache,
    namespace?: string,
  ): Pod {
    cluster.addresses.set(name, [address]);
    const made = new Pod(name, address, target, cache, namespace);
    pods.push(made);
    return made;
  }

  beforeEach(() => {
    now = Date.now();
    cluster = new FakeCluster();
    cluster.onSlice = (slice, deleted) =>
      replicas.forEach(({ directory }) =>
        deleted
          ? directory.sliceDeleted(slice.metadata.namespace ?? '', slice.metadata.name ?? '')
          : directory.sliceSet(slice),
      );
    a = replica('a');
  });

  afterEach(async () => {
    pods.splice(0).forEach((each) => each.client.close());
    await Promise.all(replicas.splice(0).map((each) => each.directory.close()));
  });

  it('tells a publisher of the subscribers that come and go, N to M', async () => {
    const p1 = pod('p1', '10.0.0.1');
    const p2 = pod('p2', '10.0.0.2');
    const s1 = pod('s1', '10.0.0.3');
    const s2 = pod('s2', '10.0.0.4');
    await Promise.all([p1.client.acquire('orders', 'publisher'), p2.client.acquire('orders', 'publisher')]);
    expect(p1.topics.get('orders')).toMatchObject({ streamId: 1001, reliable: true, subscribers: [] });
    await Promise.all([s1.client.acquire('orders', 'subscriber'), s2.client.acquire('orders', 'subscriber')]);
    const both = ['10.0.0.3:40123', '10.0.0.4:40123'];
    await until(() => [p1, p2].every((each) => each.subscribersOf('orders').join() === both.join()));
    s1.client.release('orders', 'subscriber');
    await until(() => [p1, p2].every((each) => each.subscribersOf('orders').join() === both[1]));
  });

  it('tells of members when they come and go, without waiting for a look at the leases', async () => {
    // Never started, so that it looks at nothing by itself: what is told is told because it happened.
    const still = new Directory(cluster, { ...kDirectoryDefaults, replica: 'still' }, log, () => now);
    still.namespaceSet('shop', { team: 'shop' });
    still.topicSet(topicResource('orders'));
    try {
      const publisher = pod('p', '10.0.0.1', still);
      const subscriber = pod('s', '10.0.0.2', still);
      await publisher.client.acquire('orders', 'publisher');
      await subscriber.client.acquire('orders', 'subscriber');
      await until(() => publisher.subscribersOf('orders').length === 1);
      subscriber.client.release('orders', 'subscriber');
      await until(() => publisher.subscribersOf('orders').length === 0);
      expect(still.stats.sweeps).toBe(0);
    } finally {
      await still.close();
    }
  });

  it('joins members of different replicas by their slices', async () => {
    const b = replica('b');
    const publisher = pod('p', '10.0.0.1');
    const subscriber = pod('s', '10.0.0.2', b.directory);
    await publisher.client.acquire('orders', 'publisher');
    await subscriber.client.acquire('orders', 'subscriber');
    await until(() => publisher.subscribersOf('orders').join() === '10.0.0.2:40123');
    expect(
      [...cluster.slices.values()]
        .flatMap((each) => each.spec.members.map(({ pod: name, role }) => `${name} ${role}`))
        .sort(),
    ).toEqual(['p Publisher', 's Subscriber']);
    subscriber.client.close();
    await until(() => publisher.subscribersOf('orders').length === 0);
    await until(() => cluster.slices.size === 1);
  });

  it('keeps a member through a broken stream for its lease, and no longer', async () => {
    const publisher = pod('p', '10.0.0.1');
    const subscriber = pod('s', '10.0.0.2');
    await publisher.client.acquire('orders', 'publisher');
    await subscriber.client.acquire('orders', 'subscriber');
    await until(() => publisher.subscribersOf('orders').length === 1);
    subscriber.cut();
    now += kDirectoryDefaults.leaseMs - 1000;
    await sweep(a);
    expect(publisher.subscribersOf('orders')).toHaveLength(1);
    now += 2000;
    await until(() => publisher.subscribersOf('orders').length === 0);
  });

  it('moves its sidecars to another replica without their members noticing', async () => {
    const b = replica('b');
    const publisher = pod('p', '10.0.0.1');
    const subscriber = pod('s', '10.0.0.2');
    await publisher.client.acquire('orders', 'publisher');
    await subscriber.client.acquire('orders', 'subscriber');
    await until(() => publisher.subscribersOf('orders').length === 1 && cluster.slices.size === 1);
    const seen: number[] = [];
    publisher.topics.on('change', () => seen.push(publisher.subscribersOf('orders').length));
    publisher.target = b.directory;
    subscriber.target = b.directory;
    await a.directory.close();
    await until(() => b.directory.stats.registrations === 2);
    await until(() => publisher.client.connected && subscriber.client.connected);
    await sweep(b);
    expect(publisher.subscribersOf('orders')).toEqual(['10.0.0.2:40123']);
    expect(seen.filter((count) => count !== 1)).toEqual([]);
  });

  it('lets a sidecar that restarts go on while neither API server nor directory answer', async () => {
    const cache = new TopicCache('', [], () => undefined);
    const publisher = pod('p', '10.0.0.1', a.directory, cache);
    const subscriber = pod('s', '10.0.0.2');
    await subscriber.client.acquire('orders', 'subscriber');
    await publisher.client.acquire('orders', 'publisher');
    await until(() => publisher.subscribersOf('orders').length === 1);
    cluster.away = true;
    // With the directory there, its review of the token is remembered; without it, the sidecar remembers the members.
    const again = pod('p', '10.0.0.1', a.directory);
    await again.client.acquire('orders', 'publisher');
    await until(() => again.subscribersOf('orders').length === 1);
    const alone = new Pod('p', '10.0.0.1', undefined, cache);
    pods.push(alone);
    await alone.client.acquire('orders', 'publisher');
    expect(alone.subscribersOf('orders')).toEqual(['10.0.0.2:40123']);
    await expect(alone.client.acquire('never-seen', 'publisher')).rejects.toMatchObject({
      code: RpcCode.UNAVAILABLE,
      details: { reason: 'DIRECTORY_UNAVAILABLE' },
    });
  });

  it('does not forget the members of other replicas while the API server is away', async () => {
    const b = replica('b');
    const publisher = pod('p', '10.0.0.1');
    const subscriber = pod('s', '10.0.0.2', b.directory);
    await publisher.client.acquire('orders', 'publisher');
    await subscriber.client.acquire('orders', 'subscriber');
    await until(() => publisher.subscribersOf('orders').length === 1);
    cluster.away = true;
    now += 10 * kDirectoryDefaults.leaseMs;
    await sweep(a);
    expect(publisher.subscribersOf('orders')).toHaveLength(1);
    // When it is back, other replicas have a lease to renew theirs; one that never does loses its members then.
    await b.directory.close();
    cluster.away = false;
    await sweep(a);
    expect(publisher.subscribersOf('orders')).toHaveLength(1);
    now += kDirectoryDefaults.leaseMs + 2000;
    await until(() => publisher.subscribersOf('orders').length === 0);
  });

  it('keeps a member of its own whose stream broke while the API server is away: another replica may have refused its token', async () => {
    const publisher = pod('p', '10.0.0.1');
    const subscriber = pod('s', '10.0.0.2');
    await publisher.client.acquire('orders', 'publisher');
    await subscriber.client.acquire('orders', 'subscriber');
    await until(() => publisher.subscribersOf('orders').length === 1);
    cluster.away = true;
    subscriber.cut();
    now += 10 * kDirectoryDefaults.leaseMs;
    await sweep(a);
    expect(publisher.subscribersOf('orders')).toHaveLength(1);
    cluster.away = false;
    await sweep(a);
    now += kDirectoryDefaults.leaseMs + 2000;
    await until(() => publisher.subscribersOf('orders').length === 0);
  });

  it('takes nobody as gone when all replicas end without a word and begin anew', async () => {
    const publisher = pod('p', '10.0.0.1');
    const subscriber = pod('s', '10.0.0.2');
    await publisher.client.acquire('orders', 'publisher');
    await subscriber.client.acquire('orders', 'subscriber');
    await until(() => publisher.subscribersOf('orders').length === 1 && cluster.slices.size === 1);
    const seen: number[] = [];
    publisher.topics.on('change', () => seen.push(publisher.subscribersOf('orders').length));
    // The publisher comes back long before the subscriber does.
    [publisher, subscriber].forEach((each) => each.cut());
    await Promise.all(replicas.splice(0).map((each) => each.directory.close()));
    const next = replica('a-again');
    publisher.target = next.directory;
    await until(() => publisher.client.connected);
    now += 5000;
    await sweep(next);
    subscriber.target = next.directory;
    await until(() => next.directory.stats.registrations === 2);
    await sweep(next);
    expect(publisher.subscribersOf('orders')).toEqual(['10.0.0.2:40123']);
    expect(seen.filter((count) => count !== 1)).toEqual([]);
  });

  it('writes what it could not write while the API server was away', async () => {
    const subscriber = pod('s', '10.0.0.2');
    await until(() => subscriber.client.connected);
    cluster.away = true;
    await subscriber.client.acquire('orders', 'subscriber');
    await until(() => a.directory.stats.sliceFailures > 0);
    cluster.away = false;
    now += 3000;
    await until(() => cluster.slices.size === 1);
  });

  it('writes no sooner than a busy API server wants, whatever changes meanwhile', async () => {
    a.directory.topicSet(topicResource('trades'));
    const subscriber = pod('s', '10.0.0.2');
    await until(() => subscriber.client.connected);
    cluster.away = true;
    cluster.failure = new ApiError(429, 'TooManyRequests', 'PATCH /x: 429 TooManyRequests', 20_000);
    await subscriber.client.acquire('orders', 'subscriber');
    await until(() => a.directory.stats.sliceFailures === 1);
    now += 19_000;
    await subscriber.client.acquire('trades', 'subscriber');
    // Changes spread after 50 ms, sweeps are a second apart.
    await sweep(a);
    await sweep(a);
    expect(a.directory.stats.sliceFailures).toBe(1);
    now += 2000;
    await until(() => a.directory.stats.sliceFailures === 2);
    cluster.away = false;
    now += 20_000;
    await until(() => cluster.slices.size === 2);
  });

  it('counts the tokens that it refuses by reason', async () => {
    const stream = { send: () => true, end: () => undefined };
    const expired = tokenOf('x', 'shop', 'default', Date.now() - 1000);
    for (const token of [undefined, expired, expired]) {
      await expect(a.directory.admit(token, stream, new AbortController().signal)).rejects.toThrow(RpcError);
    }
    expect(a.directory.stats.tokensRefused).toEqual({ NO_TOKEN: 1, TOKEN_EXPIRED: 2 });
  });

  it('refuses what the topic does not allow, and takes it back when the topic changes', async () => {
    a.directory.namespaceSet('bank', {});
    const stranger = pod('x', '10.0.0.9', a.directory, undefined, 'bank');
    await expect(stranger.client.acquire('shop/orders', 'subscriber')).rejects.toMatchObject({
      code: RpcCode.NOT_FOUND,
    });
    const publisher = pod('p', '10.0.0.1');
    await publisher.client.acquire('orders', 'publisher');
    await expect(publisher.client.acquire('ordres', 'publisher')).rejects.toMatchObject({
      code: RpcCode.NOT_FOUND,
      details: { metadata: { nearest: 'orders' } },
    });
    a.directory.topicSet(topicResource('orders', 'shop', { allow: [{ publish: false, subscribe: true }] }));
    await until(() => publisher.revoked.length === 1);
    expect(publisher.revoked[0]?.error).toMatchObject({
      code: RpcCode.PERMISSION_DENIED,
      details: { reason: 'NOT_ALLOWED' },
    });
    a.directory.topicDeleted('shop', 'orders');
    await expect(publisher.client.acquire('orders', 'subscriber')).rejects.toMatchObject({
      code: RpcCode.NOT_FOUND,
    });
  });

  it('admits nobody by a selector before it knows the labels of its namespace, and then who matches', async () => {
    const others = { matchExpressions: [{ key: 'team', operator: 'NotIn' as const, values: ['bank'] }] };
    const allow = [{ namespaceSelector: others, publish: true, subscribe: true }];
    a.directory.topicSet(topicResource('orders', 'shop', { allow }));
    const [bank, mill] = ['bank', 'mill'].map((namespace, i) =>
      pod(namespace, `10.0.1.${i}`, a.directory, undefined, namespace),
    ) as [Pod, Pod];
    const open = ({ client }: Pod): Promise<void> => client.acquire('shop/orders', 'subscriber');
    for (const each of [bank, mill]) {
      await expect(open(each)).rejects.toMatchObject({
        code: RpcCode.FAILED_PRECONDITION,
        details: { reason: 'TOPIC_NOT_READY' },
      });
    }
    a.directory.namespaceSet('bank', { team: 'bank' });
    a.directory.namespaceSet('mill', { team: 'mill' });
    await expect(open(bank)).rejects.toMatchObject({ code: RpcCode.NOT_FOUND });
    await open(mill);
  });

  it('does not let a pod name an address that is not its own', async () => {
    cluster.addresses.set('thief', ['10.0.0.7']);
    const thief = new Pod('thief', '10.0.0.1', a.directory);
    pods.push(thief);
    await until(() => thief.client.lastReason.includes('10.0.0.1'));
    expect(thief.client.lastReason).toContain(
      'endpoint 10.0.0.1 is not of pod "shop/thief", which has 10.0.0.7',
    );
    expect(thief.client.connected).toBe(false);
  });

  it('ends a sidecar that floods, and serves the others', async () => {
    const b = replica('b', { requestsPerSecond: 5 });
    const flood = pod('flood', '10.0.0.1', b.directory);
    const calm = pod('calm', '10.0.0.2', b.directory);
    await until(() => flood.client.connected && calm.client.connected);
    await calm.client.acquire('orders', 'subscriber');
    const stream = (flood.client as unknown as { stream: { send(request: object): void } }).stream;
    for (let i = 0; i < 100; i++) {
      stream.send({ heartbeat: {} });
    }
    await until(() => flood.client.lastReason.includes('more than 5 requests a second'));
    await calm.client.acquire('orders', 'publisher');
    expect(calm.subscribersOf('orders')).toEqual(['10.0.0.2:40123']);
  });

  it('limits the registrations of a pod and names the limit', async () => {
    const b = replica('b', { maxRegistrationsPerPod: 1 });
    const greedy = pod('greedy', '10.0.0.1', b.directory);
    await greedy.client.acquire('orders', 'subscriber');
    await expect(greedy.client.acquire('orders', 'publisher')).rejects.toMatchObject({
      code: RpcCode.RESOURCE_EXHAUSTED,
      message: expect.stringContaining('has 1 registrations'),
    });
  });

  it('splits many members into slices of 100', async () => {
    const many = Array.from({ length: 130 }, (_, i) =>
      pod(`m${i}`, `10.1.${Math.floor(i / 100)}.${i % 100}`),
    );
    await Promise.all(many.map((each) => each.client.acquire('orders', 'subscriber')));
    const sizes = (): number[] =>
      [...cluster.slices.values()].map((each) => each.spec.members.length).sort((x, y) => y - x);
    await until(() => sizes().join() === '100,30');
    many.slice(0, 60).forEach((each) => each.client.release('orders', 'subscriber'));
    await until(() => sizes().join() === '70');
  });
});
