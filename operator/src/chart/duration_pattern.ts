// SPDX-License-Identifier: Apache-2.0
// Ranges of durations as regular expressions: a JSON schema can't compare "90s" with "1h" in any other way.

const kUnitMs = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 } as const;
export type DurationUnit = keyof typeof kUnitMs;

function digit(from: number, to: number): string {
  return from === to ? `${from}` : `[${from}-${to}]`;
}

function anyDigits(count: number): string {
  return count === 0 ? '' : count === 1 ? '\\d' : `\\d{${count}}`;
}

/** Of two numbers with as many digits: what matches each from one to the other. */
function between(low: string, high: string): string[] {
  const rest = low.length - 1;
  const [first, last] = [Number(low[0]), Number(high[0])];
  const allBelow = /^0*$/.test(low.slice(1));
  const allAbove = /^9*$/.test(high.slice(1));
  if (first === last && !(allBelow && allAbove)) {
    return between(low.slice(1), high.slice(1)).map((each) => `${first}${each}`);
  }
  const from = allBelow ? first : first + 1;
  const to = allAbove ? last : last - 1;
  return [
    ...(allBelow ? [] : between(low.slice(1), '9'.repeat(rest)).map((each) => `${first}${each}`)),
    ...(from > to ? [] : [`${digit(from, to)}${anyDigits(rest)}`]),
    ...(allAbove ? [] : between('0'.repeat(rest), high.slice(1)).map((each) => `${last}${each}`)),
  ];
}

/** Matches the whole numbers of a range, written without leading zeros. */
function numbers(min: number, max: number): string {
  const [low, high] = [`${min}`, `${max}`];
  const parts: string[] = [];
  for (let length = low.length; length <= high.length; length++) {
    parts.push(
      ...between(
        length === low.length ? low : `1${'0'.repeat(length - 1)}`,
        length === high.length ? high : '9'.repeat(length),
      ),
    );
  }
  return parts.join('|');
}

/** Matches whole numbers with one of `units` behind them, from `minMs` to `maxMs`, both included. Each unit must have a number in the range. */
export function durationPattern(units: readonly DurationUnit[], minMs: number, maxMs: number): RegExp {
  const each = units.map(
    (unit) =>
      `(${numbers(Math.max(Math.ceil(minMs / kUnitMs[unit]), 1), Math.floor(maxMs / kUnitMs[unit]))})${unit}`,
  );
  return new RegExp(`^(${each.join('|')})$`);
}
