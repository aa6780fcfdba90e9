// SPDX-License-Identifier: Apache-2.0
// Removes members whose lease is over from TopicEndpointSlices, and slices that nobody needs: empty ones, and those whose Topic is gone.
import { kGroup, type TopicEndpointSlice } from '../api';
import { topicKeyOf, type Caches } from '../caches';
import type { Clock } from '../base/clock';
import { isConflict, isNotFound } from '../kit/api_error';
import { source, type ControllerDefinition } from '../kit/controller';
import type { Permission } from '../kit/permissions';
import { keyOf, nameOfKey } from '../kit/resource';
import { objectOf } from '../kit/store';
import type { Again } from '../kit/work_queue';
import { judgeLeases } from './slice_leases';

/** Until a cache that works has caught up for long. */
const kUncachedMs = 3000;

export const kSlicePermissions: readonly Permission[] = [
  { group: kGroup, resource: 'topics', verbs: ['get'] },
  { group: kGroup, resource: 'topicendpointslices', verbs: ['update', 'delete'] },
];

/** `expired` is told how many members were removed, for a metric. */
export function sliceController(
  { topics, slices }: Caches,
  clock: Clock,
  expired: (members: number) => void,
): ControllerDefinition {
  let sinceMs: number | undefined;

  /** The cache of topics may be behind that of slices: only the server knows that a topic is not there. */
  async function topicOf(
    slice: TopicEndpointSlice,
    signal: AbortSignal,
  ): Promise<'cached' | 'uncached' | 'gone'> {
    const key = topicKeyOf(slice);
    if (topics.store.get(key) !== undefined) {
      return 'cached';
    }
    try {
      await topics.client.get(nameOfKey(key), signal);
      return 'uncached';
    } catch (error) {
      if (isNotFound(error)) {
        return 'gone';
      }
      throw error;
    }
  }

  async function remove(slice: TopicEndpointSlice, signal: AbortSignal): Promise<void> {
    const { name = '', namespace, uid, resourceVersion } = slice.metadata;
    try {
      // In the version that was judged: a member that came meanwhile must not go with it.
      await slices.client.delete({ namespace, name }, { uid, resourceVersion }, signal);
    } catch (error) {
      if (!isNotFound(error) && !isConflict(error)) {
        throw error;
      }
      // Gone already, or changed: then the change brings the slice back here.
    }
  }

  async function reconcile(key: string, signal: AbortSignal): Promise<Again | undefined> {
    const slice = slices.store.get(key);
    if (slice === undefined) {
      return undefined;
    }
    const nowMs = clock.wallMs();
    sinceMs ??= nowMs;
    const topic = await topicOf(slice, signal);
    if (topic === 'gone') {
      await remove(slice, signal);
      return undefined;
    }
    const verdict = judgeLeases(slice, nowMs, sinceMs);
    if (verdict.kept.length === 0) {
      await remove(slice, signal);
      expired(verdict.expired.length);
      return undefined;
    }
    if (verdict.expired.length > 0) {
      // With the resourceVersion of the cache in its metadata: refused when the directory wrote meanwhile.
      const written = await slices.client.update(
        { ...slice, spec: { ...slice.spec, members: [...verdict.kept] } },
        signal,
      );
      slices.store.wrote(written);
      expired(verdict.expired.length);
    }
    const nextMs = verdict.nextMs ?? Infinity;
    // A topic that the cache has not seen may go without the cache ever seeing it: no change would tell.
    return { afterMs: Math.max(1, Math.min(nextMs - nowMs, topic === 'uncached' ? kUncachedMs : Infinity)) };
  }

  return {
    name: 'slice',
    permissions: kSlicePermissions,
    sources: [
      source(slices, (change) => (change.kind === 'deleted' ? [] : [keyOf(objectOf(change))])),
      source(topics, (change) =>
        change.kind === 'deleted' ? slices.store.by('topic', keyOf(change.before)).map(keyOf) : [],
      ),
    ],
    initialKeys: () => {
      sinceMs = clock.wallMs();
      return slices.store.keys();
    },
    reconcile,
  };
}
