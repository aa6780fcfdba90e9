// SPDX-License-Identifier: Apache-2.0
// The resources on a real API server: what the chart installs, it accepts, defaults and refuses as operator/src/api says.
import { join } from 'node:path';
import { kResources, type ResourceDefinition } from '../../operator/src/api';
import { apply, command, get, helm, kubectl, refusalOf, until } from './kubectl';

const kChart = join(__dirname, '../../charts/outrigger');
const kApi = 'outrigger.dev/v1alpha1';

function topic(name: string, spec: object): object {
  return { apiVersion: kApi, kind: 'Topic', metadata: { name, namespace: 'default' }, spec };
}

function profile(name: string, spec: object): object {
  return { apiVersion: kApi, kind: 'SidecarProfile', metadata: { name, namespace: 'default' }, spec };
}

const kCondition = {
  type: 'Ready',
  status: 'True',
  reason: 'AsItShouldBe',
  message: '',
  lastTransitionTime: '2026-01-01T00:00:00Z',
};

/** An object of each kind with something in every column. */
const kTables: readonly {
  readonly kind: string;
  readonly spec: object;
  readonly status?: object;
  readonly cells: Readonly<Record<string, string>>;
}[] = [
  {
    kind: 'SidecarProfile',
    spec: { threading: 'Dedicated', cores: 2, memory: '256Mi', backends: ['uring', 'mmsg'] },
    status: { pods: 3, conditions: [kCondition] },
    cells: {
      BACKENDS: '["uring","mmsg"]',
      THREADING: 'Dedicated',
      DEFAULT: 'false',
      PODS: '3',
      READY: 'True',
      REASON: 'AsItShouldBe',
      CORES: '2',
      MEMORY: '256Mi',
      HUGEPAGES: 'Never',
    },
  },
  {
    kind: 'Topic',
    spec: { delivery: 'BestEffort' },
    status: { streamId: 7, publishers: 1, subscribers: 2, conditions: [kCondition] },
    cells: {
      STREAM: '7',
      DELIVERY: 'BestEffort',
      PUBLISHERS: '1',
      SUBSCRIBERS: '2',
      READY: 'True',
      REASON: 'AsItShouldBe',
    },
  },
  {
    kind: 'TopicEndpointSlice',
    spec: {
      topic: 'quotes',
      members: ['a', 'b'].map((pod, i) => ({
        ...{ id: pod, role: 'Subscriber', namespace: 'default', pod, podUid: pod, node: 'node1' },
        endpoints: [{ network: 'pod', address: `10.244.0.${i + 1}`, port: 40_200, mtu: 1500 }],
        lease: { renewTime: '2026-01-01T00:00:00Z', durationSeconds: 60 },
      })),
    },
    cells: { TOPIC: 'quotes', PODS: 'a', ADDRESSES: '10.244.0.1' },
  },
];

describe('the cluster', () => {
  it('has two nodes that are Ready and a name server that answers at the address that pods ask', async () => {
    const nodes = await get<{ items: { status: { conditions: { type: string; status: string }[] } }[] }>(
      'nodes',
    );
    expect(nodes.items).toHaveLength(2);
    for (const { status } of nodes.items) {
      expect(status.conditions).toContainEqual(expect.objectContaining({ type: 'Ready', status: 'True' }));
    }
    const { Resolver } = await import('node:dns/promises');
    const resolver = new Resolver({ timeout: 2000, tries: 10 });
    resolver.setServers(['10.96.0.10']);
    expect(await resolver.resolve4('kubernetes.default.svc.cluster.local')).toEqual(['10.96.0.1']);
  });
});

describe('the resources of the chart', () => {
  beforeAll(async () => {
    await kubectl(['apply', '--server-side', '-f', '-'], {
      input: await helm('template', 'outrigger', kChart, '--show-only', 'templates/crds/*.yaml'),
    });
    await kubectl(['wait', '--for=condition=Established', '--timeout=30s', 'crd', '-l', '!none', '--all']);
    await until('topics are served', async () => (await command('kubectl', ['get', 'topics'])).ok, 20_000);
  }, 90_000);

  afterAll(async () => {
    await command('kubectl', [
      'delete',
      'topics,sidecarprofiles,topicendpointslices',
      '--all',
      '-A',
      '--wait=false',
    ]);
  });

  it('give what is left out its default', async () => {
    await apply(topic('plain', {}), profile('plain', {}));
    const { spec } = await get<{ spec: Record<string, unknown> }>('topic', 'plain');
    expect(spec['delivery']).toBe('Reliable');
    const { spec: filled } = await get<{ spec: { backends?: unknown } }>('sidecarprofile', 'plain');
    expect(filled.backends).toBeDefined();
    await apply(profile('rdma', { resources: { devices: [{ resource: 'rdma/hca' }] } }));
    const { spec: asking } = await get<{ spec: unknown }>('sidecarprofile', 'rdma');
    expect(asking).toMatchObject({ resources: { devices: [{ resource: 'rdma/hca', count: 1 }] } });
  });

  it.each(kTables)('show in columns what one wants to know: $kind', async ({ kind, spec, status, cells }) => {
    const { plural, columns } = kResources.find((each) => each.kind === kind) as ResourceDefinition;
    const name = 'columns';
    await apply({ apiVersion: kApi, kind, metadata: { name, namespace: 'default' }, spec });
    if (status !== undefined) {
      const patch = JSON.stringify({ status });
      await kubectl(['patch', plural, name, '--subresource=status', '--type=merge', '-p', patch]);
    }
    const table = async (...more: readonly string[]): Promise<string[][]> => {
      const text = await kubectl(['get', plural, name, ...more]);
      return text
        .trimEnd()
        .split('\n')
        .map((line) => line.trimEnd().split(/ {2,}/));
    };
    const headers = (wide: boolean): string[] =>
      ['name', ...columns.filter(({ priority = 0 }) => wide || priority === 0).map((each) => each.name)].map(
        (each) => each.toUpperCase(),
      );
    expect((await table())[0]).toEqual(headers(false));
    const [header, row] = await table('-o', 'wide');
    expect(header).toEqual(headers(true));
    expect(Object.fromEntries(headers(true).map((each, i) => [each, row?.[i]]))).toEqual({
      NAME: name,
      ...cells,
      AGE: expect.stringMatching(/^\d+s$/),
    });
  });

  it.each([
    ['a stream id beyond 32 bits', topic('bad', { streamId: 2 ** 40 }), 'spec.streamId'],
    ['an unknown delivery', topic('bad', { delivery: 'Maybe' }), 'spec.delivery'],
    [
      'a tag without the strategy that reads it',
      topic('bad', { flowControl: { strategy: 'Min', groupTag: 7 } }),
      'groupTag goes with',
    ],
    ['a rule that allows nothing', topic('bad', { allow: [{ serviceAccounts: ['x'] }] }), 'allows nothing'],
    ['a term length that is no power of two', topic('bad', { termLength: '3Mi' }), 'spec.termLength'],
    ['an MTU below the least', topic('bad', { mtu: 1 }), 'spec.mtu'],
    ['an unknown backend', profile('bad', { backends: ['warp'] }), 'spec.backends'],
    [
      'a selector that compares with nothing, and so would let everyone in',
      topic('bad', {
        allow: [
          {
            subscribe: true,
            namespaceSelector: { matchExpressions: [{ key: 'team', operator: 'NotIn' }] },
          },
        ],
      }),
      'values goes with operators In and NotIn',
    ],
    [
      'less than no CPU',
      profile('bad', { resources: { limits: { cpu: '-1' } } }),
      'spec.resources.limits.cpu',
    ],
  ])('refuse %s and name the field', async (_, object, field) => {
    expect(await refusalOf(object)).toContain(field);
  });

  it('do not let the stream id of a topic change, since open streams would meet strangers', async () => {
    await apply(topic('fixed', { streamId: 1001 }));
    expect(await refusalOf(topic('fixed', { streamId: 1002 }))).toContain('streamId cannot be changed');
  });
});
