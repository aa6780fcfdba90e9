// SPDX-License-Identifier: Apache-2.0
// Objects whose fields may be undefined, as those that leave them out: what exactOptionalPropertyTypes and requests tell apart.

type Given<T> = { [K in keyof T]?: Exclude<T[K], undefined> };

/** Without what is undefined. */
export function given<T extends object>(fields: T): Given<T> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as Given<T>;
}
