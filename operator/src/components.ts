// SPDX-License-Identifier: Apache-2.0
// Which parts the operator has, and what they may do: the one place where they meet.
import { kSystemClock } from './base/clock';
import { kCachePermissions } from './caches';
import { openPortsOf } from './config/open_ports';
import { kProfilePermissions, profileController } from './controllers/profile_controller';
import { kSlicePermissions, sliceController } from './controllers/slice_controller';
import { kTopicPermissions, topicController } from './controllers/topic_controller';
import { Controller } from './kit/controller';
import type { Permission } from './kit/permissions';
import type { Components } from './process/component';
import type { OperatorContext } from './process/operator';
import { CertificateWatch } from './ca/secret_store';
import { kDirectoryPermissions } from './directory/cluster';
import { directoryComponent } from './directory/component';
import { kUnregisterPermissions } from './webhook/unregister';
import {
  injectionParts,
  kCertificateSecret,
  kInjectionNamespacePermissions,
  kInjectionPermissions,
} from './webhook/parts';

export function operatorComponents(context: OperatorContext): Components {
  const { caches, config, events, kit, metrics, namespace } = context;
  const controllers = [
    topicController(caches, events, kSystemClock),
    profileController(caches, events, kSystemClock, openPortsOf(config)),
    sliceController(caches, kSystemClock, (members) => metrics.expiredMembers(members)),
  ];
  const injection = injectionParts(context);
  const certificates =
    injection?.certificates ?? new CertificateWatch(kit, { namespace, name: kCertificateSecret });
  const directory = directoryComponent(context, certificates);
  return {
    always: [
      ...(injection === undefined && directory === undefined ? [] : [certificates]),
      ...(injection === undefined ? [] : [injection.webhook]),
      ...(injection === undefined || !config.controllers ? [] : [injection.informers]),
      ...(directory === undefined ? [] : [directory]),
    ],
    leading: config.controllers
      ? [...controllers.map((definition) => new Controller(kit, definition)), ...(injection?.leading ?? [])]
      : [],
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
  directory: kDirectoryPermissions,
  /** Of `helm uninstall`: what the operator registered goes before it does. */
  uninstall: kUnregisterPermissions,
  /** Of `outrigger check`, run by `helm test`. */
  check: [
    { group: '', resource: 'nodes', verbs: ['list'] },
    { group: '', resource: 'pods', verbs: ['get', 'list'] },
    { group: 'apps', resource: 'deployments', verbs: ['list'] },
    { group: 'apiextensions.k8s.io', resource: 'customresourcedefinitions', verbs: ['get', 'list'] },
    { group: 'coordination.k8s.io', resource: 'leases', verbs: ['list'] },
    { group: 'discovery.k8s.io', resource: 'endpointslices', verbs: ['list'] },
    { group: 'admissionregistration.k8s.io', resource: 'mutatingwebhookconfigurations', verbs: ['list'] },
    { group: 'admissionregistration.k8s.io', resource: 'validatingadmissionpolicies', verbs: ['get'] },
    { group: 'admissionregistration.k8s.io', resource: 'validatingadmissionpolicybindings', verbs: ['get'] },
    ...kCachePermissions.filter(({ group }) => group !== ''),
  ],
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
  'certificate-reader': [
    { group: '', resource: 'secrets', verbs: ['get', 'list', 'watch'], names: [kCertificateSecret] },
  ],
};
