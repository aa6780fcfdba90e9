// SPDX-License-Identifier: Apache-2.0
// Injection on a real API server and real nodes: the operator runs in this process, the API server calls its webhook, the kubelet runs what comes of it.
import { existsSync, globSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { V1Pod } from '@kubernetes/client-node';
import { parse, parseAllDocuments } from 'yaml';
import { parseQuantity } from '../../operator/src/api';
import { operatorComponents } from '../../operator/src/components';
import { loadOperatorConfig } from '../../operator/src/config/load';
import { ApiClient } from '../../operator/src/kit/api_client';
import { runOperator } from '../../operator/src/process/operator';
import { kSilent, kubeconfigAuth } from '../../operator/src/testing/test_cluster';
import { apply, command, get, helm, kubectl, refusalOf, until } from './kubectl';

jest.setTimeout(240_000);

const kRoot = join(__dirname, '../..');
const kChart = join(kRoot, 'charts/outrigger');
const kGoldens = join(kRoot, 'operator/src/webhook/testdata');
/** `make image` leaves it; test/cluster/run puts it on both nodes. */
const kImageArchive = join(kRoot, 'build/image/outrigger.tar');
const kImage = 'localhost/outrigger:dev';
const kSystem = 'injection-system';
const kApps = 'injection-apps';
/** Where this process is to the API server: node1's address; and a port that nobody else has there. */
const kNodeAddress = '10.99.0.1';
const kPort = 18_443;
const kInject = { 'outrigger.dev/inject': 'true' };

type Document = Record<string, unknown> & { metadata: { name?: string } };

interface Case {
  readonly name: string;
  readonly pod: V1Pod;
  readonly profiles: readonly Document[];
  readonly golden: { readonly pod?: V1Pod; readonly refused?: readonly string[] };
}

function readCase(file: string): Case {
  const [pod, ...profiles] = parseAllDocuments(readFileSync(file, 'utf8')).map(
    (each) => each.toJS() as unknown,
  );
  const golden = parse(readFileSync(file.replace(/\.yaml$/, '.golden.yaml'), 'utf8')) as Case['golden'];
  return { name: basename(file, '.yaml'), pod: pod as V1Pod, profiles: profiles as Document[], golden };
}

const kCases = globSync(join(kGoldens, '*.yaml'))
  .filter((file) => !file.endsWith('.golden.yaml'))
  .toSorted()
  .map(readCase);

let api: ApiClient;
let stop: () => Promise<number>;

/** What the sidecar asks for, as numbers: the API server writes quantities its own way. */
function amountsOf(pod: V1Pod | undefined): Record<string, number> {
  const sidecar = pod?.spec?.initContainers?.find(({ name }) => name === 'outrigger');
  return Object.fromEntries(
    (['requests', 'limits'] as const).flatMap((bound) =>
      Object.entries(sidecar?.resources?.[bound] ?? {}).map(([resource, amount]) => [
        `${bound} ${resource}`,
        parseQuantity(amount),
      ]),
    ),
  );
}

/** As `kubectl create --dry-run=server`, with less of this machine's time. */
function dryRun(namespace: string, pod: object): Promise<V1Pod> {
  const path = `/api/v1/namespaces/${namespace}/pods`;
  return api.request<V1Pod>({ method: 'POST', path, query: { dryRun: 'All' }, body: pod });
}

async function refusal(namespace: string, pod: object): Promise<string> {
  return dryRun(namespace, pod).then(
    () => {
      throw new Error('accepted, although it should have been refused');
    },
    (error: unknown) => (error as Error).message,
  );
}

async function makeNamespace(name: string, labels: Readonly<Record<string, string>> = {}): Promise<void> {
  await apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels } });
  // Pods are refused until the controller made it.
  await until(
    `service account of ${name}`,
    async () => (await command('kubectl', ['get', 'serviceaccount', 'default', '-n', name])).ok,
  );
}

beforeAll(async () => {
  await kubectl(['apply', '--server-side', '-f', '-'], {
    input: await helm('template', 'outrigger', kChart, '--show-only', 'templates/crds/*.yaml'),
  });
  await kubectl(['wait', '--for=condition=Established', '--timeout=30s', 'crd', '--all']);
  await until(
    'profiles are served',
    async () => (await command('kubectl', ['get', 'sidecarprofiles'])).ok,
    20_000,
  );
  await makeNamespace(kSystem);
  await makeNamespace(kApps);
  await apply(
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'outrigger-webhook', namespace: kSystem },
      spec: { ports: [{ name: 'https', port: 443, targetPort: kPort, protocol: 'TCP' }] },
    },
    {
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: {
        name: 'outrigger-webhook-here',
        namespace: kSystem,
        labels: { 'kubernetes.io/service-name': 'outrigger-webhook' },
      },
      addressType: 'IPv4',
      endpoints: [{ addresses: [kNodeAddress], conditions: { ready: true } }],
      ports: [{ name: 'https', port: kPort, protocol: 'TCP' }],
    },
  );
  const auth = { ...kubeconfigAuth(process.env['KUBECONFIG'] ?? ''), namespace: kSystem };
  api = new ApiClient({ auth, userAgent: 'outrigger-test', timeoutMs: 20_000 });
  const abort = new AbortController();
  const ended = runOperator({
    config: loadOperatorConfig(
      [
        ...['--http-listen', '', '--webhook-listen', `0.0.0.0:${kPort}`],
        ...['--sidecar-image', kImage, '--sidecar-image-pull-policy', 'Never'],
      ],
      {},
    ),
    auth,
    log: kSilent,
    version: 'test',
    instance: 'test',
    identity: `test-${process.pid}`,
    components: operatorComponents,
    signal: abort.signal,
  });
  stop = () => {
    abort.abort();
    return ended;
  };
  // Answered by the webhook, and so by API server and CA together.
  const pod = { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'first', labels: kInject } };
  await until('the first pod is injected', async () => {
    const { spec } = await dryRun(kApps, { ...pod, spec: { containers: [{ name: 'app', image: 'x' }] } });
    return spec?.initContainers?.[0]?.name === 'outrigger';
  });
});

afterAll(async () => {
  await stop();
  api.close();
  await command('kubectl', ['delete', 'mutatingwebhookconfiguration', 'outrigger-injector']);
  for (const kind of ['validatingadmissionpolicybinding', 'validatingadmissionpolicy']) {
    await command('kubectl', ['delete', kind, 'outrigger-sidecar-present']);
  }
});

describe('the API server', () => {
  it.each(kCases)('takes pod $name as its golden file says', async ({ name, pod, profiles, golden }) => {
    // Profiles count for their namespace, so each such case has one of its own.
    const namespace = profiles.length === 0 ? kApps : `golden-${name.replaceAll('_', '-')}`;
    if (profiles.length > 0) {
      await makeNamespace(namespace);
      for (const profile of profiles) {
        // The API server says itself when it was made.
        const metadata = { name: profile.metadata.name, namespace };
        await apply({ ...profile, metadata });
      }
    }
    if (golden.refused !== undefined) {
      await until(
        'it is refused with all reasons',
        async () => {
          const message = await refusal(namespace, pod);
          return (golden.refused ?? []).every((reason) => message.includes(reason));
        },
        20_000,
      );
      return;
    }
    let made: V1Pod | undefined;
    const wanted = golden.pod?.metadata?.annotations?.['outrigger.dev/injected'] ?? '';
    const { profile } = JSON.parse(wanted) as { profile: string };
    await until(
      `it takes profile ${profile}`,
      async () => {
        made = await dryRun(namespace, pod);
        const annotation = made.metadata?.annotations?.['outrigger.dev/injected'] ?? '{}';
        // Both were made within one second, so age does not tell them apart here.
        return name === 'two_profiles' || (JSON.parse(annotation) as { profile: string }).profile === profile;
      },
      20_000,
    );
    const names = (items: readonly { name: string }[] | undefined) => (items ?? []).map((each) => each.name);
    const ours = (items: readonly { name: string }[] | undefined) =>
      names(items).filter((each) => each.startsWith('outrigger-') && each !== 'outrigger-directory');
    expect(names(made?.spec?.initContainers)).toEqual(names(golden.pod?.spec?.initContainers));
    expect(ours(made?.spec?.volumes)).toEqual(ours(golden.pod?.spec?.volumes));
    for (const [i, container] of (golden.pod?.spec?.containers ?? []).entries()) {
      const env = made?.spec?.containers[i]?.env ?? [];
      expect(env).toEqual(expect.arrayContaining(container.env ?? []));
    }
    expect(made?.spec?.securityContext).toMatchObject(golden.pod?.spec?.securityContext ?? {});
    // The API server says the class of the pod as it is now, and of the same pod without a sidecar.
    const bare = await dryRun(namespace, { ...pod, metadata: { ...pod.metadata, labels: {} } });
    expect(names(bare.spec?.initContainers)).toEqual(names(pod.spec?.initContainers));
    const isGuaranteed = bare.status?.qosClass === 'Guaranteed';
    if (name === 'pod_level_empty' && bare.status?.qosClass === 'BestEffort') {
      // Kubernetes 1.34 looks at nothing but the resources as a whole where they are there, also where they name no amount.
      expect(made?.status?.qosClass).toBe('BestEffort');
    } else {
      expect(made?.status?.qosClass).toBe(isGuaranteed ? 'Guaranteed' : 'Burstable');
      expect([isGuaranteed, name]).toEqual([/^guaranteed|^pod_level(?!_burstable)/.test(name), name]);
    }
    if (name !== 'two_profiles') {
      expect(amountsOf(made)).toEqual(amountsOf(golden.pod));
    }
  });

  it('takes it in a namespace that enforces Pod Security "restricted"', async () => {
    await makeNamespace('injection-restricted', {
      'pod-security.kubernetes.io/enforce': 'restricted',
      'pod-security.kubernetes.io/enforce-version': 'latest',
    });
    const securityContext = {
      runAsNonRoot: true,
      runAsUser: 1000,
      allowPrivilegeEscalation: false,
      capabilities: { drop: ['ALL'] },
      seccompProfile: { type: 'RuntimeDefault' },
    };
    const made = await dryRun('injection-restricted', {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: 'restricted', labels: kInject },
      spec: { containers: [{ name: 'app', image: 'x', securityContext }] },
    });
    expect(made.spec?.initContainers?.[0]?.name).toBe('outrigger');
  });

  it('shows who makes a mistake what to write instead', async () => {
    const message = await refusalOf({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: {
        name: 'mistyped',
        namespace: kApps,
        labels: kInject,
        annotations: { 'outrigger.dev/sharedmemory': 'true' },
      },
      spec: { containers: [{ name: 'app', image: 'x' }] },
    });
    expect(message).toContain('admission webhook "inject.outrigger.dev" denied the request');
    expect(message).toContain(
      'outrigger.dev/sharedmemory: unknown; did you mean outrigger.dev/shared-memory?',
    );
  });

  it('says of a pod of 3 MB why it is not taken', async () => {
    const note = 'x'.repeat(2_500_000);
    const message = await refusal(kApps, {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: 'large', labels: kInject },
      spec: { containers: [{ name: 'app', image: 'x', env: [{ name: 'NOTE', value: note }] }] },
    });
    expect(message).toMatch(/the AdmissionReview has \d+ bytes; at most \d+ are taken/);
  });
});

(existsSync(kImageArchive) ? describe : describe.skip)('a pod with a sidecar', () => {
  it('exchanges messages between containers of different users, and completes', async () => {
    await apply({
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: 'topics', namespace: kApps },
      data: { 'topics.yaml': 'topics: [{ name: local, streamId: 1, channel: "aeron:ipc" }]' },
    });
    const container = (name: string, runAsUser: number, ...args: readonly string[]): object => ({
      name,
      image: kImage,
      imagePullPolicy: 'Never',
      command: ['/usr/bin/outrigger', ...args],
      securityContext: { runAsUser, runAsGroup: runAsUser, runAsNonRoot: true },
    });
    await kubectl(['create', '-f', '-'], {
      input: JSON.stringify({
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: {
          name: 'talk',
          namespace: kApps,
          labels: kInject,
          annotations: { 'outrigger.dev/topics-config-map': 'topics' },
        },
        spec: {
          restartPolicy: 'Never',
          containers: [
            container(
              'reader',
              4001,
              'sub',
              'local',
              '--count',
              '100',
              '--check',
              '--format',
              'none',
              '--json',
            ),
            container('writer', 4002, 'pub', 'local', '--count', '100', '--size', '100', '--wait', '60s'),
          ],
        },
      }),
    });
    const pod = (): Promise<V1Pod> => get<V1Pod>('pod', 'talk', '-n', kApps);
    await until(
      'the pod is over',
      async () => {
        const { status } = await pod();
        return status?.phase === 'Succeeded' || status?.phase === 'Failed';
      },
      180_000,
    );
    const { status } = await pod();
    const logs = await kubectl(['logs', 'talk', '-n', kApps, '--all-containers', '--prefix', '--tail', '40']);
    expect({ phase: status?.phase, logs }).toMatchObject({ phase: 'Succeeded' });
    const summary = logs.split('\n').find((line) => line.includes('"type":"summary"')) ?? '';
    expect(JSON.parse(summary.slice(summary.indexOf('{')))).toMatchObject({
      received: 100,
      lost: 0,
      corrupt: 0,
    });
    // The native sidecar drained after the apps.
    expect(logs).toContain('drain done');
    expect(status?.initContainerStatuses?.[0]).toMatchObject({ name: 'outrigger', restartCount: 0 });
    await kubectl(['delete', 'pod', 'talk', '-n', kApps, '--wait=false']);
  });
});

describe('the admission policy', () => {
  it('refuses an opted-in pod when the webhook was not asked, and no other pod', async () => {
    await stop();
    await kubectl(['delete', 'mutatingwebhookconfiguration', 'outrigger-injector']);
    const pod = (labels: object): object => ({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: 'bare', labels },
      spec: { containers: [{ name: 'app', image: 'x' }] },
    });
    // The API server hears of it by a watch: until then it asks a webhook that is gone.
    await until(
      'the policy speaks',
      async () => (await refusal(kApps, pod(kInject))).includes('but no sidecar'),
      30_000,
    );
    await dryRun(kApps, pod({}));
    await dryRun(kApps, pod({ 'outrigger.dev/inject': 'false' }));
    await dryRun('kube-system', pod(kInject));
  });
});
