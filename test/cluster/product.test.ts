// SPDX-License-Identifier: Apache-2.0
// The product as its users have it: helm install, a label on a pod, and apps that publish and subscribe by topic name, on one node and on two.
import { join } from 'node:path';
import { apply, command, get, helm, kubectl, refusalOf, until } from './kubectl';

const kRoot = join(__dirname, '../..');
const kChart = join(kRoot, 'charts/outrigger');
const kImage = 'localhost/outrigger:dev';
const kSystem = 'outrigger-system';
const kNamespace = 'shop';
const kMessages = 2000;

jest.setTimeout(240_000);

interface PodStatus {
  readonly status: {
    readonly phase?: string;
    readonly containerStatuses?: readonly {
      readonly state?: { readonly terminated?: { readonly exitCode: number; readonly reason?: string } };
    }[];
  };
}

/** A pod that runs the command of the image beside its sidecar. */
function app(name: string, node: string, args: readonly string[]): object {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: kNamespace, labels: { 'outrigger.dev/inject': 'true', app: name } },
    spec: {
      nodeSelector: { 'kubernetes.io/hostname': node },
      restartPolicy: 'Never',
      terminationGracePeriodSeconds: 5,
      containers: [
        {
          name: 'app',
          image: kImage,
          imagePullPolicy: 'Never',
          command: ['/usr/bin/outrigger', ...args],
          securityContext: { runAsUser: 1000, runAsNonRoot: true },
        },
      ],
    },
  };
}

function subscriber(name: string, node: string, messages: number): object {
  return app(name, node, [
    'sub',
    'orders',
    '--check',
    '--count',
    `${messages}`,
    '--format',
    'none',
    '--json',
  ]);
}

function publisher(name: string, node: string): object {
  return app(name, node, [
    'pub',
    'orders',
    '--count',
    `${kMessages}`,
    '--exclusive',
    '--wait',
    '60s',
    '--json',
  ]);
}

/** Exit status of the app of a pod, once it has ended. */
async function exitOf(pod: string): Promise<number> {
  let code = -1;
  await until(
    `app of ${pod} ends`,
    async () => {
      const { status } = await get<PodStatus>('pod', pod, '-n', kNamespace);
      const ended = status.containerStatuses?.[0]?.state?.terminated;
      code = ended?.exitCode ?? -1;
      return ended !== undefined;
    },
    120_000,
  );
  return code;
}

/** What a sidecar and its app said, for a test that failed. */
async function storyOf(pod: string): Promise<string> {
  const logs = await command('kubectl', ['logs', '-n', kNamespace, pod, '--all-containers', '--tail', '40']);
  const events = await command('kubectl', ['describe', 'pod', '-n', kNamespace, pod]);
  return `${pod}:\n${logs.stdout}${logs.stderr}\n${events.stdout.split('\n').slice(-15).join('\n')}`;
}

async function expectToEndWell(...pods: readonly string[]): Promise<void> {
  for (const pod of pods) {
    const code = await exitOf(pod).catch(() => -1);
    if (code !== 0) {
      throw new Error(`app of ${pod} ended with ${code}\n${await storyOf(pod)}`);
    }
  }
}

describe('an installation by helm', () => {
  beforeAll(async () => {
    await helm(
      ...['upgrade', '--install', 'outrigger', kChart, '--namespace', kSystem, '--create-namespace'],
      ...[
        '--set',
        'image.repository=localhost/outrigger',
        '--set',
        'image.tag=dev',
        '--set',
        'image.pullPolicy=Never',
      ],
      ...['--wait', '--timeout', '150s', '--take-ownership'],
    );
    await kubectl(['create', 'namespace', kNamespace]);
  });

  afterAll(async () => {
    await command('kubectl', ['delete', 'namespace', kNamespace, '--wait=false']);
  });

  it('works, as outrigger check says it', async () => {
    const { ok, stdout } = await command(join(kRoot, 'bin/outrigger'), ['check', '--wait', '90s'], {
      timeoutMs: 120_000,
    });
    expect(ok ? '' : stdout).toBe('');
    expect(stdout).toContain('√ pods that want a sidecar and have none are refused');
  });

  it('lets pods of one node and of two exchange counted messages by the name of a topic, N to M, none lost', async () => {
    await apply({
      apiVersion: 'outrigger.dev/v1alpha1',
      kind: 'Topic',
      metadata: { name: 'orders', namespace: kNamespace },
      spec: { flowControl: { strategy: 'Min', groupMinSize: 2 } },
    });
    await apply(subscriber('s1', 'node1', 2 * kMessages), subscriber('s2', 'node2', 2 * kMessages));
    await kubectl(['wait', '-n', kNamespace, '--for=condition=Ready', '--timeout=90s', 'pod/s1', 'pod/s2'], {
      timeoutMs: 120_000,
    });
    await apply(publisher('p1', 'node1'), publisher('p2', 'node2'));
    await expectToEndWell('p1', 'p2', 's1', 's2');
  });

  it('refuses a topic that is not there with the nearest one', async () => {
    await apply(app('lost', 'node1', ['pub', 'ordres', '--count', '1']));
    expect(await exitOf('lost')).not.toBe(0);
    expect(await kubectl(['logs', '-n', kNamespace, 'lost', '-c', 'app'])).toContain(
      'did you mean "orders"?',
    );
  });

  it('refuses a mistyped annotation with the right suggestion', async () => {
    const pod = app('typo', 'node1', ['pub', 'orders']) as { metadata: object };
    const typo = { ...pod, metadata: { ...pod.metadata, annotations: { 'outrigger.dev/profil': 'x' } } };
    expect(await refusalOf(typo)).toContain('did you mean outrigger.dev/profile');
  });

  it('says of a pod what it has', async () => {
    await apply(app('idle', 'node2', ['sub', 'orders']));
    await kubectl(['wait', '-n', kNamespace, '--for=condition=Ready', '--timeout=90s', 'pod/idle'], {
      timeoutMs: 120_000,
    });
    const { ok, stdout } = await command(join(kRoot, 'bin/outrigger'), [
      'check',
      '--pod',
      `${kNamespace}/idle`,
      '--wait',
      '30s',
    ]);
    expect(ok ? '' : stdout).toBe('');
    expect(stdout).toContain('√ its sidecar is ready');
  });

  it('passes helm test, and leaves no injector behind when it is uninstalled', async () => {
    await helm('test', 'outrigger', '--namespace', kSystem, '--timeout', '120s');
    await helm('uninstall', 'outrigger', '--namespace', kSystem, '--wait', '--timeout', '120s');
    const left = await get<{ items: { metadata: { name: string } }[] }>('mutatingwebhookconfigurations');
    expect(left.items.map(({ metadata }) => metadata.name)).not.toContain('outrigger-injector');
    // Topics and their definitions stay.
    expect(await kubectl(['get', 'topic', 'orders', '-n', kNamespace])).toContain('orders');
  });
});
