// SPDX-License-Identifier: Apache-2.0
// What an image may weigh.
import type { Variant } from './root.mts';

/** In MiB. Node is two thirds of it and can't be smaller; the rest is ours to keep. Raised on purpose only, with a reason in the commit. */
export const kBudgetMiB: Readonly<Record<Variant, { compressed: number; unpacked: number }>> = {
  default: { compressed: 64, unpacked: 180 },
  dpdk: { compressed: 80, unpacked: 220 },
};

const kMiB = 1024 ** 2;

export function inMiB(bytes: number): string {
  return (bytes / kMiB).toFixed(1);
}

/** Throws when it weighs more than it may. */
export function checkBudget(variant: Variant, compressedBytes: number, unpackedBytes: number): void {
  const budget = kBudgetMiB[variant];
  const over = [
    ...(compressedBytes > budget.compressed * kMiB
      ? [`${inMiB(compressedBytes)} compressed of ${budget.compressed}`]
      : []),
    ...(unpackedBytes > budget.unpacked * kMiB
      ? [`${inMiB(unpackedBytes)} unpacked of ${budget.unpacked}`]
      : []),
  ];
  if (over.length > 0) {
    throw new Error(
      `the image is over its budget: ${over.join(', ')} MiB; see what grew, or raise it in scripts/image/budget.mts with a reason`,
    );
  }
}
