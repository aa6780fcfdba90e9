// SPDX-License-Identifier: Apache-2.0
// The chart's roles, from what the parts of the operator declare.
import { kClusterRoles, kNamespaceRoles } from '../components';
import type { Permission } from '../kit/permissions';

interface Rule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly verbs: readonly string[];
  readonly resourceNames?: readonly string[];
}

function ruleOf({ group, resource, verbs, names }: Permission): Rule {
  return {
    apiGroups: [group],
    resources: [resource],
    verbs: [...verbs],
    ...(names === undefined ? {} : { resourceNames: [...names] }),
  };
}

function rulesOf(
  roles: Readonly<Record<string, readonly Permission[]>>,
): Readonly<Record<string, readonly Rule[]>> {
  return Object.fromEntries(
    Object.entries(roles).map(([name, permissions]) => [name, permissions.map(ruleOf)]),
  );
}

export function chartRoles(): object {
  return {
    cluster: rulesOf(kClusterRoles),
    namespace: rulesOf(kNamespaceRoles),
  };
}
