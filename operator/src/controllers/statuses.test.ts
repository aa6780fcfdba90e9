// SPDX-License-Identifier: Apache-2.0
// What the status of a Topic, of a SidecarProfile and of a slice's leases should be, for what is observed.
import {
  sidecarProfileSpecSchema,
  type Condition,
  type Member,
  type SidecarProfile,
  type Topic,
  type TopicAllow,
  type TopicEndpointSlice,
} from '../api';
import type { Pod } from '../kit/kinds';
import { profileStatuses } from './profile_status';
import { judgeLeases } from './slice_leases';
import type { Claim } from './stream_ids';
import { topicStatus } from './topic_status';

function condition(conditions: readonly Condition[] | undefined, type: string): [string, string, string] {
  const found = conditions?.find((each) => each.type === type);
  return [found?.status ?? '-', found?.reason ?? '-', found?.message ?? '-'];
}

function member(id: string, role: Member['role'] = 'Subscriber', renewTime = '2026-01-01T00:00:00Z'): Member {
  return {
    id,
    role,
    namespace: 'a',
    pod: id,
    podUid: id,
    node: 'n',
    endpoints: [],
    lease: { renewTime, durationSeconds: 60 },
  };
}

const slice = (...members: readonly Member[]): TopicEndpointSlice => ({
  metadata: { namespace: 'a', name: 's' },
  spec: { topic: 'quotes', members: [...members] },
});

describe('the status of a Topic', () => {
  const held: Claim = { kind: 'holds', streamId: 7 };
  const namespaces = [
    { name: 'a', labels: { team: 'a' } },
    { name: 'b', labels: { team: 'b' } },
  ];
  const topic = (allow?: readonly Partial<TopicAllow>[]): Topic => ({
    metadata: { namespace: 'a', name: 'quotes', generation: 3 },
    spec: {
      delivery: 'Reliable',
      ...(allow === undefined
        ? {}
        : { allow: allow.map((each) => ({ publish: false, subscribe: false, ...each })) }),
    },
  });
  const statusOf = (of: Topic, claim: Claim = held, slices: readonly TopicEndpointSlice[] = []) =>
    topicStatus({ topic: of, claim, slices, namespaces }, 0);

  it('has the stream id, the generation that was judged, and members counted once over all slices', () => {
    const slices = [slice(member('x', 'Publisher'), member('y')), slice(member('y'), member('z'))];
    expect(statusOf(topic(), held, slices)).toMatchObject({
      streamId: 7,
      observedGeneration: 3,
      publishers: 1,
      subscribers: 2,
      conditions: [
        { type: 'Ready', status: 'True', observedGeneration: 3 },
        { type: 'Conflict', status: 'False' },
      ],
    });
  });

  it('has no stream id while another topic has it, and says who and what to do', () => {
    const status = statusOf(topic(), { kind: 'conflict', streamId: 7, holder: 'b/orders' });
    expect(status.streamId).toBeUndefined();
    expect(condition(status.conditions, 'Ready')).toEqual([
      'False',
      'StreamIdConflict',
      'streamId 7 is taken by Topic b/orders; delete this Topic and make it again with another streamId, or without one',
    ]);
    expect(condition(status.conditions, 'Conflict').slice(0, 2)).toEqual(['True', 'StreamIdTaken']);
  });

  it.each<[string, Partial<TopicAllow>[] | undefined, string, RegExp]>([
    ['no list', undefined, 'Ready', /stream id 7/],
    ['an empty list', [], 'NobodyAllowed', /spec\.allow is empty; add entries/],
    ['only publishers', [{ publish: true }], 'NobodyMaySubscribe', /nobody may subscribe/],
    ['only subscribers', [{ subscribe: true }], 'NobodyMayPublish', /nobody may publish/],
    [
      'namespaces that are not there',
      [{ publish: true, subscribe: true, namespaceSelector: { matchLabels: { team: 'c' } } }],
      'NobodyAllowed',
      /matches a namespace that exists/,
    ],
    [
      'namespaces that are',
      [{ publish: true }, { subscribe: true, namespaceSelector: { matchLabels: { team: 'b' } } }],
      'Ready',
      /./,
    ],
  ])('with %s is %j → %s', (_, allow, reason, message) => {
    const [status, why, text] = condition(statusOf(topic(allow)).conditions, 'Ready');
    expect([status, why]).toEqual([reason === 'Ready' ? 'True' : 'False', reason]);
    expect(text).toMatch(message);
  });
});

describe('the status of SidecarProfiles', () => {
  const profile = (name: string, born: number, spec: object): SidecarProfile => ({
    metadata: { name, namespace: 'a', generation: 1, creationTimestamp: new Date(born * 1000).toISOString() },
    spec: sidecarProfileSpecSchema.parse(spec),
  });
  const pod = (name: string, labels: Record<string, string>, more: Partial<Pod> = {}): Pod => ({
    metadata: { name, namespace: 'a', labels },
    ...more,
  });
  const feed = { podSelector: { matchLabels: { app: 'feed' } } };

  it('counts the pods that take each, and not those that have ended', () => {
    const statuses = profileStatuses(
      [profile('feed', 1, feed), profile('rest', 2, { default: true })],
      [
        pod('x', { app: 'feed' }),
        pod('y', {}),
        pod('z', {}),
        pod('old', {}, { status: { phase: 'Succeeded' } }),
      ],
      0,
    );
    expect([statuses.get('feed')?.pods, statuses.get('rest')?.pods]).toEqual([1, 2]);
    expect(condition(statuses.get('feed')?.conditions, 'Ready').slice(0, 2)).toEqual(['True', 'Valid']);
  });

  it('tells the younger of two that match which pods the older one takes', () => {
    const pods = ['p1', 'p2', 'p3', 'p4', 'p5'].map((name) => pod(name, { app: 'feed' }));
    const statuses = profileStatuses([profile('younger', 2, feed), profile('older', 1, feed)], pods, 0);
    expect(statuses.get('younger')).toMatchObject({ pods: 0, conflictsWith: ['older'] });
    expect(condition(statuses.get('younger')?.conditions, 'Ready')).toEqual([
      'False',
      'Conflict',
      'SidecarProfile older matches the same pods (p1, p2, p3 and 2 more) and is taken, since it is older; narrow podSelector of one of them, or name one with the annotation outrigger.dev/profile on the pods',
    ]);
    expect(statuses.get('older')).toMatchObject({ pods: 5 });
    expect(statuses.get('older')?.conflictsWith).toBeUndefined();
  });

  it('tells the younger of two defaults, also while there is no pod', () => {
    const statuses = profileStatuses(
      [profile('b', 2, { default: true }), profile('a', 1, { default: true })],
      [],
      0,
    );
    expect(condition(statuses.get('b')?.conditions, 'Conflict')).toEqual([
      'True',
      'OlderProfileMatches',
      expect.stringMatching(/SidecarProfile a is the default of this namespace already/),
    ]);
    expect(condition(statuses.get('a')?.conditions, 'Ready')[0]).toBe('True');
  });

  it('has no conflict where the annotation decides', () => {
    const named = pod('p', { app: 'feed' });
    const statuses = profileStatuses(
      [profile('older', 1, feed), profile('younger', 2, feed)],
      [{ ...named, metadata: { ...named.metadata, annotations: { 'outrigger.dev/profile': 'younger' } } }],
      0,
    );
    expect(statuses.get('younger')).toMatchObject({ pods: 1 });
    expect(condition(statuses.get('younger')?.conditions, 'Ready')[0]).toBe('True');
  });

  it('says which ports the NetworkPolicy of the chart keeps closed, and nothing where there is none', () => {
    const open = { udpPorts: { first: 40_200, last: 40_231 }, metricsPort: 9464 };
    const portsOpen = (spec: object, policy?: typeof open): [string, string, string] =>
      condition(profileStatuses([profile('p', 1, spec)], [], 0, policy).get('p')?.conditions, 'PortsOpen');
    const udpPorts = { first: 40_230, last: 40_240 };

    expect(portsOpen({ udpPorts })).toEqual(['-', '-', '-']);
    expect(portsOpen({}, open).slice(0, 2)).toEqual(['True', 'WithinNetworkPolicy']);
    expect(portsOpen({ udpPorts: { first: 40_210, last: 40_210 } }, open)[0]).toBe('True');
    expect(portsOpen({ udpPorts, metricsPort: 9465 }, open)).toEqual([
      'False',
      'OutsideNetworkPolicy',
      'udpPorts is 40230 to 40240, but the NetworkPolicy outrigger-sidecars opens UDP 40200 to 40231 (value udpPorts of the chart): what is sent to the other ports is dropped; choose a range in it, or change the value. metricsPort is 9465, but the NetworkPolicy outrigger-sidecars opens TCP 9464 (value metricsPort of the chart): nobody scrapes it; use that port, or change the value',
    ]);
    expect(portsOpen({ udpPorts: { first: 40_000, last: 40_231 } }, open)[0]).toBe('False');
    // It is used all the same.
    const { conditions } = profileStatuses([profile('p', 1, { udpPorts })], [], 0, open).get('p') ?? {};
    expect(condition(conditions, 'Ready')[0]).toBe('True');
  });
});

describe('the leases of a slice', () => {
  const at = (seconds: number): number => Date.UTC(2026, 0, 1) + seconds * 1000;

  it('end after their duration, and the next to end is known', () => {
    const verdict = judgeLeases(
      slice(
        member('over'),
        member('soon', 'Publisher', '2026-01-01T00:00:30Z'),
        member('late', 'Subscriber', '2026-01-01T00:00:50Z'),
      ),
      at(60),
      at(-3600),
    );
    expect(verdict.expired.map(({ id }) => id)).toEqual(['over']);
    expect(verdict.kept.map(({ id }) => id)).toEqual(['soon', 'late']);
    expect(verdict.nextMs).toBe(at(90));
  });

  it('all get their whole time again after an outage of the operator', () => {
    const outage = slice(member('alive'));
    expect(judgeLeases(outage, at(3600), at(3590))).toMatchObject({ expired: [], nextMs: at(3650) });
    expect(judgeLeases(outage, at(3650), at(3590)).expired).toHaveLength(1);
  });
});
