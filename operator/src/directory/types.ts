// SPDX-License-Identifier: Apache-2.0
// What the directory talks about: pods, endpoints, topics, members. Neither gRPC nor Kubernetes types.
import type { StoredSelector } from '../api/label_selector';

/** Who is at the other end of a stream, as its token says. */
export interface PodIdentity {
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly pod: string;
  readonly podUid: string;
  /** Empty when the token does not say. */
  readonly node: string;
}

export interface Endpoint {
  /** "pod" is the network that every pod is on. */
  readonly network: string;
  readonly address: string;
  readonly port: number;
  /** Longest IP packet, bytes; 0: not known. */
  readonly mtu: number;
}

export type Role = 'publisher' | 'subscriber';

/** One rule of a topic; it grants what it names to pods that match both parts. */
export interface AllowRule {
  readonly roles: readonly Role[];
  /** Labels that the pod's namespace must have; undefined: the topic's own namespace only. */
  readonly namespaceSelector: StoredSelector | undefined;
  /** Names; empty: every account. */
  readonly serviceAccounts: readonly string[];
}

/** A Topic resource as far as the directory needs it. */
export interface TopicDefinition {
  readonly namespace: string;
  readonly name: string;
  /** undefined until it has been assigned, or while it is in conflict. */
  readonly streamId: number | undefined;
  /** Why streamId is missing. */
  readonly notReady: string;
  /** As the `fc` parameter of an Aeron channel: "max", "min", "min,t:5s", "tagged,g:101". */
  readonly flowControl: string;
  readonly reliable: boolean;
  /** Bytes; 0: the sidecar's default. */
  readonly termLength: number;
  /** Bytes; 0: the driver's default. */
  readonly mtu: number;
  /** undefined: every pod of the topic's namespace, both roles. Empty: no one. */
  readonly allow: readonly AllowRule[] | undefined;
}

/** A sidecar that has a topic open. */
export interface Member {
  readonly instanceId: string;
  readonly namespace: string;
  readonly pod: string;
  readonly podUid: string;
  readonly node: string;
  readonly roles: readonly Role[];
  readonly endpoints: readonly Endpoint[];
}

export type RefusalReason = 'UNKNOWN_TOPIC' | 'NOT_ALLOWED' | 'TOPIC_NOT_READY' | 'TOO_MANY';

export interface Refusal {
  readonly reason: RefusalReason;
  /** A sentence with the fix. */
  readonly message: string;
  readonly nearest: string;
}

/** "namespace/name": the key of a topic everywhere in the directory. */
export type TopicKey = string;

export function topicKey(namespace: string, name: string): TopicKey {
  return `${namespace}/${name}`;
}

/** Key of a topic as an app in `namespace` names it. */
export function resolveTopicName(namespace: string, written: string): TopicKey {
  return written.includes('/') ? written : topicKey(namespace, written);
}
