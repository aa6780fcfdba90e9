// SPDX-License-Identifier: Apache-2.0
// What the status of a namespace's SidecarProfiles should be. A pure function of its profiles and its pods with a sidecar.
import {
  byAge,
  closedOfProfile,
  kSidecarPolicy,
  nameOf,
  selectProfile,
  type OpenPorts,
  type SidecarProfile,
  type SidecarProfileStatus,
} from '../api';
import { judged, type Verdict } from '../kit/conditions';
import type { Pod } from '../kit/kinds';

/** Pods that a message names; the rest is a number. */
const kNamedPods = 3;

interface Lost {
  /** Profiles that are taken instead, with the pods that they took. */
  readonly to: Map<string, string[]>;
}

function isOver({ status }: Pod): boolean {
  return status?.phase === 'Succeeded' || status?.phase === 'Failed';
}

function listed(pods: readonly string[]): string {
  const shown = [...pods].sort().slice(0, kNamedPods).join(', ');
  return pods.length > kNamedPods ? `${shown} and ${pods.length - kNamedPods} more` : shown;
}

function conflictText({ to }: Lost): string {
  return [...to]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([winner, pods]) =>
      pods.length === 0
        ? `SidecarProfile ${winner} is the default of this namespace already and is taken, since it is older; set default: false on one of them`
        : `SidecarProfile ${winner} matches the same pods (${listed(pods)}) and is taken, since it is older; narrow podSelector of one of them, or name one with the annotation outrigger.dev/profile on the pods`,
    )
    .join('. ');
}

function verdicts(lost: Lost | undefined): Verdict[] {
  if (lost === undefined) {
    return [
      { type: 'Ready', status: 'True', reason: 'Valid', message: 'used for the pods that take it' },
      {
        type: 'Conflict',
        status: 'False',
        reason: 'NoConflict',
        message: 'no older profile matches the same pods',
      },
    ];
  }
  const message = conflictText(lost);
  return [
    { type: 'Ready', status: 'False', reason: 'Conflict', message },
    { type: 'Conflict', status: 'True', reason: 'OlderProfileMatches', message },
  ];
}

/** Only where there is a policy: without one there is nothing to judge. */
function portVerdicts({ spec }: SidecarProfile, open: OpenPorts | undefined): Verdict[] {
  if (open === undefined) {
    return [];
  }
  const closed = closedOfProfile(spec, open);
  return [
    closed.length === 0
      ? {
          type: 'PortsOpen',
          status: 'True',
          reason: 'WithinNetworkPolicy',
          message: `the NetworkPolicy ${kSidecarPolicy} opens its ports`,
        }
      : {
          type: 'PortsOpen',
          status: 'False',
          reason: 'OutsideNetworkPolicy',
          message: closed.join('. '),
        },
  ];
}

/** Status by profile name. @param open what the chart's NetworkPolicy of this namespace lets in, if it has one */
export function profileStatuses(
  profiles: readonly SidecarProfile[],
  pods: readonly Pod[],
  wallMs: number,
  open?: OpenPorts,
): ReadonlyMap<string, SidecarProfileStatus> {
  const taken = new Map<string, number>();
  const lost = new Map<string, Lost>();
  const lose = (loser: string, winner: string, pod?: string): void => {
    const entry = lost.get(loser) ?? { to: new Map<string, string[]>() };
    lost.set(loser, entry);
    entry.to.set(winner, [...(entry.to.get(winner) ?? []), ...(pod === undefined ? [] : [pod])]);
  };
  // Two defaults are wrong even while no pod would take one.
  const [first, ...others] = profiles.filter(({ spec }) => spec.default).sort(byAge);
  for (const other of others) {
    lose(nameOf(other), nameOf(first as SidecarProfile));
  }
  for (const pod of pods.filter((each) => !isOver(each))) {
    const { labels, annotations, name = '' } = pod.metadata;
    const choice = selectProfile({ labels, annotations }, profiles);
    if (choice.kind !== 'profile') {
      continue;
    }
    const winner = nameOf(choice.profile);
    taken.set(winner, (taken.get(winner) ?? 0) + 1);
    if (choice.by === 'selector') {
      choice.over.forEach((loser) => lose(nameOf(loser), winner, name));
    }
  }
  return new Map(
    profiles.map((profile) => {
      const { generation } = profile.metadata;
      const conflict = lost.get(nameOf(profile));
      const status: SidecarProfileStatus = {
        ...(generation === undefined ? {} : { observedGeneration: generation }),
        pods: taken.get(nameOf(profile)) ?? 0,
        ...(conflict === undefined ? {} : { conflictsWith: [...conflict.to.keys()].sort().slice(0, 100) }),
        conditions: judged(
          profile.status?.conditions ?? [],
          [...verdicts(conflict), ...portVerdicts(profile, open)],
          generation,
          wallMs,
        ),
      };
      return [nameOf(profile), status];
    }),
  );
}
