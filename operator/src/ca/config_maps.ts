// SPDX-License-Identifier: Apache-2.0
// The CA as sidecars get it: a ConfigMap in each namespace with opted-in pods. A key a namespace: one that refuses its ConfigMap (by a quota, an
// admission policy, a webhook that is away) keeps no other from theirs. Which bundle is the current one is not decided here.
import type { Caches } from '../caches';
import { ApiError } from '../kit/api_error';
import { source, type ControllerDefinition } from '../kit/controller';
import type { EventRecorder } from '../kit/events';
import { isBeingDeleted } from '../kit/finalizers';
import { Informer, type KitContext } from '../kit/informer';
import { kNamespaces } from '../kit/kinds';
import { keyOf, ResourceClient, type Resource } from '../kit/resource';
import { objectOf } from '../kit/store';
import { kConfigMaps, type ConfigMap } from './resources';

export const kManager = { fieldManager: 'outrigger-operator', force: true } as const;
/** Label of our ConfigMaps: by it they are found. */
const kCaLabel = 'outrigger.dev/ca';

export interface CaConfigMapsOptions {
  readonly kit: KitContext;
  readonly caches: Caches;
  readonly events: EventRecorder;
  /** Name of the ConfigMap, the same in every namespace. */
  readonly name: string;
  /** Told how many namespaces refuse theirs. */
  readonly refused: (namespaces: number) => void;
}

export interface CaConfigMaps {
  readonly informer: Informer<ConfigMap>;
  readonly definition: ControllerDefinition;
  /** What they are to carry from now on; before the first call nothing is written. */
  readonly publish: (bundle: string) => void;
  /** For who leads no more, or again: what is current, and what is refused, another knows. Nothing is written before the next call of `publish`. */
  readonly forget: () => void;
  /** The ConfigMaps, namespace/name, that the API server refused to write when that was tried last. */
  readonly refusals: () => ReadonlySet<string>;
}

/** The server answered, and this object was what it did not like: not the caller (401), not the moment (429), no lost answer. */
function isRefusal(error: unknown): error is ApiError {
  return error instanceof ApiError && error.status >= 400 && error.status !== 401 && error.status !== 429;
}

export function caConfigMaps({ kit, caches, events, name, refused }: CaConfigMapsOptions): CaConfigMaps {
  const informer = new Informer<ConfigMap>(kit, kConfigMaps, {}, { labelSelector: `${kCaLabel}=true` });
  const namespaces = new ResourceClient(kit.api, kNamespaces);
  /** What was said last, by namespace. */
  const refusals = new Map<string, string>();
  let current: string | undefined;
  let enqueue: (namespace: string) => void = () => undefined;

  const objectIn = (namespace: string): ConfigMap => ({
    metadata: { namespace, name, labels: { [kCaLabel]: 'true' } },
  });
  const present = (namespace: string): ConfigMap | undefined =>
    informer.store.get(keyOf(objectIn(namespace)));

  /** With opted-in pods, and wherever one is already. */
  const wanted = (): readonly string[] => [
    ...new Set([...caches.pods.store.list(), ...informer.store.list()].map(namespaceOf)),
  ];

  const accepted = (namespace: string): void => {
    if (refusals.delete(namespace)) {
      refused(refusals.size);
    }
  };

  const report = (namespace: string, { message }: ApiError): void => {
    if (refusals.get(namespace) !== message) {
      events.record(objectIn(namespace), kConfigMaps as Resource<never>, {
        type: 'Warning',
        reason: 'AuthorityNotWritten',
        action: 'Apply',
        note: `sidecars of ${namespace} can't trust the directory, and new ones don't start: ${message}`,
      });
    }
    refusals.set(namespace, message);
    refused(refusals.size);
  };

  /** As the server has it now: what ends takes no new object, and gets no new pod that would need one. */
  const isEnding = async (namespace: string, signal: AbortSignal): Promise<boolean> => {
    try {
      return isBeingDeleted(await namespaces.get({ name: namespace }, signal));
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) {
        return true;
      }
      throw error;
    }
  };

  const write = async (namespace: string, bundle: string, signal: AbortSignal): Promise<void> => {
    try {
      await informer.client.apply({ ...objectIn(namespace), data: { 'ca.crt': bundle } }, kManager, signal);
    } catch (error) {
      if (!isRefusal(error)) {
        throw error;
      }
      if (await isEnding(namespace, signal)) {
        accepted(namespace);
        return;
      }
      report(namespace, error);
      throw error; // for the log and another try
    }
    accepted(namespace);
  };

  return {
    informer,
    publish: (bundle) => {
      if (bundle !== current) {
        current = bundle;
        wanted().forEach((each) => enqueue(each));
      }
    },
    forget: () => {
      current = undefined;
      refusals.clear();
      refused(0);
    },
    refusals: () => new Set([...refusals.keys()].map((each) => keyOf(objectIn(each)))),
    definition: {
      name: 'ca-config-maps',
      permissions: [
        { group: '', resource: 'configmaps', verbs: ['list', 'watch', 'create'] },
        { group: '', resource: 'configmaps', verbs: ['get', 'patch'], names: [name] },
      ],
      sources: [
        source(informer, (change) => [namespaceOf(objectOf(change))]),
        // A namespace gets its ConfigMap with its first pod.
        source(caches.pods, (change) => (change.kind === 'added' ? [namespaceOf(change.after)] : [])),
        // One that refused and ends is no trouble any more.
        source(caches.namespaces, (change) => {
          const { name = '' } = objectOf(change).metadata;
          return refusals.has(name) ? [name] : [];
        }),
        { synced: Promise.resolve(), connect: (add) => (enqueue = add) },
      ],
      initialKeys: wanted,
      reconcile: async (namespace, signal) => {
        const there = present(namespace);
        const isWanted = there !== undefined || caches.pods.store.by('namespace', namespace).length > 0;
        const known = caches.namespaces.store.get(namespace);
        const ends = known !== undefined && isBeingDeleted(known);
        if (!isWanted || (there === undefined && ends) || there?.data?.['ca.crt'] === current) {
          accepted(namespace);
        } else if (current !== undefined) {
          await write(namespace, current, signal);
        }
        return undefined;
      },
    },
  };
}

function namespaceOf({ metadata }: { readonly metadata: { readonly namespace?: string } }): string {
  return metadata.namespace ?? '';
}
