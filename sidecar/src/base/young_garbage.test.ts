// SPDX-License-Identifier: Apache-2.0
import { constants, PerformanceObserver } from 'node:perf_hooks';
import { setTimeout as after } from 'node:timers/promises';
import { buffersPassed, kYoungCollectionBytes } from './young_garbage';

const kBufferBytes = 64 * 1024;
const kRounds = 40;

interface GcDetail {
  readonly kind: number;
}

describe('young garbage', () => {
  it('is collected once a bound of dropped Buffers, and by young collections alone', async () => {
    const kinds: number[] = [];
    const observer = new PerformanceObserver((list) =>
      list
        .getEntries()
        .forEach((entry) => kinds.push((entry as unknown as { detail: GcDetail }).detail.kind)),
    );
    const pass = (rounds: number): void => {
      for (let bytes = 0; bytes < rounds * kYoungCollectionBytes; bytes += kBufferBytes) {
        buffersPassed(Buffer.allocUnsafeSlow(kBufferBytes).length);
      }
    };
    pass(1); // the heap's limits are set by then
    observer.observe({ entryTypes: ['gc'] });
    pass(kRounds);
    const count = (wanted: number): number => kinds.filter((kind) => kind === wanted).length;
    // A marking of the heap that had begun before, by the test runner's own memory, ends in place of one of them.
    const all = (): number =>
      count(constants.NODE_PERFORMANCE_GC_MINOR) + count(constants.NODE_PERFORMANCE_GC_MAJOR);
    // Entries are told in a later turn, which one is not said.
    const deadline = Date.now() + 10_000;
    while (all() < kRounds && Date.now() < deadline) {
      await after(10);
    }
    observer.disconnect();
    expect(all()).toBeGreaterThanOrEqual(kRounds);
    expect(count(constants.NODE_PERFORMANCE_GC_MAJOR)).toBeLessThan(kRounds / 4);
  }, 30_000);
});
