// SPDX-License-Identifier: Apache-2.0
// Building blocks of the resources' schemas: zod types that become structural OpenAPI v3 with CEL rules. No fields of a resource here.
import { z } from 'zod';
import {
  kBytesPattern,
  kDurationPattern,
  kQuantityPattern,
  parseBytes,
  parseDurationMs,
  parseQuantity,
} from './quantity';

/** A CEL rule and its twin in TypeScript, so that what the API server refuses is also refused where no API server stands between. */
export interface Rule<T> {
  /** CEL over `self`. */
  readonly rule: string;
  /** The same in TypeScript: true when the value is allowed. */
  readonly check: (value: T) => boolean;
  /** What is wrong and how to fix it, without the value. */
  readonly message: string;
  /** CEL of a message with the value in it, with the fix after its last semicolon as in `message`; the API server falls back to `message`. */
  readonly messageExpression?: string;
  /** Values that this rule, and nothing else, refuses: tests send them. Of an object, the fields beside those that it requires. */
  readonly refused: readonly unknown[];
}

const kRefused = new Map<string, readonly unknown[]>();

/** Values that a rule, given as its CEL, must refuse. */
export function refusedBy(rule: string): readonly unknown[] {
  return kRefused.get(rule) ?? [];
}

export function withRules<S extends z.ZodType>(schema: S, rules: readonly Rule<z.output<S>>[]): S {
  rules.forEach(({ rule, refused }) => kRefused.set(rule, refused));
  const checked = rules.reduce<z.ZodType>(
    (before, { check, message }) => before.refine((value) => check(value as z.output<S>), { message }),
    schema,
  );
  const validations = rules.map(({ rule, message, messageExpression }) =>
    messageExpression === undefined ? { rule, message } : { rule, message, messageExpression },
  );
  return checked.meta({ ...schema.meta(), 'x-kubernetes-validations': validations }) as S;
}

/** The words of a field's documentation; they become its description in the schema. */
export function described<S extends z.ZodType>(meaning: string, schema: S): S {
  return schema.meta({ ...schema.meta(), description: meaning });
}

/** One of some words. */
export function choice<const T extends readonly [string, ...string[]]>(meaning: string, words: T) {
  return described(meaning, z.enum(words));
}

export function integer(meaning: string, min: number, max: number) {
  const schema = z.int().min(min).max(max);
  return described(meaning, schema).meta({
    format: max > 0x7fffffff ? 'int64' : 'int32',
    description: meaning,
  });
}

export function text(meaning: string, pattern: RegExp, maxLength: number) {
  return described(meaning, z.string().min(1).max(maxLength).regex(pattern));
}

export interface BytesRange {
  readonly min: string;
  readonly max: string;
}

/** A quantity of bytes in a range; kept as text, read with parseBytes. */
export function bytes(meaning: string, { min, max }: BytesRange) {
  const low = parseBytes(min) as number;
  const high = parseBytes(max) as number;
  const allowed = `allowed: ${min} to ${max}`;
  return described(
    meaning,
    withRules(z.string().max(20).regex(kBytesPattern), [
      {
        rule: `isQuantity(self) && quantity(self).compareTo(quantity('${min}')) >= 0 && quantity(self).compareTo(quantity('${max}')) <= 0`,
        check: (value) => {
          const size = parseBytes(value);
          return size !== undefined && size >= low && size <= high;
        },
        message: `is out of range; ${allowed}`,
        messageExpression: `'is ' + self + '; ${allowed}'`,
        refused: [`${high + 1}`, ...(low === 0 ? [] : [`${low - 1}`])],
      },
    ]),
  );
}

export interface QuantityRange {
  readonly min: string;
  readonly max: string;
  readonly example: string;
}

/** A quantity that need not be whole, as text or a number, as in the resources of a container; read with parseQuantity. */
export function quantity(meaning: string, { min, max, example }: QuantityRange) {
  const [low, high] = [parseQuantity(min), parseQuantity(max)];
  const value = z
    .union([z.int(), z.string().max(32).regex(kQuantityPattern)])
    .meta({ pattern: kQuantityPattern.source, 'x-kubernetes-int-or-string': true });
  return described(
    meaning,
    withRules(value, [
      {
        // A whole number comes as one: its text is a quantity, too.
        rule: `isQuantity(string(self)) && quantity(string(self)).compareTo(quantity('${min}')) >= 0 && quantity(string(self)).compareTo(quantity('${max}')) <= 0`,
        check: (each) => parseQuantity(each) >= low && parseQuantity(each) <= high,
        message: `is out of range; allowed: ${min} to ${max}, such as ${example}`,
        refused: [-1, high + 1, `${high + 1}`, ...(low === 0 ? [] : [0, '0.5m'])],
      },
    ]),
  );
}

export interface DurationRange {
  readonly min: string;
  readonly max: string;
}

/** A Go duration in a range; kept as text, read with parseDurationMs. */
export function duration(meaning: string, { min, max }: DurationRange) {
  const low = parseDurationMs(min) as number;
  const high = parseDurationMs(max) as number;
  const allowed = `allowed: ${min} to ${max}`;
  return described(
    meaning,
    withRules(z.string().max(20).regex(kDurationPattern), [
      {
        rule: `duration(self) >= duration('${min}') && duration(self) <= duration('${max}')`,
        check: (value) => {
          const milliseconds = parseDurationMs(value);
          return milliseconds !== undefined && milliseconds >= low && milliseconds <= high;
        },
        message: `is out of range; ${allowed}`,
        messageExpression: `'is ' + self + '; ${allowed}'`,
        refused: [`${high + 1}ms`, ...(low === 0 ? [] : [`${low - 1}ms`])],
      },
    ]),
  );
}

/** Powers of two that a term may be long. A list and not a rule, so that an error shows what is allowed. */
export const kTermLengths = [
  '64Ki',
  '128Ki',
  '256Ki',
  '512Ki',
  '1Mi',
  '2Mi',
  '4Mi',
  '8Mi',
  '16Mi',
  '32Mi',
  '64Mi',
  '128Mi',
  '256Mi',
  '512Mi',
  '1Gi',
] as const;

/** Longest datagram: a header and one aligned frame at least, the longest UDP payload at most, a multiple of the frame alignment. */
export function mtu(meaning: string) {
  const allowed =
    'allowed: a multiple of 32 from 64 to 65504, for example 1408, or 8960 where all links take jumbo frames';
  return described(
    meaning,
    withRules(z.int().min(64).max(65504).meta({ format: 'int32' }), [
      {
        rule: 'self % 32 == 0',
        check: (value) => value % 32 === 0,
        // Without an expression: one that formats a number counts as more than a whole schema may cost. The API server says the value.
        message: `is no multiple of 32; ${allowed}`,
        refused: [65, 1500],
      },
    ]),
  );
}

/** A list whose entries differ from each other. */
export function setOf<S extends z.ZodType<string>>(items: S, min: number, max: number) {
  return z
    .array(items)
    .min(min)
    .max(max)
    .refine((values) => new Set(values).size === values.length, { message: 'has an entry twice' })
    .meta({ 'x-kubernetes-list-type': 'set' });
}

export function listOf<S extends z.ZodType>(items: S, min: number, max: number) {
  return z.array(items).min(min).max(max).meta({ 'x-kubernetes-list-type': 'atomic' });
}

/** A list of objects that `keys` tell apart: each entry may have another owner under server-side apply. */
export function mapList<S extends z.ZodObject>(items: S, keys: readonly [string, ...string[]], max: number) {
  return z
    .array(items)
    .max(max)
    .refine(
      (values) =>
        new Set(
          values.map((value) => JSON.stringify(keys.map((key) => (value as Record<string, unknown>)[key]))),
        ).size === values.length,
      { message: `has two entries with the same ${keys.join(', ')}` },
    )
    .meta({ 'x-kubernetes-list-type': 'map', 'x-kubernetes-list-map-keys': [...keys] });
}

/** RFC 1123 subdomain: names of most Kubernetes objects. */
export const kDnsName = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
/** RFC 1123 label: names of namespaces. */
export const kDnsLabel = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;

export function objectName(meaning: string) {
  return text(meaning, kDnsName, 253);
}

/** RFC 3339 time. */
export function time(meaning: string) {
  return described(meaning, z.string().meta({ format: 'date-time' }));
}
