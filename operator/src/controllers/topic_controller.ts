// SPDX-License-Identifier: Apache-2.0
// Gives each Topic its stream id, and says in its status who is there and what is wrong with it.
import { kGroup, type Topic } from '../api';
import { streamIdsOf, topicKeyOf, type Caches } from '../caches';
import type { Clock } from '../base/clock';
import { source, type ControllerDefinition } from '../kit/controller';
import type { EventRecorder } from '../kit/events';
import type { Permission } from '../kit/permissions';
import { keyOf } from '../kit/resource';
import { sidesOf, type Change } from '../kit/store';
import { writeStatus } from './status_writer';
import { assignStreamIds, type Claim } from './stream_ids';
import { topicStatus } from './topic_status';

export const kTopicPermissions: readonly Permission[] = [
  { group: kGroup, resource: 'topics/status', verbs: ['patch'] },
];

export function topicController(
  { topics, slices, namespaces }: Caches,
  events: EventRecorder,
  clock: Clock,
): ControllerDefinition {
  let assigned: { readonly revision: number; readonly claims: ReadonlyMap<string, Claim> } | undefined;
  const claims = (): ReadonlyMap<string, Claim> => {
    if (assigned?.revision !== topics.store.revision) {
      assigned = { revision: topics.store.revision, claims: assignStreamIds(topics.store.list()) };
    }
    return assigned.claims;
  };
  /** The topic itself, and others that want an id which it has or had. */
  const concerned = (change: Change<Topic>): string[] => {
    const ids = new Set(sidesOf(change).flatMap(streamIdsOf));
    const rivals = [...ids].flatMap((id) => topics.store.by('streamId', id).map(keyOf));
    return [...new Set([...sidesOf(change).map(keyOf), ...rivals])];
  };
  return {
    name: 'topic',
    permissions: kTopicPermissions,
    sources: [
      source(topics, concerned),
      source(slices, (change) => [...new Set(sidesOf(change).map(topicKeyOf))]),
      source(namespaces, () =>
        topics.store
          .list()
          .filter(({ spec }) => spec.allow?.some(({ namespaceSelector }) => namespaceSelector !== undefined))
          .map(keyOf),
      ),
    ],
    initialKeys: () => topics.store.keys(),
    reconcile: async (key, signal) => {
      const topic = topics.store.get(key);
      const claim = claims().get(key);
      if (topic === undefined || claim === undefined) {
        return undefined;
      }
      const observed = {
        topic,
        claim,
        slices: slices.store.by('topic', key),
        namespaces: namespaces.store
          .list()
          .map(({ metadata }) => ({ name: metadata.name ?? '', labels: metadata.labels ?? {} })),
      };
      await writeStatus(topics, events, topic, topicStatus(observed, clock.wallMs()), signal);
      return undefined;
    },
  };
}
