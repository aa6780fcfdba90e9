// SPDX-License-Identifier: Apache-2.0
// All controllers at work behind a storm, while users make, change and delete things: at the end every status is what it should be, and no more is written.
// With OUTRIGGER_TEST_KUBECONFIG the server behind the storm is a real one.
import {
  kInjectLabel,
  kSidecarProfile,
  kTopic,
  kTopicEndpointSlice,
  type KubeObject,
  type SidecarProfile,
  type Topic,
  type TopicEndpointSlice,
} from '../api';
import { kSystemClock, timeText, type Random } from '../base/clock';
import { cacheList, makeCaches, type Caches } from '../caches';
import { isConflict, isNotFound } from '../kit/api_error';
import { sameJson } from '../kit/conditions';
import { Controller } from '../kit/controller';
import { EventRecorder, kEvents } from '../kit/events';
import { kPods, type Pod } from '../kit/kinds';
import { keyOf, resource, ResourceClient } from '../kit/resource';
import { kCalm, kStorm } from '../testing/chaos_proxy';
import { pick, seeded, testSeeds } from '../testing/seeded';
import { kSilent, TestCluster } from '../testing/test_cluster';
import { profileController } from './profile_controller';
import { profileStatuses } from './profile_status';
import { sliceController } from './slice_controller';
import { assignStreamIds } from './stream_ids';
import { topicController } from './topic_controller';
import { topicStatus } from './topic_status';

jest.setTimeout(60_000); // a storm on a machine that others use too

describe('the controllers', () => {
  let cluster: TestCluster;
  let caches: Caches;
  let controllers: readonly Controller[];
  let events: EventRecorder;
  let expired: number;
  let namespace: string;

  async function begin(seed: number): Promise<void> {
    cluster = await TestCluster.start(seeded(seed));
    namespace = await cluster.namespace('controllers', { team: 'a' });
    const { context } = cluster;
    caches = makeCaches(context);
    expired = 0;
    events = new EventRecorder({
      api: cluster.stormy,
      controller: 'outrigger.dev/operator',
      instance: 'test',
      clock: kSystemClock,
      metrics: cluster.metrics.events,
      log: kSilent,
    });
    controllers = [
      topicController(caches, events, kSystemClock),
      profileController(caches, events, kSystemClock),
      sliceController(caches, kSystemClock, (members) => (expired += members)),
    ].map((definition) => new Controller(context, definition));
  }

  async function run(): Promise<void> {
    for (const { informer } of cacheList(caches)) informer.start();
    await Promise.all(controllers.map((each) => each.start()));
  }

  afterEach(async () => {
    await Promise.all(controllers.map((each) => each.stop()));
    await events.stop(0);
    for (const { informer } of cacheList(caches)) await informer.stop();
    await cluster.stop();
  });

  const client = <T extends KubeObject>(of: Parameters<typeof resource<T>>[0]): ResourceClient<T> =>
    new ResourceClient(cluster.direct, resource<T>(of));
  const topics = (): ResourceClient<Topic> => client<Topic>(kTopic);
  const profiles = (): ResourceClient<SidecarProfile> => client<SidecarProfile>(kSidecarProfile);
  const slices = (): ResourceClient<TopicEndpointSlice> => client<TopicEndpointSlice>(kTopicEndpointSlice);
  const pods = (): ResourceClient<Pod> => client<Pod>(kPods);
  const listed = async <T extends KubeObject>(of: ResourceClient<T>): Promise<readonly T[]> =>
    (await of.list({ namespace })).items;

  const sliceOf = (
    topic: string,
    name: string,
    members: readonly [id: string, ageSeconds: number][],
  ): TopicEndpointSlice => ({
    metadata: { namespace, name },
    spec: {
      topic,
      members: members.map(([id, ageSeconds]) => ({
        id,
        role: 'Subscriber',
        namespace,
        pod: id,
        podUid: id,
        node: 'n',
        endpoints: [],
        lease: { renewTime: timeText(Date.now() - ageSeconds * 1000), durationSeconds: 60 },
      })),
    },
  });

  async function eventually(check: () => Promise<boolean>): Promise<void> {
    while (!(await check())) await new Promise((resolve) => setTimeout(resolve, 10));
  }

  const specOf = (spec: object): never => spec as never;

  /** One thing that a user, a kubelet or the directory might do. */
  async function act(random: Random): Promise<void> {
    const name = pick(random, ['a', 'b', 'c', 'd', 'e']);
    const named = { metadata: { namespace, name } };
    const what = random();
    if (what < 0.25)
      await topics().create({
        ...named,
        spec: specOf(random() < 0.5 ? { streamId: pick(random, [1, 2, 3]) } : {}),
      });
    else if (what < 0.35) await topics().delete({ namespace, name });
    else if (what < 0.45)
      await topics().mergePatch(
        { namespace, name },
        { spec: { allow: pick(random, [null, [], [{ publish: true }]]) } },
      );
    else if (what < 0.55)
      await profiles().create({
        ...named,
        spec: specOf({ podSelector: { matchLabels: { app: pick(random, ['x', 'y']) } } }),
      });
    else if (what < 0.6) await profiles().delete({ namespace, name });
    else if (what < 0.65)
      await profiles().mergePatch({ namespace, name }, { spec: { default: random() < 0.5 } });
    else if (what < 0.75) {
      const labels = { [kInjectLabel]: 'true', app: pick(random, ['x', 'y', 'z']) };
      await pods().create({
        metadata: { namespace, name, labels },
        // Never scheduled, so that it goes as soon as it is deleted.
        spec: {
          containers: [{ name: 'app', image: 'app' }],
          schedulingGates: [{ name: 'outrigger.dev/test' }],
        },
      } as Pod);
    } else if (what < 0.8) await pods().delete({ namespace, name });
    else if (what < 0.95)
      await slices().create(
        sliceOf(pick(random, ['a', 'b', 'c', 'd', 'e']), name, [
          ['m1', 0],
          [`n${Math.floor(random() * 9)}`, 0],
        ]),
      );
    else await slices().delete({ namespace, name });
  }

  /** What is not as it should be for what the server holds now; empty when all is. */
  async function differences(): Promise<string[]> {
    const [nowTopics, nowSlices, nowProfiles, nowPods, allTopics] = await Promise.all([
      listed(topics()),
      listed(slices()),
      listed(profiles()),
      listed(pods()),
      topics().list({}),
    ]);
    const claims = assignStreamIds(allTopics.items);
    const namespaces = [{ name: namespace, labels: { team: 'a' } }];
    const wrong: string[] = [];
    const compare = (what: string, is: unknown, shouldBe: unknown): void => {
      if (!sameJson(is, shouldBe))
        wrong.push(`${what} is ${JSON.stringify(is)}, not ${JSON.stringify(shouldBe)}`);
    };
    for (const topic of nowTopics) {
      const claim = claims.get(keyOf(topic));
      if (claim === undefined) continue; // made between two of the lists
      const mine = nowSlices.filter(({ spec }) => spec.topic === topic.metadata.name);
      const wanted = topicStatus({ topic, claim, slices: mine, namespaces }, Date.now());
      compare(`topic ${topic.metadata.name}`, topic.status, wanted);
    }
    const statuses = profileStatuses(nowProfiles, nowPods, Date.now());
    for (const { metadata, status } of nowProfiles) {
      compare(`profile ${metadata.name}`, status, statuses.get(metadata.name ?? ''));
    }
    const names = nowTopics.map(({ metadata }) => metadata.name);
    for (const { metadata, spec } of nowSlices) {
      if (!names.includes(spec.topic))
        wrong.push(`slice ${metadata.name} of topic ${spec.topic}, which is gone`);
    }
    return wrong;
  }

  /** Resolves when nothing differs any more; tells what does when that takes for ever. */
  async function settled(): Promise<void> {
    const hopeless = Date.now() + 40_000;
    for (let wrong = await differences(); wrong.length > 0; wrong = await differences()) {
      if (Date.now() > hopeless) throw new Error(`never as it should be:\n${wrong.join('\n')}`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  it('give ids, count members, and tell a conflict by condition and event', async () => {
    await begin(1);
    await topics().create({ metadata: { namespace, name: 'quotes' }, spec: specOf({ streamId: 7 }) });
    await slices().create(
      sliceOf('quotes', 'quotes-0', [
        ['m1', 0],
        ['m2', 0],
      ]),
    );
    await run();
    await eventually(
      async () => (await topics().get({ namespace, name: 'quotes' })).status?.subscribers === 2,
    );
    await topics().create({ metadata: { namespace, name: 'trades' }, spec: specOf({ streamId: 7 }) });
    await eventually(async () => (await topics().get({ namespace, name: 'trades' })).status !== undefined);
    const trades = await topics().get({ namespace, name: 'trades' });
    expect(trades.status).toMatchObject({
      conditions: [
        { type: 'Ready', reason: 'StreamIdConflict' },
        { type: 'Conflict', status: 'True' },
      ],
    });
    await eventually(async () => {
      await events.flushed();
      const { items } = await client<KubeObject & { reason?: string }>(kEvents).list({ namespace });
      return ['Ready', 'StreamIdConflict'].every((reason) => items.some((each) => each.reason === reason));
    });
    // The id is free again: who waited for it gets it.
    await topics().delete({ namespace, name: 'quotes' });
    await eventually(async () => (await topics().get({ namespace, name: 'trades' })).status?.streamId === 7);
  });

  it('write nothing when all is as it should be', async () => {
    await begin(1);
    await topics().create({ metadata: { namespace, name: 'quotes' }, spec: specOf({}) });
    await profiles().create({ metadata: { namespace, name: 'p' }, spec: specOf({}) });
    await run();
    await settled();
    const writes = (): number =>
      cluster.fake?.requests.filter((each) => each.startsWith('PATCH')).length ?? 0;
    await Promise.all(controllers.map((each) => each.settled()));
    const before = writes();
    await topics().mergePatch({ namespace, name: 'quotes' }, { metadata: { labels: { a: 'b' } } });
    await eventually(() =>
      Promise.resolve(caches.topics.store.get(`${namespace}/quotes`)?.metadata.labels?.['a'] === 'b'),
    );
    await Promise.all(controllers.map((each) => each.settled()));
    expect(writes() - before).toBe(cluster.fake === undefined ? 0 : 1); // the label itself
  });

  it('remove members whose lease is over, and the slice with the last of them', async () => {
    await begin(1);
    await topics().create({ metadata: { namespace, name: 'quotes' }, spec: specOf({}) });
    const short = (members: readonly [string, number][], name: string): TopicEndpointSlice => {
      const made = sliceOf('quotes', name, members);
      return {
        ...made,
        spec: {
          ...made.spec,
          members: made.spec.members.map((each, i) => ({
            ...each,
            lease: { ...each.lease, durationSeconds: i === 0 ? 1 : 3600 },
          })),
        },
      };
    };
    await slices().create(
      short(
        [
          ['gone', 10],
          ['stays', 0],
        ],
        'quotes-0',
      ),
    );
    await slices().create(short([['alone', 10]], 'quotes-1'));
    await run();
    await eventually(async () => {
      const left = (await listed(slices())).map(({ metadata, spec }) => [
        metadata.name,
        spec.members.map(({ id }) => id),
      ]);
      return sameJson(left, [['quotes-0', ['stays']]]);
    });
    await eventually(() => Promise.resolve(expired === 2));
  });

  it('remove the slices of a topic that is gone', async () => {
    await begin(1);
    await topics().create({ metadata: { namespace, name: 'quotes' }, spec: specOf({}) });
    await slices().create(sliceOf('quotes', 'quotes-0', [['m', 0]]));
    await slices().create(sliceOf('never-there', 'orphan', [['m', 0]]));
    await run();
    await eventually(async () =>
      sameJson(
        (await listed(slices())).map(({ metadata }) => metadata.name),
        ['quotes-0'],
      ),
    );
    await topics().delete({ namespace, name: 'quotes' });
    await eventually(async () => (await listed(slices())).length === 0);
  });

  it.each(testSeeds(4))('make everything as it should be after a storm (seed %d)', async (seed) => {
    await begin(seed);
    cluster.chaos.faults = kStorm;
    const random = seeded(seed + 1);
    const running = run();
    // Longer, if need be: a storm in which a fault never struck shows nothing of it.
    const allStruck = (): boolean => cluster.chaos.struck.size === Object.keys(kStorm).length;
    for (let i = 0; i < 150 || !allStruck(); i++) {
      await act(random).catch((error: unknown) => {
        if (!isNotFound(error) && !isConflict(error)) throw error;
      });
      if (random() < 0.2) await new Promise((resolve) => setTimeout(resolve, 10));
      if (random() < 0.02) cluster.fake?.storage.compact();
    }
    await running;
    cluster.chaos.faults = kCalm;
    cluster.chaos.cutAll();
    await settled();
  });
});
