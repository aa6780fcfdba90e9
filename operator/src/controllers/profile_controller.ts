// SPDX-License-Identifier: Apache-2.0
// Says in each SidecarProfile's status how many pods take it, which older profile takes pods away from it, and whether a policy of the chart
// opens its ports. A key is a namespace.
import { kGroup, nameOf, type KubeObject, type OpenPortsOf } from '../api';
import type { Caches } from '../caches';
import type { Clock } from '../base/clock';
import { source, type ControllerDefinition } from '../kit/controller';
import type { EventRecorder } from '../kit/events';
import type { Permission } from '../kit/permissions';
import { objectOf, type Change } from '../kit/store';
import { profileStatuses } from './profile_status';
import { writeStatus } from './status_writer';

export const kProfilePermissions: readonly Permission[] = [
  { group: kGroup, resource: 'sidecarprofiles/status', verbs: ['patch'] },
];

export function profileController(
  { profiles, pods }: Caches,
  events: EventRecorder,
  clock: Clock,
  openPorts: OpenPortsOf = () => undefined,
): ControllerDefinition {
  const namespaceOf = (change: Change<KubeObject>): string[] => [objectOf(change).metadata.namespace ?? ''];
  return {
    name: 'profile',
    permissions: kProfilePermissions,
    sources: [
      source(profiles, namespaceOf),
      // Pods of a namespace without profiles are nobody's business here.
      source(pods, (change) =>
        namespaceOf(change).filter((each) => profiles.store.by('namespace', each).length > 0),
      ),
    ],
    initialKeys: () => [...new Set(profiles.store.list().map(({ metadata }) => metadata.namespace ?? ''))],
    reconcile: async (namespace, signal) => {
      const mine = profiles.store.by('namespace', namespace);
      const statuses = profileStatuses(
        mine,
        pods.store.by('namespace', namespace),
        clock.wallMs(),
        openPorts(namespace),
      );
      const writes = mine.map(async (profile) => {
        const status = statuses.get(nameOf(profile));
        if (status !== undefined) {
          await writeStatus(profiles, events, profile, status, signal);
        }
      });
      // One that can't be written holds up no other.
      const failed = (await Promise.allSettled(writes)).find((each) => each.status === 'rejected');
      if (failed !== undefined) {
        throw failed.reason as Error;
      }
      return undefined;
    },
  };
}
