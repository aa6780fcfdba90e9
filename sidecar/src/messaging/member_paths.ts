// SPDX-License-Identifier: Apache-2.0
// The members of a topic and the way to each, as the admin service tells them: put together from what the directory said, what the driver's
// publications heard, and where images come from. A pure function.
import { isIPv6 } from 'node:net';
import {
  formatEndpoint,
  meetingPoint,
  parseEndpoint,
  type Member,
  type TopicState,
  type Welcome,
} from '../directory/messages';
import { destinationOf } from '../topics/channels';
import type { Topic } from '../topics/schema';

export interface PathInfo {
  readonly state: 'PATH_STATE_UNSPECIFIED' | 'PATH_STATE_CONNECTED' | 'PATH_STATE_NOT_CONNECTED';
  readonly reason: string;
}

/** As outrigger.v1.MemberInfo. */
export interface MemberPath {
  readonly pod: string;
  readonly node: string;
  readonly publishes: boolean;
  readonly subscribes: boolean;
  readonly self: boolean;
  readonly sameNode: boolean;
  readonly network: string;
  readonly address: string;
  readonly port: number;
  readonly mtu: number;
  readonly to?: PathInfo;
  readonly from?: PathInfo;
}

export interface MemberPathsInput {
  readonly topic: Topic;
  /** What the directory said of the topic; undefined for one of a file. */
  readonly state: TopicState | undefined;
  readonly self: Welcome | undefined;
  readonly networks: ReadonlySet<string>;
  /** host:port of this sidecar. */
  readonly endpoints: readonly string[];
  /** Open publications of the topic. */
  readonly publications: readonly {
    readonly native: unknown;
    /** Destination to registration id. */
    readonly applied: ReadonlyMap<string, bigint>;
  }[];
  /** Open subscriptions of the topic. */
  readonly subscriptions: readonly { readonly sources: readonly string[] }[];
  /** When each destination was heard of last on the monotonic clock; 0n: never. */
  readonly heardNs: ReadonlyMap<bigint, bigint>;
  readonly nowNs: bigint;
}

/** Receivers say something every 200 ms at least; a publication counts one as gone after 5 s. */
const kSilentNs = 5_000_000_000n;
const kNsPerSecond = 1_000_000_000n;

const kConnected: PathInfo = { state: 'PATH_STATE_CONNECTED', reason: '' };

function notConnected(reason: string): PathInfo {
  return { state: 'PATH_STATE_NOT_CONNECTED', reason };
}

function hostOf(source: string): string {
  const colon = source.lastIndexOf(':');
  const host = colon < 0 || isIPv6(source) ? source : source.slice(0, colon);
  return host.replace(/^\[|\]$/g, '');
}

function pathTo(input: MemberPathsInput, endpoint: string): PathInfo {
  const open = input.publications.filter(({ native }) => native !== undefined);
  if (open.length === 0) {
    return notConnected('the driver is away, so nothing is sent; see the state of the driver');
  }
  const registrations = open.flatMap(({ applied }) => applied.get(destinationOf(endpoint)) ?? []);
  if (registrations.length === 0) {
    return notConnected(
      `the driver has not taken the destination ${endpoint}; it is tried again every 2 s, and the sidecar's log says why it was refused`,
    );
  }
  const heard = registrations.flatMap((each) => input.heardNs.get(each) ?? []);
  const latest = heard.reduce((a, b) => (b > a ? b : a), -1n);
  if (latest < 0n) {
    return {
      state: 'PATH_STATE_UNSPECIFIED',
      reason:
        'the driver does not tell which destination answers: it is another one, or has too many of them',
    };
  }
  if (latest === 0n) {
    return notConnected(
      `nothing has ever come back from ${endpoint}: no app there has the topic open yet, or a NetworkPolicy or firewall keeps its UDP port closed`,
    );
  }
  const silentNs = input.nowNs - latest;
  return silentNs > kSilentNs
    ? notConnected(
        `${endpoint} has been silent for ${silentNs / kNsPerSecond} s: its app closed the topic, its pod or node is gone, or the network between is cut`,
      )
    : kConnected;
}

function pathFrom(input: MemberPathsInput, member: Member): PathInfo {
  const addresses = new Set(member.endpoints.map(({ address }) => address));
  const sources = input.subscriptions.flatMap((each) => each.sources);
  if (sources.some((source) => addresses.has(hostOf(source)))) {
    return kConnected;
  }
  return notConnected(
    `no stream has come from ${[...addresses].join(', ')}: it has published nothing yet that reached ${input.endpoints.join(', ')}, a NetworkPolicy or firewall keeps that UDP port closed, or the stream was refused, which outrigger errors shows`,
  );
}

function sameHost(member: Member, { self }: MemberPathsInput): boolean {
  return self !== undefined && self.node !== '' && self.node === member.node;
}

function ofDirectory(input: MemberPathsInput, state: TopicState): MemberPath[] {
  const own = input.self === undefined ? undefined : `${input.self.namespace}/${input.self.pod}`;
  const members = new Map<string, Member>();
  [...state.subscribers, ...state.publishers].forEach((each) => members.set(each.instanceId, each));
  const has = (list: readonly Member[], { instanceId }: Member): boolean =>
    list.some((each) => each.instanceId === instanceId);
  return [...members.values()]
    .map((member): MemberPath => {
      const point = meetingPoint(member, input.networks);
      const publishes = has(state.publishers, member);
      const subscribes = has(state.subscribers, member);
      const nowhere = notConnected(
        `no network in common: it receives on ${member.endpoints.map(({ network }) => network).join(', ') || 'none'}, this sidecar on ${[...input.networks].join(', ') || 'none'}`,
      );
      const self = member.pod === own;
      return {
        pod: member.pod,
        node: member.node,
        publishes,
        subscribes,
        self,
        sameNode: self || sameHost(member, input),
        network: point?.network ?? '',
        address: point?.address ?? '',
        port: point?.port ?? 0,
        mtu: point?.mtu ?? 0,
        ...(subscribes && input.publications.length > 0
          ? { to: point === undefined ? nowhere : pathTo(input, formatEndpoint(point)) }
          : {}),
        ...(publishes && input.subscriptions.length > 0 ? { from: pathFrom(input, member) } : {}),
      };
    })
    .sort((a, b) => (a.pod < b.pod ? -1 : a.pod > b.pod ? 1 : 0));
}

function ofFile(input: MemberPathsInput, subscribers: readonly string[]): MemberPath[] {
  return subscribers.map((endpoint) => {
    const self = input.endpoints.includes(endpoint);
    const { address, port } = parseEndpoint(endpoint);
    return {
      pod: '',
      node: '',
      publishes: false,
      subscribes: true,
      self,
      sameNode: self,
      network: '',
      address,
      port,
      mtu: 0,
      ...(input.publications.length > 0 ? { to: pathTo(input, endpoint) } : {}),
    };
  });
}

/** Empty for a topic that is one channel: who is at its other end is not known. */
export function memberPaths(input: MemberPathsInput): readonly MemberPath[] {
  return input.state === undefined
    ? ofFile(input, input.topic.subscribers ?? [])
    : ofDirectory(input, input.state);
}
