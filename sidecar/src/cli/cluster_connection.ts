// SPDX-License-Identifier: Apache-2.0
// The cluster of the caller's kubeconfig, for commands that look into one.
import type { ExplainCluster } from '../../../operator/src/explain/rights';
import { unavailable } from './exit';

export interface ClusterConnection {
  readonly cluster: ExplainCluster;
  /** Namespace of the kubeconfig's context. */
  readonly namespace: string;
  readonly close: () => void;
}

/** A busy node starts the program late, and what it does there takes about a second. */
const kExecTimeoutMs = 60_000;
const kExecMaxBytes = 32 * 1024 * 1024;

/** Loads the Kubernetes client only now: other commands don't need it. */
export async function connectCluster(userAgent: string): Promise<ClusterConnection> {
  const { defaultAuth } = await import('../../../operator/src/kit/auth');
  const { ApiClient } = await import('../../../operator/src/kit/api_client');
  const { isStatus } = await import('../../../operator/src/kit/api_error');
  const { execIn } = await import('../../../operator/src/kit/exec');
  const auth = await defaultAuth().catch((error: unknown) => {
    throw unavailable((error as Error).message);
  });
  const api = new ApiClient({ auth, userAgent, timeoutMs: 10_000 });
  return {
    namespace: auth.namespace,
    close: () => api.close(),
    cluster: {
      get: async <T>(path: string, query?: Readonly<Record<string, string>>) => {
        try {
          return await api.request<T>({ method: 'GET', path, ...(query === undefined ? {} : { query }) });
        } catch (error) {
          if (isStatus(error, 404)) {
            return undefined;
          }
          throw error;
        }
      },
      post: <T>(path: string, body: object) => api.request<T>({ method: 'POST', path, body }),
      exec: (target, command) =>
        execIn(target, command, { timeoutMs: kExecTimeoutMs, maxBytes: kExecMaxBytes }),
    },
  };
}

/** NAME in the given namespace, or NAMESPACE/NAME. */
export function podOf(
  text: string,
  namespace: string,
): { readonly namespace: string; readonly name: string } {
  const slash = text.indexOf('/');
  return slash < 0
    ? { namespace, name: text }
    : { namespace: text.slice(0, slash), name: text.slice(slash + 1) };
}
