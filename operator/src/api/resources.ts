// SPDX-License-Identifier: Apache-2.0
// The resources of the API group: names, columns, schemas. From here come the CRDs, their page in docs/, and the paths of requests.
import type { z } from 'zod';
import { kGroup, kVersion } from './names';
import { sidecarProfileSpecSchema, sidecarProfileStatusSchema } from './sidecar_profile';
import { topicSpecSchema, topicStatusSchema } from './topic';
import { topicEndpointSliceSpecSchema } from './topic_endpoint_slice';

export interface PrinterColumn {
  readonly name: string;
  readonly type: 'string' | 'integer' | 'boolean' | 'date';
  readonly jsonPath: string;
  readonly description?: string;
  /** Above 0: only with -o wide. */
  readonly priority?: number;
}

export interface ResourceDefinition {
  readonly group: string;
  readonly version: string;
  readonly kind: string;
  readonly plural: string;
  readonly singular: string;
  readonly shortNames: readonly string[];
  readonly scope: 'Namespaced' | 'Cluster';
  /** One or two sentences for `kubectl explain`. */
  readonly meaning: string;
  readonly spec: z.ZodObject;
  /** Present: the resource has a status subresource. */
  readonly status?: z.ZodObject;
  /** A spec that is left out becomes one of defaults. */
  readonly specOptional: boolean;
  readonly columns: readonly PrinterColumn[];
  readonly selectableFields?: readonly string[];
  /** A complete example that the API server takes. */
  readonly example: string;
}

const age: PrinterColumn = { name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp' };

function condition(type: string, name = type): PrinterColumn {
  return { name, type: 'string', jsonPath: `.status.conditions[?(@.type=="${type}")].status` };
}

function reason(type: string): PrinterColumn {
  return {
    name: 'Reason',
    type: 'string',
    jsonPath: `.status.conditions[?(@.type=="${type}")].reason`,
    priority: 1,
  };
}

export const kSidecarProfile: ResourceDefinition = {
  group: kGroup,
  version: kVersion,
  kind: 'SidecarProfile',
  plural: 'sidecarprofiles',
  singular: 'sidecarprofile',
  shortNames: ['osp'],
  scope: 'Namespaced',
  meaning: "How the sidecars of a namespace's pods are made: network backends, threads, memory, limits.",
  spec: sidecarProfileSpecSchema,
  status: sidecarProfileStatusSchema,
  specOptional: true,
  columns: [
    { name: 'Backends', type: 'string', jsonPath: '.spec.backends' },
    { name: 'Threading', type: 'string', jsonPath: '.spec.threading' },
    { name: 'Default', type: 'boolean', jsonPath: '.spec.default' },
    { name: 'Pods', type: 'integer', jsonPath: '.status.pods' },
    condition('Ready'),
    reason('Ready'),
    { name: 'Cores', type: 'integer', jsonPath: '.spec.cores', priority: 1 },
    { name: 'Memory', type: 'string', jsonPath: '.spec.memory', priority: 1 },
    { name: 'Hugepages', type: 'string', jsonPath: '.spec.hugepages.mode', priority: 1 },
    age,
  ],
  example: `apiVersion: outrigger.dev/v1alpha1
kind: SidecarProfile
metadata:
  name: market-data
spec:
  podSelector:
    matchLabels: { tier: market-data }
  threading: Dedicated
  cores: 3
  memory: 512Mi
  buffers: { termLength: 16Mi, receiverWindow: 2Mi }
`,
};

export const kTopic: ResourceDefinition = {
  group: kGroup,
  version: kVersion,
  kind: 'Topic',
  plural: 'topics',
  singular: 'topic',
  shortNames: ['ot'],
  scope: 'Namespaced',
  meaning: 'A named stream of messages, how it is delivered, and who may publish to it and subscribe to it.',
  spec: topicSpecSchema,
  status: topicStatusSchema,
  specOptional: true,
  columns: [
    { name: 'Stream', type: 'integer', jsonPath: '.status.streamId' },
    { name: 'Delivery', type: 'string', jsonPath: '.spec.delivery' },
    { name: 'Publishers', type: 'integer', jsonPath: '.status.publishers' },
    { name: 'Subscribers', type: 'integer', jsonPath: '.status.subscribers' },
    condition('Ready'),
    reason('Ready'),
    age,
  ],
  example: `apiVersion: outrigger.dev/v1alpha1
kind: Topic
metadata:
  name: quotes
spec:
  delivery: Reliable
  flowControl: { strategy: Min, groupMinSize: 1 }
  allow:
    - publish: true
      serviceAccounts: [feed-handler]
    - subscribe: true
      namespaceSelector:
        matchLabels: { team: trading }
`,
};

export const kTopicEndpointSlice: ResourceDefinition = {
  group: kGroup,
  version: kVersion,
  kind: 'TopicEndpointSlice',
  plural: 'topicendpointslices',
  singular: 'topicendpointslice',
  shortNames: ['oes'],
  scope: 'Namespaced',
  meaning: 'Members of a topic and where they receive. Written by the operator; read it to see who is there.',
  spec: topicEndpointSliceSpecSchema,
  specOptional: false,
  columns: [
    { name: 'Topic', type: 'string', jsonPath: '.spec.topic' },
    { name: 'Pods', type: 'string', jsonPath: '.spec.members[*].pod' },
    { name: 'Addresses', type: 'string', jsonPath: '.spec.members[*].endpoints[*].address', priority: 1 },
    age,
  ],
  selectableFields: ['.spec.topic'],
  example: `apiVersion: outrigger.dev/v1alpha1
kind: TopicEndpointSlice
metadata:
  name: quotes-0
  labels: { outrigger.dev/topic: quotes }
spec:
  topic: quotes
  members:
    - id: 0d9f3f0c-6a2e-4d57-8f0c-3c6e5c1f7a11
      role: Subscriber
      namespace: trading
      pod: strategy-7d9c5
      podUid: 0d9f3f0c-6a2e-4d57-8f0c-3c6e5c1f7a11
      node: node1
      endpoints:
        - { network: pod, address: 10.244.0.7, port: 40200, mtu: 1500 }
      lease: { renewTime: "2026-01-01T00:00:00Z", durationSeconds: 60 }
`,
};

export const kResources: readonly ResourceDefinition[] = [kSidecarProfile, kTopic, kTopicEndpointSlice];
