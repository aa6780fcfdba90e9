// SPDX-License-Identifier: Apache-2.0
// TopicEndpointSlice: members of a topic and where they receive, as the operator keeps them. Users read it and never write it.
import { z } from 'zod';
import type { KubeObject } from './object_meta';
import { choice, described, integer, kDnsLabel, mapList, objectName, text, time } from './schema';

/** Keeps a slice under about 100 KiB, far below the limit of an object, and its watch events small. EndpointSlices of Services have the same limit. */
export const kMaxMembers = 100;

export const endpointSchema = z.strictObject({
  network: text('The network: pod, or one of a NicPool.', kDnsLabel, 63),
  address: text('IPv4 or IPv6 address.', /^[0-9a-fA-F:.]+$/, 45), // the longest IPv6 form
  port: integer('UDP port.', 1, 65_535),
  mtu: integer('Longest IP packet that this network carries to the member.', 576, 65_535), // RFC 791: every host takes 576
});

export const leaseSchema = z.strictObject({
  renewTime: time('When the member was last heard of.'),
  durationSeconds: integer('How long it counts as a member after that.', 1, 86_400),
});

export const memberSchema = z.strictObject({
  id: text(
    'Tells members of a topic apart: stays the same over reconnects of a sidecar.',
    /^[A-Za-z0-9._:/-]+$/,
    253,
  ),
  role: choice('What the member does.', ['Publisher', 'Subscriber']),
  namespace: text('Namespace of its pod.', kDnsLabel, 63),
  pod: objectName('Its pod.'),
  podUid: text('UID of the pod.', /^[A-Za-z0-9-]+$/, 63),
  node: objectName('The node that it is on.'),
  serviceAccount: objectName('Service account of the pod.').optional(),
  endpoints: mapList(endpointSchema, ['network', 'address', 'port'], 16).describe(
    'Where it receives, one for each network.',
  ),
  lease: described('Without renewal the member is removed.', leaseSchema),
});

export type Endpoint = z.output<typeof endpointSchema>;
export type MemberLease = z.output<typeof leaseSchema>;
export type Member = z.output<typeof memberSchema>;

export const topicEndpointSliceSpecSchema = z.strictObject({
  topic: objectName('The Topic, in the same namespace.'),
  members: mapList(memberSchema, ['id', 'role'], kMaxMembers).describe('Members of the topic.').default([]),
});

export type TopicEndpointSliceSpec = z.output<typeof topicEndpointSliceSpecSchema>;

export interface TopicEndpointSlice extends KubeObject {
  readonly spec: TopicEndpointSliceSpec;
}

/** When a lease is over, milliseconds since 1970. A time that can't be read is over. */
export function leaseEndMs({ renewTime, durationSeconds }: MemberLease): number {
  const renewed = Date.parse(renewTime);
  return Number.isNaN(renewed) ? 0 : renewed + durationSeconds * 1000;
}
