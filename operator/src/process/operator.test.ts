// SPDX-License-Identifier: Apache-2.0
// A whole operator against an API server: it starts, leads, works, hands over, and stops; and asks for nothing that its roles do not allow.
import { kSidecarProfile, kTopic, type SidecarProfile, type Topic } from '../api';
import { kClusterRoles, kNamespaceRoles, operatorComponents } from '../components';
import { loadOperatorConfig } from '../config/load';
import { isNotFound } from '../kit/api_error';
import type { ClusterAuth } from '../kit/auth';
import { Controller } from '../kit/controller';
import { kLeases } from '../kit/leader_election';
import { resource, ResourceClient } from '../kit/resource';
import { kCalm } from '../testing/chaos_proxy';
import { grantRoles } from '../testing/granted_roles';
import { allows } from '../testing/roles';
import { seeded } from '../testing/seeded';
import { kSilent, plainAuth, TestCluster } from '../testing/test_cluster';
import type { Component, Components } from './component';
import { kLostLeadership, runOperator, type OperatorContext } from './operator';

interface Replica {
  readonly stop: () => void;
  readonly ended: Promise<number>;
  readonly get: (path: string) => Promise<{ readonly status: number; readonly text: string }>;
}

jest.setTimeout(60_000); // a storm on a machine that others use too

describe('the operator', () => {
  let cluster: TestCluster;
  let replicas: Replica[];
  let namespace: string;

  beforeEach(async () => {
    cluster = await TestCluster.start(seeded(1));
    namespace = await cluster.namespace('operator');
    replicas = [];
  });

  afterEach(async () => {
    replicas.forEach((each) => each.stop());
    await Promise.all(replicas.map((each) => each.ended));
    await cluster.stop();
  });

  async function start(
    instance: string,
    auth: ClusterAuth = plainAuth(cluster.chaos.url),
    components: (context: OperatorContext) => Components = operatorComponents,
    more: readonly string[] = [],
  ): Promise<Replica> {
    const stop = new AbortController();
    const argv = [
      '--http-listen',
      '127.0.0.1:0',
      '--lease-duration',
      '4s', // three seconds more than the deadline: parts must stop meanwhile, on a machine that may stall
      '--renew-deadline',
      '1s',
      '--retry-period',
      '100ms',
      ...more,
    ];
    let listening: (address: string) => void = () => undefined;
    const address = new Promise<string>((resolve) => (listening = resolve));
    const ended = runOperator({
      config: loadOperatorConfig(argv, {}),
      auth: { ...auth, namespace },
      log: kSilent,
      version: '0.0.0',
      instance,
      identity: instance,
      components,
      signal: stop.signal,
      onListening: listening,
    });
    const base = `http://${await address}`;
    const replica: Replica = {
      stop: () => stop.abort(),
      ended,
      get: async (path) => {
        const response = await fetch(base + path);
        return { status: response.status, text: await response.text() };
      },
    };
    replicas.push(replica);
    return replica;
  }

  const topics = (): ResourceClient<Topic> => new ResourceClient(cluster.direct, resource<Topic>(kTopic));

  async function eventually(check: () => Promise<boolean>): Promise<void> {
    while (!(await check())) await new Promise((resolve) => setTimeout(resolve, 10));
  }

  async function holder(): Promise<string> {
    try {
      const lease = await new ResourceClient(cluster.direct, kLeases).get({
        namespace,
        name: 'outrigger-operator',
      });
      return lease.spec?.holderIdentity ?? '';
    } catch (error) {
      if (isNotFound(error)) return '';
      throw error;
    }
  }

  const isReady = (name: string) => async (): Promise<boolean> =>
    (await topics().get({ namespace, name })).status?.streamId !== undefined;

  it('is ready when its caches are filled, and says why not before', async () => {
    cluster.chaos.faults = { ...kCalm, serverError: 1 };
    const replica = await start('a');
    await eventually(async () =>
      (await replica.get('/readyz')).text.includes('topics are not read yet: GET'),
    );
    expect((await replica.get('/readyz')).status).toBe(503);
    expect((await replica.get('/livez')).status).toBe(200);
    cluster.chaos.faults = kCalm;
    await eventually(async () => (await replica.get('/readyz')).status === 200);
  });

  it('shows what it does as metrics', async () => {
    const replica = await start('a');
    await topics().create({ metadata: { namespace, name: 'quotes' }, spec: {} as never });
    await eventually(isReady('quotes'));
    const { text } = await replica.get('/metrics');
    expect(text).toMatch(/^outrigger_operator_leader 1$/m);
    expect(text).toMatch(/^outrigger_operator_watch_synced{resource="topics"} 1$/m);
    expect(text).toMatch(/^outrigger_operator_watch_last_event_age_seconds{resource="topics"} \d/m);
    expect(text).toMatch(/^outrigger_operator_reconciles_total{controller="topic",result="ok"} [1-9]/m);
    expect(text).toMatch(/^outrigger_operator_api_requests_total{method="PATCH",status="200"} [1-9]/m);
  });

  it('leaves the work to one replica, and the other goes on when that one stops', async () => {
    const first = await start('a');
    await eventually(async () => (await holder()) === 'a');
    await start('b');
    first.stop();
    expect(await first.ended).toBe(0);
    await eventually(async () => (await holder()) === 'b');
    await topics().create({ metadata: { namespace, name: 'quotes' }, spec: {} as never });
    await eventually(isReady('quotes'));
  });

  it.each([
    ['is too busy', { tooMany: 1 }],
    ['can not be reached', { cutBefore: 1 }],
  ])('leads no more while the API server %s, stays ready, and leads again after', async (_, faults) => {
    const replica = await start('a');
    const leads = (value: number) => async (): Promise<boolean> =>
      (await replica.get('/metrics')).text.includes(`outrigger_operator_leader ${value}\n`);
    for (const name of ['first', 'second']) {
      await topics().create({ metadata: { namespace, name }, spec: {} as never });
      await eventually(isReady(name));
      await eventually(leads(1));
      await eventually(async () => (await replica.get('/readyz')).status === 200);
      cluster.chaos.faults = { ...kCalm, ...faults };
      await eventually(leads(0));
      expect((await replica.get('/readyz')).status).toBe(200);
      cluster.chaos.faults = kCalm;
    }
    await eventually(leads(1));
    await topics().create({ metadata: { namespace, name: 'third' }, spec: {} as never });
    await eventually(isReady('third'));
    replica.stop();
    expect(await replica.ended).toBe(0);
  });

  it('leaves the work to another while it can not renew its lease, and takes it back when that one stops', async () => {
    const first = await start('a');
    await eventually(async () => (await holder()) === 'a');
    cluster.chaos.faults = { ...kCalm, tooMany: 1 };
    // Past the proxy: throttled is the first alone.
    const second = await start('b', cluster.calm);
    await eventually(async () => (await holder()) === 'b');
    await topics().create({ metadata: { namespace, name: 'quotes' }, spec: {} as never });
    await eventually(isReady('quotes'));
    expect((await first.get('/metrics')).text).toContain('outrigger_operator_leader 0\n');
    cluster.chaos.faults = kCalm;
    second.stop();
    expect(await second.ended).toBe(0);
    await eventually(async () => (await holder()) === 'a');
    await topics().create({ metadata: { namespace, name: 'trades' }, spec: {} as never });
    await eventually(isReady('trades'));
  });

  it('ends when it has lost its lease and a part of the leader does not stop, so that it never writes beside another', async () => {
    const graces: (number | undefined)[] = [];
    let release: () => void = () => undefined;
    const stuck = {
      name: 'stuck',
      start: () => Promise.resolve(),
      stop: (graceMs?: number) => {
        graces.push(graceMs);
        return new Promise<void>((resolve) => (release = resolve));
      },
    };
    const replica = await start('a', undefined, () => ({ always: [], leading: [stuck] }));
    await eventually(async () => (await holder()) === 'a');
    cluster.chaos.faults = { ...kCalm, cutBefore: 1 };
    expect(await replica.ended).toBe(kLostLeadership);
    expect(graces).toEqual([0]);
    release();
  });

  /** A lease that nobody renews, nor is over before the test is. */
  async function takeLease(): Promise<void> {
    const leases = new ResourceClient(cluster.direct, kLeases);
    const spec = { holderIdentity: 'somebody else', leaseDurationSeconds: 3600 };
    await leases.mergePatch({ namespace, name: 'outrigger-operator' }, { spec });
  }

  /** A part of the leader that asks the API server again and again, each time at a path of its own, until it is told to stop. */
  class Asking {
    asked = 0;
    readonly answers: string[] = [];

    constructor(private readonly api: OperatorContext['kit']['api']) {}

    async ask(signal: AbortSignal): Promise<void> {
      while (!signal.aborted) {
        const path = `/test/${++this.asked}`;
        await this.api.request({ method: 'GET', path, signal }).catch((error: unknown) => {
          this.answers.push((error as Error).message); // a 404, while it comes there
        });
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    }

    /** What came to the API server of all that was asked after so many. */
    comeAfter(asked: number): string[] {
      const numbers = (cluster.fake?.requests ?? []).map((each) => /^GET \/test\/(\d+)$/.exec(each)?.[1]);
      return numbers.filter((each) => each !== undefined).filter((each) => Number(each) > asked);
    }
  }

  it('asks nothing more for its parts once it has lost the lease and they have stopped', async () => {
    let asking: Asking | undefined;
    let stopped: (asked: number) => void = () => undefined;
    const atStop = new Promise<number>((resolve) => (stopped = resolve));
    const replica = await start('a', undefined, ({ kit }) => {
      const mine = (asking = new Asking(kit.api));
      const controller = new Controller(kit, {
        name: 'asking',
        permissions: [],
        sources: [],
        initialKeys: () => ['only'],
        reconcile: async (_, signal) => {
          await mine.ask(signal);
          return undefined;
        },
      });
      const stop = async (graceMs?: number): Promise<void> => {
        await controller.stop(graceMs);
        stopped(mine.asked);
      };
      return { always: [], leading: [{ name: 'asking', start: () => controller.start(), stop }] };
    });
    await eventually(() => Promise.resolve((asking?.answers.length ?? 0) > 3));
    await takeLease();
    const asked = await atStop;
    const answered = async (): Promise<number> =>
      Number(
        /api_requests_total{method="GET",status="200"} (\d+)/.exec((await replica.get('/metrics')).text)?.[1],
      );
    const before = await answered();
    // It goes on, and looks at the lease.
    await eventually(async () => (await answered()) > before + 2);
    expect(asking?.asked).toBe(asked);
    expect(asking?.comeAfter(asked)).toEqual([]);
    expect(await holder()).toBe('somebody else');
  });

  it('lets nothing through to the API server that a part asks which does not stop, once it has ended', async () => {
    let asking: Asking | undefined;
    const unheard = new AbortController();
    const replica = await start('a', undefined, ({ kit }) => {
      const mine = (asking = new Asking(kit.api));
      const begin = (): Promise<void> => {
        void mine.ask(unheard.signal);
        return Promise.resolve();
      };
      return {
        always: [],
        leading: [{ name: 'deaf', start: begin, stop: () => new Promise(() => undefined) }],
      };
    });
    await eventually(() => Promise.resolve((asking?.answers.length ?? 0) > 3));
    await takeLease();
    expect(await replica.ended).toBe(kLostLeadership);
    const { asked = 0, answers = [] } = asking ?? {};
    await eventually(() => Promise.resolve((asking?.asked ?? 0) > asked + 5));
    unheard.abort();
    expect(asking?.comeAfter(asked)).toEqual([]);
    expect(answers.slice(-3)).toEqual(Array(3).fill(expect.stringContaining('the client is closed')));
  });

  it('ends soon when it has lost its lease, also where another part does not stop', async () => {
    const deaf = {
      name: 'deaf',
      start: () => Promise.resolve(),
      stop: () => new Promise<void>(() => undefined),
    };
    const replica = await start('a', undefined, () => ({ always: [deaf], leading: [deaf] }), [
      '--stop-timeout',
      '100ms',
    ]);
    await eventually(async () => (await holder()) === 'a');
    await takeLease();
    expect(await replica.ended).toBe(kLostLeadership);
  });

  it('ends with the words of a part of the leader that can not start, and gives the lease back', async () => {
    const stops: string[] = [];
    const part = (name: string, begin: () => Promise<void>): Component => ({
      name,
      start: begin,
      stop: () => {
        stops.push(name);
        return Promise.resolve();
      },
    });
    const replica = await start('a', undefined, () => ({
      always: [part('always', () => Promise.resolve())],
      leading: [
        part('fine', () => Promise.resolve()),
        part('broken', () => Promise.reject(new Error('broken: the disk is full; make room'))),
      ],
    }));
    replicas.pop(); // it has no exit status
    await expect(replica.ended).rejects.toThrow('broken: the disk is full; make room');
    expect(stops.sort()).toEqual(['always', 'broken', 'fine']);
    expect(
      await new ResourceClient(cluster.direct, kLeases).get({ namespace, name: 'outrigger-operator' }),
    ).toMatchObject({ spec: { holderIdentity: '' } });
  });

  it('stops while it waits for an API server that is away', async () => {
    cluster.chaos.faults = { ...kCalm, cutBefore: 1 };
    const replica = await start('a');
    replica.stop();
    expect(await replica.ended).toBe(0);
  });

  /** Runs the replica until a topic and a profile were worked on; answers its metrics of then. */
  async function worked(replica: Replica): Promise<string> {
    let text = '';
    await eventually(async () => {
      ({ text } = await replica.get('/metrics'));
      return ['topic', 'profile'].every((name) =>
        text.includes(`reconciles_total{controller="${name}",result="ok"}`),
      );
    });
    replica.stop();
    await replica.ended;
    return text;
  }

  it('asks for nothing that its roles do not allow', async () => {
    const profiles = new ResourceClient(cluster.direct, resource<SidecarProfile>(kSidecarProfile));
    await topics().create({ metadata: { namespace, name: 'quotes' }, spec: {} as never });
    await profiles.create({ metadata: { namespace, name: 'p' }, spec: {} as never });
    const { fake } = cluster;
    if (fake === undefined) {
      // A real server judges by itself, when the operator comes as somebody who has these roles and no others.
      const roles = await grantRoles(cluster.direct, namespace);
      const metrics = await worked(await start('a', cluster.impersonating(roles.user)));
      await roles.revoke();
      expect(metrics).not.toContain('status="403"');
      expect((await topics().get({ namespace, name: 'quotes' })).status?.streamId).toBeDefined();
      return;
    }
    fake.requests.length = 0;
    await worked(await start('a'));
    const permissions = [...Object.values(kClusterRoles), ...Object.values(kNamespaceRoles)].flat();
    expect(fake.requests.length).toBeGreaterThan(10);
    expect(
      fake.requests.filter((each) => !permissions.some((permission) => allows(permission, each))),
    ).toEqual([]);
  });
});
