// SPDX-License-Identifier: Apache-2.0
// The difference of two JSON values as a JSON Patch (RFC 6902), as short as it gets for what injection does: things are added and set, lists
// get items inserted, and nobody's order changes.

export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };

export interface PatchOperation {
  readonly op: 'add' | 'remove' | 'replace';
  readonly path: string;
  readonly value?: Json;
}

type JsonObject = Readonly<Record<string, Json>>;

function isObject(value: Json): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isArray(value: Json): value is readonly Json[] {
  return Array.isArray(value);
}

/** RFC 6901, section 3. */
function escaped(key: string): string {
  return key.replaceAll('~', '~0').replaceAll('/', '~1');
}

export function equal(left: Json, right: Json): boolean {
  if (isArray(left) && isArray(right)) {
    return left.length === right.length && left.every((item, i) => equal(item, right[i] as Json));
  }
  if (isObject(left) && isObject(right)) {
    const keys = Object.keys(left);
    return (
      keys.length === Object.keys(right).length &&
      keys.every((key) => key in right && equal(left[key] as Json, right[key] as Json))
    );
  }
  return left === right;
}

/** True when two items of a list are the same thing, perhaps changed: what Kubernetes merges by name is told apart by name. */
function sameItem(left: Json, right: Json): boolean {
  if (
    isObject(left) &&
    isObject(right) &&
    typeof left['name'] === 'string' &&
    left['mountPath'] === undefined
  ) {
    return left['name'] === right['name'];
  }
  return equal(left, right);
}

function diffArrays(
  path: string,
  before: readonly Json[],
  after: readonly Json[],
  patch: PatchOperation[],
): void {
  const here: PatchOperation[] = [];
  let next = 0;
  after.forEach((item, i) => {
    if (next < before.length && sameItem(before[next] as Json, item)) {
      diffInto(`${path}/${i}`, before[next] as Json, item, here);
      next++;
    } else {
      here.push({ op: 'add', path: `${path}/${i}`, value: item });
    }
  });
  // Items that went or changed places: rare enough to say it with the whole list.
  patch.push(...(next === before.length ? here : [{ op: 'replace' as const, path, value: after }]));
}

function diffInto(path: string, before: Json, after: Json, patch: PatchOperation[]): void {
  if (isArray(before) && isArray(after)) {
    diffArrays(path, before, after, patch);
  } else if (isObject(before) && isObject(after)) {
    for (const key of Object.keys(before).filter((each) => !(each in after))) {
      patch.push({ op: 'remove', path: `${path}/${escaped(key)}` });
    }
    for (const [key, value] of Object.entries(after)) {
      if (key in before) {
        diffInto(`${path}/${escaped(key)}`, before[key] as Json, value, patch);
      } else {
        patch.push({ op: 'add', path: `${path}/${escaped(key)}`, value });
      }
    }
  } else if (!equal(before, after)) {
    patch.push({ op: 'replace', path, value: after });
  }
}

/** What turns `before` into `after`; empty when they are equal. */
export function diff(before: Json, after: Json): readonly PatchOperation[] {
  const patch: PatchOperation[] = [];
  diffInto('', before, after, patch);
  return patch;
}
