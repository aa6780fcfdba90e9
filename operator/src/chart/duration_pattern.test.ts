// SPDX-License-Identifier: Apache-2.0
// A pattern matches what lies in its range, and nothing else.
import { durationPattern, type DurationUnit } from './duration_pattern';

describe('the pattern of a range of durations', () => {
  it.each<[number, number]>([
    [1, 1],
    [1, 9],
    [1, 60],
    [7, 10],
    [10, 99],
    [99, 100],
    [100, 3600],
    [168, 2160],
    [305, 1203],
    [199, 200],
  ])('matches exactly the numbers from %d to %d', (min, max) => {
    const pattern = durationPattern(['ms'], min, max);
    const all = Array.from({ length: 11_000 }, (_, value) => value);
    expect(all.filter((value) => pattern.test(`${value}ms`))).toEqual(
      all.filter((value) => value >= min && value <= max),
    );
  });

  it.each<[DurationUnit, number, number]>([
    ['s', 1, 3600],
    ['m', 1, 60],
    ['h', 1, 1],
  ])('counts in %s', (unit, first, last) => {
    const pattern = durationPattern(['ms', 's', 'm', 'h'], 100, 3_600_000);
    expect([first - 1, first, last, last + 1].map((value) => pattern.test(`${value}${unit}`))).toEqual([
      false,
      true,
      true,
      false,
    ]);
  });

  it('takes nothing but a number and one of its units', () => {
    const pattern = durationPattern(['s', 'm'], 1000, 3_600_000);
    for (const text of ['', '5', 's', '5h', '5 s', '05s', '1.5m', '-5s', '5s5s', 'x5s', '5sx']) {
      expect(pattern.test(text)).toBe(false);
    }
  });
});
