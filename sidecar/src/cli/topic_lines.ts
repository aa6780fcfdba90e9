// SPDX-License-Identifier: Apache-2.0
// A topic and the way to each of its members, as lines for people: for `explain --sidecar` and `explain pod`.
import { formatEndpoint } from '../directory/messages';
import type { MemberPath } from '../messaging/member_paths';
import { table } from './output';

interface ShownPath {
  readonly state: string;
  readonly reason: string;
}

/** A member as the sidecar tells it, over gRPC or through the answer of its pod. */
export interface ShownMember extends Omit<MemberPath, 'to' | 'from'> {
  readonly to?: ShownPath | null | undefined;
  readonly from?: ShownPath | null | undefined;
  readonly knownTo?: 'both' | 'sidecar' | 'slices';
  readonly leaseSeconds?: number;
}

export interface ShownTopic {
  readonly name: string;
  readonly resource?: string;
  readonly streamId: number;
  readonly publishStreams: number;
  readonly subscribeStreams: number;
  readonly channel?: string;
  readonly members: readonly ShownMember[];
}

const kStates: Readonly<Record<string, string>> = {
  PATH_STATE_CONNECTED: 'connected',
  PATH_STATE_NOT_CONNECTED: 'not connected',
};

function rolesOf({ publishes, subscribes }: ShownMember): string {
  return [...(publishes ? ['publishes'] : []), ...(subscribes ? ['subscribes'] : [])].join(' and ');
}

function placeOf({ network, address, port, mtu }: ShownMember): string {
  if (address === '') {
    return '';
  }
  return `${network === '' ? '' : `${network} `}${formatEndpoint({ address, port })}${mtu === 0 ? '' : ` mtu ${mtu}`}`;
}

function nodeOf({ self, node, sameNode }: ShownMember): string {
  return self ? 'this pod' : `${node}${sameNode ? ' (same node)' : ''}`;
}

function pathOf(member: ShownMember): { readonly state: string; readonly reasons: readonly string[] } {
  const paths = [
    ['to', member.to],
    ['from', member.from],
  ] as const;
  const states: string[] = [];
  const reasons: string[] = [];
  for (const [direction, path] of paths) {
    if (path !== undefined && path !== null) {
      states.push(`${direction}: ${kStates[path.state] ?? 'unknown'}`);
      if (path.reason !== '') {
        reasons.push(`${direction}: ${path.reason}`);
      }
    }
  }
  if (member.knownTo === 'slices') {
    reasons.push(
      'the TopicEndpointSlices have it, but this sidecar does not know it: the directory has not told it, or the sidecar could not be asked',
    );
  }
  if (member.knownTo === 'sidecar' && member.pod !== '') {
    reasons.push('this sidecar knows it, but no TopicEndpointSlice has it (yet, or no longer)');
  }
  if (member.leaseSeconds !== undefined && member.leaseSeconds <= 0) {
    reasons.push(`its lease ended ${-member.leaseSeconds} s ago: its sidecar does not reach the directory`);
  }
  return { state: states.length === 0 ? 'no way needed' : states.join(', '), reasons };
}

/** A headline, and a row for each member with the reasons below it. */
export function topicLines(topic: ShownTopic): string[] {
  const roles = [
    ...(topic.publishStreams > 0 ? [`publishes (${topic.publishStreams} streams)`] : []),
    ...(topic.subscribeStreams > 0 ? [`subscribes (${topic.subscribeStreams} streams)`] : []),
  ];
  const resource =
    topic.resource === undefined || topic.resource === '' || topic.resource === topic.name
      ? ''
      : ` (${topic.resource})`;
  const head = `topic ${topic.name}${resource}, stream ${topic.streamId === 0 ? 'not told' : topic.streamId}: ${roles.length === 0 ? 'no app here has it open' : roles.join(', ')}`;
  if (topic.members.length === 0) {
    const channel =
      topic.channel === undefined || topic.channel === '' ? '' : `, its channel is ${topic.channel}`;
    return [head, `  no members known${channel}`];
  }
  const told = topic.members.map(pathOf);
  const rows = table(
    ['MEMBER', 'ROLE', 'NODE', 'WHERE', 'PATH'],
    topic.members.map((member, i) => [
      member.pod === '' ? '(of the file)' : member.pod,
      rolesOf(member),
      nodeOf(member),
      placeOf(member),
      told[i]?.state ?? '',
    ]),
  ).split('\n');
  return [
    head,
    `  ${rows[0] ?? ''}`,
    ...rows
      .slice(1)
      .flatMap((row, i) => [`  ${row}`, ...(told[i]?.reasons ?? []).map((each) => `      ${each}`)]),
  ];
}
