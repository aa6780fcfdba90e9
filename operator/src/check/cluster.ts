// SPDX-License-Identifier: Apache-2.0
// What checks ask a cluster, and how an answer that is no answer reads.
import { CheckFailure } from './runner';

/** A cluster as the caller's kubeconfig reaches it. */
export interface CheckCluster {
  /** The object or list at a path; undefined when there is none (404). Rejects when the server can't be asked or says no. */
  get<T>(path: string, query?: Readonly<Record<string, string>>): Promise<T | undefined>;
  post<T>(path: string, body: object): Promise<T>;
}

export interface List<T> {
  readonly items: readonly T[];
}

export interface Metadata {
  readonly name?: string;
  readonly namespace?: string;
  readonly generation?: number;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly deletionTimestamp?: string;
}

export interface Condition {
  readonly type: string;
  readonly status: string;
  readonly reason?: string;
  readonly message?: string;
}

export interface WithConditions {
  readonly metadata: Metadata;
  readonly status?: { readonly conditions?: readonly Condition[] };
}

export function conditionOf(object: WithConditions, type: string): Condition | undefined {
  return object.status?.conditions?.find((each) => each.type === type);
}

/** "a", "b" and 3 more. */
export function listed(names: readonly string[], most = 5): string {
  const shown = names.slice(0, most).map((each) => `"${each}"`);
  const rest = names.length - shown.length;
  return rest > 0 ? `${shown.join(', ')} and ${rest} more` : shown.join(', ');
}

/** May the caller do this? By SelfSubjectAccessReview, which every authenticated user may ask. */
export async function requireAccess(
  cluster: CheckCluster,
  attributes: {
    readonly verb: string;
    readonly group: string;
    readonly resource: string;
    readonly namespace?: string;
  },
): Promise<void> {
  const review = await cluster.post<{ status?: { allowed?: boolean; reason?: string } }>(
    '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews',
    {
      apiVersion: 'authorization.k8s.io/v1',
      kind: 'SelfSubjectAccessReview',
      spec: { resourceAttributes: attributes },
    },
  );
  if (review.status?.allowed !== true) {
    const { verb, group, resource, namespace } = attributes;
    throw new CheckFailure(
      `you may not ${verb} ${resource}${group === '' ? '' : `.${group}`}${namespace === undefined ? '' : ` in namespace "${namespace}"`}${review.status?.reason === undefined || review.status.reason === '' ? '' : `: ${review.status.reason}`}`,
    );
  }
}
