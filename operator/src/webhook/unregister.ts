// SPDX-License-Identifier: Apache-2.0
// Takes away what the operator registered, before it goes itself: an injector that nobody serves would keep every labelled pod from being made.
import type { ApiClient } from '../kit/api_client';
import { isNotFound } from '../kit/api_error';
import type { Permission } from '../kit/permissions';

const kGroup = 'admissionregistration.k8s.io';

/** In the order in which they can go: the policy must not outlive the injector. */
const kObjects = [
  ['validatingadmissionpolicybindings', 'outrigger-sidecar-present'],
  ['validatingadmissionpolicies', 'outrigger-sidecar-present'],
  ['mutatingwebhookconfigurations', 'outrigger-injector'],
] as const;

export const kUnregisterPermissions: readonly Permission[] = kObjects.map(([resource, name]) => ({
  group: kGroup,
  resource,
  verbs: ['delete'],
  names: [name],
}));

/** Idempotent. */
export async function unregister(api: Pick<ApiClient, 'request'>): Promise<void> {
  for (const [resource, name] of kObjects) {
    try {
      await api.request({ method: 'DELETE', path: `/apis/${kGroup}/v1/${resource}/${name}` });
    } catch (error) {
      if (!isNotFound(error)) {
        throw error;
      }
    }
  }
}
