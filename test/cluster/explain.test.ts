// SPDX-License-Identifier: Apache-2.0
// `outrigger annotate` and `outrigger explain pod` as who runs apps in a cluster uses them: manifests, live pods of two nodes, a right that is
// lacking; and io_uring with the chart's seccomp profile on the nodes, and without it.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stringify } from 'yaml';
import type { PodExplanation } from '../../operator/src/explain/explain_pod';
import { apply, command, get, kubectl, until } from './kubectl';
import { metricOf } from './support/parts';
import { makeNamespace, Pods } from './support/pods';
import { installProduct, kImage, kOutrigger, uninstallProduct } from './support/product';

jest.setTimeout(240_000);

const kApi = 'outrigger.dev/v1alpha1';
const kNamespace = 'explained';
const kUring = 'uring,mmsg';
const pods = new Pods(kNamespace);

async function explained(pod: string, env: Readonly<Record<string, string>> = {}): Promise<PodExplanation> {
  const { stdout, stderr } = await command('env', [
    ...Object.entries(env).map(([key, value]) => `${key}=${value}`),
    kOutrigger,
    'explain',
    'pod',
    pod,
    '-n',
    kNamespace,
    '--json',
  ]);
  if (stdout === '') {
    throw new Error(stderr);
  }
  return JSON.parse(stdout) as PodExplanation;
}

function member(
  { topics }: PodExplanation,
  pod: string,
): PodExplanation['topics'][number]['members'][number] | undefined {
  return topics[0]?.members.find((each) => each.pod === `${kNamespace}/${pod}`);
}

beforeAll(async () => {
  await installProduct({ 'seccompProfile.install': 'true' });
  await makeNamespace(kNamespace);
  await apply(
    {
      apiVersion: kApi,
      kind: 'Topic',
      metadata: { name: 'quotes', namespace: kNamespace },
      spec: { flowControl: { strategy: 'Max' } },
    },
    {
      apiVersion: kApi,
      kind: 'SidecarProfile',
      metadata: { name: 'ring', namespace: kNamespace },
      spec: {
        podSelector: { matchLabels: { app: 'ringing' } },
        backends: ['uring', 'mmsg'],
        seccompProfile: { type: 'Localhost', localhostProfile: 'outrigger/io-uring.json' },
      },
    },
  );
});

afterAll(async () => {
  await command('kubectl', ['delete', 'namespace', kNamespace, '--wait=false']);
  await uninstallProduct();
});

describe('outrigger explain pod', () => {
  beforeAll(async () => {
    await pods.start(
      pods.subscriber('near', 'node1', 'quotes'),
      pods.subscriber('ringing', 'node2', 'quotes'),
      pods.publisher('source', 'node1', 'quotes', ['--rate', '100', '--duration', '30m'], {
        annotations: { 'outrigger.dev/backends': kUring },
      }),
    );
  });

  it('tells topics, members on both nodes, and that the way to each is in use', async () => {
    let story: PodExplanation | undefined;
    await until('all members are connected and stored', async () => {
      story = await explained('source');
      return ['near', 'ringing'].every((each) => {
        const found = member(story as PodExplanation, each);
        return found?.to?.state === 'PATH_STATE_CONNECTED' && found.knownTo === 'both';
      });
    });
    expect(story).toMatchObject({
      pod: { node: 'node1', phase: 'Running' },
      sidecar: { ready: true, restarts: 0 },
      lacking: [],
      topics: [{ name: 'quotes', resource: `${kNamespace}/quotes`, publishStreams: 1, subscribeStreams: 0 }],
    });
    expect(member(story as PodExplanation, 'near')).toMatchObject({
      sameNode: true,
      network: 'pod',
      port: 40_200,
    });
    expect(member(story as PodExplanation, 'ringing')).toMatchObject({ sameNode: false, node: 'node2' });
    const other = await explained('near');
    expect(member(other, 'source')).toMatchObject({
      publishes: true,
      from: { state: 'PATH_STATE_CONNECTED' },
    });
  });

  it('says of a member that does not answer that nothing came back', async () => {
    await apply({
      apiVersion: kApi,
      kind: 'TopicEndpointSlice',
      metadata: { name: 'quotes-ghost', namespace: kNamespace, labels: { 'outrigger.dev/topic': 'quotes' } },
      spec: {
        topic: 'quotes',
        members: [
          {
            id: 'ghost',
            role: 'Subscriber',
            namespace: kNamespace,
            pod: 'ghost',
            podUid: '00000000-0000-0000-0000-000000000001',
            node: 'node2',
            endpoints: [{ network: 'pod', address: '10.244.1.250', port: 40_200, mtu: 1500 }],
            lease: { renewTime: new Date().toISOString(), durationSeconds: 600 },
          },
        ],
      },
    });
    let story: PodExplanation | undefined;
    await until('the sidecar was told of it', async () => {
      story = await explained('source');
      return member(story, 'ghost')?.to !== undefined && member(story, 'ghost')?.to !== null;
    });
    expect(member(story as PodExplanation, 'ghost')?.to).toEqual({
      state: 'PATH_STATE_NOT_CONNECTED',
      reason: expect.stringContaining('nothing has ever come back from 10.244.1.250:40200') as string,
    });
    await kubectl(['delete', 'topicendpointslice', 'quotes-ghost', '-n', kNamespace]);
  });

  it('gives uring to a pod whose profile lies on its node, and messages come through it', async () => {
    const { report, profile } = await explained('ringing');
    expect(profile).toMatchObject({ name: 'ring', why: 'its podSelector matches the pod', problems: [] });
    expect(report?.driver).toMatchObject({ backend: 'uring', notBetter: [] });
    const address = `${await pods.addressOf('ringing')}:9464`;
    const delivered = async (): Promise<number> =>
      (await metricOf(address, 'outrigger_delivered_messages_total{topic="quotes"}'))[''] ?? 0;
    const before = await delivered();
    await until('a hundred more messages have come', async () => (await delivered()) >= before + 100);
  });

  it('gives mmsg where the runtime forbids io_uring, and names seccomp as the reason', async () => {
    const { report, profile } = await explained('source');
    expect(profile).toMatchObject({ name: '', annotations: { 'outrigger.dev/backends': kUring } });
    expect(report?.driver?.backend).toBe('mmsg');
    expect(report?.driver?.notBetter).toEqual([
      { name: 'uring', reason: expect.stringMatching(/seccomp/) as string },
    ]);
  });

  it('reads as text', async () => {
    const { ok, stdout } = await command(kOutrigger, ['explain', 'pod', `${kNamespace}/near`]);
    expect(ok ? '' : stdout).toBe('');
    expect(stdout).toMatch(
      /^pod explained\/near: of no controller, on node1, address 10\.244\.0\.\d+, Running$/m,
    );
    expect(stdout).toMatch(/^ {2}explained\/source\s+publishes\s+node1 \(same node\)\s.*from: connected$/m);
  });

  it('names the rights that its caller lacks, and tells the rest', async () => {
    const rules = [{ apiGroups: [''], resources: ['pods'], verbs: ['get'] }];
    await apply(
      { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'reader', namespace: kNamespace } },
      {
        apiVersion: 'rbac.authorization.k8s.io/v1',
        kind: 'Role',
        metadata: { name: 'reader', namespace: kNamespace },
        rules,
      },
      {
        apiVersion: 'rbac.authorization.k8s.io/v1',
        kind: 'RoleBinding',
        metadata: { name: 'reader', namespace: kNamespace },
        roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: 'reader' },
        subjects: [{ kind: 'ServiceAccount', name: 'reader', namespace: kNamespace }],
      },
    );
    const token = (await kubectl(['create', 'token', 'reader', '-n', kNamespace])).trim();
    const config = JSON.parse(await kubectl(['config', 'view', '--raw', '--flatten', '-o', 'json'])) as {
      users: object[];
      contexts: { context: { user: string } }[];
    };
    const user = config.contexts[0]?.context.user;
    const folder = mkdtempSync(join(tmpdir(), 'outrigger-explain-'));
    try {
      const file = join(folder, 'kubeconfig');
      writeFileSync(file, JSON.stringify({ ...config, users: [{ name: user, user: { token } }] }));
      const story = await explained('source', { KUBECONFIG: file });
      expect(story.lacking).toEqual([
        `list sidecarprofiles.outrigger.dev in namespace "${kNamespace}"`,
        `create pods/exec in namespace "${kNamespace}"`,
        `get pods/exec in namespace "${kNamespace}"`,
        `list topicendpointslices.outrigger.dev in namespace "${kNamespace}"`,
      ]);
      expect(story).toMatchObject({ sidecar: { ready: true }, report: null });
      expect(story.unasked?.why).toBe('you may not run a program in it');
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});

/** A Deployment that does nothing but run, as people write them. */
function deployment(name: string, annotations: object = {}): string {
  return `# The app ${name}.
${stringify({
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name, namespace: kNamespace },
  spec: {
    replicas: 1,
    selector: { matchLabels: { app: name } },
    template: {
      metadata: { labels: { app: name }, annotations },
      spec: {
        terminationGracePeriodSeconds: 1,
        containers: [
          {
            name: 'app',
            image: kImage,
            imagePullPolicy: 'Never',
            command: [
              '/usr/bin/node',
              '-e',
              'process.once("SIGTERM", () => process.exit(0)); setInterval(() => {}, 1e9)',
            ],
          },
        ],
      },
    },
  },
})}`;
}

async function podOf(app: string): Promise<string> {
  let name: string | undefined;
  await until(`a pod of ${app}`, async () => {
    const { items } = await get<{ items: { metadata: { name: string; deletionTimestamp?: string } }[] }>(
      'pods',
      '-n',
      kNamespace,
      '-l',
      `app=${app}`,
    );
    name = items.find(({ metadata }) => metadata.deletionTimestamp === undefined)?.metadata.name;
    return name !== undefined;
  });
  return name as string;
}

describe('outrigger annotate', () => {
  it('is the fix for what explain says of a pod without a sidecar', async () => {
    const manifest = deployment('plain');
    await kubectl(['apply', '-f', '-'], { input: manifest });
    const { sidecar, absence, pod } = await explained(await podOf('plain'));
    expect({ sidecar, owner: pod.owner }).toEqual({ sidecar: null, owner: 'Deployment plain' });
    expect(absence).toEqual({
      why: 'it has no label outrigger.dev/inject: "true"',
      fix: `kubectl get deployment plain -n ${kNamespace} -o yaml | outrigger annotate | kubectl apply -f -`,
    });
    const annotated = await command(kOutrigger, ['annotate', '--set', 'log-level=warn'], { input: manifest });
    expect(annotated.stdout).toContain('# The app plain.');
    await kubectl(['apply', '-f', '-'], { input: annotated.stdout });
    await kubectl(['rollout', 'status', 'deployment/plain', '-n', kNamespace, '--timeout=120s'], {
      timeoutMs: 130_000,
    });
    await until('the new pod has a sidecar', async () => {
      const story = await explained(await podOf('plain'));
      return (
        story.sidecar?.ready === true && story.profile?.annotations['outrigger.dev/log-level'] === 'warn'
      );
    });
  });

  it('would have refused what the webhook refuses; explain tells of the refusal', async () => {
    const manifest = deployment('mistyped', { 'outrigger.dev/log-levl': 'warn' });
    const { ok, stderr } = await command(kOutrigger, ['annotate'], { input: manifest });
    expect(ok).toBe(false);
    expect(stderr).toContain('did you mean outrigger.dev/log-level?');
    const labelled = manifest.replace(
      'app: mistyped\n      annotations',
      'app: mistyped\n        outrigger.dev/inject: "true"\n      annotations',
    );
    expect(labelled).not.toBe(manifest);
    await kubectl(['apply', '-f', '-'], { input: labelled });
    await until('explain knows why there is no pod', async () => {
      const story = await explained('mistyped').catch((error: unknown) => (error as Error).message);
      return (
        typeof story === 'string' &&
        /ReplicaSet mistyped-\w+ can't make one: .*did you mean outrigger.dev\/log-level/.test(story)
      );
    });
  });
});
