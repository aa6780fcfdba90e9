// SPDX-License-Identifier: Apache-2.0
// Prometheus's discovery of pods (`kubernetes_sd_configs`, role pod) over HTTP, with the same labels, since Debian's Prometheus is built without
// it: https://prometheus.io/docs/prometheus/latest/configuration/configuration/#pod
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { ApiClient } from '../../../operator/src/kit/api_client';
import { kubeconfigAuth } from '../../../operator/src/testing/test_cluster';

interface Container {
  readonly name: string;
  readonly ports?: readonly { readonly name?: string; readonly containerPort: number }[];
}

interface Pod {
  readonly metadata: {
    readonly name: string;
    readonly namespace: string;
    readonly labels?: Readonly<Record<string, string>>;
  };
  readonly spec: {
    readonly containers: readonly Container[];
    readonly initContainers?: readonly Container[];
  };
  readonly status: { readonly phase?: string; readonly podIP?: string };
}

interface TargetGroup {
  readonly targets: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
}

/** The name that Prometheus gives a label of a pod. */
export function metaLabel(label: string): string {
  return `__meta_kubernetes_pod_label_${label.replaceAll(/[^a-zA-Z0-9_]/g, '_')}`;
}

/** One target a port, of init containers too. */
function targetsOf({ metadata, spec, status }: Pod): TargetGroup[] {
  const labels = Object.entries(metadata.labels ?? {}).map(([key, value]) => [metaLabel(key), value]);
  return [...spec.containers, ...(spec.initContainers ?? [])].flatMap(({ name, ports = [] }) =>
    status.podIP === undefined
      ? []
      : ports.map((port) => ({
          targets: [`${status.podIP}:${port.containerPort}`],
          labels: {
            ...(Object.fromEntries(labels) as Record<string, string>),
            __meta_kubernetes_namespace: metadata.namespace,
            __meta_kubernetes_pod_name: metadata.name,
            __meta_kubernetes_pod_phase: status.phase ?? '',
            __meta_kubernetes_pod_container_name: name,
            __meta_kubernetes_pod_container_port_name: port.name ?? '',
          },
        })),
  );
}

export interface PodTargets {
  /** For `http_sd_configs`: all namespaces, or the one that is given. */
  url(namespace?: string): string;
  close(): void;
}

export async function servePodTargets(): Promise<PodTargets> {
  const auth = kubeconfigAuth(process.env['KUBECONFIG'] ?? '');
  const api = new ApiClient({ auth, userAgent: 'outrigger-test', timeoutMs: 20_000 });
  const server: Server = createServer((request, response) => {
    const namespace = new URL(request.url ?? '', 'http://here').searchParams.get('namespace');
    const path = namespace === null ? '/api/v1/pods' : `/api/v1/namespaces/${namespace}/pods`;
    api.request<{ items: Pod[] }>({ method: 'GET', path }).then(
      ({ items }) => {
        response.setHeader('content-type', 'application/json');
        response.end(JSON.stringify(items.flatMap(targetsOf)));
      },
      (error: unknown) => {
        response.statusCode = 500; // Prometheus keeps the targets that it has
        response.end(String(error));
      },
    );
  });
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  const { port } = server.address() as AddressInfo;
  return {
    url: (namespace) =>
      `http://127.0.0.1:${port}/${namespace === undefined ? '' : `?namespace=${encodeURIComponent(namespace)}`}`,
    close: () => {
      server.close();
      server.closeAllConnections();
      api.close();
    },
  };
}
