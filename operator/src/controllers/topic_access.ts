// SPDX-License-Identifier: Apache-2.0
// Whether anybody could open a Topic. Whether one pod may is for the directory to say.
import { matches, type Labels, type Topic } from '../api';

export interface NamespaceLabels {
  readonly name: string;
  readonly labels: Labels;
}

/** False when no pod of any namespace there is could ever do it, whatever its service account. */
export function someoneMay(
  { spec }: Topic,
  operation: 'publish' | 'subscribe',
  namespaces: readonly NamespaceLabels[],
): boolean {
  return (
    spec.allow === undefined ||
    spec.allow.some(
      (entry) =>
        entry[operation] &&
        // Without a selector: the topic's own namespace, which exists.
        (entry.namespaceSelector === undefined ||
          namespaces.some(({ labels }) => matches(entry.namespaceSelector ?? {}, labels))),
    )
  );
}
