// SPDX-License-Identifier: Apache-2.0
// What the chart's NetworkPolicy for sidecars lets in, against what profiles and pods use. Pure functions; where there is such a policy is not known
// here.
import type { SidecarProfileSpec } from './sidecar_profile';

/** The chart's values udpPorts and metricsPort. */
export interface OpenPorts {
  readonly udpPorts: { readonly first: number; readonly last: number };
  readonly metricsPort: number;
}

/** Of a namespace; undefined where the chart makes no policy. */
export type OpenPortsOf = (namespace: string) => OpenPorts | undefined;

/** As the chart names it. */
export const kSidecarPolicy = 'outrigger-sidecars';

function text({ first, last }: OpenPorts['udpPorts']): string {
  return first === last ? `${first}` : `${first} to ${last}`;
}

function opens({ udpPorts }: OpenPorts): string {
  return `the NetworkPolicy ${kSidecarPolicy} opens UDP ${text(udpPorts)} (value udpPorts of the chart)`;
}

function metricsProblem(metricsPort: number, open: OpenPorts): string[] {
  return metricsPort === open.metricsPort
    ? []
    : [
        `metricsPort is ${metricsPort}, but the NetworkPolicy ${kSidecarPolicy} opens TCP ${open.metricsPort} (value metricsPort of the chart): nobody scrapes it; use that port, or change the value`,
      ];
}

/** A sentence for each thing of a profile that the policy closes. */
export function closedOfProfile(
  { udpPorts, metricsPort }: Pick<SidecarProfileSpec, 'udpPorts' | 'metricsPort'>,
  open: OpenPorts,
): string[] {
  const { first, last } = open.udpPorts;
  const inside = udpPorts.first >= first && udpPorts.last <= last;
  return [
    ...(inside
      ? []
      : [
          `udpPorts is ${text(udpPorts)}, but ${opens(open)}: what is sent to the other ports is dropped; choose a range in it, or change the value`,
        ]),
    ...metricsProblem(metricsPort, open),
  ];
}

/** The same of a pod, which receives on one port. */
export function closedOfPod(udpPort: number, metricsPort: number, open: OpenPorts): string[] {
  const { first, last } = open.udpPorts;
  return [
    ...(udpPort >= first && udpPort <= last
      ? []
      : [
          `this pod receives on UDP port ${udpPort}, but ${opens(open)}: no topic reaches it; choose a port in it by udpPorts of the SidecarProfile, or change the value`,
        ]),
    ...metricsProblem(metricsPort, open),
  ];
}
