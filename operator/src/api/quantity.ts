// SPDX-License-Identifier: Apache-2.0
// Kubernetes quantities ("64Mi", "250m") and Go durations ("1m30s") as numbers. No limits here.

const kSuffixes: Readonly<Record<string, number>> = {
  '': 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  Ki: 1024,
  Mi: 1024 ** 2,
  Gi: 1024 ** 3,
  Ti: 1024 ** 4,
};

/** Suffixes of quantities that need not be whole. */
const kAllSuffixes: Readonly<Record<string, number>> = {
  ...kSuffixes,
  n: 1e-9,
  u: 1e-6,
  m: 1e-3,
  P: 1e15,
  E: 1e18,
  Pi: 1024 ** 5,
  Ei: 1024 ** 6,
};

const kDurationUnitsMs: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** Patterns, as the API server checks them. A quantity: what one writes for CPU, memory and disk, and no sign. */
export const kQuantityPattern = /^[0-9]+(\.[0-9]+)?(m|[kMGT]|[KMGT]i)?$/;
export const kBytesPattern = /^[0-9]+([kMGT]|[KMGT]i)?$/;
export const kDurationPattern = /^([0-9]+(ms|s|m|h))+$/;

/** Bytes of "64Mi", "1500k" or "4096"; undefined when it is no whole quantity of bytes. */
export function parseBytes(text: string): number | undefined {
  const match = kBytesPattern.exec(text);
  if (match === null) {
    return undefined;
  }
  const bytes = parseInt(text, 10) * (kSuffixes[match[1] ?? ''] as number);
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}

/** A Kubernetes quantity ("250m", "1.5Gi", "1e3", 2) as a number; NaN when it is none. */
export function parseQuantity(value: string | number): number {
  const match = /^\s*([+-]?(?:\d+\.?\d*|\.\d+))(?:[eE]([+-]?\d+)|([numkMGTPE]|[KMGTPE]i)?)\s*$/.exec(
    `${value}`,
  );
  if (match === null) {
    return NaN;
  }
  const [, digits = '', exponent = '0', suffix = ''] = match;
  return Number(`${digits}e${exponent}`) * (kAllSuffixes[suffix] as number);
}

/** Milliseconds of "250ms", "1m30s"; undefined when it is no duration. */
export function parseDurationMs(text: string): number | undefined {
  if (!kDurationPattern.test(text)) {
    return undefined;
  }
  let milliseconds = 0;
  for (const [, count, unit] of text.matchAll(/([0-9]+)(ms|s|m|h)/g)) {
    milliseconds += Number(count) * (kDurationUnitsMs[unit as string] as number);
  }
  return Number.isSafeInteger(milliseconds) ? milliseconds : undefined;
}

/** The shortest exact quantity: 67108864 → "64Mi". */
export function formatBytes(bytes: number): string {
  for (const suffix of ['Ti', 'Gi', 'Mi', 'Ki']) {
    const unit = kSuffixes[suffix] as number;
    if (bytes >= unit && bytes % unit === 0) {
      return `${bytes / unit}${suffix}`;
    }
  }
  return `${bytes}`;
}
