// SPDX-License-Identifier: Apache-2.0
// Questions to the API server that the caller may lack the right for: what is not allowed is noted by name, and the rest of the answer goes on.
import type { CheckCluster } from '../check/cluster';
import { isStatus } from '../kit/api_error';
import type { ExecResult, ExecTarget } from '../kit/exec';

export interface ExplainCluster extends CheckCluster {
  /** Runs a program in a container. Rejects with ApiError. */
  exec(target: ExecTarget, command: readonly string[]): Promise<ExecResult>;
}

export interface Right {
  readonly verb: string;
  /** Empty for the core group. */
  readonly group: string;
  /** With a subresource behind a slash. */
  readonly resource: string;
  /** Absent: of the whole cluster. */
  readonly namespace?: string;
}

export function nameOfRight({ verb, group, resource, namespace }: Right): string {
  const [plural = '', sub] = resource.split('/');
  const whole = `${plural}${group === '' ? '' : `.${group}`}${sub === undefined ? '' : `/${sub}`}`;
  return `${verb} ${whole}${namespace === undefined ? ' in the cluster' : ` in namespace "${namespace}"`}`;
}

export class Questions {
  private readonly missing = new Map<string, Right>();

  constructor(readonly cluster: ExplainCluster) {}

  /** Rights that the caller lacks, each once. */
  get lacking(): readonly Right[] {
    return [...this.missing.values()];
  }

  /** The object or list at a path; undefined when there is none, or when it may not be asked for. */
  async get<T>(right: Right, path: string, query?: Readonly<Record<string, string>>): Promise<T | undefined> {
    try {
      return await this.cluster.get<T>(path, query);
    } catch (error) {
      if (isStatus(error, 403)) {
        this.lack(right);
        return undefined;
      }
      throw error;
    }
  }

  /** Of several rights that an action takes, those that the caller lacks. */
  async review(rights: readonly Right[]): Promise<void> {
    for (const right of rights) {
      const [resource, subresource] = right.resource.split('/');
      const { namespace, verb, group } = right;
      const review = await this.cluster.post<{ status?: { allowed?: boolean } }>(
        '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews',
        {
          apiVersion: 'authorization.k8s.io/v1',
          kind: 'SelfSubjectAccessReview',
          spec: { resourceAttributes: { verb, group, resource, subresource, namespace } },
        },
      );
      if (review.status?.allowed !== true) {
        this.lack(right);
      }
    }
  }

  private lack(right: Right): void {
    this.missing.set(nameOfRight(right), right);
  }
}
