// SPDX-License-Identifier: Apache-2.0
import type { CheckCluster } from './cluster';
import { installedSections, kDirectorySelector } from './installed';
import { podSections } from './pod';
import { preSections } from './pre';
import { checkPrinter, CheckFailure, runChecks, verdict, type CheckResult, type Section } from './runner';

/** A cluster that is a map of paths; of a path and a selector, as PATH?SELECTOR, where there is one. */
class FakeCheckCluster implements CheckCluster {
  readonly objects = new Map<string, unknown>();
  forbidden = new Set<string>();
  away = false;

  get<T>(path: string, query: Readonly<Record<string, string>> = {}): Promise<T | undefined> {
    const { labelSelector = '' } = query;
    const object = this.objects.get(labelSelector === '' ? path : `${path}?${labelSelector}`);
    return this.away
      ? Promise.reject(new Error('connect ECONNREFUSED 10.96.0.1:443'))
      : Promise.resolve((object ?? this.objects.get(path)) as T | undefined);
  }

  post<T>(_path: string, body: object): Promise<T> {
    const { spec } = body as { spec: { resourceAttributes: { resource: string } } };
    return Promise.resolve({
      status: { allowed: !this.forbidden.has(spec.resourceAttributes.resource) },
    } as T);
  }
}

const kNow = Date.parse('2026-06-01T00:00:00Z');
const kNoRetry = { deadlineMs: 0 };

function byId(results: readonly CheckResult[]): Record<string, string> {
  return Object.fromEntries(results.map(({ id, outcome }) => [id, outcome]));
}

function healthy(): FakeCheckCluster {
  const cluster = new FakeCheckCluster();
  cluster.objects.set('/version', { major: '1', minor: '37', gitVersion: 'v1.37.2' });
  cluster.objects.set('/api/v1/nodes', {
    items: [
      {
        metadata: { labels: { 'kubernetes.io/os': 'linux' } },
        status: { conditions: [{ type: 'Ready', status: 'True' }] },
      },
    ],
  });
  return cluster;
}

describe('a run of checks', () => {
  const section = (...outcomes: (() => Promise<void>)[]): Section => ({
    title: 'things',
    checks: outcomes.map((run, i) => ({
      id: `c${i}`,
      sentence: `thing ${i} is well`,
      hint: 'mend it',
      required: i === 0,
      run,
    })),
  });

  it('skips what depends on something that is not there, and says on what', async () => {
    const results = await runChecks(
      [
        section(
          () => Promise.reject(new CheckFailure('gone')),
          () => Promise.resolve(),
        ),
      ],
      kNoRetry,
    );
    expect(results.map(({ outcome, message }) => [outcome, message])).toEqual([
      ['failed', 'gone'],
      ['skipped', 'needs: thing 0 is well'],
    ]);
    expect(verdict(results)).toEqual({ ok: false, line: '1 of 2 checks failed' });
  });

  it('tries again until the deadline what may still be starting', async () => {
    let tries = 0;
    let now = 0;
    const results = await runChecks(
      [section(() => (++tries < 4 ? Promise.reject(new CheckFailure('not yet')) : Promise.resolve()))],
      {
        deadlineMs: 10_000,
        now: () => now,
        pause: (ms) => {
          now += ms;
          return Promise.resolve();
        },
      },
    );
    expect(tries).toBe(4);
    expect(verdict(results)).toMatchObject({ ok: true });
  });

  it('prints a sentence, a result, a reason and a hint', async () => {
    const lines: string[] = [];
    await runChecks([section(() => Promise.reject(new CheckFailure('gone')))], {
      ...kNoRetry,
      report: checkPrinter((line) => lines.push(line)),
    });
    expect(lines).toEqual(['things', '------', '× thing 0 is well', '    gone', '    hint: mend it']);
  });
});

describe('check --pre', () => {
  it('passes on a cluster where all may be made', async () => {
    const results = await runChecks(preSections(healthy(), 'outrigger-system'), kNoRetry);
    expect(results.filter(({ outcome }) => outcome !== 'passed')).toEqual([]);
  });

  it('says that the server can not be asked, and asks nothing more of it', async () => {
    const cluster = healthy();
    cluster.away = true;
    const results = byId(await runChecks(preSections(cluster, 'x').slice(0, 1), kNoRetry));
    expect(results).toEqual({
      'api-reachable': 'failed',
      'kubernetes-version': 'skipped',
      'nodes-linux': 'skipped',
    });
  });

  it.each([
    ['33', 'failed'],
    ['34+', 'passed'],
  ])('judges minor version %s: %s', async (minor, expected) => {
    const cluster = healthy();
    cluster.objects.set('/version', { major: '1', minor, gitVersion: `v1.${minor}` });
    expect(byId(await runChecks(preSections(cluster, 'x'), kNoRetry))['kubernetes-version']).toBe(expected);
  });

  it('names what the user may not create', async () => {
    const cluster = healthy();
    cluster.forbidden.add('clusterroles');
    const results = await runChecks(preSections(cluster, 'x'), kNoRetry);
    expect(results.find(({ id }) => id === 'may-create-clusterroles')).toMatchObject({
      outcome: 'failed',
      message: 'you may not create clusterroles.rbac.authorization.k8s.io',
    });
  });

  it('warns of resources and injectors of earlier installations', async () => {
    const cluster = healthy();
    cluster.objects.set('/apis/apiextensions.k8s.io/v1/customresourcedefinitions', {
      items: [{ metadata: { name: 'topics.outrigger.dev' }, spec: { versions: [] } }],
    });
    cluster.objects.set('/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations', {
      items: [
        {
          metadata: { name: 'old-injector' },
          webhooks: [{ name: 'inject.outrigger.dev', clientConfig: {} }],
        },
      ],
    });
    expect(byId(await runChecks(preSections(cluster, 'x'), kNoRetry))).toMatchObject({
      'no-foreign-crds': 'warning',
      'no-stray-webhook': 'warning',
    });
  });
});

describe('check', () => {
  const options = { namespace: 'outrigger-system', nowMs: kNow };

  it('says what is missing of an installation that is not there', async () => {
    const results = byId(await runChecks(installedSections(healthy(), options), kNoRetry));
    expect(results).toMatchObject({
      'crd-sidecarprofiles': 'failed',
      'operator-ready': 'failed',
      'operator-leads': 'skipped',
      'directory-ready': 'failed',
      'directory-endpoints': 'skipped',
      'injector-registered': 'failed',
      'injector-ca': 'skipped',
      'sidecars-ready': 'skipped',
    });
  });

  it('finds a lease that ran out, an empty bundle, a Service without pods and Topics in conflict', async () => {
    const cluster = healthy();
    const { objects } = cluster;
    objects.set('/apis/apps/v1/namespaces/outrigger-system/deployments', {
      items: [{ metadata: {}, spec: { replicas: 2 }, status: { readyReplicas: 1 } }],
    });
    objects.set('/apis/coordination.k8s.io/v1/namespaces/outrigger-system/leases', {
      items: [
        {
          metadata: { name: 'outrigger-operator' },
          spec: { holderIdentity: 'a', renewTime: '2026-05-31T23:00:00Z', leaseDurationSeconds: 15 },
        },
      ],
    });
    objects.set('/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations', {
      items: [
        {
          metadata: { name: 'outrigger-injector' },
          webhooks: [
            {
              name: 'inject.outrigger.dev',
              clientConfig: { service: { namespace: 'outrigger-system', name: 'w' } },
            },
          ],
        },
      ],
    });
    objects.set('/apis/outrigger.dev/v1alpha1/topics', {
      items: [
        {
          metadata: { namespace: 'shop', name: 'orders' },
          status: {
            conditions: [{ type: 'Ready', status: 'False', message: 'stream id 7 is taken by "invoices"' }],
          },
        },
      ],
    });
    const results = await runChecks(installedSections(cluster, options), kNoRetry);
    expect(byId(results)).toMatchObject({
      'operator-ready': 'warning',
      'operator-leads': 'failed',
      'injector-registered': 'passed',
      'injector-ca': 'failed',
      'injector-endpoints': 'failed',
      'injection-enforced': 'failed',
      'topics-ready': 'warning',
    });
    expect(results.find(({ id }) => id === 'topics-ready')?.message).toContain(
      'shop/orders: stream id 7 is taken by "invoices"',
    );
  });
});

describe('check of the directory', () => {
  const kDeployments = `/apis/apps/v1/namespaces/outrigger-system/deployments?${kDirectorySelector}`;
  const kSlices =
    '/apis/discovery.k8s.io/v1/namespaces/outrigger-system/endpointslices?kubernetes.io/service-name=outrigger-directory';
  const deployment = (readyReplicas: number) => ({
    items: [{ metadata: {}, spec: { replicas: 2 }, status: { readyReplicas } }],
  });
  const slice = (ready: boolean) => ({ items: [{ endpoints: [{ conditions: { ready } }] }] });

  it.each([
    ['one that is not there', undefined, undefined, 'failed', 'skipped'],
    ['one of which no replica is ready', deployment(0), slice(false), 'failed', 'skipped'],
    ['one that lost a replica', deployment(1), slice(true), 'warning', 'passed'],
    ['a Service that leads nowhere', deployment(2), slice(false), 'passed', 'failed'],
    ['a Service that is not there', deployment(2), undefined, 'passed', 'failed'],
    ['one that is well', deployment(2), slice(true), 'passed', 'passed'],
  ])('judges %s', async (_, deployments, slices, ready, endpoints) => {
    const cluster = healthy();
    cluster.objects.set(kDeployments, deployments);
    cluster.objects.set(kSlices, slices);
    const results = await runChecks(
      installedSections(cluster, { namespace: 'outrigger-system', nowMs: kNow }),
      kNoRetry,
    );
    expect(byId(results)).toMatchObject({ 'directory-ready': ready, 'directory-endpoints': endpoints });
  });
});

describe('check --pod', () => {
  const kPath = '/api/v1/namespaces/shop/pods/till-1';
  const run = async (pod: object | undefined): Promise<readonly CheckResult[]> => {
    const cluster = healthy();
    if (pod !== undefined) {
      cluster.objects.set(kPath, pod);
    }
    return runChecks(podSections(cluster, 'shop', 'till-1', kNow), kNoRetry);
  };
  const labelled = { labels: { 'outrigger.dev/inject': 'true' } };

  it.each([
    ['a pod that is not there', undefined, { 'pod-exists': 'failed', 'pod-opted-in': 'skipped' }],
    ['one that does not ask', { metadata: {} }, { 'pod-opted-in': 'failed', 'pod-has-sidecar': 'skipped' }],
    [
      'one that was made too early',
      { metadata: labelled, spec: { containers: [] } },
      { 'pod-has-sidecar': 'failed' },
    ],
  ])('explains %s', async (_, pod, expected) => {
    expect(byId(await run(pod))).toMatchObject(expected);
  });

  it('says why a sidecar is not ready, and which container does not know its address', async () => {
    const results = await run({
      metadata: labelled,
      spec: { initContainers: [{ name: 'outrigger' }], containers: [{ name: 'app' }] },
      status: {
        initContainerStatuses: [
          {
            name: 'outrigger',
            ready: false,
            restartCount: 3,
            state: { waiting: { reason: 'CrashLoopBackOff', message: 'back-off 40s' } },
          },
        ],
      },
    });
    expect(results.find(({ id }) => id === 'pod-sidecar-ready')?.message).toBe(
      'it waits: CrashLoopBackOff, back-off 40s',
    );
    expect(byId(results)).toMatchObject({
      'pod-sidecar-steady': 'warning',
      'pod-apps-connected': 'warning',
      'pod-member': 'warning',
    });
  });
});
