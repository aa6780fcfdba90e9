// SPDX-License-Identifier: Apache-2.0
// Whether the kubelet's static CPU manager can give a container of a pod CPUs of its own, and what to do where it can't: a warning when the pod is
// made, and a line of `outrigger explain pod` afterwards.
import { hasPodResources, isGuaranteed, type SpecOf } from './resources';

const kFix = 'give each container CPU and memory limits that are its requests';

/**
 * Of a pod with resources as a whole: Kubernetes, "Pod-level resource managers" (KEP-5526); the gate is there from 1.36 on, and off by default. A
 * warning that is longer is cut, and would lose the fix.
 */
export const kPodResourcesCause =
  'the static CPU manager gives none to pods with spec.resources (without the feature gate PodLevelResourceManagers)';

export const kPodResourcesFix = `remove it and ${kFix}`;

/** Why the driver gets no cores of its own in this pod, or not on every node, with the fix; undefined when it may have them. */
export function whyNoCores(pod: SpecOf): string | undefined {
  if (hasPodResources(pod)) {
    return `${kPodResourcesCause}; ${kPodResourcesFix}`;
  }
  return isGuaranteed(pod) ? undefined : `the pod is not of QoS class Guaranteed; ${kFix}`;
}
