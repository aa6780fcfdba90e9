// SPDX-License-Identifier: Apache-2.0
// A kind of object at the API server, and the requests about it with their types, as calls of @kubernetes/client-node. No cache here.
import { PatchStrategy, type V1DeleteOptions } from '@kubernetes/client-node';
import { given } from '../base/given';
import type { KubeObject } from '../api';
import type { ApiClient, ObjectsCall } from './api_client';

/** Which objects. T is what they are. */
export interface Resource<T extends KubeObject> {
  /** Empty for the core group. */
  readonly group: string;
  readonly version: string;
  readonly kind: string;
  readonly plural: string;
  readonly namespaced: boolean;
  /** Carries T, and is never set. */
  readonly type?: T;
}

export function resource<T extends KubeObject>(
  definition: {
    readonly group: string;
    readonly version: string;
    readonly kind: string;
    readonly plural: string;
  },
  scope: 'Namespaced' | 'Cluster' = 'Namespaced',
): Resource<T> {
  const { group, version, kind, plural } = definition;
  return { group, version, kind, plural, namespaced: scope === 'Namespaced' };
}

export function apiVersionOf({ group, version }: Resource<never>): string {
  return group === '' ? version : `${group}/${version}`;
}

export interface ObjectName {
  readonly namespace?: string | undefined;
  readonly name: string;
}

/** namespace/name, or name for what is cluster-wide: the key of caches and queues. */
export function keyOf(object: KubeObject): string {
  const { namespace, name = '' } = object.metadata;
  return namespace === undefined || namespace === '' ? name : `${namespace}/${name}`;
}

export function nameOfKey(key: string): ObjectName {
  const slash = key.indexOf('/');
  return slash < 0 ? { name: key } : { namespace: key.slice(0, slash), name: key.slice(slash + 1) };
}

export interface Page<T> {
  readonly metadata: { readonly resourceVersion?: string; readonly continue?: string };
  readonly items: readonly T[];
}

export interface Selection {
  readonly namespace?: string | undefined;
  readonly labelSelector?: string;
  readonly fieldSelector?: string;
}

export interface ApplyOptions {
  /** Who owns the fields that are applied. */
  readonly fieldManager: string;
  /** Take fields over from other managers. What a controller decides alone, it forces. */
  readonly force?: boolean;
  readonly subresource?: 'status';
}

/** Requests about one resource. */
export class ResourceClient<T extends KubeObject> {
  constructor(
    private readonly api: ApiClient,
    readonly resource: Resource<T>,
  ) {}

  get(object: ObjectName, signal?: AbortSignal): Promise<T> {
    const at = this.at(object.namespace);
    const { name } = object;
    return this.api.call<T>(
      (objects) =>
        isSpaced(at)
          ? objects.getNamespacedCustomObject({ ...at, name })
          : objects.getClusterCustomObject({ ...at, name }),
      given({ signal }),
    );
  }

  list(
    selection: Selection,
    page: { readonly limit?: number; readonly continue?: string } = {},
    signal?: AbortSignal,
  ): Promise<Page<T>> {
    return this.api.call<Page<T>>(
      this.listing(selection, { limit: page.limit, _continue: page.continue }),
      given({ signal }),
    );
  }

  /** The bytes of a watch: see ApiClient.stream. */
  watch(
    selection: Selection,
    from: { readonly resourceVersion: string | undefined; readonly timeoutSeconds: number },
    silenceMs: number,
    signal?: AbortSignal,
  ): Promise<AsyncIterable<Uint8Array>> {
    return this.api.stream(
      this.listing(selection, { ...from, watch: true, allowWatchBookmarks: true }),
      silenceMs,
      given({ signal }),
    );
  }

  create(object: T, signal?: AbortSignal): Promise<T> {
    const at = this.at(object.metadata.namespace);
    const body = this.typed(object);
    return this.api.call<T>(
      (objects) =>
        isSpaced(at)
          ? objects.createNamespacedCustomObject({ ...at, body })
          : objects.createClusterCustomObject({ ...at, body }),
      given({ signal }),
    );
  }

  /** Replaces the object when it is unchanged since the resourceVersion in its metadata. */
  update(object: T, signal?: AbortSignal): Promise<T> {
    const at = this.at(object.metadata.namespace);
    const target = { name: object.metadata.name ?? '', body: this.typed(object) };
    return this.api.call<T>(
      (objects) =>
        isSpaced(at)
          ? objects.replaceNamespacedCustomObject({ ...at, ...target })
          : objects.replaceClusterCustomObject({ ...at, ...target }),
      given({ signal }),
    );
  }

  /** Server-side apply: makes the object or sets exactly the fields that it says; fields that this manager applied before and left out now are removed. */
  apply(
    object: { readonly metadata: KubeObject['metadata'] } & Readonly<Record<string, unknown>>,
    { fieldManager, force = false, subresource }: ApplyOptions,
    signal?: AbortSignal,
  ): Promise<T> {
    const { namespace, name = '' } = object.metadata;
    const patch = { name, body: this.typed(object), fieldManager, force };
    // The body is JSON, which is YAML.
    return this.patch(namespace, patch, subresource, PatchStrategy.ServerSideApply, signal);
  }

  /** JSON merge patch (RFC 7386). A metadata.resourceVersion in it makes it conditional. */
  mergePatch({ namespace, name }: ObjectName, patch: object, signal?: AbortSignal): Promise<T> {
    return this.patch(namespace, { name, body: patch }, undefined, PatchStrategy.MergePatch, signal);
  }

  /** With preconditions: only that very object, only in that version. */
  async delete(
    { namespace, name }: ObjectName,
    preconditions?: { readonly uid?: string | undefined; readonly resourceVersion?: string | undefined },
    signal?: AbortSignal,
  ): Promise<void> {
    const at = this.at(namespace);
    const body: V1DeleteOptions = {
      kind: 'DeleteOptions',
      apiVersion: 'v1',
      ...(preconditions === undefined ? {} : { preconditions: given(preconditions) }),
    };
    await this.api.call(
      (objects) =>
        isSpaced(at)
          ? objects.deleteNamespacedCustomObject({ ...at, name, body })
          : objects.deleteClusterCustomObject({ ...at, name, body }),
      given({ signal }),
    );
  }

  private patch(
    namespace: string | undefined,
    patch: {
      readonly name: string;
      readonly body: object;
      readonly fieldManager?: string;
      readonly force?: boolean;
    },
    subresource: 'status' | undefined,
    contentType: string,
    signal: AbortSignal | undefined,
  ): Promise<T> {
    const at = this.at(namespace);
    return this.api.call<T>(
      (objects) =>
        isSpaced(at)
          ? subresource === 'status'
            ? objects.patchNamespacedCustomObjectStatus({ ...at, ...patch })
            : objects.patchNamespacedCustomObject({ ...at, ...patch })
          : subresource === 'status'
            ? objects.patchClusterCustomObjectStatus({ ...at, ...patch })
            : objects.patchClusterCustomObject({ ...at, ...patch }),
      { contentType, ...given({ signal }) },
    );
  }

  /** In one namespace, or in all of them: for the paths, all are as if it were cluster-wide. */
  private listing(
    { namespace, labelSelector, fieldSelector }: Selection,
    how: {
      readonly limit?: number | undefined;
      readonly _continue?: string | undefined;
      readonly resourceVersion?: string | undefined;
      readonly timeoutSeconds?: number;
      readonly watch?: boolean;
      readonly allowWatchBookmarks?: boolean;
    },
  ): ObjectsCall {
    const at = this.at(namespace);
    const query = given({ labelSelector, fieldSelector, ...how });
    return (objects) =>
      isSpaced(at)
        ? objects.listNamespacedCustomObject({ ...at, ...query })
        : objects.listClusterCustomObject({ ...at, ...query });
  }

  private at(namespace: string | undefined): Place {
    const { group, version, plural, namespaced } = this.resource;
    return { group, version, plural, ...(namespaced && namespace !== undefined ? { namespace } : {}) };
  }

  private typed(object: object): object {
    return {
      apiVersion: apiVersionOf(this.resource as Resource<never>),
      kind: this.resource.kind,
      ...object,
    };
  }
}

/** As client-node names it. */
interface Place {
  readonly group: string;
  readonly version: string;
  readonly plural: string;
  readonly namespace?: string;
}

function isSpaced(place: Place): place is Place & { readonly namespace: string } {
  return place.namespace !== undefined;
}
