// SPDX-License-Identifier: Apache-2.0
// Finalizers: an object with ours stays until we took back what we did for it. Each change is conditional on the object's version.
import type { KubeObject } from '../api';
import type { ResourceClient } from './resource';

export function hasFinalizer(object: KubeObject, finalizer: string): boolean {
  return object.metadata.finalizers?.includes(finalizer) === true;
}

export function isBeingDeleted(object: KubeObject): boolean {
  return object.metadata.deletionTimestamp !== undefined;
}

/** The object with the finalizer. On an object that is being deleted none may be added any more: it is answered as it is. */
export async function addFinalizer<T extends KubeObject>(
  client: ResourceClient<T>,
  object: T,
  finalizer: string,
  signal?: AbortSignal,
): Promise<T> {
  return hasFinalizer(object, finalizer) || isBeingDeleted(object)
    ? object
    : patch(client, object, [...(object.metadata.finalizers ?? []), finalizer], signal);
}

/** The object without it; the API server may remove the object with that. */
export async function removeFinalizer<T extends KubeObject>(
  client: ResourceClient<T>,
  object: T,
  finalizer: string,
  signal?: AbortSignal,
): Promise<T> {
  return hasFinalizer(object, finalizer)
    ? patch(
        client,
        object,
        (object.metadata.finalizers ?? []).filter((each) => each !== finalizer),
        signal,
      )
    : object;
}

function patch<T extends KubeObject>(
  client: ResourceClient<T>,
  object: T,
  finalizers: readonly string[],
  signal: AbortSignal | undefined,
): Promise<T> {
  const { namespace, name = '', resourceVersion } = object.metadata;
  // A merge patch replaces the list as a whole: the version keeps another's finalizer from getting lost.
  return client.mergePatch({ namespace, name }, { metadata: { resourceVersion, finalizers } }, signal);
}
