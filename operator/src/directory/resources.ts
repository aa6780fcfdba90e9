// SPDX-License-Identifier: Apache-2.0
// Between the resources of the API and what the directory keeps: topics read, members written as slices and read back. Pure functions.
import { createHash } from 'node:crypto';
import {
  kApiVersion,
  kMaxMembers,
  kTopicLabel,
  leaseEndMs,
  parseBytes,
  type Topic,
  type TopicEndpointSlice,
} from '../api';
import type { AllowRule, Member, Role, TopicDefinition, TopicKey } from './types';

/** Label of a slice: the process of the directory that keeps it. */
export const kReplicaLabel = 'outrigger.dev/directory';
/** Every host takes IP packets of this length (RFC 791); said of an endpoint whose MTU is not known. */
const kLeastMtu = 576;

const kRoleNames = { publisher: 'Publisher', subscriber: 'Subscriber' } as const;

function flowControlOf(spec: Topic['spec']): string {
  const fc = spec.flowControl;
  if (fc === undefined) {
    return 'max';
  }
  const parts = [fc.strategy.toLowerCase()];
  if (fc.groupTag !== undefined || fc.groupMinSize !== undefined) {
    parts.push(`g:${fc.groupTag ?? ''}${fc.groupMinSize === undefined ? '' : `/${fc.groupMinSize}`}`);
  }
  if (fc.receiverTimeout !== undefined && fc.strategy !== 'Max') {
    parts.push(`t:${fc.receiverTimeout}`);
  }
  return parts.join(',');
}

function ruleOf(allow: NonNullable<Topic['spec']['allow']>[number]): AllowRule {
  const roles: Role[] = [];
  if (allow.publish) {
    roles.push('publisher');
  }
  if (allow.subscribe) {
    roles.push('subscriber');
  }
  return { roles, namespaceSelector: allow.namespaceSelector, serviceAccounts: allow.serviceAccounts ?? [] };
}

export function definitionOf(topic: Topic): TopicDefinition {
  const { spec, status, metadata } = topic;
  const conflict = (status?.conditions ?? []).find(
    (each) => each.type === 'Ready' && each.status === 'False',
  );
  return {
    namespace: metadata.namespace ?? 'default',
    name: metadata.name ?? '',
    streamId: status?.streamId,
    notReady:
      status?.streamId !== undefined
        ? ''
        : (conflict?.message ?? 'the operator has not assigned its stream id yet'),
    flowControl: flowControlOf(spec),
    reliable: spec.delivery !== 'BestEffort',
    termLength: spec.termLength === undefined ? 0 : (parseBytes(spec.termLength) ?? 0),
    mtu: spec.mtu ?? 0,
    allow: spec.allow?.map(ruleOf),
  };
}

function apiMembers(
  member: Member,
  renewTime: string,
  durationSeconds: number,
): TopicEndpointSlice['spec']['members'] {
  return member.roles.map((role) => ({
    id: member.podUid,
    role: kRoleNames[role],
    namespace: member.namespace,
    pod: member.pod,
    podUid: member.podUid,
    node: member.node === '' ? 'unknown' : member.node,
    endpoints: member.endpoints.map((each) => ({ ...each, mtu: each.mtu === 0 ? kLeastMtu : each.mtu })),
    lease: { renewTime, durationSeconds },
  }));
}

/** Name of a slice: the topic, and what no other replica and no other slice of this one has. */
export function sliceName(topic: string, replica: string, index: number): string {
  const suffix = createHash('sha256').update(`${replica} ${index}`).digest('hex').slice(0, 10);
  return `${topic.slice(0, 253 - suffix.length - 1)}-${suffix}`;
}

/** The slices that say what this replica knows of a topic, members in order of pod so that few change at a time. None without members. */
export function slicesOf(
  key: TopicKey,
  members: readonly Member[],
  replica: string,
  nowMs: number,
  leaseMs: number,
): readonly TopicEndpointSlice[] {
  const [namespace, topic] = key.split('/') as [string, string];
  const renewTime = new Date(nowMs).toISOString();
  const sorted = [...members].sort((a, b) => (a.podUid < b.podUid ? -1 : 1));
  const entries = sorted.flatMap((member) => apiMembers(member, renewTime, Math.ceil(leaseMs / 1000)));
  const slices: TopicEndpointSlice[] = [];
  for (let start = 0; start < entries.length; start += kMaxMembers) {
    slices.push({
      apiVersion: kApiVersion,
      kind: 'TopicEndpointSlice',
      metadata: {
        namespace,
        name: sliceName(topic, replica, slices.length),
        labels: { [kTopicLabel]: topic, [kReplicaLabel]: replica },
      },
      spec: { topic, members: entries.slice(start, start + kMaxMembers) },
    });
  }
  return slices;
}

export interface ForeignSlice {
  readonly key: TopicKey;
  readonly members: readonly Member[];
  /** When its members were last heard of, milliseconds since 1970, and for how long they hold from then on: of that which holds longest. */
  readonly renewedMs: number;
  readonly leaseMs: number;
}

/** What another replica says; undefined for a slice of this one. */
export function foreignOf(slice: TopicEndpointSlice, replica: string): ForeignSlice | undefined {
  if (slice.metadata.labels?.[kReplicaLabel] === replica) {
    return undefined;
  }
  const byPod = new Map<string, Member & { roles: Role[] }>();
  let endsMs = 0;
  let leaseMs = 0;
  for (const entry of slice.spec.members) {
    const role: Role = entry.role === 'Publisher' ? 'publisher' : 'subscriber';
    endsMs = Math.max(endsMs, leaseEndMs(entry.lease));
    leaseMs = Math.max(leaseMs, entry.lease.durationSeconds * 1000);
    const known = byPod.get(entry.podUid);
    if (known !== undefined) {
      known.roles.push(role);
    } else {
      byPod.set(entry.podUid, {
        instanceId: entry.id,
        namespace: entry.namespace,
        pod: entry.pod,
        podUid: entry.podUid,
        node: entry.node === 'unknown' ? '' : entry.node,
        roles: [role],
        endpoints: entry.endpoints,
      });
    }
  }
  return {
    key: `${slice.metadata.namespace ?? 'default'}/${slice.spec.topic}`,
    members: [...byPod.values()],
    renewedMs: endsMs - leaseMs,
    leaseMs,
  };
}
