// SPDX-License-Identifier: Apache-2.0
// Which SidecarProfile a pod takes, and which ones compete for it. A pure function, for injection and for the profiles' conditions.
import { matches, type Labels } from './label_selector';
import { kProfileAnnotation } from './names';
import type { SidecarProfile } from './sidecar_profile';

/** What of a pod decides. */
export interface ProfiledPod {
  readonly labels?: Labels | undefined;
  readonly annotations?: Readonly<Record<string, string>> | undefined;
}

export type ProfileChoice =
  /** `by` says why it is this one; `over` are younger profiles that also match on the same ground, oldest first. */
  | {
      readonly kind: 'profile';
      readonly profile: SidecarProfile;
      readonly by: 'annotation' | 'selector' | 'default';
      readonly over: readonly SidecarProfile[];
    }
  /** No profile matches: built-in defaults. */
  | { readonly kind: 'none' }
  /** The annotation names a profile that is not there. */
  | { readonly kind: 'unknown'; readonly name: string; readonly known: readonly string[] };

export function nameOf(profile: SidecarProfile): string {
  return profile.metadata.name ?? '';
}

/** Oldest first, then by name: a profile that comes later never changes what runs already. */
export function byAge(left: SidecarProfile, right: SidecarProfile): number {
  const born = (profile: SidecarProfile): number =>
    new Date(profile.metadata.creationTimestamp ?? 0).getTime();
  return born(left) - born(right) || (nameOf(left) < nameOf(right) ? -1 : 1);
}

/** The profile of a pod among those of its namespace: by annotation, else by podSelector, else the default one. */
export function selectProfile(pod: ProfiledPod, profiles: readonly SidecarProfile[]): ProfileChoice {
  const name = pod.annotations?.[kProfileAnnotation];
  if (name !== undefined) {
    const profile = profiles.find((each) => nameOf(each) === name);
    return profile === undefined
      ? { kind: 'unknown', name, known: profiles.map(nameOf).sort() }
      : { kind: 'profile', profile, by: 'annotation', over: [] };
  }
  const selecting = profiles.filter(
    ({ spec }) => spec.podSelector !== undefined && matches(spec.podSelector, pod.labels),
  );
  const candidates = selecting.length > 0 ? selecting : profiles.filter(({ spec }) => spec.default);
  const [profile, ...over] = [...candidates].sort(byAge);
  return profile === undefined
    ? { kind: 'none' }
    : { kind: 'profile', profile, by: selecting.length > 0 ? 'selector' : 'default', over };
}
