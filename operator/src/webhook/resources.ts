// SPDX-License-Identifier: Apache-2.0
// Requests and limits: quantities as numbers, the QoS class of a pod, and what the sidecar's container asks for.
import type { V1Pod, V1ResourceRequirements } from '@kubernetes/client-node';
import { given } from '../base/given';
import { formatBytes, parseBytes, parseQuantity } from '../api/quantity';
import type { SidecarProfileSpec } from '../api/sidecar_profile';
import { kSidecarName } from './layout';

/** The socket is one inode; a page or two would do, but the kubelet rounds to whole MiB anyway. */
export const kSocketVolumeBytes = 1024 ** 2;

/** What a busy sidecar uses: a request alone is no bound, but as a limit it would be, and a small one would throttle the driver to a standstill. */
const kBusyCores = 1;

/** Milli-units as Kubernetes writes CPU. */
export function formatCpu(cores: number): string {
  const milli = Math.ceil(Math.round(cores * 1e6) / 1e3);
  return milli % 1000 === 0 ? `${milli / 1000}` : `${milli}m`;
}

type Quantities = Readonly<Record<string, string | number | undefined>>;

function bothEqual({ requests, limits }: V1ResourceRequirements = {}): boolean {
  return ['cpu', 'memory'].every((resource) => {
    const limit = limits?.[resource];
    // A request that is absent is set to the limit by the API server.
    const request = requests?.[resource] ?? limit;
    return (
      limit !== undefined &&
      request !== undefined &&
      parseQuantity(limit) === parseQuantity(request) &&
      parseQuantity(limit) > 0
    );
  });
}

/** All of a pod that matters here. */
export type SpecOf = Pick<V1Pod, 'spec'>;

/** True when the pod has resources as a whole, as Kubernetes understands it: an amount of CPU, memory or huge pages. */
export function hasPodResources({ spec }: SpecOf): boolean {
  const { requests, limits } = spec?.resources ?? {};
  return Object.keys({ ...requests, ...limits }).some(
    (resource) => resource === 'cpu' || resource === 'memory' || resource.startsWith('hugepages-'),
  );
}

/**
 * True when the pod without its sidecar is of class Guaranteed. Kubernetes, "Pod Quality of Service Classes": every container has equal requests
 * and limits of CPU and memory; where the pod as a whole has resources, those decide.
 */
export function isGuaranteed(pod: SpecOf): boolean {
  const spec = pod.spec;
  if (spec === undefined) {
    return false;
  }
  if (hasPodResources(pod)) {
    return bothEqual(spec.resources);
  }
  const containers = [...(spec.initContainers ?? []), ...spec.containers].filter(
    ({ name }) => name !== kSidecarName,
  );
  return containers.length > 0 && containers.every(({ resources }) => bothEqual(resources));
}

function add(
  quantities: Quantities,
  resource: string,
  amount: number,
  format: (value: number) => string,
): Quantities {
  const base = quantities[resource];
  return base === undefined
    ? quantities
    : { ...quantities, [resource]: format(parseQuantity(base) + amount) };
}

function wholeBytes(value: number): string {
  return formatBytes(Math.ceil(value));
}

export interface SidecarResources {
  readonly requests: Readonly<Record<string, string>>;
  readonly limits: Readonly<Record<string, string>>;
}

/** Name of the resource of huge pages that a pod needs, and how much; undefined when it must not wait for any. */
export function hugepagesOf({
  hugepages,
}: SidecarProfileSpec): { resource: string; amount: string } | undefined {
  return hugepages.mode === 'Required'
    ? { resource: `hugepages-${hugepages.pageSize}`, amount: hugepages.amount }
    : undefined;
}

function asText(quantities: Quantities): Record<string, string> {
  return Object.fromEntries(
    Object.entries(given(quantities)).map(([resource, value]) => [resource, `${value}`]),
  );
}

/**
 * What the container asks for: the profile's amounts, with the driver's cores and with the volumes in memory, whose pages are charged to the
 * container that touches them first. In a Guaranteed pod requests are the limits, and with cores of its own the CPU is whole, since the static
 * CPU manager gives whole cores only to whole requests.
 */
export function sidecarResources(spec: SidecarProfileSpec, guaranteed: boolean): SidecarResources {
  const volumes = (parseBytes(spec.memory) ?? 0) + kSocketVolumeBytes;
  const grown = (quantities: Quantities): Quantities =>
    add(add(quantities, 'cpu', spec.cores, formatCpu), 'memory', volumes, wholeBytes);
  const huge = hugepagesOf(spec);
  // The same in requests and limits: Kubernetes takes neither huge pages nor devices otherwise.
  const whole = {
    ...(huge === undefined ? {} : { [huge.resource]: huge.amount }),
    ...Object.fromEntries(
      (spec.resources.devices ?? []).map(({ resource, count }) => [resource, `${count}`]),
    ),
  };
  const requests = { ...grown(spec.resources.requests), ...whole };
  const limits = { ...grown(spec.resources.limits), ...whole };
  if (!guaranteed) {
    return { requests: asText(requests), limits: asText(limits) };
  }
  const all: Quantities = { ...requests, ...limits };
  const base = spec.resources.limits['cpu'] ?? spec.resources.requests['cpu'] ?? 0;
  const cpu =
    spec.cores + Math.max(parseQuantity(base), spec.resources.limits['cpu'] === undefined ? kBusyCores : 0);
  const equal = asText({ ...all, cpu: formatCpu(spec.cores > 0 ? Math.ceil(cpu) : cpu) });
  return { requests: equal, limits: equal };
}

/** Sentences for amounts that the API server would refuse without saying where they come from. */
export function resourceProblems({ requests, limits }: SidecarResources): readonly string[] {
  return Object.entries(requests).flatMap(([resource, request]) => {
    const limit = limits[resource];
    return limit !== undefined && parseQuantity(request) > parseQuantity(limit)
      ? [
          `the sidecar's ${resource} request ${request} is above its limit ${limit}; raise the limit or lower the request (annotations, or resources of the profile)`,
        ]
      : [];
  });
}

/** Resources of the pod as a whole bound the sum of its containers: they grow by what the sidecar adds. */
export function grownPodResources(
  pod: V1ResourceRequirements,
  sidecar: SidecarResources,
): V1ResourceRequirements {
  const grow = (of: Readonly<Record<string, string>> | undefined, by: Readonly<Record<string, string>>) =>
    of === undefined
      ? undefined
      : Object.fromEntries(
          Object.entries(of).map(([resource, value]) => [
            resource,
            by[resource] === undefined
              ? value
              : resource === 'cpu'
                ? formatCpu(parseQuantity(value) + parseQuantity(by[resource]))
                : wholeBytes(parseQuantity(value) + parseQuantity(by[resource])),
          ]),
        );
  const requests = grow(pod.requests, sidecar.requests);
  const limits = grow(pod.limits, { ...sidecar.requests, ...sidecar.limits });
  return {
    ...pod,
    ...(requests === undefined ? {} : { requests }),
    ...(limits === undefined ? {} : { limits }),
  };
}
