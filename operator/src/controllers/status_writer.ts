// SPDX-License-Identifier: Apache-2.0
// Writes a status when it differs from the one there is, and tells its transitions as events.
import type { Condition, KubeObject } from '../api';
import { isNotFound } from '../kit/api_error';
import { sameJson, transitions } from '../kit/conditions';
import type { EventRecorder } from '../kit/events';
import type { Informer } from '../kit/informer';
import type { Resource } from '../kit/resource';

/** Who owns the status fields under server-side apply. */
export const kFieldManager = 'outrigger-operator';

interface Status {
  readonly conditions?: readonly Condition[] | undefined;
}

interface WithStatus extends KubeObject {
  readonly status?: Status;
}

/** Conditions whose transition is news. Others repeat what Ready says. */
const kNewsworthy = 'Ready';

export async function writeStatus<T extends WithStatus, I extends string>(
  informer: Informer<T, I>,
  events: EventRecorder,
  object: T,
  status: Status,
  signal: AbortSignal,
): Promise<void> {
  if (sameJson(object.status, status)) {
    return;
  }
  const { namespace, name, uid } = object.metadata;
  let written: T;
  try {
    written = await informer.client.apply(
      // The uid is a precondition: a namesake made meanwhile is another object.
      {
        metadata: {
          ...(namespace === undefined ? {} : { namespace }),
          ...(name === undefined ? {} : { name }),
          ...(uid === undefined ? {} : { uid }),
        },
        status,
      },
      { fieldManager: kFieldManager, force: true, subresource: 'status' },
      signal,
    );
  } catch (error) {
    if (isNotFound(error)) {
      return; // deleted meanwhile
    }
    throw error;
  }
  informer.store.wrote(written);
  for (const { after } of transitions(object.status?.conditions ?? [], status.conditions ?? [])) {
    if (after.type === kNewsworthy) {
      events.record(object, informer.client.resource as Resource<never>, {
        type: after.status === 'True' ? 'Normal' : 'Warning',
        reason: after.reason,
        action: 'Reconcile',
        note: after.message,
      });
    }
  }
}
