// SPDX-License-Identifier: Apache-2.0
// The resources: what a spec may say, which defaults it gets, what their CRDs look like, which profile a pod takes.
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse, parseAllDocuments } from 'yaml';
import type { z } from 'zod';
import {
  customResourceDefinition,
  defaultProfileSpec,
  formatBytes,
  kResources,
  leaseEndMs,
  matches,
  parseBytes,
  parseDurationMs,
  selectProfile,
  sidecarProfileSpecSchema,
  structuralSchema,
  topicEndpointSliceSpecSchema,
  topicSpecSchema,
  type ProfileChoice,
  type SidecarProfile,
  type StructuralSchema,
} from './index';
import { allBad } from '../testing/bad_values';
import { refusedBy } from './schema';

function problems(schema: z.ZodType, value: unknown): string[] {
  const result = schema.safeParse(value);
  return result.success
    ? []
    : result.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`);
}

function walk(
  path: string,
  schema: StructuralSchema,
  visit: (path: string, node: StructuralSchema) => void,
): void {
  visit(path, schema);
  for (const [name, property] of Object.entries(schema.properties ?? {}))
    walk(`${path}.${name}`, property, visit);
  if (schema.items !== undefined) walk(`${path}[]`, schema.items, visit);
  if (schema.additionalProperties !== undefined) walk(`${path}{}`, schema.additionalProperties, visit);
}

const memberAt = (id: string) => ({
  id,
  role: 'Subscriber',
  namespace: 'trading',
  pod: 'p',
  podUid: 'u',
  node: 'n',
  endpoints: [{ network: 'pod', address: '10.0.0.7', port: 40200, mtu: 1500 }],
  lease: { renewTime: '2026-01-01T00:00:00Z', durationSeconds: 60 },
});

describe('quantities and durations', () => {
  it('reads the suffixes of bytes', () => {
    expect(['0', '4096', '64Ki', '1M', '2Gi'].map(parseBytes)).toEqual([
      0,
      4096,
      65_536,
      1_000_000,
      2 * 1024 ** 3,
    ]);
    expect(['', '1.5Gi', '-1', '64KiB', '1m', 'Ki'].map(parseBytes)).toEqual(Array(6).fill(undefined));
  });

  it('writes the shortest exact quantity', () => {
    expect([0, 1000, 65_536, 3 * 1024 ** 2, 1024 ** 4].map(formatBytes)).toEqual([
      '0',
      '1000',
      '64Ki',
      '3Mi',
      '1Ti',
    ]);
  });

  it('adds the parts of a duration', () => {
    expect(['250ms', '5s', '1m30s', '2h'].map(parseDurationMs)).toEqual([250, 5000, 90_000, 7_200_000]);
    expect(['', '5', '1d', '1.5s', '-1s'].map(parseDurationMs)).toEqual(Array(5).fill(undefined));
  });
});

describe('a SidecarProfile', () => {
  it('has a default for all that may be left out', () => {
    expect(defaultProfileSpec()).toMatchObject({
      backends: ['mmsg', 'socket'],
      threading: 'Shared',
      cores: 0,
      hugepages: { mode: 'Never', pageSize: '2Mi' },
      buffers: { termLength: '2Mi', mtu: 1408 },
      packet: { mode: 'Latency', receiveSockets: 1 },
      udpPorts: { first: 40_200, last: 40_231 },
      logging: { level: 'info' },
    });
  });

  it.each<[string, unknown, RegExp]>([
    ['a backend that is none', { backends: ['tcp'] }, /backends\.0: .*"mmsg"/],
    ['a backend twice', { backends: ['mmsg', 'mmsg'] }, /backends: has an entry twice/],
    ['no backend', { backends: [] }, /backends: /],
    ['more cores than threads', { cores: 2 }, /cores is more than the threads/],
    ['a core more than any mode has', { cores: 4, threading: 'Dedicated' }, /cores: /],
    ['memory below its range', { memory: '1Mi' }, /memory: is out of range; allowed: 16Mi to 1Ti/],
    [
      'memory that holds no stream',
      { memory: '64Mi', buffers: { termLength: '32Mi' } },
      /does not hold one stream/,
    ],
    ['a receive ring that is none', { packet: { mode: 'bulk' } }, /packet\.mode: .*"Latency"\|"Bulk"/],
    ['more sockets than are taken', { packet: { receiveSockets: 17 } }, /packet\.receiveSockets: .*16/],
    ['a term that is no power of two', { buffers: { termLength: '3Mi' } }, /buffers\.termLength: .*"64Ki"/],
    ['an MTU that is no multiple of 32', { buffers: { mtu: 1500 } }, /buffers\.mtu: is no multiple of 32/],
    [
      'a duration out of range',
      { timeouts: { drain: '2h' } },
      /timeouts\.drain: is out of range; allowed: 0s to 1h/,
    ],
    [
      'a broken page',
      { hugepages: { mode: 'Required', pageSize: '1Gi' }, backends: ['dpdk'] },
      /no multiple of pageSize/,
    ],
    ['hugepages for sockets', { hugepages: { mode: 'Required' } }, /none of backends uses hugepages/],
    ['a port range upside down', { udpPorts: { first: 50_000 } }, /udpPorts: first is above last/],
    [
      'a profile file without its type',
      { seccompProfile: { localhostProfile: 'x' } },
      /goes with type Localhost/,
    ],
    ['an unknown field', { threads: 'Shared' }, /threads/],
  ])('refuses %s', (_, spec, message) => {
    expect(problems(sidecarProfileSpecSchema, spec).join('\n')).toMatch(message);
  });
});

describe('a Topic', () => {
  it('is reliable, and leaves flow control and buffers to the profile', () => {
    expect(topicSpecSchema.parse({})).toEqual({ delivery: 'Reliable' });
  });

  it.each<[string, unknown, RegExp]>([
    ['a stream id beyond 32 bits', { streamId: 2 ** 31 }, /streamId: /],
    [
      'a tag without Tagged',
      { flowControl: { strategy: 'Min', groupTag: 7 } },
      /groupTag goes with strategy Tagged/,
    ],
    ['Tagged without a tag', { flowControl: { strategy: 'Tagged' } }, /groupTag goes with strategy Tagged/],
    [
      'a group under Max',
      { flowControl: { strategy: 'Max', groupMinSize: 2 } },
      /has no effect with strategy Max/,
    ],
    ['an entry that allows nothing', { allow: [{ serviceAccounts: ['a'] }] }, /allow\.0: allows nothing/],
    [
      'a service account that can not be',
      { allow: [{ publish: true, serviceAccounts: ['A b'] }] },
      /serviceAccounts/,
    ],
  ])('refuses %s', (_, spec, message) => {
    expect(problems(topicSpecSchema, spec).join('\n')).toMatch(message);
  });
});

describe('a TopicEndpointSlice', () => {
  it('takes up to 100 members and refuses one twice', () => {
    const members = Array.from({ length: 100 }, (_, i) => memberAt(`m${i}`));
    expect(problems(topicEndpointSliceSpecSchema, { topic: 'quotes', members })).toEqual([]);
    expect(
      problems(topicEndpointSliceSpecSchema, { topic: 'quotes', members: [...members, memberAt('m100')] }),
    ).toHaveLength(1);
    expect(
      problems(topicEndpointSliceSpecSchema, { topic: 'quotes', members: [memberAt('a'), memberAt('a')] }),
    ).toEqual(['members: has two entries with the same id, role']);
  });

  it('ends a lease after its duration, and at once when its time is nonsense', () => {
    expect(leaseEndMs({ renewTime: '2026-01-01T00:00:00Z', durationSeconds: 60 })).toBe(
      Date.UTC(2026, 0, 1, 0, 1),
    );
    expect(leaseEndMs({ renewTime: 'yesterday', durationSeconds: 60 })).toBe(0);
  });
});

describe.each(kResources.map((each) => [each.kind, each] as const))('the CRD of %s', (_, resource) => {
  const definition = customResourceDefinition(resource) as {
    spec: { versions: { schema: { openAPIV3Schema: StructuralSchema } }[] };
  };
  const root = definition.spec.versions[0]?.schema.openAPIV3Schema as StructuralSchema;

  it('is structural: every node has a type, and no object has both properties and additionalProperties', () => {
    walk('', root, (path, node) => {
      const both = node.properties !== undefined && node.additionalProperties !== undefined;
      expect([path, node.type !== undefined || node['x-kubernetes-int-or-string'] === true, both]).toEqual([
        path,
        true,
        false,
      ]);
    });
  });

  it('says what each field means', () => {
    walk('', root, (path, node) => {
      if (path === '' || path === '.metadata' || /(\[\]|\{\})$/.test(path)) return;
      expect([path, node.description]).toEqual([path, expect.stringMatching(/\w/)]);
    });
  });

  it('bounds every list, and every text that a CEL rule reads, so that the cost of a rule is bounded', () => {
    walk('', root, (path, node) => {
      if (node.type === 'array') expect([path, node.maxItems]).toEqual([path, expect.any(Number)]);
      if (node['x-kubernetes-validations'] !== undefined && node.type === 'string') {
        expect([path, node.maxLength]).toEqual([path, expect.any(Number)]);
      }
    });
  });

  it('has defaults that its own schema takes', () => {
    expect(problems(resource.spec, resource.specOptional ? {} : { topic: 'a' })).toEqual([]);
  });

  it('takes its example', () => {
    expect(problems(resource.spec, (parse(resource.example) as { spec: unknown }).spec)).toEqual([]);
  });
});

describe('the resources that the documentation shows', () => {
  const folder = join(__dirname, '../../../docs');
  const shown = globSync('*.md', { cwd: folder }).flatMap((file) =>
    [...readFileSync(join(folder, file), 'utf8').matchAll(/^```ya?ml\n(.*?)^```/gms)]
      .flatMap(([, text = '']) => parseAllDocuments(text).map((each) => each.toJS() as unknown))
      .flatMap((value) => {
        const { kind, spec } = (value ?? {}) as { kind?: string; spec?: unknown };
        const resource = kResources.find((each) => each.kind === kind);
        return resource === undefined ? [] : [[file, resource.kind, resource.spec, spec ?? {}] as const];
      }),
  );

  it('are found', () => {
    const kinds = kResources.map(({ kind }) => kind);
    expect([...new Set(shown.map(([, kind]) => kind))].toSorted()).toEqual(kinds.toSorted());
    expect(shown.filter(([file]) => file === 'backends.md').length).toBeGreaterThan(1);
  });

  it.each(shown)('are such that the API server takes them: %s, %s', (_, __, schema, spec) => {
    expect(problems(schema, spec)).toEqual([]);
  });
});

/** What zod does not look at: a text that the API server parses as a time. */
const kServerAlone = '"yesterday"';

describe.each(
  kResources.flatMap((each) => [
    [`spec of ${each.kind}`, each.spec] as const,
    ...(each.status === undefined ? [] : [[`status of ${each.kind}`, each.status] as const]),
  ]),
)('the types of the %s', (_, schema) => {
  const bad = allBad(structuralSchema(schema), 'it');

  it('refuse whatever the API server must refuse', () => {
    const taken = bad
      .filter(({ value }) => schema.safeParse(value).success)
      .map(({ place, value }) => `${place} ${JSON.stringify(value)}`);
    expect(taken.filter((each) => !each.includes(kServerAlone))).toEqual([]);
  });

  it('say of each rule what to do about it', () => {
    for (const { place, value, says } of bad.filter((each) => each.says !== '')) {
      expect([place, problems(schema, value).join('\n')]).toEqual([place, expect.stringContaining(says)]);
    }
  });

  it('show for each rule what it refuses', () => {
    walk('', structuralSchema(schema), (path, node) => {
      for (const { rule } of node['x-kubernetes-validations'] ?? []) {
        // A rule on a change can't be shown by one value.
        expect([path, refusedBy(rule).length > 0 || rule.includes('oldSelf')]).toEqual([path, true]);
      }
    });
  });
});

describe('structuralSchema', () => {
  it('writes defaults of objects out whole, since the API server holds rules against them as they are written', () => {
    const spec = structuralSchema(sidecarProfileSpecSchema);
    expect(spec.properties?.['buffers']?.default).toMatchObject({ mtu: 1408, termLength: '2Mi' });
    expect(spec.properties?.['buffers']?.properties?.['mtu']?.default).toBe(1408);
  });
});

describe('a label selector', () => {
  it.each([
    [{}, { a: 'b' }, true],
    [{ matchLabels: { a: 'b' } }, { a: 'b', c: 'd' }, true],
    [{ matchLabels: { a: 'b' } }, { a: 'c' }, false],
    [{ matchExpressions: [{ key: 'a', operator: 'In', values: ['x', 'b'] }] }, { a: 'b' }, true],
    [{ matchExpressions: [{ key: 'a', operator: 'NotIn', values: ['b'] }] }, {}, true],
    [{ matchExpressions: [{ key: 'a', operator: 'NotIn', values: ['b'] }] }, { a: 'b' }, false],
    [{ matchExpressions: [{ key: 'a', operator: 'Exists' }] }, {}, false],
    [{ matchExpressions: [{ key: 'a', operator: 'In', values: ['b'] }] }, {}, false],
    [{ matchExpressions: [{ key: 'a', operator: 'Exists' }] }, { a: '' }, true],
    [{ matchExpressions: [{ key: 'a', operator: 'DoesNotExist' }] }, {}, true],
    [{ matchExpressions: [{ key: 'a', operator: 'DoesNotExist' }] }, { a: '' }, false],
    [{ matchLabels: { a: '1' }, matchExpressions: [{ key: 'b', operator: 'Exists' }] }, { a: '1' }, false],
    // From before the API server refused them: they match nothing.
    [{ matchExpressions: [{ key: 'a', operator: 'NotIn' }] }, { b: 'c' }, false],
    [{ matchExpressions: [{ key: 'a', operator: 'NotIn', values: [] }] }, {}, false],
    [{ matchExpressions: [{ key: 'a', operator: 'In' }] }, { a: 'b' }, false],
    [{ matchExpressions: [{ key: 'a', operator: 'Exists', values: ['b'] }] }, { a: 'c' }, false],
    [{ matchExpressions: [{ key: 'a', operator: 'Maybe' }] }, { a: '' }, false],
  ] as const)('%j on %j is %s', (selector, labels, expected) => {
    expect(matches(selector, labels)).toBe(expected);
  });
});

describe('the profile of a pod', () => {
  const profile = (name: string, born: number, spec: object): SidecarProfile => ({
    metadata: { name, creationTimestamp: new Date(born).toISOString() },
    spec: sidecarProfileSpecSchema.parse(spec),
  });
  const selects = { podSelector: { matchLabels: { app: 'feed' } } };
  const older = profile('older', 1, selects);
  const younger = profile('younger', 2, selects);
  const byDefault = profile('standard', 3, { default: true });
  const summary = (result: ProfileChoice) =>
    result.kind === 'profile'
      ? [result.profile.metadata.name, result.by, result.over.map(({ metadata }) => metadata.name)]
      : result;

  it('is the one that the annotation names, whoever selects the pod', () => {
    const pod = { labels: { app: 'feed' }, annotations: { 'outrigger.dev/profile': 'standard' } };
    expect(summary(selectProfile(pod, [older, byDefault]))).toEqual(['standard', 'annotation', []]);
  });

  it('is none when the annotation names one that is not there', () => {
    const pod = { annotations: { 'outrigger.dev/profile': 'standart' } };
    expect(selectProfile(pod, [older, byDefault])).toEqual({
      kind: 'unknown',
      name: 'standart',
      known: ['older', 'standard'],
    });
  });

  it('is the oldest that selects it, and names the others', () => {
    expect(summary(selectProfile({ labels: { app: 'feed' } }, [byDefault, younger, older]))).toEqual([
      'older',
      'selector',
      ['younger'],
    ]);
  });

  it('is the default one when none selects it, and the built-in one when there is no default', () => {
    expect(summary(selectProfile({}, [older, byDefault]))).toEqual(['standard', 'default', []]);
    expect(selectProfile({}, [older])).toEqual({ kind: 'none' });
  });
});
