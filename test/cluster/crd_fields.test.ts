// SPDX-License-Identifier: Apache-2.0
// Every field of spec and status of every resource with values that it must not take, and every rule over several fields with values that don't
// go together, on a real API server: found by walking the schemas, so that a field or rule that is added is tested too. What is out of range is
// refused with the field's name; nothing bad is stored, since those requests are dry runs.
import { kResources, structuralSchema, type ResourceDefinition } from '../../operator/src/api';
import { ApiClient } from '../../operator/src/kit/api_client';
import { ApiError } from '../../operator/src/kit/api_error';
import { allBad, goodValue, type Bad } from '../../operator/src/testing/bad_values';
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

interface Named {
  readonly metadata: { readonly resourceVersion: string };
}

async function refusalOf(request: Promise<unknown>): Promise<string | undefined> {
  try {
    await request;
    return undefined;
  } catch (error) {
    if (error instanceof ApiError && (error.status === 422 || error.status === 400)) {
      return error.message;
    }
    throw error;
  }
}

function pathOf({ group, version, plural }: ResourceDefinition): string {
  return `/apis/${group}/${version}/namespaces/default/${plural}`;
}

function create<T>(
  resource: ResourceDefinition,
  name: string,
  spec: unknown,
  dryRun: 'All' | undefined,
): Promise<T> {
  const { group, version, kind } = resource;
  return api.request<T>({
    method: 'POST',
    path: pathOf(resource),
    query: { dryRun, fieldValidation: 'Strict' },
    body: { apiVersion: `${group}/${version}`, kind, metadata: { name }, spec },
  });
}

/** What is taken although it must not be, or refused without its name. */
async function wronglyTaken(
  all: readonly Bad[],
  refusal: (value: unknown) => Promise<string | undefined>,
): Promise<string[]> {
  const wrong: string[] = [];
  for (const { place, value, says } of all) {
    const message = await refusal(value);
    // The last step stands for the whole: of what a list's entry lacks, the server names the entry.
    if (message?.includes(place) !== true || !message.includes(says)) {
      wrong.push(`${place} ${JSON.stringify(value).slice(0, 200)}: ${message ?? 'is taken'}`);
    }
  }
  return wrong;
}

describe.each(kResources.map((each) => [each.kind, each] as const))('the fields of %s', (_, resource) => {
  const schema = structuralSchema(resource.spec);
  const bad = allBad(schema, 'spec');
  const refusal = (spec: unknown): Promise<string | undefined> =>
    refusalOf(create(resource, 'bad', spec, 'All'));

  it('are taken with what each asks for at least', async () => {
    expect(await refusal(goodValue(schema, ''))).toBeUndefined();
  });

  it('are refused out of range, each by its name, and where they do not go together, with the fix', async () => {
    expect(bad.length).toBeGreaterThan(10);
    expect(await wronglyTaken(bad, refusal)).toEqual([]);
  });

  it('are refused where nobody knows them', async () => {
    expect(await refusal({ ...(goodValue(schema, '') as object), mistyped: 1 })).toContain('mistyped');
  });
});

const kWithStatus = kResources.flatMap((each) =>
  each.status === undefined ? [] : [[each.kind, each, structuralSchema(each.status)] as const],
);

describe.each(kWithStatus)('the status of %s', (_, resource, schema) => {
  const name = 'status-fields';
  const path = `${pathOf(resource)}/${name}`;
  let made: Named;
  beforeAll(async () => {
    made = await create<Named>(resource, name, {}, undefined);
  });
  afterAll(() => api.request({ method: 'DELETE', path }));

  const refusal = (status: unknown): Promise<string | undefined> =>
    refusalOf(
      api.request({
        method: 'PUT',
        path: `${path}/status`,
        query: { dryRun: 'All', fieldValidation: 'Strict' },
        body: { ...made, status },
      }),
    );

  it('is taken with what each field asks for at least', async () => {
    expect(await refusal(goodValue(schema, ''))).toBeUndefined();
  });

  it('is refused out of range, each field by its name', async () => {
    const bad = allBad(schema, 'status');
    expect(bad.length).toBeGreaterThan(10);
    expect(await wronglyTaken(bad, refusal)).toEqual([]);
  });
});
