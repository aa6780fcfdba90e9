// SPDX-License-Identifier: Apache-2.0
// The resources on a real API server: what the chart installs, it accepts, defaults and refuses as operator/src/api says.
import { join } from 'node:path';
import { apply, command, get, helm, kubectl, refusalOf, until } from './kubectl';

const kChart = join(__dirname, '../../charts/outrigger');
const kApi = 'outrigger.dev/v1alpha1';

function topic(name: string, spec: object): object {
  return { apiVersion: kApi, kind: 'Topic', metadata: { name, namespace: 'default' }, spec };
}

function profile(name: string, spec: object): object {
  return { apiVersion: kApi, kind: 'SidecarProfile', metadata: { name, namespace: 'default' }, spec };
}

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
  });

  it('show in columns what one wants to know', async () => {
    await apply(topic('columns', { streamId: 7 }));
    expect(await kubectl(['get', 'topics'])).toMatch(/NAME\s+STREAM/);
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
  ])('refuse %s and name the field', async (_, object, field) => {
    expect(await refusalOf(object)).toContain(field);
  });

  it('do not let the stream id of a topic change, since open streams would meet strangers', async () => {
    await apply(topic('fixed', { streamId: 1001 }));
    expect(await refusalOf(topic('fixed', { streamId: 1002 }))).toContain('streamId cannot be changed');
  });
});
