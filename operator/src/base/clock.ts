// SPDX-License-Identifier: Apache-2.0
// Time and randomness as arguments, so that tests decide both.

export interface Clock {
  /** Milliseconds that never jump: for ages and deadlines. */
  readonly monotonicMs: () => number;
  /** Wall time in milliseconds since 1970: for what others read. */
  readonly wallMs: () => number;
}

export const kSystemClock: Clock = {
  monotonicMs: () => performance.now(),
  wallMs: () => Date.now(),
};

/** A number from 0 to below 1. */
export type Random = () => number;

/** RFC 3339 with milliseconds cut off, as metav1.Time is. */
export function timeText(wallMs: number): string {
  return `${new Date(wallMs).toISOString().slice(0, 19)}Z`;
}

/** RFC 3339 with microseconds, as metav1.MicroTime is. */
export function microTimeText(wallMs: number): string {
  return new Date(wallMs).toISOString().replace('Z', '000Z');
}

/** What Node's timers take; a longer one would fire at once. */
export const kLongestTimerMs = 0x7fffffff;

/**
 * Waits, but not longer than until the signal is aborted, nor than kLongestTimerMs (24 days). Never rejects: who called looks at the signal.
 * Never shorter than asked: Node counts in whole milliseconds, and its timers may fire most of one early.
 */
export function sleep(milliseconds: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) {
    return Promise.resolve();
  }
  const waitMs = Math.min(milliseconds, kLongestTimerMs);
  const end = performance.now() + waitMs;
  return new Promise((resolve) => {
    const finish = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', finish);
      resolve();
    };
    const look = (): void => {
      const restMs = end - performance.now();
      if (restMs > 0) {
        timer = setTimeout(look, Math.ceil(restMs));
      } else {
        finish();
      }
    };
    let timer = setTimeout(look, waitMs);
    signal.addEventListener('abort', finish, { once: true });
  });
}
