// SPDX-License-Identifier: Apache-2.0
// Bad input to an installation that works: pods that can have no sidecar, tokens that are not for the directory, a flood, topics that someone may not
// open, two profiles that match, an API server that throttles. Each is told clearly to whom it concerns, and a stream of counted messages that runs meanwhile loses nothing.
// What else is bad input is in injection.test.ts (pods of many shapes), crd_fields.test.ts (resources) and values.test.ts (the chart).
import { status } from '@grpc/grpc-js';
import type { Endpoint, TopicEndpointSlice } from '../../operator/src/api/topic_endpoint_slice';
import { kDirectoryDefaults } from '../../operator/src/directory/directory';
import { apply, command, get, kubectl, refusalOf, until } from './kubectl';
import { containerOf, logOnNode, type ContainerHandle } from './support/nodes';
import { outsider } from './support/outsider';
import { kMetricsPort, leader, metricOf, replicasOf, type Part } from './support/parts';
import { makeNamespace, Pods, type PodObject } from './support/pods';
import { injected, installProduct, kSystem, uninstallProduct, type NodeName } from './support/product';
import { Stranger } from './support/stranger';
import {
  expectUnbroken,
  expectWhole,
  Streams,
  type PublisherAccount,
  type SubscriberAccount,
} from './support/streams';
import { answerTo, throttle, throttleNoMore } from './support/throttle';
import { boundTo, foreignKey, goodUntil, issued, reviewOf, signedAgain, type Claims } from './support/tokens';

jest.setTimeout(240_000);

const kApi = 'outrigger.dev/v1alpha1';
const kNamespace = 'bad-input';
const kAudience = kDirectoryDefaults.audience;
const pods = new Pods(kNamespace);
const streams = new Streams(pods, 'steady', 200);

interface Condition {
  readonly type: string;
  readonly status: string;
  readonly reason: string;
  readonly message: string;
}

async function condition(kind: string, name: string, type: string): Promise<Condition | undefined> {
  const { status: found } = await get<{ status?: { conditions?: Condition[] } }>(
    kind,
    name,
    '-n',
    kNamespace,
  );
  return found?.conditions?.find((each) => each.type === type);
}

let directoryAddress: string;
let ca: string;
let strangers: Stranger[] = [];

function stranger(token: string | undefined, address = directoryAddress): Stranger {
  const made = new Stranger(address, ca, token);
  strangers.push(made);
  return made;
}

/** A pod without a sidecar; its token is as good as another's. */
function bare(): PodObject {
  const idle = "process.once('SIGTERM', () => process.exit(0)); setInterval(() => {}, 1e9)";
  const pod = pods.app('bare', 'node1', [], { container: { command: ['/usr/bin/node', '-e', idle] } });
  return { ...pod, metadata: { ...pod.metadata, labels: { app: 'bare' } } };
}

/** A token of the pod, as the API server gives it. */
function tokenOf(pod: string, audience = kAudience): Promise<string> {
  return issued(kNamespace, audience, ...boundTo(pod));
}

/** A token of the pod that the test signs. */
async function madeFor(pod: string, claims: Claims, key?: ReturnType<typeof foreignKey>): Promise<string> {
  return signedAgain(await tokenOf(pod), claims, key);
}

/** A token of a pod that is no more. It waits to be scheduled, so that it is gone as soon as it is deleted. */
async function tokenOfNoMore(): Promise<string> {
  const { metadata, spec } = bare();
  const waits = { schedulingGates: [{ name: 'outrigger.dev/never' }] };
  await apply({ ...bare(), metadata: { ...metadata, name: 'gone' }, spec: { ...spec, ...waits } });
  const token = await madeFor('gone', goodUntil(3600));
  await kubectl(['delete', 'pod', 'gone', '-n', kNamespace]);
  // What the API server knew of the pod and of the token it forgets within seconds.
  await until('it is refused', async () => (await reviewOf(token, kAudience)).authenticated !== true);
  return token;
}

/** A metric of all replicas of a part: its values by label, added up. */
async function counted(part: Part, name: string): Promise<Readonly<Record<string, number>>> {
  const sums: Record<string, number> = {};
  for (const { status: of } of await replicasOf(part)) {
    for (const [labels, value] of Object.entries(await metricOf(`${of.podIP}:${kMetricsPort}`, name))) {
      sums[labels] = (sums[labels] ?? 0) + value;
    }
  }
  return sums;
}

beforeAll(async () => {
  await installProduct();
  await makeNamespace(kNamespace);
  const service = await get<{ spec: { clusterIP: string } }>('service', 'outrigger-directory', '-n', kSystem);
  directoryAddress = service.spec.clusterIP;
  // Goes on through everything below: what is bad for one disturbs nobody else.
  await streams.start({ speaker: 'node1' }, { listener: 'node2' });
  // Has no sidecar whose stream to the directory would take the place of ours.
  await pods.start(bare());
  ca =
    (await get<{ data: Record<string, string> }>('configmap', 'outrigger-ca', '-n', kNamespace)).data[
      'ca.crt'
    ] ?? '';
});

afterEach(() => {
  strangers.forEach((each) => each.close());
  strangers = [];
});

afterAll(async () => {
  await throttleNoMore(); // a test that failed left it so
  await command('kubectl', ['delete', 'namespace', kNamespace, '--wait=false']);
  await uninstallProduct();
});

describe('the directory', () => {
  it('takes a token that is made like those below, with nothing wrong with it', async () => {
    const token = await madeFor('bare', goodUntil(3600));
    expect(await reviewOf(token, kAudience)).toMatchObject({ authenticated: true });
    const caller = stranger(token);
    caller.hello(await pods.addressOf('bare'));
    await caller.welcomed();
  });

  it.each([
    ['no token', () => Promise.resolve(undefined), 'NO_TOKEN', /token/],
    ['a word', () => Promise.resolve('letmein'), 'TOKEN_REFUSED', /token/],
    ['a token for another audience', () => tokenOf('bare', 'vault'), 'TOKEN_REFUSED', /audience/],
    ['the token of an account and no pod', () => issued(kNamespace, kAudience), 'NOT_A_POD', /pod/],
    ['a token that has expired', () => madeFor('bare', goodUntil(-3600)), 'TOKEN_EXPIRED', /expired/],
    ['the token of a pod that is no more', tokenOfNoMore, 'TOKEN_REFUSED', /invalidated/],
    [
      'a token of another cluster',
      () => madeFor('bare', goodUntil(3600), foreignKey()),
      'TOKEN_REFUSED',
      /token/,
    ],
  ])(
    'tells who comes with %s that it does not know them, counts it, and keeps those that it knows',
    async (_, make, reason, words) => {
      const token = await make();
      if (token !== undefined) {
        // The directory sees by itself when a token is over; so does the API server.
        const review = await reviewOf(token, kAudience);
        expect(review.authenticated === true).toBe(reason === 'NOT_A_POD');
      }
      const member = stranger(await tokenOf('bare'));
      member.hello(await pods.addressOf('bare'));
      await member.welcomed();
      const name = 'outrigger_operator_directory_tokens_refused_total';
      const label = `{reason="${reason}"}`;
      const before = (await counted('directory', name))[label] ?? 0;

      const caller = stranger(token);
      caller.hello('10.0.0.1');
      expect(await caller.ended()).toEqual({
        code: status.UNAUTHENTICATED,
        reason,
        details: expect.stringMatching(words) as string,
      });
      expect(caller.answers).toEqual([]);
      expect((await counted('directory', name))[label]).toBe(before + 1);
      member.send({ register: { topic: 'nowhere', role: 'ROLE_PUBLISHER' } });
      await until('the member is answered', () => member.answers.some(({ refusal }) => refusal));
      expect(member.isOver()).toBe(false);
    },
  );

  it('does not take a pod for another', async () => {
    const caller = stranger(await tokenOf('bare'));
    caller.hello(await pods.addressOf('listener'));
    expect(await caller.ended()).toMatchObject({ code: status.PERMISSION_DENIED });
  });

  it('ends a pod that floods it with the limit that it passed', async () => {
    const caller = stranger(await tokenOf('bare'));
    caller.hello(await pods.addressOf('bare'));
    await caller.welcomed();
    for (let i = 0; i < 5000; i++) {
      caller.send({ register: { topic: `flood-${i}`, role: 'ROLE_PUBLISHER' } });
    }
    const { code, details } = await caller.ended();
    expect({ code, details }).toEqual({
      code: status.RESOURCE_EXHAUSTED,
      details: expect.stringMatching(/requests a second|registrations/) as string,
    });
  });
});

describe('the driver of a pod that is no member', () => {
  it('gets no stream into a subscriber, whose driver counts and names it', async () => {
    const { status: topic } = await get<{ status: { streamId: number } }>(
      'topic',
      'steady',
      '-n',
      kNamespace,
    );
    const { items } = await get<{ items: readonly TopicEndpointSlice[] }>(
      'topicendpointslices',
      '-n',
      kNamespace,
    );
    const endpoints = items
      .flatMap(({ spec }) => (spec.topic === 'steady' ? spec.members : []))
      .filter(({ pod, role }) => pod === 'listener' && role === 'Subscriber')
      .flatMap((member) => member.endpoints);
    expect(endpoints).toHaveLength(1);
    const { address, port } = endpoints[0] as Endpoint;
    const to = `${address}:${port}`;
    const refused = async (): Promise<number> =>
      (await metricOf(`${address}:9464`, 'outrigger_driver_sources_refused_total'))[''] ?? 0;
    const before = await refused();
    const joined = streams.joinedBy('listener').size;
    const topics = { topics: [{ name: 'steady', streamId: topic.streamId, subscribers: [to] }] };
    await apply(...outsider(pods, topics, ['pub', 'steady', '--count', '1', '--wait', '20s']));
    await until('its SETUPs are refused', async () => (await refused()) > before + 3);
    const listener = ['exec', 'listener', '-n', kNamespace, '-c', 'outrigger', '--'];
    const refusal = `stream ${topic.streamId} from ${await pods.addressOf('outsider')} to ${to} refused`;
    await until('its error log names it', async () =>
      (await kubectl([...listener, '/usr/bin/outrigger', 'errors'])).includes(refusal),
    );
    expect(await pods.exitOf('outsider')).not.toBe(0);
    expect(await pods.logs('outsider')).toContain('no subscriber came');
    expect(streams.joinedBy('listener').size).toBe(joined);
  });
});

describe('a topic that no one may open', () => {
  it('says so in its condition, and to the app that tries', async () => {
    await apply({
      apiVersion: kApi,
      kind: 'Topic',
      metadata: { name: 'closed', namespace: kNamespace },
      spec: { allow: [] },
    });
    await until(
      'the topic was judged',
      async () => (await condition('topic', 'closed', 'Ready')) !== undefined,
    );
    expect(await condition('topic', 'closed', 'Ready')).toMatchObject({
      status: 'False',
      reason: 'NobodyAllowed',
    });
    await apply(pods.app('knocker', 'node1', ['pub', 'closed', '--count', '1']));
    expect(await pods.exitOf('knocker')).not.toBe(0);
    expect(await pods.logs('knocker')).toMatch(/may not be a publisher of topic "?[\w/-]*closed/);
  });
});

describe('a pod that can have no sidecar', () => {
  it.each([
    [
      'names a profile that is not there',
      pods.app('profiled', 'node1', ['sub', 'steady'], {
        annotations: { 'outrigger.dev/profile': 'nonesuch' },
      }),
      /SidecarProfile "?nonesuch/,
    ],
    [
      'has a volume where the socket comes',
      pods.app('mounted', 'node1', ['sub', 'steady'], {
        container: { volumeMounts: [{ name: 'run', mountPath: '/run/outrigger' }] },
        spec: { volumes: [{ name: 'run', emptyDir: {} }] },
      }),
      /mounts volume run at \/run\/outrigger/,
    ],
    [
      'is too large',
      pods.app('large', 'node1', ['sub', 'steady'], {
        container: { env: [{ name: 'NOTE', value: 'x'.repeat(2_500_000) }] },
      }),
      /the AdmissionReview has \d+ bytes; at most \d+ are taken/,
    ],
  ])('is refused with the reason when it %s', async (_, pod, reason) => {
    expect(await refusalOf(pod)).toMatch(reason);
  });
});

describe('a topic with rules', () => {
  const kGuests = 'bad-input-guests';
  const guests = new Pods(kGuests);
  const asHerald = { spec: { serviceAccountName: 'herald' } };
  const there = `${kNamespace}/guarded`;

  function guarded(...more: readonly object[]): object {
    return {
      apiVersion: kApi,
      kind: 'Topic',
      metadata: { name: 'guarded', namespace: kNamespace },
      spec: { allow: [{ subscribe: true }, ...more] },
    };
  }

  async function publishers(): Promise<number | undefined> {
    const { status: of } = await get<{ status?: { publishers?: number } }>(
      'topic',
      'guarded',
      '-n',
      kNamespace,
    );
    return of?.publishers;
  }

  beforeAll(async () => {
    await makeNamespace(kGuests);
    await apply(
      { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'herald', namespace: kGuests } },
      guarded({
        publish: true,
        namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': kGuests } },
        serviceAccounts: ['herald'],
      }),
    );
  });

  afterAll(async () => {
    await command('kubectl', ['delete', 'namespace', kGuests, '--wait=false']);
  });

  it('lets in whom a rule names, from another namespace, and tells others that they may not', async () => {
    await pods.start(pods.subscriber('hearer', 'node2', 'guarded', 50));
    await apply(
      guests.publisher('herald', 'node1', there, ['--count', '50'], asHerald),
      guests.app('stranger', 'node1', ['pub', there, '--count', '1']),
      pods.app('local', 'node1', ['pub', 'guarded', '--count', '1']),
    );
    await guests.expectToEndWell('herald');
    await pods.expectToEndWell('hearer');
    expect(await guests.exitOf('stranger')).not.toBe(0);
    expect(await guests.logs('stranger')).toMatch(/does not exist, or not for this pod/);
    expect(await pods.exitOf('local')).not.toBe(0);
    expect(await pods.logs('local')).toMatch(/may not be a publisher of topic/);
  });

  it('is closed to whom the rule lets in no more, and goes on for the others', async () => {
    await pods.start(pods.subscriber('stays', 'node2', 'guarded'));
    await guests.start(guests.publisher('leaves', 'node1', there, ['--rate', '20'], asHerald));
    await until('it publishes', async () => ((await publishers()) ?? 0) > 0);
    await apply(guarded());
    await until('its sidecar is told', async () =>
      (await guests.logs('leaves', 'outrigger')).includes('does not exist, or not for this pod'),
    );
    await until('the topic has no publisher', async () => ((await publishers()) ?? 0) === 0);
    const { status: of } = await get<{ status: { phase: string } }>('pod', 'stays', '-n', kNamespace);
    expect(of.phase).toBe('Running');
  });
});

describe('two profiles that match', () => {
  it('are told by a warning at the pod, and by condition and event at the younger', async () => {
    const profile = (name: string): object => ({
      apiVersion: kApi,
      kind: 'SidecarProfile',
      metadata: { name, namespace: kNamespace },
      spec: { podSelector: { matchLabels: { app: 'torn' } } },
    });
    await apply(profile('first'));
    const made = (
      await get<{ metadata: { creationTimestamp: string } }>('sidecarprofile', 'first', '-n', kNamespace)
    ).metadata;
    // Ages count in whole seconds.
    await until('a second has passed', () => Date.now() >= Date.parse(made.creationTimestamp) + 1000);
    await apply(profile('second'));
    let warning = '';
    await until('both are known to the injector', async () => {
      const pod = pods.app('torn', 'node1', ['sub', 'steady']);
      const { ok, stderr } = await command('kubectl', ['create', '--dry-run=server', '-f', '-'], {
        input: JSON.stringify(pod),
      });
      warning = stderr;
      return ok && stderr.includes('second');
    });
    expect(warning).toMatch(/Warning: SidecarProfile first is taken since it is the oldest/);
    await apply(pods.app('torn', 'node1', ['sub', 'steady']));
    await until(
      'the younger is told',
      async () => (await condition('sidecarprofile', 'second', 'Ready'))?.status === 'False',
    );
    expect(await condition('sidecarprofile', 'second', 'Ready')).toMatchObject({ reason: 'Conflict' });
    expect((await condition('sidecarprofile', 'first', 'Ready'))?.status).toBe('True');
    await until('there is an event', async () =>
      (await kubectl(['get', 'events.events.k8s.io', '-n', kNamespace])).includes('sidecarprofile/second'),
    );
  });
});

describe('an API server that throttles operator and directory', () => {
  interface Replica {
    readonly part: Part;
    readonly node: NodeName;
    readonly handle: ContainerHandle;
    readonly address: string;
    readonly metrics: string;
  }

  let known: string;
  let replicas: readonly Replica[];
  let directories: readonly Replica[];
  let leads: Replica;
  let restarts: Readonly<Record<string, number>>;

  /** How often each replica was started anew, once all are ready: a node that is busy may miss a probe. */
  async function restartsOfReady(): Promise<Readonly<Record<string, number>>> {
    interface List {
      readonly items: {
        metadata: { name: string };
        status: { containerStatuses: { ready: boolean; restartCount: number }[] };
      }[];
    }
    const counts: Record<string, number> = {};
    await until('all are ready', async () => {
      const { items } = await get<List>('pods', '-n', kSystem);
      for (const { metadata, status: of } of items) {
        counts[metadata.name] = of.containerStatuses.reduce((sum, { restartCount }) => sum + restartCount, 0);
      }
      return items.every(({ status: of }) => of.containerStatuses.every(({ ready }) => ready));
    });
    return counts;
  }

  async function hello(address: string, token: string): Promise<Stranger> {
    const made = stranger(token, address);
    made.hello(await pods.addressOf('bare'));
    return made;
  }

  async function join(address: string, token: string): Promise<void> {
    await (await hello(address, token)).welcomed();
  }

  /** How many replicas say that they lead. */
  async function leaders(): Promise<number> {
    return (await counted('operator', 'outrigger_operator_leader'))[''] ?? 0;
  }

  /** Lines of its log that say this. */
  function said({ node, handle }: Replica, what: string): readonly Readonly<Record<string, unknown>>[] {
    return logOnNode(node, handle)
      .split('\n')
      .filter((line) => line.includes(what))
      .map((line) => JSON.parse(line) as Readonly<Record<string, unknown>>);
  }

  async function valueOf({ metrics }: Replica, name: string): Promise<number> {
    return Object.values(await metricOf(metrics, name)).reduce((sum, each) => sum + each, 0);
  }

  beforeAll(async () => {
    known = await tokenOf('bare');
    const found: Replica[] = [];
    for (const part of ['operator', 'directory'] as const) {
      for (const { metadata, spec, status: of } of await replicasOf(part)) {
        found.push({
          part,
          node: spec.nodeName as NodeName,
          handle: await containerOf(kSystem, metadata.name, part),
          address: of.podIP ?? '',
          metrics: `${of.podIP}:${kMetricsPort}`,
        });
      }
    }
    replicas = found;
    directories = found.filter(({ part }) => part === 'directory');
    for (const { address } of directories) {
      await join(address, known);
    }
    let leading: Replica | undefined;
    await until('one leads', async () => {
      const { pod } = await leader();
      leading = found.find(({ handle }) => handle.pod === pod);
      return leading !== undefined;
    });
    leads = leading as unknown as Replica;
    restarts = await restartsOfReady();
    expect(Object.keys(restarts)).toHaveLength(found.length);
  });

  it('is told by log and metric, with the time to wait and where to look, and only they are hit', async () => {
    await throttle(kSystem, ['outrigger-operator', 'outrigger-directory']);
    expect(await answerTo(kSystem, 'outrigger-operator')).toEqual({
      status: 429,
      retryAfter: expect.stringMatching(/^\d+$/) as string,
    });
    expect(await answerTo(kNamespace, 'default')).toMatchObject({ status: 200 });
    await apply({
      apiVersion: kApi,
      kind: 'Topic',
      metadata: { name: 'meanwhile', namespace: kNamespace },
      spec: {},
    });
    // One of the directory may have had nothing to ask.
    for (const { address } of directories) {
      await hello(address, await tokenOf('bare'));
    }
    const talks = [leads, ...directories];
    for (const each of talks) {
      await until(
        `${each.handle.pod} counts it`,
        async () =>
          (await valueOf(each, 'outrigger_operator_api_throttled')) === 1 &&
          (await valueOf(each, 'outrigger_operator_api_retry_after_seconds_total')) > 0,
      );
      expect(said(each, 'the API server throttles this process (429)')).toContainEqual(
        expect.objectContaining({
          request: expect.stringMatching(/ \/apis?\//) as string,
          retryAfterSeconds: expect.any(Number) as number,
          flowSchema: expect.stringMatching(/^[0-9a-f-]{36}$/) as string,
          priorityLevel: expect.stringMatching(/^[0-9a-f-]{36}$/) as string,
        }),
      );
    }
  });

  it('keeps nobody out of the directory but those whom it does not know, and tells them', async () => {
    const unknown = await hello(directoryAddress, await tokenOf('bare'));
    expect(await unknown.ended()).toEqual({
      code: status.UNAVAILABLE,
      reason: 'API_SERVER_THROTTLES',
      details: expect.stringMatching(/429.*retry in \d+ s/) as string,
    });
    for (const { address } of directories) {
      await join(address, known);
    }
  });

  it('takes the lease from the leader, who goes on as a replica: nobody starts anew, all stay ready and pods get their sidecar', async () => {
    await until('nobody leads', async () => (await leaders()) === 0);
    await until(
      'who led says that it does no more',
      () => said(leads, 'leadership is lost: the parts of the leader have stopped').length > 0,
    );
    expect(await injected()).toBe('outrigger');
    // Who had started anew would not be ready: it could not read.
    expect(await restartsOfReady()).toEqual(restarts);
    expect(await condition('topic', 'meanwhile', 'Ready')).toBeUndefined();
    expect(streams.liveIn('listener').size).toBe(1);
  });

  it('is forgotten when it is over: one leads again, all is done that waited, and nobody has started anew', async () => {
    await throttleNoMore();
    await until(
      'the topic is judged',
      async () => (await condition('topic', 'meanwhile', 'Ready'))?.status === 'True',
      120_000,
    );
    await until('one leads', async () => (await leaders()) === 1);
    for (const each of directories) {
      // What is answered before the server wanted to be asked again says nothing yet.
      await until('a newcomer is welcome, and it is told to be over', async () => {
        const welcome = join(each.address, await tokenOf('bare')).then(
          () => true,
          () => false,
        );
        return (await welcome) && said(each, 'throttles this process no more').length > 0;
      });
    }
    for (const each of replicas) {
      await until(
        `${each.handle.pod} counts it no more`,
        async () => (await valueOf(each, 'outrigger_operator_api_throttled')) === 0,
      );
    }
    expect(await restartsOfReady()).toEqual(restarts);
  });
});

describe('the stream that ran meanwhile', () => {
  it(
    'lost nothing, and none of its members',
    streams.telling(async () => {
      const said = await streams.end<PublisherAccount>('speaker');
      await streams.silent('listener');
      const heard = await streams.end<SubscriberAccount>('listener');
      expectUnbroken(heard);
      expectWhole(said, heard);
    }),
  );
});
