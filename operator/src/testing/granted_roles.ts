// SPDX-License-Identifier: Apache-2.0
// The operator's roles on a real API server, bound to a user that nobody else is.
import { randomBytes } from 'node:crypto';
import type { KubeObject } from '../api';
import { kClusterRoles, kNamespaceRoles } from '../components';
import type { ApiClient } from '../kit/api_client';
import type { Permission } from '../kit/permissions';
import { resource, ResourceClient } from '../kit/resource';

const kGroup = 'rbac.authorization.k8s.io';

interface RbacObject extends KubeObject {
  readonly rules?: readonly object[];
  readonly roleRef?: object;
  readonly subjects?: readonly object[];
}

function ruleOf({ group, resource: name, verbs, names }: Permission): object {
  return {
    apiGroups: [group],
    resources: [name],
    verbs,
    ...(names === undefined ? {} : { resourceNames: names }),
  };
}

export interface GrantedRoles {
  readonly user: string;
  readonly revoke: () => Promise<void>;
}

export async function grantRoles(api: ApiClient, namespace: string): Promise<GrantedRoles> {
  const name = `outrigger-test-${randomBytes(4).toString('hex')}`;
  const client = (kind: string, scope: 'Namespaced' | 'Cluster'): ResourceClient<RbacObject> =>
    new ResourceClient(
      api,
      resource<RbacObject>({ group: kGroup, version: 'v1', kind, plural: `${kind.toLowerCase()}s` }, scope),
    );
  const subjects = [{ kind: 'User', name, apiGroup: kGroup }];
  const undo: (() => Promise<void>)[] = [];
  for (const [prefix, scope, roles] of [
    ['Cluster', 'Cluster', kClusterRoles],
    ['', 'Namespaced', kNamespaceRoles],
  ] as const) {
    const metadata = scope === 'Cluster' ? { name } : { name, namespace };
    const [role, binding] = [client(`${prefix}Role`, scope), client(`${prefix}RoleBinding`, scope)];
    await role.create({ metadata, rules: Object.values(roles).flat().map(ruleOf) });
    await binding.create({ metadata, subjects, roleRef: { apiGroup: kGroup, kind: `${prefix}Role`, name } });
    undo.push(
      () => binding.delete(metadata),
      () => role.delete(metadata),
    );
  }
  return {
    user: name,
    revoke: async () => {
      for (const each of undo) await each();
    },
  };
}
