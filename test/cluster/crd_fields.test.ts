// SPDX-License-Identifier: Apache-2.0
// Every field of every resource with values that it must not take, on a real API server: found by walking the schemas, so that a field that is
// added is tested too. What is out of range is refused with the field's name; nothing is stored, since all requests are dry runs.
import {
  kResources,
  structuralSchema,
  type ResourceDefinition,
  type StructuralSchema,
} from '../../operator/src/api';
import { ApiClient } from '../../operator/src/kit/api_client';
import { ApiError } from '../../operator/src/kit/api_error';
import { kubeconfigAuth } from '../../operator/src/testing/test_cluster';
import { installCrds } from './crds';

jest.setTimeout(240_000);

let api: ApiClient;

beforeAll(async () => {
  const auth = kubeconfigAuth(process.env['KUBECONFIG'] ?? '');
  api = new ApiClient({ auth, userAgent: 'outrigger-test', timeoutMs: 20_000, perSecond: 1000, burst: 1000 });
  await installCrds();
});
afterAll(() => api.close());

/** A value that the field takes: the least that its schema asks for. */
function goodValue(schema: StructuralSchema, key: string): unknown {
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
      return schema.format === 'date-time' ? '2026-01-01T00:00:00Z' : key === 'address' ? '10.0.0.1' : 'a';
  }
}

/** "allowed: 16Mi to 1Ti" of a rule on a quantity or a duration. */
function rangeOf({ 'x-kubernetes-validations': rules = [] }: StructuralSchema): RegExpExecArray | null {
  return (
    rules.map(({ message }) => /allowed: (\S+) to (\S+)$/.exec(message)).find((each) => each !== null) ?? null
  );
}

function badStrings(schema: StructuralSchema): unknown[] {
  const range = rangeOf(schema);
  const isDuration = range !== null && /[a-z]$/.test(range[1] ?? '') && /(ms|s|m|h)$/.test(range[2] ?? '');
  const outside =
    range === null
      ? []
      : isDuration
        ? ['9999h', ...((range[1] ?? '').startsWith('0') ? [] : ['0s'])]
        : ['8Pi', ...(range[1] === '0' ? [] : ['1'])];
  return [
    7,
    ...(schema.enum === undefined ? [] : ['Nonsense']),
    ...(schema.pattern === undefined ? [] : ['! not so !']),
    ...(schema.maxLength === undefined ? [] : ['a'.repeat(schema.maxLength + 1)]),
    ...(schema.format === 'date-time' ? ['yesterday'] : []),
    ...outside,
  ];
}

function badValues(schema: StructuralSchema): unknown[] {
  if (schema['x-kubernetes-int-or-string'] === true) {
    return ['! not so !', true];
  }
  switch (schema.type) {
    case 'integer':
      return [
        'many',
        1.5,
        ...(schema.minimum === undefined ? [] : [schema.minimum - 1]),
        ...(schema.maximum === undefined ? [] : [schema.maximum + 1]),
        ...(schema.format === 'int32' && schema.maximum === undefined ? [2 ** 31] : []),
        ...((schema['x-kubernetes-validations'] ?? []).some(({ rule }) => rule.includes('% 32')) ? [65] : []),
      ];
    case 'boolean':
      return ['perhaps', 1];
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

interface Bad {
  /** As the API server writes it: spec.allow[0].publish. */
  readonly place: string;
  readonly spec: unknown;
}

type Wrap = (value: unknown) => unknown;

/** All bad values below a schema; `wrap` makes a whole spec of a value that stands here. */
function allBad(schema: StructuralSchema, place: string, wrap: Wrap): Bad[] {
  const here = badValues(schema).map((value) => ({ place, spec: wrap(value) }));
  if (schema.properties !== undefined) {
    const base = goodValue(schema, '') as Record<string, unknown>;
    const missing = (schema.required ?? []).map((name) => ({
      place: `${place}.${name}`,
      spec: wrap(Object.fromEntries(Object.entries(base).filter(([key]) => key !== name))),
    }));
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

async function refusal(resource: ResourceDefinition, spec: unknown): Promise<string | undefined> {
  const { group, version, kind, plural } = resource;
  try {
    await api.request({
      method: 'POST',
      path: `/apis/${group}/${version}/namespaces/default/${plural}`,
      query: { dryRun: 'All', fieldValidation: 'Strict' },
      body: { apiVersion: `${group}/${version}`, kind, metadata: { name: 'bad' }, spec },
    });
    return undefined;
  } catch (error) {
    if (error instanceof ApiError && (error.status === 422 || error.status === 400)) {
      return error.message;
    }
    throw error;
  }
}

describe.each(kResources.map((each) => [each.kind, each] as const))('the fields of %s', (_, resource) => {
  const schema = structuralSchema(resource.spec);
  const bad = allBad(schema, 'spec', (value) => value);

  it('are taken with what each asks for at least', async () => {
    expect(await refusal(resource, goodValue(schema, ''))).toBeUndefined();
  });

  it('are refused out of range, each by its name', async () => {
    expect(bad.length).toBeGreaterThan(10);
    const taken: string[] = [];
    for (const { place, spec } of bad) {
      const message = await refusal(resource, spec);
      // The last step stands for the whole: of what a list's entry lacks, the server names the entry.
      if (message?.includes(place) !== true) {
        taken.push(`${place} ${JSON.stringify(spec).slice(0, 200)}: ${message ?? 'is taken'}`);
      }
    }
    expect(taken).toEqual([]);
  });

  it('are refused where nobody knows them', async () => {
    expect(await refusal(resource, { ...(goodValue(schema, '') as object), mistyped: 1 })).toContain(
      'mistyped',
    );
  });
});
