// SPDX-License-Identifier: Apache-2.0
// How long to wait before the next try: grows with failures, and jitters so that replicas and clients that failed together don't return together.
import type { Random } from './clock';

export interface BackoffOptions {
  readonly baseMs: number;
  readonly maxMs: number;
}

/** Between half and all of base × 2^failures, at most max. `failures` counts from 0. */
export function backoffMs({ baseMs, maxMs }: BackoffOptions, failures: number, random: Random): number {
  const full = Math.min(maxMs, baseMs * 2 ** Math.min(failures, 30));
  return full / 2 + (full / 2) * random();
}
