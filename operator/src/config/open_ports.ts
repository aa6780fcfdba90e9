// SPDX-License-Identifier: Apache-2.0
// From the settings to what the chart's NetworkPolicies let in, by namespace.
import type { OpenPortsOf } from '../api';
import type { OperatorConfig } from './schema';

export function openPortsOf({
  networkPolicyNamespaces,
  networkPolicyUdpPorts,
  networkPolicyMetricsPort,
}: OperatorConfig): OpenPortsOf {
  const [first = 0, last = 0] = networkPolicyUdpPorts.split('-').map(Number);
  const open = { udpPorts: { first, last }, metricsPort: networkPolicyMetricsPort };
  return (namespace) => (networkPolicyNamespaces.includes(namespace) ? open : undefined);
}
