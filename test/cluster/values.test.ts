// SPDX-License-Identifier: Apache-2.0
// The values of the chart, as the real helm refuses them: every field with values that it must not take, found by walking the schema, so that a
// field that is added is tested too. No release is made.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { badIntegers, kBadBooleans } from '../../operator/src/testing/bad_values';
import { command } from './kubectl';
import { kChart } from './support/product';

jest.setTimeout(240_000);

interface JsonSchema {
  readonly type?: string;
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly additionalProperties?: boolean | JsonSchema;
  readonly items?: JsonSchema;
  readonly enum?: readonly string[];
  readonly pattern?: string;
  readonly format?: string;
  readonly minLength?: number;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly anyOf?: readonly JsonSchema[];
}

interface Bad {
  /** As helm writes it: /operator/replicas. */
  readonly place: string;
  readonly path: readonly string[];
  readonly value: unknown;
}

/** Values that a field of this kind must refuse. */
function badValues(schema: JsonSchema): unknown[] {
  switch (schema.type) {
    case 'integer':
    case 'number':
      return badIntegers(schema);
    case 'boolean':
      return [...kBadBooleans];
    case 'string':
      return [
        7,
        ...(schema.enum === undefined ? [] : ['none of them']),
        ...(schema.pattern === undefined ? [] : ['! not so !']),
        ...(schema.minLength === undefined ? [] : ['']),
      ];
    case 'array':
      return [
        'no list',
        ...(schema.items === undefined ? [] : badValues(schema.items).map((each) => [each])),
      ];
    case 'object': {
      const values = schema.additionalProperties;
      const inner = typeof values === 'object' ? (values.anyOf === undefined ? badValues(values) : [{}]) : [];
      return ['no object', 7, ...inner.map((each) => ({ key: each }))];
    }
    default:
      return schema.anyOf === undefined ? [] : [[]];
  }
}

function allBad(schema: JsonSchema, path: readonly string[] = []): Bad[] {
  const here = (value: unknown): Bad => ({ place: `/${path.join('/')}`, path, value });
  if (schema.properties === undefined) {
    return path.length === 0 ? [] : badValues(schema).map(here);
  }
  const inner = Object.entries(schema.properties).flatMap(([key, property]) =>
    allBad(property, [...path, key]),
  );
  // A mistyped key would change nothing silently.
  const unknown = schema.additionalProperties === false ? [here({ mistyped: 1 })] : [];
  return [...inner, ...unknown, ...(path.length === 0 ? [] : [here('no object')])];
}

const kSchema = JSON.parse(readFileSync(join(kChart, 'values.schema.json'), 'utf8')) as JsonSchema;
const kBad = allBad(kSchema);

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'outrigger-values-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function template(values: unknown): Promise<{ readonly ok: boolean; readonly stderr: string }> {
  const file = join(folder, 'values.json');
  writeFileSync(file, JSON.stringify(values));
  return command('helm', ['template', 'outrigger', kChart, '--values', file]);
}

function isBelow(path: readonly string[], other: readonly string[]): boolean {
  return other.every((step, i) => path[i] === step);
}

/** Bad values that can stand in one file, since none is inside another: helm names all that is wrong at once. */
function rounds(all: readonly Bad[]): Bad[][] {
  const made: Bad[][] = [];
  for (const bad of all) {
    const fits = made.find((round) =>
      round.every(({ path }) => !isBelow(path, bad.path) && !isBelow(bad.path, path)),
    );
    if (fits === undefined) {
      made.push([bad]);
    } else {
      fits.push(bad);
    }
  }
  return made;
}

function valuesOf(round: readonly Bad[]): unknown {
  const values: Record<string, unknown> = {};
  for (const { path, value } of round) {
    if (path.length === 0) {
      return value;
    }
    let at = values;
    for (const step of path.slice(0, -1)) {
      at = (at[step] ??= {}) as Record<string, unknown>;
    }
    at[path.at(-1) as string] = value;
  }
  return values;
}

/** What helm says of one place, and of no other. */
function isNamed({ place, path }: Bad, stderr: string): boolean {
  return path.length === 0
    ? stderr.includes("additional properties 'mistyped'")
    : stderr.split('\n').some((line) => line.includes(`at '${place}'`) || line.includes(`at '${place}/`));
}

describe('helm', () => {
  it('finds fields to test in each part of the values', () => {
    const parts = new Set(kBad.map(({ path }) => path[0]));
    expect(Object.keys(kSchema.properties ?? {}).filter((each) => !parts.has(each))).toEqual([]);
    expect(kBad.length).toBeGreaterThan(100);
  });

  it('takes the chart with its own values, and says nothing at lint', async () => {
    expect(await template({})).toMatchObject({ ok: true });
    const lint = await command('helm', ['lint', kChart]);
    expect(lint.ok ? '' : lint.stdout + lint.stderr).toBe('');
  });

  it('refuses a range of ports that ends before it begins', async () => {
    expect(await template({ udpPorts: { first: 40_300, last: 40_200 } })).toMatchObject({
      ok: false,
      stderr: expect.stringContaining(
        'udpPorts.first is 40300, above udpPorts.last, which is 40200',
      ) as string,
    });
    expect(await template({ udpPorts: { first: 40_300, last: 40_300 } })).toMatchObject({ ok: true });
  });

  it('refuses certificates that outlive their CA, with which the operator would not start', async () => {
    // The default of servingLife, beside the shortest authorityLife.
    expect(await template({ certificates: { authorityLife: '168h' } })).toMatchObject({
      ok: false,
      stderr: expect.stringContaining(
        'certificates.servingLife is 2160h, longer than certificates.authorityLife, which is 168h',
      ) as string,
    });
    const equal = { authorityLife: '168h', servingLife: '168h' };
    expect(await template({ certificates: equal })).toMatchObject({ ok: true });
  });

  it('refuses times of the lease with which two replicas could lead, in whatever unit they are', async () => {
    const times = { leaseDuration: '2m', renewDeadline: '90s', retryPeriod: '1500ms' };
    const leaderElection = (change: object): object => ({
      operator: { leaderElection: { ...times, ...change } },
    });
    expect(await template(leaderElection({}))).toMatchObject({ ok: true });
    for (const change of [{ renewDeadline: '2m' }, { retryPeriod: '60s', renewDeadline: '60000ms' }]) {
      expect(await template(leaderElection(change))).toMatchObject({
        ok: false,
        stderr: expect.stringContaining('each must be longer than the next') as string,
      });
    }
  });

  it('refuses every bad value of every field, and names the field', async () => {
    const taken: string[] = [];
    for (const round of rounds(kBad)) {
      const { ok, stderr } = await template(valuesOf(round));
      const missed = round.filter((each) => ok || !isNamed(each, stderr));
      taken.push(...missed.map(({ place, value }) => `${place}: ${JSON.stringify(value)} is taken`));
    }
    expect(taken).toEqual([]);
  });
});
