// SPDX-License-Identifier: Apache-2.0
// Which Topic has which stream id. A pure function of all Topics, since an id must be unique among them: one sidecar may open topics of several
// namespaces, on one endpoint, and there the id alone tells them apart.
import { kMaxAssignedStreamId, type Topic } from '../api';
import { keyOf } from '../kit/resource';

export type Claim =
  | { readonly kind: 'holds'; readonly streamId: number }
  | { readonly kind: 'conflict'; readonly streamId: number; readonly holder: string };

/** FNV-1a over the key, in 1 to 2^31-1: the same topic gets the same id in every cluster, as long as it is free. */
export function preferredStreamId(key: string): number {
  let hash = 0x811c9dc5;
  for (const byte of Buffer.from(key, 'utf8')) {
    hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  }
  return (hash % kMaxAssignedStreamId) + 1;
}

function nextFree(from: number, isTaken: (streamId: number) => boolean): number {
  let streamId = from;
  while (isTaken(streamId)) {
    streamId = (streamId % kMaxAssignedStreamId) + 1;
  }
  return streamId;
}

/** The id that the topic's status already says, if its spec doesn't contradict. */
function establishedId({ spec, status }: Topic): number | undefined {
  const streamId = status?.streamId;
  return spec.streamId === undefined || spec.streamId === streamId ? streamId : undefined;
}

function byAge(left: Topic, right: Topic): number {
  const born = (topic: Topic): string => topic.metadata.creationTimestamp ?? '';
  const [a, b] = [born(left) + keyOf(left), born(right) + keyOf(right)];
  return a < b ? -1 : a > b ? 1 : 0;
}

/**
 * Claims by the topics' keys. Who has an id keeps it, since streams may be open; then come ids that specs ask for, then those without;
 * the older topic first each time. Equal topics give equal claims, in whatever order they are listed.
 */
export function assignStreamIds(topics: readonly Topic[]): ReadonlyMap<string, Claim> {
  const claims = new Map<string, Claim>();
  const holders = new Map<number, string>();
  const take = (topic: Topic, streamId: number): void => {
    holders.set(streamId, keyOf(topic));
    claims.set(keyOf(topic), { kind: 'holds', streamId });
  };
  const sorted = [...topics].sort(byAge);
  for (const topic of sorted) {
    const streamId = establishedId(topic);
    if (streamId !== undefined && !holders.has(streamId)) {
      take(topic, streamId);
    }
  }
  const rest = sorted.filter((topic) => !claims.has(keyOf(topic)));
  const isTaken = (streamId: number): boolean => holders.has(streamId);
  for (const topic of rest) {
    const { streamId } = topic.spec;
    if (streamId !== undefined && !isTaken(streamId)) {
      take(topic, streamId);
    }
  }
  for (const topic of rest) {
    if (topic.spec.streamId === undefined) {
      take(topic, nextFree(preferredStreamId(keyOf(topic)), isTaken));
    }
  }
  for (const topic of rest) {
    const { streamId } = topic.spec;
    const holder = streamId === undefined ? undefined : holders.get(streamId);
    if (streamId !== undefined && holder !== undefined && holder !== keyOf(topic)) {
      claims.set(keyOf(topic), { kind: 'conflict', streamId, holder });
    }
  }
  return claims;
}
