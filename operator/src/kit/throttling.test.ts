// SPDX-License-Identifier: Apache-2.0
// What is said and counted of an API server that is too busy. The clock is the test's.
import type { Clock } from '../base/clock';
import { Throttling } from './throttling';

describe('an API server that throttles', () => {
  let now: number;
  let said: { readonly level: string; readonly fields: object; readonly message: string }[];
  let asked: number;
  let isThrottled: () => boolean;
  let throttling: Throttling;

  beforeEach(() => {
    now = 0;
    said = [];
    asked = 0;
    const clock: Clock = { monotonicMs: () => now, wallMs: () => 0 };
    const sayer =
      (level: string) =>
      (fields: object, message: string): void =>
        void said.push({ level, fields, message });
    throttling = new Throttling(
      clock,
      { throttled: (is) => (isThrottled = is), askedToWait: (seconds) => (asked += seconds) },
      { debug: sayer('debug'), info: sayer('info'), warn: sayer('warn'), error: sayer('error') },
    );
  });

  const refused = (retryAfterMs = 1000): void =>
    throttling.refused({ request: 'GET /api/v1/pods', retryAfterMs, flowSchema: 'f', priorityLevel: 'p' });

  it('is named with the request, the time to wait, and where to look', () => {
    refused(3000);
    expect(said).toEqual([
      {
        level: 'warn',
        fields: {
          request: 'GET /api/v1/pods',
          retryAfterSeconds: 3,
          refusals: 1,
          flowSchema: 'f',
          priorityLevel: 'p',
        },
        message: expect.stringMatching(/429.*kubectl get flowschemas,prioritylevelconfigurations/) as string,
      },
    ]);
    expect([isThrottled(), asked]).toEqual([true, 3]);
  });

  it('is said once, each minute while it lasts, and when it is over', () => {
    for (let second = 0; second <= 120; second++) {
      now = second * 1000;
      refused();
    }
    now = 121_000;
    throttling.answered();
    throttling.answered();
    expect(said.map(({ level, fields }) => [level, fields])).toEqual([
      ['warn', expect.objectContaining({ refusals: 1 })],
      ['warn', expect.objectContaining({ refusals: 61 })],
      ['warn', expect.objectContaining({ refusals: 121 })],
      ['info', { seconds: 121, refusals: 121 }],
    ]);
    expect([isThrottled(), asked]).toEqual([false, 121]);
  });

  it('is not over because another request is answered within the time to wait', () => {
    refused(5000);
    now = 4999;
    throttling.answered();
    expect(isThrottled()).toBe(true);
    now = 5000;
    throttling.answered();
    expect(isThrottled()).toBe(false);
  });

  it('is not told of for ever when nothing is asked any more', () => {
    refused(5000);
    now = 34_999;
    expect(isThrottled()).toBe(true);
    now = 35_000;
    expect(isThrottled()).toBe(false);
    now = 100_000;
    refused(1000);
    expect(said.at(-1)?.fields).toMatchObject({ refusals: 1 });
    now = 500_000;
    throttling.answered();
    expect(said.at(-1)).toMatchObject({ level: 'info', fields: { seconds: 1, refusals: 1 } });
  });

  it('that refuses now and then fills no log', () => {
    for (let second = 0; second < 59; second += 2) {
      now = second * 1000;
      refused(0);
      throttling.answered();
    }
    expect(said.map(({ level }) => level)).toEqual(['warn', 'info']);
    expect(asked).toBe(0);
  });
});
