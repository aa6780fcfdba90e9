// SPDX-License-Identifier: Apache-2.0
// For tests: reviews as the API server sends them, and its side of a JSON Patch, written without a look at ours.
import type { V1Container, V1Pod } from '@kubernetes/client-node';
import type { SidecarProfile } from '../api/sidecar_profile';
import type { InjectionSettings } from './inject';
import type { PatchOperation } from './json_patch';
import { review } from './review';

export const kSettings: InjectionSettings = {
  image: 'example/outrigger:1',
  ipv6: false,
  directory: {
    address: 'outrigger-directory.outrigger-system.svc:9443',
    audience: 'outrigger-directory',
    caConfigMap: 'outrigger-ca',
  },
};

export interface Answer {
  readonly allowed: boolean;
  readonly status?: { readonly code: number; readonly message: string };
  readonly warnings?: readonly string[];
  /** Decoded. */
  readonly patch?: readonly PatchOperation[];
}

export function reviewText(
  object: unknown,
  uid = 'request-1',
  request: Readonly<Record<string, unknown>> = {},
): string {
  return JSON.stringify({
    apiVersion: 'admission.k8s.io/v1',
    kind: 'AdmissionReview',
    request: {
      uid,
      kind: { group: '', version: 'v1', kind: 'Pod' },
      resource: { group: '', version: 'v1', resource: 'pods' },
      namespace: 'shop',
      operation: 'CREATE',
      userInfo: { username: 'someone' },
      object,
      oldObject: null,
      dryRun: false,
      options: null,
      ...request,
    },
  });
}

export function decoded(document: unknown): Answer & { readonly uid: string } {
  const { response } = document as {
    response: Answer & { uid: string; patch?: unknown; patchType?: string };
  };
  if (response.patch === undefined) {
    return response;
  }
  const text = Buffer.from(response.patch as unknown as string, 'base64').toString('utf8');
  return { ...response, patch: JSON.parse(text) as PatchOperation[] };
}

export function reviewOf(
  pod: V1Pod,
  profiles: readonly SidecarProfile[],
  uid = 'request-1',
  settings: InjectionSettings = kSettings,
): Answer {
  const context = { settings: () => settings, profiles: () => profiles };
  return decoded(review(reviewText(pod, uid), context).answer);
}

/** RFC 6902, the operations that a patch of ours may have; throws where an API server would refuse. */
export function applied<T>(document: T, patch: readonly PatchOperation[] = []): T {
  const root = { document: structuredClone(document) as unknown };
  for (const { op, path, value } of patch) {
    const keys = path
      .split('/')
      .slice(1)
      .map((key) => key.replaceAll('~1', '/').replaceAll('~0', '~'));
    const last = keys.pop();
    if (last === undefined) {
      throw new Error('a patch of the whole document');
    }
    let at: unknown = root.document;
    for (const key of keys) {
      at = (at as Record<string, unknown>)[key];
      if (typeof at !== 'object' || at === null) {
        throw new Error(`${op} ${path}: ${key} is not there`);
      }
    }
    if (Array.isArray(at)) {
      const index = last === '-' ? at.length : Number(last);
      if (!Number.isInteger(index) || index > at.length || (op !== 'add' && index === at.length)) {
        throw new Error(`${op} ${path}: the list has ${at.length} items`);
      }
      at.splice(index, op === 'add' ? 0 : 1, ...(op === 'remove' ? [] : [structuredClone(value)]));
    } else {
      const object = at as Record<string, unknown>;
      if (op !== 'add' && !(last in object)) {
        throw new Error(`${op} ${path}: not there`);
      }
      if (op === 'remove') {
        Reflect.deleteProperty(object, last);
      } else {
        object[last] = structuredClone(value);
      }
    }
  }
  return root.document as T;
}

/** Profiles at the ends of what is allowed. */
export const kExtremeProfiles: Readonly<Record<string, object>> = {
  default: {},
  smallest: {
    memory: '16Mi',
    buffers: { termLength: '64Ki', receiverWindow: '4Ki', mtu: 64, socketReceive: '4Ki', socketSend: '0' },
    flowControl: { strategy: 'Min', receiverTimeout: '100ms' },
    limits: {
      maxStreams: 1,
      maxMessageSize: '64Ki',
      maxBatchSize: '1Ki',
      subscriberBuffer: '256Ki',
      maxPendingBatches: 1,
      maxPendingSize: '64Ki',
    },
    udpPorts: { first: 1024, last: 1024 },
    metricsPort: 1025,
    timeouts: { driver: '500ms', drain: '0s', flush: '0s' },
    logging: { level: 'silent' },
  },
  largest: {
    threading: 'Dedicated',
    cores: 3,
    memory: '4Gi',
    buffers: {
      termLength: '1Gi',
      receiverWindow: '512Mi',
      mtu: 65504,
      socketReceive: '1Gi',
      socketSend: '1Gi',
    },
    packet: { mode: 'Bulk', receiveSockets: 16 },
    flowControl: { receiverTimeout: '1h' },
    limits: {
      maxStreams: 100_000,
      maxMessageSize: '64Mi',
      maxBatchSize: '4Mi',
      subscriberBuffer: '256Mi',
      maxPendingBatches: 65_536,
      maxPendingSize: '256Mi',
    },
    udpPorts: { first: 65_535, last: 65_535 },
    metricsPort: 65_534,
    timeouts: { driver: '10m', drain: '1h', flush: '10m' },
    logging: { level: 'trace' },
  },
  decimal: {
    memory: '100M',
    buffers: { receiverWindow: '100k' },
    timeouts: { drain: '1m30s' },
    threading: 'SharedNetwork',
  },
};

/** The environment of a container as the kubelet expands it. */
export function environmentOf(container: V1Container, podIp: string): Record<string, string> {
  return Object.fromEntries(
    (container.env ?? []).map(({ name, value }) => [name, value?.replaceAll('$(POD_IP)', podIp) ?? podIp]),
  );
}
