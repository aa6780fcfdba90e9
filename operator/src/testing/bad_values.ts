// SPDX-License-Identifier: Apache-2.0
// Values that a schema of a resource must not take, for every field and every rule, found by walking it: a field or a rule that is added is
// tested too. Who sends them where is for the tests to say.
import { refusedBy } from '../api/schema';
import type { StructuralSchema } from '../api';

/** Of texts that are more than a letter. */
const kGoodByName: ReadonlyMap<string, string> = new Map([
  ['address', '10.0.0.1'],
  ['resource', 'example.com/nic'],
]);

/** A value that the field takes: the least that its schema asks for. */
export function goodValue(schema: StructuralSchema, key: string): unknown {
  if (schema.default !== undefined) {
    return schema.default;
  }
  switch (schema.type) {
    case 'integer':
      return schema.minimum ?? 1;
    case 'boolean':
      return true;
    case 'array':
      return schema.items === undefined || schema.minItems === undefined
        ? []
        : [goodValue(schema.items, key)];
    case 'object':
      return Object.fromEntries(
        Object.entries(schema.properties ?? {})
          .filter(([name]) => schema.required?.includes(name) === true)
          .map(([name, property]) => [name, goodValue(property, name)]),
      );
    default:
      if (schema.enum !== undefined) {
        return schema.enum[0];
      }
      return schema.format === 'date-time' ? '2026-01-01T00:00:00Z' : (kGoodByName.get(key) ?? 'a');
  }
}

interface Bounds {
  readonly minimum?: number;
  readonly maximum?: number;
}

/** What is no whole number, and the numbers just beyond its bounds. */
export function badIntegers({ minimum, maximum }: Bounds): unknown[] {
  return [
    'many',
    1.5,
    ...(minimum === undefined ? [] : [minimum - 1]),
    ...(maximum === undefined ? [] : [maximum + 1]),
  ];
}

export const kBadBooleans: readonly unknown[] = ['perhaps', 1];

function badStrings(schema: StructuralSchema): unknown[] {
  return [
    7,
    ...(schema.enum === undefined ? [] : ['Nonsense']),
    ...(schema.pattern === undefined ? [] : ['! not so !']),
    ...(schema.maxLength === undefined ? [] : ['a'.repeat(schema.maxLength + 1)]),
    ...(schema.format === 'date-time' ? ['yesterday'] : []),
  ];
}

function badValues(schema: StructuralSchema): unknown[] {
  if (schema['x-kubernetes-int-or-string'] === true) {
    return ['! not so !', '-1', '1.2.3', '...', '5kk', 1.5, true];
  }
  switch (schema.type) {
    case 'integer':
      return badIntegers(schema);
    case 'boolean':
      return [...kBadBooleans];
    case 'string':
      return badStrings(schema);
    case 'array': {
      const good = schema.items === undefined ? 'a' : goodValue(schema.items, '');
      return [
        'no list',
        ...(schema.minItems === undefined || schema.minItems === 0 ? [] : [[]]),
        ...(schema.maxItems === undefined ? [] : [Array.from({ length: schema.maxItems + 1 }, () => good)]),
        ...(schema['x-kubernetes-list-type'] === 'atomic' ? [] : [[good, good]]),
      ];
    }
    case 'object':
      return ['no object', 7];
    default:
      return [];
  }
}

export interface Bad {
  /** As the API server writes it: spec.allow[0].publish. */
  readonly place: string;
  /** The whole, with a bad value in it. */
  readonly value: unknown;
  /** Words that the refusal has besides: the fix of the rule that is broken. */
  readonly says: string;
}

type Wrap = (value: unknown) => unknown;

/** What a rule's message ends with, whether the server says it in its plain words or with the value in them. */
function fixOf(message: string): string {
  return message.split('; ').at(-1) ?? message;
}

/** Values against each rule of a schema, nothing else being wrong with them. */
function againstRules(schema: StructuralSchema, place: string, wrap: Wrap): Bad[] {
  return (schema['x-kubernetes-validations'] ?? []).flatMap(({ rule, message }) =>
    refusedBy(rule).map((refused) => {
      const value =
        schema.properties === undefined
          ? refused
          : { ...(goodValue(schema, '') as object), ...(refused as object) };
      return { place, value: wrap(value), says: fixOf(message) };
    }),
  );
}

/** All bad values below a schema; `wrap` makes the whole of a value that stands here. */
export function allBad(schema: StructuralSchema, place: string, wrap: Wrap = (value) => value): Bad[] {
  const bad = (at: string, value: unknown): Bad => ({ place: at, value: wrap(value), says: '' });
  const here = [...badValues(schema).map((value) => bad(place, value)), ...againstRules(schema, place, wrap)];
  if (schema.properties !== undefined) {
    const base = goodValue(schema, '') as Record<string, unknown>;
    const missing = (schema.required ?? []).map((name) =>
      bad(`${place}.${name}`, Object.fromEntries(Object.entries(base).filter(([key]) => key !== name))),
    );
    const inner = Object.entries(schema.properties).flatMap(([name, property]) =>
      allBad(property, `${place}.${name}`, (value) => wrap({ ...base, [name]: value })),
    );
    return [...here, ...missing, ...inner];
  }
  if (schema.items !== undefined) {
    return [...here, ...allBad(schema.items, `${place}[0]`, (value) => wrap([value]))];
  }
  const { additionalProperties } = schema;
  return additionalProperties === undefined
    ? here
    : [...here, ...allBad(additionalProperties, `${place}.key`, (value) => wrap({ key: value }))];
}
