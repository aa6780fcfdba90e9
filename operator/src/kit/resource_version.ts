// SPDX-License-Identifier: Apache-2.0
// Order of resource versions: whole decimal numbers, compared by length and then by digits ("Comparable resource versions", KEP-5504).

const kNumber = /^[1-9]\d*$/;

/** Below 0 when left is older, 0 when they are the same, above 0 when left is newer; undefined when they have no order. */
export function compareVersions(left: string | undefined, right: string | undefined): number | undefined {
  if (left === undefined || right === undefined || !kNumber.test(left) || !kNumber.test(right)) {
    return left !== undefined && left === right ? 0 : undefined;
  }
  return left.length - right.length || (left < right ? -1 : left > right ? 1 : 0);
}

/** True when left is known to be no newer than right. */
export function isNoNewer(left: string | undefined, right: string | undefined): boolean {
  const order = compareVersions(left, right);
  return order !== undefined && order <= 0;
}
