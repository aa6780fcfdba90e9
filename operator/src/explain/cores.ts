// SPDX-License-Identifier: Apache-2.0
// `outrigger explain pod`: why a driver has no cores of its own, where it was to have some.
import { kPodResourcesCause, kPodResourcesFix, whyNoCores } from '../webhook/cores';
import { kAnnotationPrefix, kDriverCoresVariable, kSidecarName } from '../webhook/layout';
import { hasPodResources, type SpecOf } from '../webhook/resources';

export interface CoresFacts {
  readonly pod: SpecOf;
  readonly annotations: Readonly<Record<string, string>>;
  /** Name of the profile that the pod was made with, and the cores that it says today; empty and 0 where there is none. */
  readonly profile: string;
  readonly profileCores: number;
  /** CPUs that the driver runs on, such as "0,2-4"; empty when it can't be told. */
  readonly cpus: string;
}

/** Of a list such as "0,2-4". */
function countCpus(list: string): number {
  return list.split(',').reduce((sum, range) => {
    const [first = NaN, last = first] = range.split('-').map(Number);
    return sum + last - first + 1;
  }, 0);
}

/** Why the driver has not the cores that were asked for; undefined when it has, when none were, or when it can't be told. */
export function coresProblem({
  pod,
  annotations,
  profile,
  profileCores,
  cpus,
}: CoresFacts): string | undefined {
  const sidecar = pod.spec?.initContainers?.find(({ name }) => name === kSidecarName);
  const promised = Number(sidecar?.env?.find(({ name }) => name === kDriverCoresVariable)?.value ?? 0);
  if (promised > 0) {
    if (cpus === '' || countCpus(cpus) === promised) {
      return undefined;
    }
    const why = hasPodResources(pod)
      ? `${kPodResourcesCause}; ${kPodResourcesFix}, or set that gate of the kubelets`
      : 'has the kubelet of the node cpuManagerPolicy static? The log of init says what it found';
    return `cores: ${promised}, but the driver runs on CPUs ${cpus}, which are not its own: ${why}`;
  }
  const annotation = `${kAnnotationPrefix}cores`;
  const annotated = annotations[annotation];
  const asked = Number(annotated ?? profileCores);
  if (!(asked > 0)) {
    return undefined;
  }
  const by = annotated === undefined ? `SidecarProfile ${profile}` : `the annotation ${annotation}`;
  const why =
    whyNoCores(pod) ??
    'it did not when the pod was made, which keeps what it was made with; make the pod anew, so that the driver gets them';
  return `cores: ${asked} is what ${by} asks for, and the driver has none of its own: ${why}`;
}
