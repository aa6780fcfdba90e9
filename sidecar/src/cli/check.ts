// SPDX-License-Identifier: Apache-2.0
// `check`: the checks of operator/src/check against the cluster of the caller's kubeconfig.
import type { CheckCluster } from '../../../operator/src/check/cluster';
import { installedSections } from '../../../operator/src/check/installed';
import { podSections } from '../../../operator/src/check/pod';
import { preSections } from '../../../operator/src/check/pre';
import { checkPrinter, runChecks, verdict, type Section } from '../../../operator/src/check/runner';
import { kExit, unavailable } from './exit';
import { json, type Out } from './output';

export interface CheckOptions {
  /** Before an installation. */
  readonly pre?: boolean;
  /** NAME or NAMESPACE/NAME. */
  readonly pod?: string;
  /** Of the operator. */
  readonly namespace: string;
  /** Milliseconds. */
  readonly wait: number;
  readonly json?: boolean;
}

interface Connection {
  readonly cluster: CheckCluster;
  /** Namespace of the kubeconfig's context. */
  readonly namespace: string;
  readonly close: () => void;
}

/** Loads the Kubernetes client only now: no other command needs it. */
async function connect(version: string): Promise<Connection> {
  const { defaultAuth } = await import('../../../operator/src/kit/auth');
  const { ApiClient } = await import('../../../operator/src/kit/api_client');
  const { isStatus } = await import('../../../operator/src/kit/api_error');
  const auth = await defaultAuth().catch((error: unknown) => {
    throw unavailable((error as Error).message);
  });
  const api = new ApiClient({ auth, userAgent: `outrigger-check/${version}`, timeoutMs: 10_000 });
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
    },
  };
}

function sectionsOf(options: CheckOptions, { cluster, namespace }: Connection): readonly Section[] {
  if (options.pod !== undefined) {
    const slash = options.pod.indexOf('/');
    const [space, name] =
      slash < 0 ? [namespace, options.pod] : [options.pod.slice(0, slash), options.pod.slice(slash + 1)];
    return podSections(cluster, space, name, Date.now());
  }
  return options.pre === true
    ? preSections(cluster, options.namespace)
    : installedSections(cluster, { namespace: options.namespace, nowMs: Date.now() });
}

/** Resolves with the exit status. */
export async function check(options: CheckOptions, version: string, out: Out): Promise<number> {
  const connection = await connect(version);
  try {
    const results = await runChecks(sectionsOf(options, connection), {
      deadlineMs: Date.now() + options.wait,
      ...(options.json === true ? {} : { report: checkPrinter((line) => out.line(line)) }),
    });
    const { ok, line } = verdict(results);
    out.line(options.json === true ? json({ ok, checks: results }, 2) : `\n${line}`);
    return ok ? kExit.ok : kExit.failed;
  } finally {
    connection.close();
  }
}
