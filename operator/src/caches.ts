// SPDX-License-Identifier: Apache-2.0
// The informers that all parts of the operator share: each resource is watched once.
import {
  kInjectLabel,
  kSidecarProfile,
  kTopic,
  kTopicEndpointSlice,
  type SidecarProfile,
  type Topic,
  type TopicEndpointSlice,
} from './api';
import { Informer, type KitContext } from './kit/informer';
import { kNamespaces, kPods, type Namespace, type Pod } from './kit/kinds';
import { reads, type Permission } from './kit/permissions';
import { keyOf, resource } from './kit/resource';

export interface Caches {
  readonly topics: Informer<Topic, 'streamId'>;
  /** By the key of their topic. */
  readonly slices: Informer<TopicEndpointSlice, 'topic'>;
  readonly profiles: Informer<SidecarProfile, 'namespace'>;
  /** Pods that ask for a sidecar. */
  readonly pods: Informer<Pod, 'namespace'>;
  readonly namespaces: Informer<Namespace>;
}

/** What the caches read. */
export const kCachePermissions: readonly Permission[] = [
  reads(kTopic.group, 'topics'),
  reads(kTopicEndpointSlice.group, 'topicendpointslices'),
  reads(kSidecarProfile.group, 'sidecarprofiles'),
  reads('', 'pods'),
  reads('', 'namespaces'),
];

export function topicKeyOf({ metadata, spec }: TopicEndpointSlice): string {
  return keyOf({ metadata: { ...metadata, name: spec.topic } });
}

/** Ids that a topic has or wants, as text. */
export function streamIdsOf({ spec, status }: Topic): string[] {
  const ids = [spec.streamId, status?.streamId].filter((each) => each !== undefined);
  return [...new Set(ids)].map(String);
}

export function makeCaches(context: KitContext): Caches {
  const byNamespace = ({ metadata }: { readonly metadata: { readonly namespace?: string } }): string[] => [
    metadata.namespace ?? '',
  ];
  return {
    topics: new Informer(context, resource<Topic>(kTopic), { streamId: streamIdsOf }),
    slices: new Informer(context, resource<TopicEndpointSlice>(kTopicEndpointSlice), {
      topic: (slice) => [topicKeyOf(slice)],
    }),
    profiles: new Informer(context, resource<SidecarProfile>(kSidecarProfile), { namespace: byNamespace }),
    pods: new Informer(context, kPods, { namespace: byNamespace }, { labelSelector: `${kInjectLabel}=true` }),
    namespaces: new Informer(context, kNamespaces, {}),
  };
}

export function cacheList(
  caches: Caches,
): readonly { readonly name: string; readonly informer: Caches[keyof Caches] }[] {
  return (Object.keys(caches) as (keyof Caches)[]).map((name) => ({ name, informer: caches[name] }));
}
