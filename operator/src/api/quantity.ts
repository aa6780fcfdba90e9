// SPDX-License-Identifier: Apache-2.0
// Kubernetes quantities of bytes ("64Mi") and Go durations ("1m30s") as numbers. No limits here.

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

const kDurationUnitsMs: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** Patterns of the two, as the API server checks them. */
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
