// SPDX-License-Identifier: Apache-2.0
// Can a pod look up names of the cluster? The sidecar asks for its directory by one.
import type { V1PodSpec } from '@kubernetes/client-node';

/**
 * What to set where a pod can't, undefined where it can. Kubernetes, "DNS for Services and Pods": Default is the node's resolver, and so is
 * ClusterFirst in a pod on the node's network; with None the pod says itself whom it asks.
 */
export function dnsAdvice({
  hostNetwork,
  dnsPolicy = 'ClusterFirst',
}: Pick<V1PodSpec, 'hostNetwork' | 'dnsPolicy'>): string | undefined {
  const onNode = hostNetwork === true;
  const right = onNode ? 'ClusterFirstWithHostNet' : 'ClusterFirst';
  return dnsPolicy === 'Default' || (onNode && dnsPolicy === 'ClusterFirst')
    ? `with ${onNode ? 'hostNetwork and ' : ''}dnsPolicy ${dnsPolicy} the sidecar can't resolve the name of its directory; set dnsPolicy: ${right}`
    : undefined;
}
