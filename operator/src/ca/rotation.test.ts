// SPDX-License-Identifier: Apache-2.0
// Rotation as a whole: real HTTPS servers and a real client, on a clock of the test's own. API servers lag behind, replicas reload when they
// like, steps come late or twice, another leader writes in between; a client with the bundle that it has must always be served.
import { X509Certificate } from 'node:crypto';
import { get } from 'node:https';
import { startWebhook, type WebhookServer } from '../webhook/server';
import { kSettings } from '../webhook/testing';
import { makeAuthority, issueServing, serviceNames, splitBundle, type KeyPair } from './certificates';
import { expiries, stepCertificates, type CertificateStore } from './manager';
import { BundleObserver, observeReplicas } from './observer';
import {
  bundleOf,
  carryOut,
  decide,
  kRefusalGraceMs,
  kRotationTimes,
  rotationPolicy,
  type CertificateState,
  type Observed,
  type RotationPolicy,
} from './rotation';
import { secretData, stateOf } from './secret';

const kNames = serviceNames('outrigger-webhook', 'outrigger-system');
const kRotationPolicy = rotationPolicy(kRotationTimes);
const kMinuteMs = 60_000;
const kHourMs = 60 * kMinuteMs;
const kDayMs = 24 * kHourMs;

/** OpenSSL goes by the machine's clock: lives are long and the test's days lie in the past, so that all it issues is valid for real. */
const kPolicy: RotationPolicy = {
  authorityLifeMs: 200 * kDayMs,
  authorityRenewMs: 6 * kHourMs,
  servingLifeMs: 150 * kDayMs,
  servingRenewMs: 2 * kHourMs,
  settleMs: 5 * kMinuteMs,
};

/** mulberry32: one seed, one run. */
function randomOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Undefined when the client was served, else why not. */
function ask(port: number, bundle: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    const options = {
      host: '127.0.0.1',
      port,
      path: '/healthz',
      servername: kNames[0],
      ca: bundle,
      agent: false,
    };
    const request = get(options, (response) => {
      response.resume();
      response.once('end', () =>
        resolve(response.statusCode === 200 ? undefined : `status ${response.statusCode}`),
      );
    });
    request.once('error', (error) => resolve(error.message));
  });
}

interface Run {
  readonly failures: readonly string[];
  readonly authorities: number;
  readonly certificates: number;
  readonly ticks: number;
}

interface SimulatedStore extends CertificateStore {
  readonly current: CertificateState | undefined;
  /** Somebody deletes the Secret. */
  erase(): void;
  /** Another process writes the same once more: whoever loaded before loses. */
  touch(): void;
}

function memoryStore(): SimulatedStore {
  let data: Record<string, string> | undefined;
  let version = 0;
  return {
    get current() {
      return stateOf(data);
    },
    erase: () => {
      data = undefined;
    },
    touch: () => {
      version++;
    },
    load: () =>
      Promise.resolve({ state: stateOf(data), version: data === undefined ? undefined : `${version}` }),
    save: (state, from) => {
      if (from !== (data === undefined ? undefined : `${version}`)) {
        return Promise.resolve(false);
      }
      data = { ...secretData(state) };
      version++;
      return Promise.resolve(true);
    },
  };
}

async function simulate(seed: number, policy: RotationPolicy, hours: number): Promise<Run> {
  const random = randomOf(seed);
  const store = memoryStore();
  let nowMs = Date.now() - 3 * kDayMs;
  let observer = new BundleObserver();
  const replicas: { server: WebhookServer; shown: KeyPair }[] = [];
  /** What the configuration holds, and what each API server goes by. */
  let applied = '';
  const apiServers = Array.from({ length: 2 }, () => ({ bundle: '', dueMs: Infinity }));

  const observe = async (): Promise<Observed> => {
    observer.observe(new Map([['outrigger-injector', applied]]), nowMs);
    const addresses = replicas.map(({ server }) => ({ host: '127.0.0.1', port: server.port }));
    return { bundles: observer.bundles(), served: await observeReplicas(addresses) };
  };
  /** As replicas know it, also when it is stored no more. */
  let known: CertificateState | undefined;
  const latest = (): CertificateState => (known = store.current ?? known) as CertificateState;
  const step = () =>
    stepCertificates({
      store,
      observe,
      served: () => known,
      names: kNames,
      policy,
      now: () => nowMs,
    });
  const apply = (): void => {
    const bundle = bundleOf(latest());
    if (bundle !== applied) {
      applied = bundle;
      // Up to nine tenths of what the policy waits for.
      apiServers.forEach((each) => (each.dueMs = nowMs + random() * 0.9 * kPolicy.settleMs));
    }
  };
  const reload = (replica: (typeof replicas)[number]): void => {
    replica.shown = latest().serving;
    replica.server.setKeyPair(replica.shown);
  };

  const failures: string[] = [];
  const authorities = new Set<string>();
  const certificates = new Set<string>();
  const startedMs = nowMs;
  let ticks = 0;
  try {
    await step();
    for (let i = 0; i < 2; i++) {
      const shown = latest().serving;
      const context = { settings: () => kSettings, profiles: () => [] };
      const server = await startWebhook({ ...context, keyPair: shown }, { port: 0, host: '127.0.0.1' });
      replicas.push({ server, shown });
    }
    applied = bundleOf(latest());
    apiServers.forEach((each) => (each.bundle = applied));

    for (; nowMs - startedMs < hours * kHourMs; ticks++) {
      nowMs += random() < 0.7 ? random() * 3 * kMinuteMs : random() * 40 * kMinuteMs;
      const actions: (() => unknown)[] = [
        () => step(),
        () => step(),
        () => apply(),
        () => reload(replicas[0] as (typeof replicas)[number]),
        () => reload(replicas[1] as (typeof replicas)[number]),
        // Another leader: it has seen nothing yet.
        () => {
          observer = random() < 0.1 ? new BundleObserver() : observer;
        },
        () => store.touch(),
        () => {
          latest();
          if (random() < 0.1) {
            store.erase();
          }
        },
      ];
      for (const action of actions) {
        if (random() < 0.6) {
          await Promise.resolve(action());
        }
      }
      for (const each of apiServers.filter(({ dueMs }) => dueMs <= nowMs)) {
        each.bundle = applied;
        each.dueMs = Infinity;
      }
      const state = latest();
      state.authorities.forEach(({ certificate }) => authorities.add(certificate));
      certificates.add(state.serving.certificate);
      for (const { bundle } of apiServers) {
        for (const { server } of replicas) {
          const problem = await ask(server.port, bundle);
          if (problem !== undefined) {
            failures.push(`tick ${ticks}: ${problem}; ${splitBundle(bundle).length} CAs in the bundle`);
          }
        }
      }
    }
    return { failures, authorities: authorities.size, certificates: certificates.size, ticks };
  } finally {
    await Promise.all(replicas.map(({ server }) => server.close()));
  }
}

describe('rotation', () => {
  test.each([1, 2])(
    'seed %i: a client with the bundle that it has is served at every moment',
    async (seed) => {
      const run = await simulate(seed, kPolicy, 10);
      expect(run.failures).toEqual([]);
      expect(run.authorities).toBeGreaterThanOrEqual(2);
      expect(run.certificates).toBeGreaterThanOrEqual(4);
    },
    180_000,
  );

  test('the simulation would notice: an order that does not wait for the API servers fails', async () => {
    const run = await simulate(1, { ...kPolicy, settleMs: 0 }, 10);
    expect(run.failures.length).toBeGreaterThan(0);
  }, 180_000);
});

describe('a decision', () => {
  const kNow = Date.parse('2026-06-01T00:00:00Z');
  const kNothing: Observed = { bundles: undefined, served: [] };
  const at = (state: CertificateState | undefined, observed = kNothing, nowMs = kNow) =>
    decide(state, kNames, observed, kRotationPolicy, nowMs);
  let fresh: CertificateState;

  beforeAll(async () => {
    fresh = await carryOut(undefined, { kind: 'begin', reason: '' }, kNames, kRotationPolicy, kNow);
  });

  const seen = (state: CertificateState, sinceMs: number): Observed => ({
    bundles: [{ pem: bundleOf(state), sinceMs }],
    served: [],
  });

  test('begins without a state, and with one that can not be read', () => {
    expect(at(undefined)).toMatchObject({ kind: 'begin' });
    const broken = { ...fresh, authorities: [{ certificate: 'x', key: 'y' }] };
    expect(at(broken)).toMatchObject({ kind: 'begin', reason: 'the stored CA can not be read' });
    const other = {
      ...fresh,
      authorities: [{ ...(fresh.authorities[0] as KeyPair), key: fresh.serving.key }],
    };
    expect(at(other)).toMatchObject({ kind: 'begin' });
  });

  test('puts back what is served when the Secret was deleted, with a new CA beside it: a change in order', async () => {
    const gone = (served: CertificateState, nowMs = kNow) =>
      decide(undefined, kNames, kNothing, kRotationPolicy, nowMs, served);
    const step = gone(fresh);
    expect(step).toMatchObject({ kind: 'restore', reason: 'the stored certificates were deleted' });
    const state = await carryOut(undefined, step as never, kNames, kRotationPolicy, kNow);
    expect(state.serving).toEqual(fresh.serving);
    expect(state.authorities).toHaveLength(2);
    expect(state.authorities[0]).toEqual(fresh.authorities[0]);
    expect(at(state)).toMatchObject({ kind: 'none', reason: 'clients do not have the new CA yet' });
    // Deleted once more meanwhile: the change goes on.
    expect(await carryOut(undefined, gone(state) as never, kNames, kRotationPolicy, kNow)).toEqual(state);
    // Of no use to anybody.
    expect(gone(fresh, kNow + kRotationPolicy.authorityLifeMs)).toMatchObject({ kind: 'begin' });
    expect(gone({ ...fresh, serving: { certificate: 'x', key: 'y' } })).toMatchObject({ kind: 'begin' });
  });

  test('does nothing while all is young, and says when to look again', () => {
    const step = at(fresh);
    expect(step).toMatchObject({ kind: 'none' });
    expect((step as { afterMs: number }).afterMs).toBeLessThanOrEqual(kHourMs);
  });

  test('issues anew when the certificate is old, for other names, broken, or of another CA', async () => {
    expect(at(fresh, kNothing, kNow + kRotationPolicy.servingRenewMs)).toMatchObject({
      kind: 'issue',
      authority: 0,
    });
    expect(decide(fresh, serviceNames('new', 'ns'), kNothing, kRotationPolicy, kNow)).toMatchObject({
      kind: 'issue',
    });
    expect(at({ ...fresh, serving: { certificate: 'x', key: 'y' } })).toMatchObject({ kind: 'issue' });
    const stranger = await makeAuthority({ nowMs: kNow, lifeMs: kDayMs });
    const foreign = await issueServing(stranger, kNames, { nowMs: kNow, lifeMs: kDayMs });
    expect(at({ ...fresh, serving: foreign })).toMatchObject({
      kind: 'issue',
      reason: 'none of our CAs issued it',
    });
  });

  test('begins anew when the CA expired while nobody looked', () => {
    const step = at(fresh, kNothing, kNow + kRotationPolicy.authorityLifeMs + kDayMs);
    expect(step).toMatchObject({ kind: 'begin', reason: expect.stringContaining('expired') });
  });

  test('announces a new CA, waits for every configuration, then issues, waits for every replica, then retires', async () => {
    let nowMs = kNow + kRotationPolicy.authorityRenewMs;
    let state = await carryOut(
      fresh,
      { kind: 'issue', authority: 0, reason: '' },
      kNames,
      kRotationPolicy,
      nowMs,
    );
    const step = at(state, kNothing, nowMs);
    expect(step).toMatchObject({ kind: 'announce' });
    state = await carryOut(state, step as never, kNames, kRotationPolicy, nowMs);
    expect(splitBundle(bundleOf(state))).toHaveLength(2);

    expect(at(state, kNothing, nowMs)).toMatchObject({ kind: 'none' });
    expect(at(state, seen(fresh, 0), nowMs)).toMatchObject({ kind: 'none' });
    const justSeen = seen(state, nowMs);
    expect(at(state, justSeen, nowMs + kRotationPolicy.settleMs - 1)).toMatchObject({
      kind: 'none',
      afterMs: 1,
    });
    const oneBehind: Observed = {
      ...justSeen,
      bundles: [...(justSeen.bundles ?? []), { pem: bundleOf(fresh), sinceMs: 0 }],
    };
    expect(at(state, oneBehind, nowMs + kHourMs)).toMatchObject({ kind: 'none' });

    nowMs += kRotationPolicy.settleMs;
    const issue = at(state, justSeen, nowMs);
    expect(issue).toMatchObject({ kind: 'issue', authority: 1 });
    state = await carryOut(state, issue as never, kNames, kRotationPolicy, nowMs);

    const shown = stateFingerprint(state);
    for (const served of [[], [undefined], [shown, undefined], [shown, 'AA:BB']]) {
      expect(at(state, { ...justSeen, served }, nowMs)).toMatchObject({ kind: 'none' });
    }
    const retire = at(state, { ...justSeen, served: [shown, shown] }, nowMs);
    expect(retire).toMatchObject({ kind: 'retire' });
    state = await carryOut(state, retire as never, kNames, kRotationPolicy, nowMs);
    expect(splitBundle(bundleOf(state))).toHaveLength(1);
    expect(at(state, kNothing, nowMs)).toMatchObject({ kind: 'none' });
  });

  test('waits a day for a client that can not be given the new CA, then goes on without it, and never without the others', async () => {
    const announcedMs = kNow + kRotationPolicy.authorityRenewMs;
    const state = await carryOut(
      await carryOut(
        fresh,
        { kind: 'issue', authority: 0, reason: '' },
        kNames,
        kRotationPolicy,
        announcedMs,
      ),
      { kind: 'announce', reason: '' },
      kNames,
      kRotationPolicy,
      announcedMs,
    );
    const has = { pem: bundleOf(state), sinceMs: announcedMs };
    const lacks = { pem: bundleOf(fresh), sinceMs: 0 };
    const clients = (...bundles: NonNullable<Observed['bundles']>): Observed => ({ bundles, served: [] });
    const waits = { kind: 'none', reason: 'clients do not have the new CA yet' };

    const refusing = clients(has, { ...lacks, refused: true });
    expect(at(state, refusing, announcedMs + kRefusalGraceMs - kHourMs)).toMatchObject(waits);
    expect(at(state, refusing, announcedMs + kRefusalGraceMs)).toMatchObject({
      kind: 'issue',
      authority: 1,
      reason: 'all but 1 that refuse the new CA have it',
    });
    // One that is only late is waited for, and so is everybody's time to read what they have.
    const later = announcedMs + 2 * kRefusalGraceMs;
    expect(at(state, clients(has, lacks, { ...lacks, refused: true }), later)).toMatchObject(waits);
    const late = clients({ ...has, sinceMs: later }, { ...lacks, refused: true });
    expect(at(state, late, later + kRotationPolicy.settleMs - 1)).toMatchObject({ kind: 'none', afterMs: 1 });
    // All refusing is nobody who has it.
    expect(at(state, clients({ ...lacks, refused: true }), later)).toMatchObject(waits);
  });

  test('a certificate never outlives its CA', async () => {
    const authority = await makeAuthority({ nowMs: kNow, lifeMs: kDayMs });
    const serving = await issueServing(authority, kNames, { nowMs: kNow, lifeMs: 90 * kDayMs });
    const [ca, leaf] = expiries({ authorities: [authority], serving });
    expect(leaf?.seconds).toBe(ca?.seconds);
  });

  test('the Secret holds the state, and what a kubernetes.io/tls Secret must hold', () => {
    const data = secretData(fresh);
    expect(stateOf(data)).toEqual(fresh);
    expect(Object.keys(data)).toEqual(expect.arrayContaining(['tls.crt', 'tls.key', 'ca.crt']));
    expect(stateOf({})).toBeUndefined();
    expect(stateOf({ ...data, 'tls.key': undefined as never })).toBeUndefined();
  });
});

/** As Node has it, not as ours has it. */
function stateFingerprint({ serving }: CertificateState): string {
  return new X509Certificate(serving.certificate).fingerprint256;
}
