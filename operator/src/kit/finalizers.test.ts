// SPDX-License-Identifier: Apache-2.0
// Finalizers: put beside those of others, found, and taken away, each only from the version that was seen.
import { kTopic, type KubeObject, type Topic } from '../api';
import { seeded } from '../testing/seeded';
import { TestCluster } from '../testing/test_cluster';
import { addFinalizer, hasFinalizer, isBeingDeleted, removeFinalizer } from './finalizers';
import { resource, ResourceClient } from './resource';

const kOurs = 'outrigger.dev/cleanup';

function object(more: Partial<KubeObject['metadata']> = {}): KubeObject {
  return { metadata: { namespace: 'shop', name: 'a', resourceVersion: '7', ...more } };
}

/** Applies merge patches of metadata as the API server does. */
function client(of: KubeObject): {
  readonly client: ResourceClient<KubeObject>;
  readonly mergePatch: jest.Mock;
} {
  const mergePatch = jest.fn((_name: object, patch: { metadata: object }) =>
    Promise.resolve({ metadata: { ...of.metadata, ...patch.metadata } }),
  );
  return { client: { mergePatch } as unknown as ResourceClient<KubeObject>, mergePatch };
}

describe('a finalizer', () => {
  it('is added beside those of others, only to the version that was seen', async () => {
    const before = object({ finalizers: ['theirs'] });
    const { client: api, mergePatch } = client(before);
    const after = await addFinalizer(api, before, kOurs);
    expect(after.metadata.finalizers).toEqual(['theirs', kOurs]);
    const conditional: unknown = expect.objectContaining({ resourceVersion: '7' });
    expect(mergePatch).toHaveBeenCalledWith(expect.anything(), { metadata: conditional }, undefined);
  });

  it.each([
    ['it is there', object({ finalizers: [kOurs] })],
    ['the object is being deleted', object({ deletionTimestamp: '2026-06-01T00:00:00Z' })],
  ])('is not added when %s', async (_, before) => {
    const { client: api, mergePatch } = client(before);
    expect(await addFinalizer(api, before, kOurs)).toBe(before);
    expect(mergePatch).not.toHaveBeenCalled();
  });

  it('is removed alone, and once', async () => {
    const before = object({ finalizers: ['theirs', kOurs] });
    const { client: api, mergePatch } = client(before);
    const after = await removeFinalizer(api, before, kOurs);
    expect(after.metadata.finalizers).toEqual(['theirs']);
    expect(hasFinalizer(after, kOurs)).toBe(false);
    await removeFinalizer(api, after, kOurs);
    expect(mergePatch).toHaveBeenCalledTimes(1);
  });
});

describe('an object with a finalizer', () => {
  let cluster: TestCluster;
  beforeEach(async () => {
    cluster = await TestCluster.start(seeded(1));
  });
  afterEach(() => cluster.stop());

  it('outlives its deletion until the last finalizer is removed, and an old version changes none', async () => {
    const topics = new ResourceClient<Topic>(cluster.direct, resource<Topic>(kTopic));
    const key = { namespace: await cluster.namespace('finalizers'), name: 'quotes' };
    const made = await topics.create({ metadata: key, spec: {} as Topic['spec'] });
    const held = await addFinalizer(topics, made, kOurs);
    await expect(addFinalizer(topics, made, 'outrigger.dev/other')).rejects.toMatchObject({ status: 409 });

    await topics.delete(key);
    const leaving = await topics.get(key);
    expect(leaving.metadata.finalizers).toEqual([kOurs]);
    expect(isBeingDeleted(leaving)).toBe(true);
    await expect(removeFinalizer(topics, held, kOurs)).rejects.toMatchObject({ status: 409 });
    await removeFinalizer(topics, leaving, kOurs);
    await expect(topics.get(key)).rejects.toMatchObject({ status: 404 });
  });
});
