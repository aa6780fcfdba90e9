// SPDX-License-Identifier: Apache-2.0
// Random numbers from a seed, so that a failing test can be run again.
import type { Random } from '../base/clock';

/** mulberry32: 32 bits of state, good enough to choose faults with. */
export function seeded(seed: number): Random {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 0x1_0000_0000;
  };
}

export function pick<T>(random: Random, from: readonly T[]): T {
  return from[Math.floor(random() * from.length)] as T;
}

/** Seeds of a test: OUTRIGGER_TEST_SEED alone when it is set, else `count` of the clock. */
export function testSeeds(count: number): readonly number[] {
  const given = process.env['OUTRIGGER_TEST_SEED'];
  return given === undefined || given === ''
    ? Array.from({ length: count }, (_, i) => ((Date.now() >>> 0) + i * 0x9e37) >>> 0)
    : [Number(given)];
}
