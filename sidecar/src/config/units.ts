// SPDX-License-Identifier: Apache-2.0
// Sizes ("64KiB") and durations ("5s"): parsing and rendering. No keys and no limits here.

const kSizeUnits: Readonly<Record<string, number>> = {
  '': 1,
  b: 1,
  k: 1024,
  kb: 1000,
  kib: 1024,
  m: 1024 ** 2,
  mb: 1000 ** 2,
  mib: 1024 ** 2,
  g: 1024 ** 3,
  gb: 1000 ** 3,
  gib: 1024 ** 3,
};

const kDurationUnits: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** Bytes of "64KiB", "1.5MiB", "4096" or 4096; undefined when it is no size. k, m and g alone are powers of 1024, as in Aeron. */
export function parseSize(value: unknown): number | undefined {
  if (typeof value === 'number') {
    return Number.isInteger(value) && value >= 0 ? value : undefined;
  }
  const match = typeof value === 'string' ? /^\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*$/i.exec(value) : null;
  if (match === null) {
    return undefined;
  }
  const unit = kSizeUnits[(match[2] as string).toLowerCase()];
  const bytes = unit === undefined ? NaN : Number(match[1]) * unit;
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}

/** Milliseconds of "5s", "250ms", "2m", "1h"; a bare number is milliseconds. undefined when it is no duration. */
export function parseDuration(value: unknown): number | undefined {
  if (typeof value === 'number') {
    return Number.isInteger(value) && value >= 0 ? value : undefined;
  }
  const match = typeof value === 'string' ? /^\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*$/i.exec(value) : null;
  if (match === null) {
    return undefined;
  }
  const name = (match[2] as string).toLowerCase();
  const unit = name === '' ? 1 : kDurationUnits[name];
  const milliseconds = unit === undefined ? NaN : Math.round(Number(match[1]) * unit);
  return Number.isSafeInteger(milliseconds) ? milliseconds : undefined;
}

export function formatSize(bytes: number): string {
  for (const [name, unit] of [
    ['GiB', 1024 ** 3],
    ['MiB', 1024 ** 2],
    ['KiB', 1024],
  ] as const) {
    if (bytes >= unit && bytes % unit === 0) {
      return `${bytes / unit}${name}`;
    }
  }
  return `${bytes}`;
}

export function formatDuration(milliseconds: number): string {
  for (const [name, unit] of [
    ['h', 3_600_000],
    ['m', 60_000],
    ['s', 1000],
  ] as const) {
    if (milliseconds >= unit && milliseconds % unit === 0) {
      return `${milliseconds / unit}${name}`;
    }
  }
  return `${milliseconds}ms`;
}
