// SPDX-License-Identifier: Apache-2.0
// How long to wait before the next attempt. No timers here.

export interface ReconnectOptions {
  /** First pause, milliseconds. Default 100. */
  readonly initialMs?: number;
  /** Longest pause, milliseconds. Default 5000. */
  readonly maxMs?: number;
  /** Attempts in a row before it fails for good. Default: no limit. */
  readonly maxAttempts?: number;
}

export class Backoff {
  private attempts = 0;

  constructor(
    private readonly options: ReconnectOptions | false,
    private readonly random: () => number = Math.random,
  ) {}

  get attempt(): number {
    return this.attempts;
  }

  /** It worked: the next failure starts from the first pause. */
  reset(): void {
    this.attempts = 0;
  }

  /** Milliseconds until the next attempt; undefined when there shall be none. Half of a pause is random, so that many clients of a sidecar that restarts do not come back at once. */
  next(): number | undefined {
    if (this.options === false || this.attempts >= (this.options.maxAttempts ?? Infinity)) {
      return undefined;
    }
    const pause = Math.min(
      (this.options.initialMs ?? 100) * 2 ** Math.min(this.attempts, 30),
      this.options.maxMs ?? 5000,
    );
    this.attempts++;
    return pause / 2 + (pause / 2) * this.random();
  }
}
