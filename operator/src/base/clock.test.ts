// SPDX-License-Identifier: Apache-2.0
// The one thing that waits: it ends when asked, and does not take a very long wait for none.
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
});
