// SPDX-License-Identifier: Apache-2.0
// Takes away what the operator registered, before it goes itself: an injector that nobody serves would keep every labelled pod from being made.
import type { KubeObject } from '../api';
import type { ApiClient } from '../kit/api_client';
import { isNotFound } from '../kit/api_error';
import type { Permission } from '../kit/permissions';
import { resource, ResourceClient } from '../kit/resource';

const kGroup = 'admissionregistration.k8s.io';

/** In the order in which they can go: the policy must not outlive the injector. */
const kObjects = [
  ['ValidatingAdmissionPolicyBinding', 'validatingadmissionpolicybindings', 'outrigger-sidecar-present'],
  ['ValidatingAdmissionPolicy', 'validatingadmissionpolicies', 'outrigger-sidecar-present'],
  ['MutatingWebhookConfiguration', 'mutatingwebhookconfigurations', 'outrigger-injector'],
] as const;

export const kUnregisterPermissions: readonly Permission[] = kObjects.map(([, plural, name]) => ({
  group: kGroup,
  resource: plural,
  verbs: ['delete'],
  names: [name],
}));

/** The operator that is ending may put it back once more: gone is what stays gone for so long. */
const kQuietChecks = 8;
const kMostChecks = 60;
const kPauseMs = 1000;

export interface UnregisterOptions {
  readonly pause?: (ms: number) => Promise<void>;
}

/** Deletes all of it until it stays away. Idempotent. Rejects when something keeps putting it back. */
export async function unregister(
  api: ApiClient,
  { pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms)) }: UnregisterOptions = {},
): Promise<void> {
  const objects = kObjects.map(([kind, plural, name]) => ({
    client: new ResourceClient(api, resource({ group: kGroup, version: 'v1', kind, plural }, 'Cluster')),
    name,
  }));
  let quiet = 0;
  for (let check = 0; check < kMostChecks; check++) {
    const found = await Promise.all(objects.map(({ client, name }) => remove(client, name)));
    quiet = found.includes(true) ? 0 : quiet + 1;
    if (quiet === kQuietChecks) {
      return;
    }
    await pause(kPauseMs);
  }
  throw new Error(
    'the injector is put back again and again: an operator still runs; scale its Deployment to 0, then try again',
  );
}

/** True when it was there. */
async function remove(client: ResourceClient<KubeObject>, name: string): Promise<boolean> {
  try {
    await client.delete({ name });
    return true;
  } catch (error) {
    if (isNotFound(error)) {
      return false;
    }
    throw error;
  }
}
