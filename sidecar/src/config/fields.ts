// SPDX-License-Identifier: Apache-2.0
// Building blocks of the schema: a zod type with the words that documentation and errors need. No keys here.
import { z } from 'zod';
import { formatDuration, formatSize, parseDuration, parseSize } from './units';

/** What a key means, for documentation and for errors. */
export interface KeyMeta {
  /** One or two sentences. */
  readonly meaning: string;
  /** For example "bytes (64KiB, 4MiB)". */
  readonly unit: string;
  /** Allowed values, in words. */
  readonly allowed: string;
  /** Default as a person would write it. */
  readonly defaultText: string;
  /** For errors: what the value must be. */
  readonly kind: string;
}

type Parse<T> = (value: unknown) => T | undefined;

/** A key whose value is parsed from what a file, the environment or a flag holds; `undefined` from `parse` is "not allowed". */
function field<T extends NonNullable<unknown>>(meta: KeyMeta, fallback: T, parse: Parse<T>) {
  return z
    .unknown()
    .transform((value, context): T => {
      const parsed = parse(value);
      if (parsed === undefined) {
        context.addIssue({ code: 'custom', message: `is not ${meta.kind}; allowed: ${meta.allowed}` });
        return z.NEVER;
      }
      return parsed;
    })
    .default((() => fallback) as never)
    .meta({ ...meta });
}

export function size(
  meaning: string,
  range: { min: number; max: number; powerOfTwo?: boolean },
  fallback: number,
) {
  const power = range.powerOfTwo === true;
  return field(
    {
      meaning,
      unit: 'bytes (64KiB, 4MiB)',
      allowed: `${power ? 'a power of two, ' : ''}${formatSize(range.min)} to ${formatSize(range.max)}`,
      defaultText: formatSize(fallback),
      kind: 'such a size',
    },
    fallback,
    (value) => {
      const bytes = parseSize(value);
      const fits = bytes !== undefined && bytes >= range.min && bytes <= range.max;
      return fits && (!power || Number.isInteger(Math.log2(bytes))) ? bytes : undefined;
    },
  );
}

export function duration(meaning: string, range: { min: number; max: number }, fallback: number) {
  return field(
    {
      meaning,
      unit: 'duration (250ms, 5s, 2m)',
      allowed: `${formatDuration(range.min)} to ${formatDuration(range.max)}`,
      defaultText: formatDuration(fallback),
      kind: 'such a duration, a number with ms, s, m or h',
    },
    fallback,
    (value) => {
      const milliseconds = parseDuration(value);
      return milliseconds !== undefined && milliseconds >= range.min && milliseconds <= range.max
        ? milliseconds
        : undefined;
    },
  );
}

export function count(meaning: string, unit: string, range: { min: number; max: number }, fallback: number) {
  return field(
    {
      meaning,
      unit,
      allowed: `${range.min} to ${range.max}`,
      defaultText: `${fallback}`,
      kind: 'such a whole number',
    },
    fallback,
    (value) => {
      const number =
        typeof value === 'number'
          ? value
          : typeof value === 'string' && /^\d+$/.test(value)
            ? Number(value)
            : NaN;
      return Number.isInteger(number) && number >= range.min && number <= range.max ? number : undefined;
    },
  );
}

export function bool(meaning: string, fallback: boolean) {
  return field(
    { meaning, unit: 'boolean', allowed: 'true, false', defaultText: `${fallback}`, kind: 'a boolean' },
    fallback,
    (value) =>
      value === true || value === 'true' ? true : value === false || value === 'false' ? false : undefined,
  );
}

export function choice<const T extends readonly string[]>(meaning: string, choices: T, fallback: T[number]) {
  return field<T[number]>(
    { meaning, unit: 'word', allowed: choices.join(', '), defaultText: fallback, kind: 'one of the choices' },
    fallback,
    (value) => (typeof value === 'string' && choices.includes(value) ? value : undefined),
  );
}

export function text(
  meaning: string,
  unit: string,
  allowed: string,
  fallback: string,
  pattern: RegExp,
  defaultText?: string,
) {
  return field(
    {
      meaning,
      unit,
      allowed,
      defaultText: defaultText ?? (fallback === '' ? 'none' : fallback),
      kind: `a ${unit}`,
    },
    fallback,
    (value) => (typeof value === 'string' && pattern.test(value) ? value : undefined),
  );
}

/** A list: an array in a file, comma-separated in the environment and in flags. */
export function list(meaning: string, unit: string, allowed: string, pattern: RegExp) {
  return field<readonly string[]>(
    {
      meaning,
      unit: `list of ${unit}, comma-separated`,
      allowed,
      defaultText: 'none',
      kind: `a list of ${unit}`,
    },
    [],
    (value) => {
      const items =
        typeof value === 'string'
          ? value
              .split(',')
              .map((item) => item.trim())
              .filter((item) => item !== '')
          : value;
      return Array.isArray(items) && items.every((item) => typeof item === 'string' && pattern.test(item))
        ? (items as string[])
        : undefined;
    },
  );
}

/** File mode in octal: "0660". In YAML, 0o660 and "0660" are the same; a bare decimal number is refused, since it would mean another mode. */
export function fileMode(meaning: string, fallback: number) {
  return field(
    {
      meaning,
      unit: 'octal mode',
      allowed: '"0600" to "0777"',
      defaultText: `0${fallback.toString(8)}`,
      kind: 'an octal mode in quotes',
    },
    fallback,
    (value) =>
      typeof value === 'string' && /^0?o?[0-7]{3}$/.test(value)
        ? parseInt(value.replace('o', ''), 8)
        : undefined,
  );
}
