// SPDX-License-Identifier: Apache-2.0
// What a driver noted of its backend, as lines for people: for `explain` and `explain pod`.
import type { BackendNote } from '../driver/backend';

/** "mode: native copy, queues: 1" */
export function factsOf(facts: Readonly<Record<string, string>>): string {
  return Object.entries(facts)
    .map(([key, value]) => `${key}: ${value}`)
    .join(', ');
}

export function threadsLine(threads: BackendNote['threads']): string {
  const { mode = '', ...agents } = threads;
  return `  threads     ${mode}${Object.keys(agents).length === 0 ? '' : ` (${factsOf(agents)})`}`;
}

/** Why each backend that would be better is not used. */
export function notBetterLines(notBetter: BackendNote['notBetter']): string[] {
  return notBetter.map(({ name, reason }) => `  not ${name.padEnd(8)}${reason}`);
}
