// SPDX-License-Identifier: Apache-2.0
// Which parts the operator has, and what they may do: the one place where they meet.
import { kSystemClock } from './base/clock';
import { kCachePermissions } from './caches';
import { kProfilePermissions, profileController } from './controllers/profile_controller';
import { kSlicePermissions, sliceController } from './controllers/slice_controller';
import { kTopicPermissions, topicController } from './controllers/topic_controller';
import { Controller } from './kit/controller';
import type { Permission } from './kit/permissions';
import type { Components } from './process/component';
import type { OperatorContext } from './process/operator';
import { injectionParts, kInjectionNamespacePermissions, kInjectionPermissions } from './webhook/parts';

export function operatorComponents(context: OperatorContext): Components {
  const { caches, events, kit, metrics } = context;
  const controllers = [
    topicController(caches, events, kSystemClock),
    profileController(caches, events, kSystemClock),
    sliceController(caches, kSystemClock, (members) => metrics.expiredMembers(members)),
  ];
  const injection = injectionParts(context);
  return {
    always: injection === undefined ? [] : [injection.certificates, injection.webhook],
    leading: [
      ...controllers.map((definition) => new Controller(kit, definition)),
      ...(injection?.leading ?? []),
    ],
  };
}

/** What each role of the operator may do in the whole cluster. */
export const kClusterRoles: Readonly<Record<string, readonly Permission[]>> = {
  /** What every replica reads. */
  reader: kCachePermissions,
  controllers: [
    ...kTopicPermissions,
    ...kProfilePermissions,
    ...kSlicePermissions,
    { group: 'events.k8s.io', resource: 'events', verbs: ['create', 'patch'] },
  ],
  injection: kInjectionPermissions,
};

/** And in its own namespace alone. */
export const kNamespaceRoles: Readonly<Record<string, readonly Permission[]>> = {
  // create can't be bound to a name: the object has none yet when it is checked.
  'leader-election': [
    { group: 'coordination.k8s.io', resource: 'leases', verbs: ['create'] },
    {
      group: 'coordination.k8s.io',
      resource: 'leases',
      verbs: ['get', 'update'],
      names: ['outrigger-operator'],
    },
  ],
  injection: kInjectionNamespacePermissions,
};
