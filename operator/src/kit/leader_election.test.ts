// SPDX-License-Identifier: Apache-2.0
// Leadership: one at a time, handed over, lost when it can't be renewed. The clock is the test's.
import { kSystemClock, type Clock } from '../base/clock';
import { kCalm } from '../testing/chaos_proxy';
import { seeded } from '../testing/seeded';
import { kSilent, TestCluster } from '../testing/test_cluster';
import { kLeases, LeaderElection, type LeaderTimes } from './leader_election';
import { ResourceClient } from './resource';

/** A second is the least that a Lease can say. */
const kTimes: LeaderTimes = { leaseMs: 1000, renewDeadlineMs: 600, retryMs: 10 };
const kNamespace = 'default';

jest.setTimeout(60_000); // leases end by time, on a machine that others use too

describe('leader election', () => {
  let cluster: TestCluster;
  const name = `outrigger-test-${process.pid}`;
  const changes: string[] = [];

  beforeEach(async () => {
    cluster = await TestCluster.start(seeded(1));
    changes.length = 0;
  });

  afterEach(async () => {
    await new ResourceClient(cluster.direct, kLeases)
      .delete({ namespace: kNamespace, name })
      .catch(() => undefined);
    await cluster.stop();
  });

  function candidate(identity: string, clock: Clock = kSystemClock): LeaderElection {
    return new LeaderElection({
      api: cluster.stormy,
      namespace: kNamespace,
      name,
      identity,
      times: kTimes,
      clock,
      random: () => 0,
      metrics: { leading: () => undefined, changed: (change) => changes.push(`${identity} ${change}`) },
      log: kSilent,
    });
  }

  const lease = () => new ResourceClient(cluster.direct, kLeases).get({ namespace: kNamespace, name });

  it('is given to one of two, and to the other when the first gives it back', async () => {
    const [a, b] = [candidate('a'), candidate('b')];
    const stopA = new AbortController();
    const never = new AbortController();
    expect(await a.acquire(never.signal)).toBe(true);
    const held = a.hold(stopA.signal);
    const waiting = b.acquire(never.signal);
    expect([a.isLeader, b.isLeader]).toEqual([true, false]);
    stopA.abort();
    expect(await held).toBe('released');
    expect(await waiting).toBe(true);
    expect([a.isLeader, b.isLeader]).toEqual([false, true]);
    expect((await lease()).spec).toMatchObject({ holderIdentity: 'b', leaseTransitions: 1 });
    expect(changes).toEqual(['a acquired', 'a released', 'b acquired']);
  });

  it('is taken over when the holder does not renew for the lease time, on the own clock of the other', async () => {
    let now = 0;
    const clock: Clock = { monotonicMs: () => now, wallMs: () => 0 };
    const never = new AbortController();
    await candidate('dead').acquire(never.signal);
    const b = candidate('b', clock);
    const attempt = (): Promise<boolean> =>
      (b as unknown as { attempt: (signal: AbortSignal) => Promise<boolean> }).attempt(never.signal);
    expect(await attempt()).toBe(false); // the lease's time begins when it is first seen
    now = 999;
    expect(await attempt()).toBe(false);
    now = 1000;
    expect(await attempt()).toBe(true);
  });

  it('is lost when the API server can not be reached until the deadline, and never claimed after it', async () => {
    const a = candidate('a');
    const never = new AbortController();
    await a.acquire(never.signal);
    cluster.chaos.faults = { ...kCalm, cutBefore: 1 };
    expect(await a.hold(never.signal)).toBe('lost');
    expect(a.isLeader).toBe(false);
  });

  it('asks a busy API server no sooner than that wants, and is lost at its deadline and not after', async () => {
    const a = candidate('a');
    const never = new AbortController();
    await a.acquire(never.signal);
    cluster.chaos.retryAfterSeconds = 3600;
    cluster.chaos.faults = { ...kCalm, tooMany: 1 };
    expect(await a.hold(never.signal)).toBe('lost');
    expect(cluster.chaos.struck.get('tooMany')).toBe(1); // of some sixty tries
  });

  it('lives through faults that end before the deadline', async () => {
    const a = candidate('a');
    const stop = new AbortController();
    await a.acquire(stop.signal);
    const held = a.hold(stop.signal);
    cluster.chaos.faults = { ...kCalm, cutAfter: 0.3, serverError: 0.3, unauthorized: 0.2 };
    const renewals = async (): Promise<string> => String((await lease()).spec?.renewTime);
    const first = await renewals();
    while ((await renewals()) === first) await new Promise((resolve) => setTimeout(resolve, 5));
    cluster.chaos.faults = kCalm;
    stop.abort();
    expect(await held).toBe('released');
  });

  it('is lost at once when another holds the lease', async () => {
    const a = candidate('a');
    const never = new AbortController();
    await a.acquire(never.signal);
    const leases = new ResourceClient(cluster.direct, kLeases);
    const now = await lease();
    await leases.update({ ...now, spec: { ...now.spec, holderIdentity: 'thief', leaseDurationSeconds: 60 } });
    expect(await a.hold(never.signal)).toBe('lost');
  });

  it('never has two leaders at once among five, under a storm of refusals', async () => {
    cluster.chaos.faults = { ...kCalm, cutBefore: 0.1, cutAfter: 0.1, serverError: 0.1 };
    const stop = new AbortController();
    const all = ['a', 'b', 'c', 'd', 'e'].map((identity) => candidate(identity));
    let reigns = 0;
    const wrong: number[] = [];
    const one = async (election: LeaderElection): Promise<void> => {
      while (!stop.signal.aborted && (await election.acquire(stop.signal))) {
        const reign = AbortSignal.any([stop.signal, AbortSignal.timeout(30)]);
        const held = election.hold(reign);
        while (election.isLeader) {
          const leaders = all.filter(({ isLeader }) => isLeader).length;
          if (leaders > 1) wrong.push(leaders);
          await new Promise((resolve) => setTimeout(resolve, 2));
        }
        await held;
        if (++reigns >= 10) stop.abort();
      }
    };
    await Promise.all(all.map(one));
    expect(wrong).toEqual([]);
  });

  it('refuses times that could make two leaders', () => {
    const times = { leaseMs: 10_000, renewDeadlineMs: 10_000, retryMs: 2000 };
    expect(() => new LeaderElection({ times } as never)).toThrow(/each must be longer than the next/);
  });
});
