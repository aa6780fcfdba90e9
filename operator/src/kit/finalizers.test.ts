// SPDX-License-Identifier: Apache-2.0
// Finalizers: put beside those of others, found, and taken away, each only from the version that was seen.
import type { KubeObject } from '../api';
import { addFinalizer, hasFinalizer, removeFinalizer } from './finalizers';
import type { ResourceClient } from './resource';

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
