// SPDX-License-Identifier: Apache-2.0
// A bucket of tokens: so many a second, so many at once. Those who wait are served in order.
import { sleep, type Clock } from './clock';

export class TokenBucket {
  private tokens: number;
  private filledMs: number;

  constructor(
    private readonly perSecond: number,
    private readonly burst: number,
    private readonly clock: Clock,
  ) {
    this.tokens = burst;
    this.filledMs = clock.monotonicMs();
  }

  /** Takes a token, maybe one that comes only later: answers how long that is in milliseconds. */
  reserve(): number {
    const now = this.clock.monotonicMs();
    this.tokens = Math.min(this.burst, this.tokens + ((now - this.filledMs) / 1000) * this.perSecond);
    this.filledMs = now;
    this.tokens -= 1;
    return this.tokens >= 0 ? 0 : (-this.tokens / this.perSecond) * 1000;
  }

  /** Waits for a token; returns early when aborted. */
  async take(signal: AbortSignal): Promise<void> {
    const waitMs = this.reserve();
    if (waitMs > 0) {
      await sleep(waitMs, signal);
    }
  }
}
