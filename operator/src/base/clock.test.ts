// SPDX-License-Identifier: Apache-2.0
// The one thing that waits: it ends when asked, not before, and does not take a very long wait for none.
import { kLongestTimerMs, sleep } from './clock';

describe('sleep', () => {
  beforeEach(() => jest.useFakeTimers());
  afterEach(() => jest.useRealTimers());

  it.each([2 ** 31, 1e15, Infinity])('of %d ms waits as long as a timer can', async (milliseconds) => {
    let over = false;
    const slept = sleep(milliseconds, new AbortController().signal).then(() => (over = true));
    await jest.advanceTimersByTimeAsync(kLongestTimerMs - 1);
    expect(over).toBe(false);
    await jest.advanceTimersByTimeAsync(1);
    await slept;
  });

  it('ends with its signal', async () => {
    const abort = new AbortController();
    const slept = sleep(Infinity, abort.signal);
    abort.abort();
    await slept;
    expect(jest.getTimerCount()).toBe(0);
  });

  it('is never shorter than asked', async () => {
    jest.useRealTimers();
    let shortestMs = Infinity;
    for (let times = 0; times < 200; times++) {
      const begun = performance.now();
      await sleep(2, new AbortController().signal);
      shortestMs = Math.min(shortestMs, performance.now() - begun);
    }
    expect(shortestMs).toBeGreaterThanOrEqual(2); // a timer of Node alone comes early once in some twenty times
  });
});
