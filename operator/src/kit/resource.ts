// SPDX-License-Identifier: Apache-2.0
// A kind of object at the API server: its paths, and the requests about it with their types. No cache here.
import type { KubeObject } from '../api';
import type { ApiClient } from './api_client';

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

const kApplyPatch = 'application/apply-patch+yaml'; // JSON is YAML
const kMergePatch = 'application/merge-patch+json';

/** Requests about one resource. */
export class ResourceClient<T extends KubeObject> {
  constructor(
    private readonly api: ApiClient,
    readonly resource: Resource<T>,
  ) {}

  path(namespace?: string, name?: string, subresource?: string): string {
    const { group, version, plural, namespaced } = this.resource;
    const root = group === '' ? `/api/${version}` : `/apis/${group}/${version}`;
    const space = namespaced && namespace !== undefined ? `/namespaces/${encodeURIComponent(namespace)}` : '';
    const rest = [name, subresource].filter((each) => each !== undefined).map(encodeURIComponent);
    return [`${root}${space}/${plural}`, ...rest].join('/');
  }

  get({ namespace, name }: ObjectName, signal?: AbortSignal): Promise<T> {
    return this.api.request<T>({ method: 'GET', path: this.path(namespace, name), ...signalled(signal) });
  }

  list(
    { namespace, labelSelector, fieldSelector }: Selection,
    page: { readonly limit?: number; readonly continue?: string } = {},
    signal?: AbortSignal,
  ): Promise<Page<T>> {
    return this.api.request<Page<T>>({
      method: 'GET',
      path: this.path(namespace),
      query: { labelSelector, fieldSelector, limit: page.limit, continue: page.continue },
      ...signalled(signal),
    });
  }

  create(object: T, signal?: AbortSignal): Promise<T> {
    return this.api.request<T>({
      method: 'POST',
      path: this.path(object.metadata.namespace),
      body: this.typed(object),
      ...signalled(signal),
    });
  }

  /** Replaces the object when it is unchanged since the resourceVersion in its metadata. */
  update(object: T, signal?: AbortSignal): Promise<T> {
    const { namespace, name } = object.metadata;
    return this.api.request<T>({
      method: 'PUT',
      path: this.path(namespace, name),
      body: this.typed(object),
      ...signalled(signal),
    });
  }

  /** Server-side apply: makes the object or sets exactly the fields that it says; fields that this manager applied before and left out now are removed. */
  apply(
    object: { readonly metadata: KubeObject['metadata'] } & Readonly<Record<string, unknown>>,
    { fieldManager, force = false, subresource }: ApplyOptions,
    signal?: AbortSignal,
  ): Promise<T> {
    const { namespace, name } = object.metadata;
    return this.api.request<T>({
      method: 'PATCH',
      path: this.path(namespace, name, subresource),
      query: { fieldManager, force },
      body: this.typed(object),
      contentType: kApplyPatch,
      ...signalled(signal),
    });
  }

  /** JSON merge patch (RFC 7386). A metadata.resourceVersion in it makes it conditional. */
  mergePatch({ namespace, name }: ObjectName, patch: object, signal?: AbortSignal): Promise<T> {
    return this.api.request<T>({
      method: 'PATCH',
      path: this.path(namespace, name),
      body: patch,
      contentType: kMergePatch,
      ...signalled(signal),
    });
  }

  /** With preconditions: only that very object, only in that version. */
  async delete(
    { namespace, name }: ObjectName,
    preconditions?: { readonly uid?: string | undefined; readonly resourceVersion?: string | undefined },
    signal?: AbortSignal,
  ): Promise<void> {
    await this.api.request({
      method: 'DELETE',
      path: this.path(namespace, name),
      ...(preconditions === undefined
        ? {}
        : { body: { kind: 'DeleteOptions', apiVersion: 'v1', preconditions } }),
      ...signalled(signal),
    });
  }

  private typed(object: object): object {
    return {
      apiVersion: apiVersionOf(this.resource as Resource<never>),
      kind: this.resource.kind,
      ...object,
    };
  }
}

function signalled(signal: AbortSignal | undefined): { readonly signal?: AbortSignal } {
  return signal === undefined ? {} : { signal };
}
