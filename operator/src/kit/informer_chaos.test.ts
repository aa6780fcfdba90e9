// SPDX-License-Identifier: Apache-2.0
// Caches under a storm: whatever is cut, lost, doubled or refused on the way, they end up as the server is.
// With OUTRIGGER_TEST_KUBECONFIG the server behind the storm is a real one; OUTRIGGER_TEST_SEED replays a run.
import { kTopic, type Topic } from '../api';
import { pick, seeded, testSeeds } from '../testing/seeded';
import { kCalm, kStorm, type Faults } from '../testing/chaos_proxy';
import { TestCluster } from '../testing/test_cluster';
import { isConflict, isNotFound } from './api_error';
import { Informer } from './informer';
import { keyOf, resource, ResourceClient } from './resource';

const kTopics = resource<Topic>(kTopic);

/** Resolves when the check holds, asked again at each change and every few milliseconds; the test's own time-out bounds it. */
async function eventually(check: () => Promise<boolean> | boolean): Promise<void> {
  while (!(await check())) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

function contents(topics: readonly Topic[]): Record<string, string> {
  return Object.fromEntries(
    topics.map((topic) => [keyOf(topic), `${topic.metadata.uid} ${topic.metadata.resourceVersion}`]),
  );
}

jest.setTimeout(60_000); // a storm on a machine that others use too

describe('an informer', () => {
  let cluster: TestCluster;
  let topics: ResourceClient<Topic>;
  let informer: Informer<Topic, 'stream'>;
  let namespace: string;

  async function begin(seed: number): Promise<void> {
    cluster = await TestCluster.start(seeded(seed));
    topics = new ResourceClient(cluster.direct, kTopics);
    namespace = await cluster.namespace('chaos');
    informer = new Informer(
      cluster.context,
      kTopics,
      { stream: ({ spec }) => [String(spec.streamId)] },
      { namespace },
    );
  }

  afterEach(async () => {
    await informer.stop();
    await cluster.stop();
  });

  function topic(name: string, streamId: number): Topic {
    return { metadata: { namespace, name }, spec: { delivery: 'Reliable', streamId } };
  }

  /** What a user does: makes, changes and deletes topics. */
  async function disturb(random: () => number, times: number): Promise<void> {
    for (let i = 0; i < times; i++) {
      const name = pick(random, ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h']);
      try {
        const what = random();
        if (what < 0.5) await topics.create(topic(name, Math.floor(random() * 4)));
        else if (what < 0.75) await topics.delete({ namespace, name });
        else await topics.mergePatch({ namespace, name }, { metadata: { labels: { round: `r${i}` } } });
      } catch (error) {
        if (!isNotFound(error) && !isConflict(error)) throw error;
      }
      if (random() < 0.3) await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  async function isLikeServer(): Promise<boolean> {
    const { items } = await topics.list({ namespace });
    return (
      JSON.stringify(contents([...informer.store.list()].sort(byName))) ===
      JSON.stringify(contents([...items].sort(byName)))
    );
  }

  const byName = (left: Topic, right: Topic): number => (keyOf(left) < keyOf(right) ? -1 : 1);

  it('reads long lists page by page', async () => {
    await begin(1);
    for (const name of ['a', 'b', 'c', 'd', 'e', 'f', 'g']) await topics.create(topic(name, 1));
    informer.start();
    await informer.synced;
    expect(informer.store.size).toBe(7); // with pages of 3
  });

  it('is not synced before the whole list is there', async () => {
    await begin(1);
    cluster.chaos.faults = { ...kCalm, serverError: 1 };
    informer.start();
    await eventually(() => informer.problem !== undefined);
    expect([informer.hasSynced, informer.problem]).toEqual([
      false,
      expect.stringContaining('500 InternalError'),
    ]);
    cluster.chaos.faults = kCalm;
    await informer.synced;
    await eventually(() => informer.problem === undefined);
  });

  it('resumes a cut watch where it ended, without another list', async () => {
    await begin(1);
    const context = cluster.context;
    informer = new Informer(
      { ...context, reflectorTimes: { ...context.reflectorTimes, relistMs: 3_600_000, watchSeconds: 300 } },
      kTopics,
      { stream: () => [] },
      { namespace },
    );
    informer.start();
    await informer.synced;
    for (const name of ['a', 'b', 'c']) {
      cluster.chaos.cutAll();
      await topics.create(topic(name, 1));
      await eventually(() => informer.store.get(`${namespace}/${name}`) !== undefined);
    }
    expect(await cluster.metric('outrigger_operator_watch_lists_total')).toBe(1);
  });

  it('notices that the server no longer speaks', async () => {
    await begin(1);
    informer.start();
    await informer.synced;
    cluster.chaos.faults = { ...kCalm, dropEvent: 1 };
    await topics.create(topic('a', 1));
    // Nothing comes over the watch any more, and the list that comes by time shows it all the same.
    await eventually(() => informer.store.size === 1);
  });

  /** Goes on until each of the faults struck at least once: one that never did shows nothing. */
  async function disturbUntilStruck(random: () => number, faults: Partial<Faults>): Promise<void> {
    await eventually(async () => {
      const missing = Object.keys(faults).some((each) => !cluster.chaos.struck.has(each as keyof Faults));
      if (missing) await disturb(random, 3);
      return !missing;
    });
  }

  it.each<[string, Partial<Faults>]>([
    ['requests that are lost', { cutBefore: 0.5 }],
    ['answers that are lost', { cutAfter: 0.5 }],
    ['500', { serverError: 0.5 }],
    ['429', { tooMany: 0.5 }],
    ['doubled events', { duplicateEvent: 0.8 }],
    ['half a line', { halfLine: 0.3 }],
    ['cut watches', { cutWatch: 0.5 }],
    ['410 everywhere', { gone: 0.7, errorEvent: 0.3 }],
    ['401', { unauthorized: 0.5 }],
    ['slow and dropped events', { slowEvent: 0.5, dropEvent: 0.3 }],
  ])('ends up like the server after %s', async (_, faults) => {
    await begin(7);
    cluster.chaos.faults = { ...kCalm, ...faults };
    cluster.chaos.retryAfterSeconds = 0;
    informer.start();
    await disturb(seeded(8), 60);
    await disturbUntilStruck(seeded(9), faults);
    await eventually(isLikeServer);
    expect([...cluster.chaos.struck.keys()].sort()).toEqual(Object.keys(faults).sort());
  });

  it.each(testSeeds(4))(
    'ends up like the server after a storm, and its listeners saw a possible history (seed %d)',
    async (seed) => {
      await begin(seed);
      cluster.chaos.faults = kStorm;
      const alive = new Map<string, string>();
      const wrong: string[] = [];
      informer.store.onChange((change) => {
        const before = change.kind === 'added' ? undefined : change.before;
        const after = change.kind === 'deleted' ? undefined : change.after;
        const key = keyOf((after ?? before) as Topic);
        // Each change begins where the one before ended, and an object's versions only grow.
        if (alive.get(key) !== before?.metadata.resourceVersion) wrong.push(`${change.kind} ${key}`);
        if (
          before !== undefined &&
          after !== undefined &&
          Number(after.metadata.resourceVersion) <= Number(before.metadata.resourceVersion)
        ) {
          wrong.push(`${key} went back`);
        }
        if (after === undefined) alive.delete(key);
        else alive.set(key, after.metadata.resourceVersion ?? '');
      });
      informer.start();
      const random = seeded(seed + 1);
      for (let round = 0; round < 5; round++) {
        await disturb(random, 30);
        if (random() < 0.5) cluster.fake?.storage.compact();
        if (random() < 0.5) cluster.chaos.cutAll();
      }
      await disturbUntilStruck(random, kStorm);
      await eventually(isLikeServer);
      expect(wrong).toEqual([]);
      for (const stream of ['0', '1', '2', '3']) {
        const found = informer.store.by('stream', stream).map(keyOf).sort();
        expect(found).toEqual(
          informer.store
            .list()
            .filter(({ spec }) => String(spec.streamId) === stream)
            .map(keyOf)
            .sort(),
        );
      }
    },
  );
});
