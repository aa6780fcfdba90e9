// SPDX-License-Identifier: Apache-2.0
// The directory's narrow interface to the API server, carried out: TokenReview, pod addresses, slices; and what is watched, handed on.
import { kGroup, kTopicEndpointSlice, type TopicEndpointSlice } from '../api';
import type { Caches } from '../caches';
import { isNotFound } from '../kit/api_error';
import type { KitContext } from '../kit/informer';
import type { Permission } from '../kit/permissions';
import { resource, ResourceClient } from '../kit/resource';
import type { Directory, DirectoryCluster } from './directory';
import type { TokenReviewStatus } from './tokens';
import type { PodIdentity } from './types';

const kFieldManager = 'outrigger-directory';

export const kDirectoryPermissions: readonly Permission[] = [
  { group: 'authentication.k8s.io', resource: 'tokenreviews', verbs: ['create'] },
  { group: '', resource: 'pods', verbs: ['get'] },
  { group: kGroup, resource: 'topicendpointslices', verbs: ['create', 'patch', 'delete'] },
];

interface TokenReview {
  readonly status?: TokenReviewStatus;
}

const kTokenReviews = {
  group: 'authentication.k8s.io',
  version: 'v1',
  kind: 'TokenReview',
  plural: 'tokenreviews',
} as const;

const kPods = { group: '', version: 'v1', plural: 'pods' } as const;

interface AddressedPod {
  readonly metadata: { readonly uid?: string };
  readonly status?: { readonly podIP?: string; readonly podIPs?: readonly { readonly ip: string }[] };
}

/** While the API server wants to be left alone, the directory does without, or tells so: nobody waits here for another try. */
const kAskedOnce = { busyTries: 1 } as const;

export function directoryCluster({ api }: KitContext, caches: Caches): DirectoryCluster {
  // Apart, so that a crowd of sidecars that comes holds up neither the members of those that are there, nor the rest of the operator.
  const admission = api.withOwnRate();
  const slices = new ResourceClient(api.withOwnRate(), resource<TopicEndpointSlice>(kTopicEndpointSlice));
  return {
    reviewToken: async (token, audience, signal) => {
      const { kind, group, version, plural } = kTokenReviews;
      const body = { apiVersion: `${group}/${version}`, kind, spec: { token, audiences: [audience] } };
      const { status } = await admission.call<TokenReview>(
        (objects) => objects.createClusterCustomObject({ group, version, plural, body }),
        { signal, ...kAskedOnce },
      );
      return status ?? {};
    },
    podAddresses: async ({ namespace, pod, podUid }: PodIdentity) => {
      try {
        const found = await admission.call<AddressedPod>(
          (objects) => objects.getNamespacedCustomObject({ ...kPods, namespace, name: pod }),
          kAskedOnce,
        );
        if (found.metadata.uid !== podUid) {
          return undefined;
        }
        const { podIP, podIPs = [] } = found.status ?? {};
        return [...new Set([...(podIP === undefined ? [] : [podIP]), ...podIPs.map(({ ip }) => ip)])];
      } catch (error) {
        if (isNotFound(error)) {
          return undefined;
        }
        throw error;
      }
    },
    applySlice: async (slice) => {
      await slices.apply({ ...slice }, { fieldManager: kFieldManager, force: true });
    },
    deleteSlice: async (namespace, name) => {
      try {
        await slices.delete({ namespace, name });
      } catch (error) {
        if (!isNotFound(error)) {
          throw error;
        }
      }
    },
    isFresh: () =>
      [caches.topics, caches.slices, caches.namespaces].every(
        (each) => each.hasSynced && each.problem === undefined,
      ),
  };
}

/** Tells the directory what there is, and every change from now on. Call it before it starts. */
export function feed(directory: Directory, { topics, slices, namespaces }: Caches): void {
  const label = (labels: Readonly<Record<string, string>> | undefined): Readonly<Record<string, string>> =>
    labels ?? {};
  namespaces.store
    .list()
    .forEach(({ metadata }) => directory.namespaceSet(metadata.name ?? '', label(metadata.labels)));
  topics.store.list().forEach((topic) => directory.topicSet(topic));
  slices.store.list().forEach((slice) => directory.sliceSet(slice));
  namespaces.store.onChange((change) => {
    if (change.kind === 'deleted') {
      directory.namespaceDeleted(change.before.metadata.name ?? '');
    } else {
      directory.namespaceSet(change.after.metadata.name ?? '', label(change.after.metadata.labels));
    }
  });
  topics.store.onChange((change) => {
    if (change.kind === 'deleted') {
      directory.topicDeleted(change.before.metadata.namespace ?? '', change.before.metadata.name ?? '');
    } else {
      directory.topicSet(change.after);
    }
  });
  slices.store.onChange((change) => {
    if (change.kind === 'deleted') {
      directory.sliceDeleted(change.before.metadata.namespace ?? '', change.before.metadata.name ?? '');
    } else {
      directory.sliceSet(change.after);
    }
  });
}
