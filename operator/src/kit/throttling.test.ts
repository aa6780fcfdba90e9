// SPDX-License-Identifier: Apache-2.0
// What is said and counted of an API server that is too busy. The clock is the test's.
import type { Clock } from '../base/clock';
import { Throttling } from './throttling';

describe('an API server that throttles', () => {
  let now: number;
  let said: { readonly level: string; readonly fields: object; readonly message: string }[];
  let throttled: boolean[];
  let asked: number;
  let throttling: Throttling;

  beforeEach(() => {
    now = 0;
    said = [];
    throttled = [];
    asked = 0;
    const clock: Clock = { monotonicMs: () => now, wallMs: () => 0 };
    const sayer =
      (level: string) =>
      (fields: object, message: string): void =>
        void said.push({ level, fields, message });
    throttling = new Throttling(
      clock,
      { throttled: (is) => throttled.push(is), askedToWait: (seconds) => (asked += seconds) },
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
    expect([throttled, asked]).toEqual([[true], 3]);
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
    expect([throttled.at(-1), asked]).toEqual([false, 121]);
  });

  it('is not over because another request is answered within the time to wait', () => {
    refused(5000);
    now = 4999;
    throttling.answered();
    expect(throttled).toEqual([true]);
    now = 5000;
    throttling.answered();
    expect(throttled).toEqual([true, false]);
  });

  it('that refuses now and then fills no log', () => {
    for (let second = 0; second < 59; second += 2) {
      now = second * 1000;
      refused(0);
      throttling.answered();
    }
    expect(said.map(({ level }) => level)).toEqual(['warn', 'info']);
    expect(throttled.filter((each) => each)).toHaveLength(30);
  });
});
