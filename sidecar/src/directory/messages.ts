// SPDX-License-Identifier: Apache-2.0
// What the directory's stream carries, as proto-loader gives it, and how a topic's state becomes a topic of this sidecar.
import type { Topic } from '../topics/schema';

export type Role = 'publisher' | 'subscriber';

export interface Endpoint {
  readonly network: string;
  readonly address: string;
  readonly port: number;
  readonly mtu: number;
}

export interface Member {
  readonly instanceId: string;
  /** namespace/pod. */
  readonly pod: string;
  readonly node: string;
  readonly endpoints: readonly Endpoint[];
}

export interface Welcome {
  readonly namespace: string;
  readonly pod: string;
  readonly node: string;
  readonly leaseMs: number;
  readonly heartbeatMs: number;
}

export interface TopicState {
  readonly topic: string;
  readonly streamId: number;
  readonly flowControl: string;
  readonly reliable: boolean;
  readonly termLength: number;
  readonly mtu: number;
  readonly subscribers: readonly Member[];
  readonly publishers: readonly Member[];
}

export interface Refusal {
  readonly topic: string;
  readonly role: 'ROLE_PUBLISHER' | 'ROLE_SUBSCRIBER' | 'ROLE_UNSPECIFIED';
  readonly reason: string;
  readonly message: string;
  readonly nearest: string;
}

export interface JoinResponse {
  readonly response?: 'welcome' | 'topic' | 'refusal';
  readonly welcome?: Welcome;
  readonly topic?: TopicState;
  readonly refusal?: Refusal;
}

export const kRoles: readonly Role[] = ['publisher', 'subscriber'];

export const kRoleNames = { publisher: 'ROLE_PUBLISHER', subscriber: 'ROLE_SUBSCRIBER' } as const;

export function formatEndpoint({ address, port }: Pick<Endpoint, 'address' | 'port'>): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}

/** host:port of an own endpoint; all of them are on the network that every pod is on. */
export function parseEndpoint(text: string): Endpoint {
  const colon = text.lastIndexOf(':');
  const host = text.slice(0, colon);
  return {
    network: 'pod',
    address: host.startsWith('[') ? host.slice(1, -1) : host,
    port: Number(text.slice(colon + 1)),
    mtu: 0,
  };
}

/** Roles in which `isOwn` picks a member: the directory lists each sidecar in the roles that it grants, the one that asks included. */
export function rolesAmong(state: TopicState, isOwn: (member: Member) => boolean): readonly Role[] {
  const members = { publisher: state.publishers, subscriber: state.subscribers };
  return kRoles.filter((role) => members[role].some(isOwn));
}

/** Where two members meet: the first of the member's endpoints whose network is one of `networks`. */
export function meetingPoint(member: Member, networks: ReadonlySet<string>): Endpoint | undefined {
  return member.endpoints.find((each) => networks.has(each.network));
}

export function topicOf(state: TopicState, networks: ReadonlySet<string>): Topic {
  const subscribers = state.subscribers.flatMap((member): string[] => {
    const point = meetingPoint(member, networks);
    return point === undefined ? [] : [formatEndpoint(point)];
  });
  return {
    name: state.topic,
    streamId: state.streamId,
    flowControl: state.flowControl,
    reliable: state.reliable,
    ...(state.termLength === 0 ? {} : { termLength: state.termLength }),
    ...(state.mtu === 0 ? {} : { mtu: state.mtu }),
    subscribers: [...new Set(subscribers)].sort(),
  };
}
