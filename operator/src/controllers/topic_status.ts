// SPDX-License-Identifier: Apache-2.0
// What a Topic's status should be. A pure function of what was observed.
import type { Topic, TopicEndpointSlice, TopicStatus } from '../api';
import { judged, type Verdict } from '../kit/conditions';
import type { Claim } from './stream_ids';
import { someoneMay, type NamespaceLabels } from './topic_access';

export interface ObservedTopic {
  readonly topic: Topic;
  readonly claim: Claim;
  readonly slices: readonly TopicEndpointSlice[];
  readonly namespaces: readonly NamespaceLabels[];
}

function conflictVerdict(claim: Claim): Verdict {
  return claim.kind === 'conflict'
    ? {
        type: 'Conflict',
        status: 'True',
        reason: 'StreamIdTaken',
        message: `streamId ${claim.streamId} is taken by Topic ${claim.holder}; delete this Topic and make it again with another streamId, or without one`,
      }
    : {
        type: 'Conflict',
        status: 'False',
        reason: 'NoConflict',
        message: 'no other Topic has this stream id',
      };
}

function readyVerdict({ topic, claim, namespaces }: ObservedTopic): Verdict {
  const no = (reason: string, message: string): Verdict => ({
    type: 'Ready',
    status: 'False',
    reason,
    message,
  });
  if (claim.kind === 'conflict') {
    return no('StreamIdConflict', conflictVerdict(claim).message);
  }
  const publish = someoneMay(topic, 'publish', namespaces);
  const subscribe = someoneMay(topic, 'subscribe', namespaces);
  if (publish && subscribe) {
    return { type: 'Ready', status: 'True', reason: 'Ready', message: `stream id ${claim.streamId}` };
  }
  const fix =
    topic.spec.allow?.length === 0
      ? 'spec.allow is empty; add entries, or remove it to allow all pods of this namespace'
      : 'no entry of spec.allow matches a namespace that exists; add one, or correct its namespaceSelector';
  if (!publish && !subscribe) {
    return no('NobodyAllowed', `nobody may open this Topic: ${fix}`);
  }
  return publish
    ? no('NobodyMaySubscribe', `nobody may subscribe: ${fix} with subscribe: true`)
    : no('NobodyMayPublish', `nobody may publish: ${fix} with publish: true`);
}

export function topicStatus(observed: ObservedTopic, wallMs: number): TopicStatus {
  const { topic, claim, slices } = observed;
  const members = slices.flatMap(({ spec }) => spec.members);
  const count = (role: string): number =>
    new Set(members.filter((each) => each.role === role).map(({ id }) => id)).size;
  const { generation } = topic.metadata;
  return {
    ...(generation === undefined ? {} : { observedGeneration: generation }),
    ...(claim.kind === 'holds' ? { streamId: claim.streamId } : {}),
    publishers: count('Publisher'),
    subscribers: count('Subscriber'),
    conditions: judged(
      topic.status?.conditions ?? [],
      [readyVerdict(observed), conflictVerdict(claim)],
      generation,
      wallMs,
    ),
  };
}
