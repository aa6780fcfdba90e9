// SPDX-License-Identifier: Apache-2.0
// How long the API server wants to be left alone with one kind of question. What is said meanwhile to those who ask is theirs to know.
import { isStatus, type ApiError } from '../kit/api_error';

/** Of an answer 429 that does not say how long. */
const kBusyMs = 1000;

export class Throttle {
  /** The last 429. By when it came, not until when it holds: a clock that is set back makes it end, not last. */
  private last: { readonly error: ApiError; readonly sinceMs: number; readonly waitMs: number } | undefined;

  constructor(private readonly now: () => number) {}

  /** An answer: a 429 holds for as long as it says, unless an earlier one still holds for longer. */
  take(error: unknown): void {
    if (isStatus(error, 429)) {
      const waitMs = error.retryAfterMs ?? kBusyMs;
      if (waitMs > this.restMs) {
        this.last = { error, sinceMs: this.now(), waitMs };
      }
    }
  }

  /** What is left of it; 0 when it may be asked. */
  get restMs(): number {
    const { sinceMs = 0, waitMs = 0 } = this.last ?? {};
    const passedMs = this.now() - sinceMs;
    return passedMs >= 0 && passedMs < waitMs ? waitMs - passedMs : 0;
  }

  /** What it said, while that holds. */
  get error(): ApiError | undefined {
    return this.restMs > 0 ? this.last?.error : undefined;
  }
}
