// SPDX-License-Identifier: Apache-2.0
// `explain pod` against a cluster that is a map of paths, with rights that can be taken away and a sidecar that answers as told.
import { ApiError } from '../kit/api_error';
import type { ExecResult, ExecTarget } from '../kit/exec';
import { absenceOf, type AbsenceFacts } from './absence';
import { NoPod, PodExplainer, type PodExplanation } from './explain_pod';
import type { ExplainCluster } from './rights';

const kNow = Date.parse('2026-06-01T12:00:00Z');
const kSlices = '/apis/outrigger.dev/v1alpha1/namespaces/shop/topicendpointslices';
const kProfiles = '/apis/outrigger.dev/v1alpha1/namespaces/shop/sidecarprofiles';
const kTopic = '/apis/outrigger.dev/v1alpha1/namespaces/shop/topics/orders';
const kPod = '/api/v1/namespaces/shop/pods/till-1';

class FakeExplainCluster implements ExplainCluster {
  readonly objects = new Map<string, unknown>();
  /** Paths that answer 403; "exec" for the sidecar. */
  readonly forbidden = new Set<string>();
  readonly deniedVerbs = new Set<string>();
  readonly commands: { readonly target: ExecTarget; readonly command: readonly string[] }[] = [];
  answer: ExecResult | Error = { status: 0, stdout: '{}', stderr: '' };

  get<T>(path: string): Promise<T | undefined> {
    return this.forbidden.has(path)
      ? Promise.reject(new ApiError(403, 'Forbidden', `GET ${path}: 403 Forbidden`))
      : Promise.resolve(this.objects.get(path) as T | undefined);
  }

  post<T>(_path: string, body: object): Promise<T> {
    const { spec } = body as { spec: { resourceAttributes: { verb: string; subresource?: string } } };
    return Promise.resolve({
      status: { allowed: !this.deniedVerbs.has(spec.resourceAttributes.verb) },
    } as T);
  }

  exec(target: ExecTarget, command: readonly string[]): Promise<ExecResult> {
    this.commands.push({ target, command });
    if (this.forbidden.has('exec')) {
      return Promise.reject(new ApiError(403, '', 'exec: Unexpected server response: 403'));
    }
    return this.answer instanceof Error ? Promise.reject(this.answer) : Promise.resolve(this.answer);
  }
}

const kLabel = { 'outrigger.dev/inject': 'true' };

function pod(more: { metadata?: object; status?: object } = {}): object {
  return {
    metadata: {
      labels: { ...kLabel, tier: 'fast' },
      annotations: {
        'outrigger.dev/injected': JSON.stringify({ profile: 'fast', image: 'i:1' }),
        'outrigger.dev/memory': '256Mi',
      },
      ...more.metadata,
    },
    spec: {
      nodeName: 'node1',
      initContainers: [{ name: 'outrigger', image: 'i:1' }],
      containers: [{ name: 'app' }],
    },
    status: {
      phase: 'Running',
      podIP: '10.0.0.1',
      initContainerStatuses: [{ name: 'outrigger', ready: true, restartCount: 0 }],
      ...more.status,
    },
  };
}

const kPath = { state: 'PATH_STATE_CONNECTED', reason: '' };

function report(topics: readonly object[], status: object = {}): ExecResult {
  const driver = {
    backend: 'mmsg',
    pid: 7,
    facts: { mode: 'kernel', 'segmentation offload (UDP_SEGMENT)': 'on' },
    threads: { mode: 'shared' },
    reason: '',
    notBetter: [{ name: 'uring', reason: 'io_uring_setup: EPERM' }],
    settings: { AERON_MTU_LENGTH: '1408' },
  };
  return {
    status: 0,
    stdout: JSON.stringify({ driver, order: ['uring', 'mmsg'], sidecar: { error: '', status, topics } }),
    stderr: '',
  };
}

function stored(name: string, role: string, renewed: string, more: object = {}): object {
  return {
    id: name,
    role,
    namespace: 'shop',
    pod: name,
    podUid: 'u',
    node: 'node2',
    endpoints: [{ network: 'pod', address: '10.0.0.9', port: 40_200, mtu: 1500 }],
    lease: { renewTime: renewed, durationSeconds: 30 },
    ...more,
  };
}

function healthy(): FakeExplainCluster {
  const cluster = new FakeExplainCluster();
  cluster.objects.set(kPod, pod());
  cluster.objects.set(kProfiles, {
    items: [
      {
        metadata: { name: 'fast', creationTimestamp: '2026-01-01T00:00:00Z' },
        spec: { podSelector: { matchLabels: { tier: 'fast' } } },
      },
      {
        metadata: { name: 'late', creationTimestamp: '2026-02-01T00:00:00Z' },
        spec: { podSelector: { matchLabels: { tier: 'fast' } } },
      },
    ],
  });
  cluster.objects.set(kTopic, { metadata: {}, status: { conditions: [{ type: 'Ready', status: 'True' }] } });
  cluster.objects.set(kSlices, {
    items: [
      {
        spec: {
          topic: 'orders',
          members: [
            stored('till-1', 'Publisher', '2026-06-01T11:59:50Z'),
            stored('s1', 'Subscriber', '2026-06-01T11:59:50Z'),
            stored('new', 'Subscriber', '2026-06-01T11:59:55Z'),
            stored('new', 'Publisher', '2026-06-01T11:59:55Z'),
          ],
        },
      },
      { spec: { topic: 'other', members: [stored('x', 'Publisher', '2026-06-01T11:59:55Z')] } },
    ],
  });
  cluster.answer = report([
    {
      name: 'orders',
      streamId: 5,
      publishStreams: 2,
      members: [
        { pod: 'shop/till-1', node: 'node1', publishes: true, self: true, sameNode: true },
        {
          pod: 'shop/s1',
          node: 'node2',
          subscribes: true,
          network: 'pod',
          address: '10.0.0.9',
          port: 40_200,
          to: kPath,
        },
        {
          pod: 'shop/gone',
          node: 'node2',
          subscribes: true,
          to: { state: 'PATH_STATE_NOT_CONNECTED', reason: 'silent' },
        },
      ],
    },
  ]);
  return cluster;
}

function explain(cluster: FakeExplainCluster): Promise<PodExplanation> {
  return new PodExplainer(cluster, 'shop', 'till-1', kNow).explain();
}

describe('explain pod', () => {
  it('asks the sidecar in its container, and says profile, backend, topics and the way to each member', async () => {
    const cluster = healthy();
    const story = await explain(cluster);
    expect(cluster.commands).toEqual([
      {
        target: { namespace: 'shop', pod: 'till-1', container: 'outrigger' },
        command: ['/usr/bin/outrigger', 'explain', '--sidecar', '--json'],
      },
    ]);
    expect(story).toMatchObject({
      pod: { node: 'node1', address: '10.0.0.1' },
      sidecar: { ready: true, restarts: 0 },
      absence: null,
      profile: {
        name: 'fast',
        why: 'its podSelector matches the pod',
        annotations: { 'outrigger.dev/memory': '256Mi' },
        problems: ['late match too, and are younger'],
      },
      report: { driver: { backend: 'mmsg', notBetter: [{ name: 'uring' }] } },
      lacking: [],
      conditions: [],
    });
    const [topic] = story.topics;
    expect(story.topics).toHaveLength(1); // "other" is none of its
    expect(topic).toMatchObject({ name: 'orders', resource: 'shop/orders', streamId: 5, notReady: '' });
    expect(topic?.members.map((each) => [each.pod, each.knownTo, each.leaseSeconds, each.to?.state])).toEqual(
      [
        ['shop/till-1', 'both', 20, undefined],
        ['shop/s1', 'both', 20, 'PATH_STATE_CONNECTED'],
        ['shop/gone', 'sidecar', undefined, 'PATH_STATE_NOT_CONNECTED'],
        ['shop/new', 'slices', 25, undefined],
      ],
    );
    expect(topic?.members.at(-1)).toMatchObject({ publishes: true, subscribes: true });
  });

  it('names each right that is lacking, and tells the rest', async () => {
    const cluster = healthy();
    [kSlices, kProfiles, 'exec'].forEach((each) => cluster.forbidden.add(each));
    cluster.deniedVerbs.add('create');
    const story = await explain(cluster);
    expect(story.lacking).toEqual([
      'list sidecarprofiles.outrigger.dev in namespace "shop"',
      'create pods/exec in namespace "shop"',
      'list topicendpointslices.outrigger.dev in namespace "shop"',
    ]);
    expect(story.unasked).toMatchObject({
      why: 'you may not run a program in it',
      fix: expect.stringContaining('-- /usr/bin/outrigger explain --sidecar --json') as string,
    });
    expect(story).toMatchObject({ sidecar: { ready: true }, report: null, profile: { name: 'fast' } });
  });

  it('tells the topics of the slices when the sidecar can not be asked', async () => {
    const cluster = healthy();
    cluster.answer = new ApiError(0, '', 'exec in shop/till-1: container not found ("outrigger")');
    const story = await explain(cluster);
    expect(story.unasked?.why).toContain('container not found');
    expect(story.topics.map(({ resource, members }) => [resource, members.length])).toEqual([
      ['shop/orders', 3],
    ]);
  });

  it.each([
    [{ status: 64, stdout: '', stderr: 'unknown option' }, 'of a version that does not know'],
    [{ status: 70, stdout: '', stderr: 'out of memory' }, 'answered with status 70: out of memory'],
    [{ status: 0, stdout: '{"driver": 3}', stderr: '' }, 'answered with status 0'],
  ])('takes %j for no answer', async (answer, why) => {
    const cluster = healthy();
    cluster.answer = answer;
    expect((await explain(cluster)).unasked?.why).toContain(why);
  });

  it('says that profiles changed after the pod was made, or that its profile is gone', async () => {
    const cluster = healthy();
    cluster.objects.set(kProfiles, { items: [{ metadata: { name: 'slow' }, spec: { default: true } }] });
    expect((await explain(cluster)).profile).toMatchObject({
      name: 'fast',
      why: 'the webhook took it when the pod was made',
      problems: [expect.stringContaining('made anew it would take SidecarProfile slow')],
    });
    cluster.objects.set(
      kPod,
      pod({
        metadata: {
          annotations: { 'outrigger.dev/profile': 'fast', 'outrigger.dev/injected': '{"profile":"fast"}' },
        },
      }),
    );
    expect((await explain(cluster)).profile?.problems).toEqual([
      expect.stringContaining('fast is there no more'),
    ]);
  });

  it('lists what is not as it should be: of pod, profile, topic, driver and directory', async () => {
    const cluster = healthy();
    cluster.objects.set(
      kPod,
      pod({ status: { conditions: [{ type: 'Ready', status: 'False', reason: 'ContainersNotReady' }] } }),
    );
    cluster.objects.set(kProfiles, {
      items: [
        {
          metadata: { name: 'fast' },
          spec: { podSelector: { matchLabels: { tier: 'fast' } } },
          status: {
            conditions: [{ type: 'Ready', status: 'False', reason: 'Conflict', message: 'older is taken' }],
          },
        },
      ],
    });
    cluster.objects.delete(kTopic);
    cluster.answer = report([{ name: 'orders' }], {
      driverError: 'no heartbeat',
      directoryError: 'UNAVAILABLE',
      leaving: true,
    });
    expect((await explain(cluster)).conditions).toEqual([
      { of: 'pod, Ready', message: 'ContainersNotReady' },
      { of: 'SidecarProfile fast', message: 'Conflict: older is taken' },
      { of: 'Topic shop/orders', message: 'there is no such Topic any more' },
      { of: 'driver', message: 'no heartbeat' },
      { of: 'directory', message: 'UNAVAILABLE' },
      { of: 'sidecar', message: 'it was told that it will end: no longer ready' },
    ]);
  });

  it.each([
    ['3', '5-7', undefined],
    ['2', '1,3', undefined],
    ['3', '0-7', /cores: 3, but the driver runs on CPUs 0-7.*cpuManagerPolicy static/],
    ['1', '0,2-4', /cores: 1, but the driver runs on CPUs 0,2-4/],
  ])(
    'says whether a driver that wants %s cores of its own has them: on CPUs %s',
    async (cores, cpus, why) => {
      const cluster = healthy();
      const made = pod() as { spec: { initContainers: object[] } };
      const env = [{ name: 'OUTRIGGER_INIT_DRIVER_CORES', value: cores }];
      made.spec.initContainers = made.spec.initContainers.map((each) => ({ ...each, env }));
      cluster.objects.set(kPod, made);
      const answer = JSON.parse((cluster.answer as ExecResult).stdout) as { driver: { threads: object } };
      answer.driver.threads = { mode: 'dedicated', cpus };
      cluster.answer = { status: 0, stdout: JSON.stringify(answer), stderr: '' };
      const told = (await explain(cluster)).conditions.filter(({ of }) => of === 'driver');
      expect(told).toEqual(
        why === undefined ? [] : [{ of: 'driver', message: expect.stringMatching(why) as string }],
      );
    },
  );

  const kGuaranteed = { limits: { cpu: '1', memory: '1Gi' } };
  it.each<[string, object, object, number, RegExp | undefined]>([
    [
      'the annotation',
      { 'outrigger.dev/cores': '2' },
      {},
      1,
      /^cores: 2 is what the annotation outrigger.dev\/cores asks for.*not of QoS class Guaranteed; give each container/,
    ],
    ['the profile', {}, {}, 3, /^cores: 3 is what SidecarProfile fast asks for.*not of QoS class Guaranteed/],
    [
      'the profile, of a pod with resources as a whole',
      {},
      { resources: kGuaranteed },
      1,
      /^cores: 1 is what SidecarProfile fast.*PodLevelResourceManagers.*; remove it and give/,
    ],
    [
      'the profile, changed later',
      {},
      { containers: [{ name: 'app', resources: kGuaranteed }] },
      1,
      /^cores: 1 is what SidecarProfile fast.*make the pod anew/,
    ],
    ['the profile, which the annotation takes back', { 'outrigger.dev/cores': '0' }, {}, 1, undefined],
    ['nobody', {}, {}, 0, undefined],
  ])(
    'says why a driver has none of the cores that are asked for by %s',
    async (_, asks, spec, cores, why) => {
      const cluster = healthy();
      const annotations = { 'outrigger.dev/injected': '{"profile":"fast"}', ...asks };
      const made = pod({ metadata: { annotations, labels: { ...kLabel, tier: 'fast' } } }) as {
        spec: object;
      };
      cluster.objects.set(kPod, { ...made, spec: { ...made.spec, ...spec } });
      const podSelector = { matchLabels: { tier: 'fast' } };
      cluster.objects.set(kProfiles, {
        items: [{ metadata: { name: 'fast' }, spec: { podSelector, cores } }],
      });
      const told = (await explain(cluster)).conditions;
      expect(told).toEqual(
        why === undefined ? [] : [{ of: 'driver', message: expect.stringMatching(why) as string }],
      );
    },
  );

  it('says of a driver without the cores that it was promised that its pod has resources as a whole', async () => {
    const cluster = healthy();
    const env = [{ name: 'OUTRIGGER_INIT_DRIVER_CORES', value: '1' }];
    const made = pod() as { spec: { initContainers: object[] } };
    const initContainers = made.spec.initContainers.map((each) => ({ ...each, env }));
    cluster.objects.set(kPod, { ...made, spec: { ...made.spec, initContainers, resources: kGuaranteed } });
    const answer = JSON.parse((cluster.answer as ExecResult).stdout) as { driver: { threads: object } };
    answer.driver.threads = { mode: 'shared', cpus: '0-3' };
    cluster.answer = { status: 0, stdout: JSON.stringify(answer), stderr: '' };
    expect((await explain(cluster)).conditions).toEqual([
      { of: 'driver', message: expect.stringMatching(/CPUs 0-3.*PodLevelResourceManagers/) as string },
    ]);
  });

  it('says of a pod that is not there why it could not be made', async () => {
    const cluster = new FakeExplainCluster();
    await expect(explain(cluster)).rejects.toThrow(
      'namespace "shop" has no pod "till-1"; kubectl get pods -n shop',
    );
    const message =
      'admission webhook "inject.outrigger.dev" denied the request: annotation outrigger.dev/profil: unknown';
    cluster.objects.set('/api/v1/namespaces/shop/events', {
      items: [
        { message: 'other', involvedObject: { kind: 'ReplicaSet', name: 'tiller-5d' } },
        { message, involvedObject: { kind: 'ReplicaSet', name: 'till-1-5d9c' } },
      ],
    });
    await expect(explain(cluster)).rejects.toThrow(`ReplicaSet till-1-5d9c can't make one: ${message}`);
    cluster.forbidden.add(kPod);
    await expect(explain(cluster)).rejects.toThrow(NoPod);
    await expect(explain(cluster)).rejects.toThrow('you may not get pods in namespace "shop"');
  });

  it('says of a pod without a sidecar what the namespace and the injector have to do with it', async () => {
    const cluster = new FakeExplainCluster();
    cluster.objects.set(kPod, { metadata: { labels: kLabel }, spec: { containers: [] } });
    cluster.objects.set('/api/v1/namespaces/shop', {
      metadata: { labels: { 'outrigger.dev/injection': 'disabled' } },
    });
    cluster.objects.set('/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations', {
      items: [
        {
          metadata: { name: 'outrigger-injector' },
          webhooks: [
            {
              name: 'inject.outrigger.dev',
              namespaceSelector: {
                matchExpressions: [
                  { key: 'outrigger.dev/injection', operator: 'NotIn', values: ['disabled'] },
                ],
              },
            },
          ],
        },
      ],
    });
    const story = await explain(cluster);
    expect(story).toMatchObject({ sidecar: null, report: null });
    expect(story.absence?.why).toBe('namespace shop has the label outrigger.dev/injection: disabled');
    expect(cluster.commands).toEqual([]);
  });
});

describe('why a pod has no sidecar', () => {
  const facts = (more: Partial<AbsenceFacts> & { metadata?: AbsenceFacts['metadata'] }): AbsenceFacts => ({
    namespace: 'shop',
    name: 'till-1',
    namespaceLabels: { 'kubernetes.io/metadata.name': 'shop' },
    injectors: [
      {
        metadata: { name: 'outrigger-injector', creationTimestamp: '2026-05-01T00:00:00Z' },
        webhooks: [
          {
            name: 'inject.outrigger.dev',
            namespaceSelector: {
              matchExpressions: [
                { key: 'kubernetes.io/metadata.name', operator: 'NotIn', values: ['kube-system'] },
              ],
            },
          },
        ],
      },
    ],
    metadata: { labels: kLabel, creationTimestamp: '2026-05-02T00:00:00Z' },
    ...more,
  });
  const owned = (kind: string, name: string, apiVersion = 'apps/v1') => ({
    ownerReferences: [{ apiVersion, kind, name, controller: true }],
  });

  it.each<[string, Parameters<typeof facts>[0], string, string]>([
    [
      'no label',
      { metadata: {} },
      'it has no label outrigger.dev/inject: "true"',
      'put its manifest through outrigger annotate',
    ],
    [
      'no label, of a Deployment',
      { metadata: { labels: { 'pod-template-hash': '5d9c' }, ...owned('ReplicaSet', 'till-5d9c') } },
      'it has no label',
      'kubectl get deployment till -n shop -o yaml | outrigger annotate | kubectl apply -f -',
    ],
    [
      'no label, of a ReplicaSet alone',
      { metadata: owned('ReplicaSet', 'till') },
      'it has no label',
      'kubectl get replicaset till -n shop -o yaml | outrigger annotate | kubectl apply -f -; then kubectl delete pod till-1 -n shop: its ReplicaSet changes no pod that is there',
    ],
    [
      'no label, of a Job',
      { metadata: owned('Job', 'till', 'batch/v1') },
      'it has no label',
      "the template of a Job can't be changed: put the manifest of Job till, or of the CronJob that makes it, through outrigger annotate, kubectl delete job till -n shop, and apply that",
    ],
    [
      'no label, of a kind that is not of Kubernetes',
      { metadata: owned('StatefulSet', 'till', 'apps.kruise.io/v1beta1') },
      'it has no label',
      'set the label outrigger.dev/inject: "true" in the pod template of its StatefulSet till',
    ],
    [
      'a label that says no',
      { metadata: { labels: { 'outrigger.dev/inject': 'yes' } } },
      'is "yes"; allowed: "true"',
      'annotate',
    ],
    [
      'a static pod',
      { metadata: { labels: kLabel, annotations: { 'kubernetes.io/config.mirror': 'x' } } },
      'static pod',
      'DaemonSet',
    ],
    [
      'a static pod without a label, which its node owns',
      {
        metadata: {
          annotations: { 'kubernetes.io/config.mirror': 'x' },
          ...owned('Node', 'node1', 'v1'),
        },
      },
      'static pod',
      'DaemonSet',
    ],
    ['no injector', { injectors: [] }, 'no injector is registered', 'outrigger check'],
    [
      'a namespace of Kubernetes',
      { namespaceLabels: { 'kubernetes.io/metadata.name': 'kube-system' } },
      'never asked for',
      'another namespace',
    ],
    [
      'made too early',
      {
        metadata: {
          labels: kLabel,
          creationTimestamp: '2026-04-30T00:00:00Z',
          ...owned('StatefulSet', 'till'),
        },
      },
      'before the injector was registered',
      'kubectl rollout restart statefulset/till -n shop',
    ],
    ...(
      [
        [owned('Job', 'till', 'batch/v1'), 'its Job till makes another one unless it is over'],
        [owned('ReplicaSet', 'till'), 'its ReplicaSet till makes another one'],
        [owned('ReplicationController', 'till', 'v1'), 'its ReplicationController till makes another one'],
        [owned('Rollout', 'till', 'argoproj.io/v1alpha1'), 'make it anew through its Rollout till'],
      ] as const
    ).map(([of, fix]): [string, Parameters<typeof facts>[0], string, string] => [
      `labelled later, of a ${of.ownerReferences[0]?.kind}`,
      { metadata: { labels: kLabel, creationTimestamp: '2026-05-02T00:00:00Z', ...of } },
      'the label came later',
      fix,
    ]),
    [
      'nothing may be read',
      { injectors: undefined, namespaceLabels: undefined },
      'was not given one when it was made',
      'outrigger check',
    ],
  ])('%s', (_, more, why, fix) => {
    const cause = absenceOf(facts(more));
    expect(cause.why).toContain(why);
    expect(cause.fix).toContain(fix);
  });
});
