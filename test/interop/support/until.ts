// SPDX-License-Identifier: Apache-2.0
// Waiting for what only asking again can tell.
import { setTimeout as delay } from 'node:timers/promises';
import type { Client } from './peer';

/** Asks until it is so; throws naming it after the time limit. */
export async function until(
  what: string,
  holds: () => Promise<boolean> | boolean,
  timeoutMs = 45_000,
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await holds())) {
    if (performance.now() > deadline) {
      throw new Error(`it did not come to: ${what}`);
    }
    await delay(10);
  }
}

/** No counter of the driver has this in its label any more. */
export function untilGone(client: Client, text: string): Promise<void> {
  return until(
    `no counter with '${text}'`,
    async () => !(await client.counters()).some((counter) => counter.label.includes(text)),
  );
}
