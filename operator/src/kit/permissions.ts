// SPDX-License-Identifier: Apache-2.0
// What a part of the operator asks of the API server, said beside the code that asks. The chart's roles are checked against it.

export type Verb = 'get' | 'list' | 'watch' | 'create' | 'update' | 'patch' | 'delete';

export interface Permission {
  readonly group: string;
  /** Plural, with its subresource: topics/status. */
  readonly resource: string;
  readonly verbs: readonly Verb[];
  /** Only these objects. */
  readonly names?: readonly string[];
}

/** What an informer needs. */
export function reads(group: string, resource: string): Permission {
  return { group, resource, verbs: ['get', 'list', 'watch'] };
}
