// SPDX-License-Identifier: Apache-2.0
// The product as its users have it: helm install, a label on a pod, and apps that publish and subscribe by topic name, on one node and on two.
import { apply, command, get, helm, kubectl, refusalOf, until } from './kubectl';
import { metricOf, podsOf } from './support/parts';
import { makeNamespace, Pods } from './support/pods';
import { installProduct, kChart, kOutrigger, kSystem, uninstallProduct } from './support/product';

const kNamespace = 'shop';
const kMessages = 2000;
const kDefinitions = ['topics', 'sidecarprofiles', 'topicendpointslices'].map(
  (each) => `${each}.outrigger.dev`,
);

interface Names {
  readonly items: readonly { readonly metadata: { readonly name: string } }[];
}

interface Slice {
  readonly spec: { readonly topic: string; readonly members: readonly { readonly role: string }[] };
}

/** What a shell says to these lines, which must succeed. A here-document that does not end takes the rest of the input, and says so. */
async function pasted(lines: string): Promise<string> {
  const { ok, stdout, stderr } = await command('bash', ['-euo', 'pipefail'], {
    input: `${lines}\n`,
    timeoutMs: 150_000,
  });
  expect(ok && !stderr.includes('here-document') ? '' : `${lines}\n${stdout}${stderr}`).toBe('');
  return stdout;
}

jest.setTimeout(240_000);

const pods = new Pods(kNamespace);

describe('an installation by helm', () => {
  beforeAll(async () => {
    // As on a cluster of one's own: with the definitions of other tests, helm would have to be told to take them over.
    await kubectl(['delete', 'crd', ...kDefinitions, '--ignore-not-found', '--timeout', '60s']);
    await installProduct({}, kChart, []);
    await makeNamespace(kNamespace);
  });

  afterAll(async () => {
    await command('kubectl', ['delete', 'namespace', kNamespace, '--wait=false']);
    await uninstallProduct(); // a test that failed left it
  });

  it('is upgraded by the same command, with nothing to take over or to force', async () => {
    await installProduct({ 'operator.podAnnotations.upgraded': 'yes' }, kChart, []);
    const { items } = await get<{
      items: { metadata: { annotations?: Record<string, string>; deletionTimestamp?: string } }[];
    }>('pods', '-n', kSystem, '-l', 'app.kubernetes.io/component=operator');
    const serving = items.filter(({ metadata }) => metadata.deletionTimestamp === undefined);
    expect(serving.map(({ metadata }) => metadata.annotations?.['upgraded'])).toEqual(['yes', 'yes']);
  });

  it('works, as outrigger check says it', async () => {
    const { ok, stdout } = await command(kOutrigger, ['check', '--wait', '90s'], {
      timeoutMs: 120_000,
    });
    expect(ok ? '' : stdout).toBe('');
    expect(stdout).toContain('√ pods that want a sidecar and have none are refused');
  });

  it("lets pods of one node and of two, one on its node's network, exchange counted messages by the name of a topic, N to M, none lost", async () => {
    await apply({
      apiVersion: 'outrigger.dev/v1alpha1',
      kind: 'Topic',
      metadata: { name: 'orders', namespace: kNamespace },
      spec: { flowControl: { strategy: 'Min', groupMinSize: 3 } },
    });
    await pods.start(
      pods.subscriber('s1', 'node1', 'orders', 2 * kMessages),
      pods.subscriber('s2', 'node2', 'orders', 2 * kMessages),
      pods.subscriber('s3', 'node2', 'orders', 2 * kMessages, {
        spec: { hostNetwork: true, dnsPolicy: 'ClusterFirstWithHostNet' },
      }),
    );
    const count = ['--count', `${kMessages}`];
    await apply(
      pods.publisher('p1', 'node1', 'orders', count),
      pods.publisher('p2', 'node2', 'orders', count),
    );
    await pods.expectToEndWell('p1', 'p2', 's1', 's2', 's3');
  });

  it('refuses a topic that is not there with the nearest one', async () => {
    await apply(pods.app('lost', 'node1', ['pub', 'ordres', '--count', '1']));
    expect(await pods.exitOf('lost')).not.toBe(0);
    expect(await pods.logs('lost')).toContain('did you mean "orders"?');
  });

  it('refuses a mistyped annotation with the right suggestion', async () => {
    const typo = pods.app('typo', 'node1', ['pub', 'orders'], {
      annotations: { 'outrigger.dev/profil': 'x' },
    });
    expect(await refusalOf(typo)).toContain('did you mean outrigger.dev/profile');
  });

  it('says of a pod what it has', async () => {
    await pods.start(pods.app('idle', 'node2', ['sub', 'orders']));
    const { ok, stdout } = await command(kOutrigger, [
      'check',
      '--pod',
      `${kNamespace}/idle`,
      '--wait',
      '30s',
    ]);
    expect(ok ? '' : stdout).toBe('');
    expect(stdout).toContain('√ its sidecar is ready');
  });

  it('finds the subscribers that come when a Deployment scales, and each of them receives', async () => {
    const receiving = async (count: number): Promise<void> => {
      await until(`${count} subscribers receive`, async () => {
        const all = (await podsOf(kNamespace, 'app=readers')).filter(
          ({ status }) => status.podIP !== undefined,
        );
        const delivered = await Promise.all(
          all.map(({ status }) =>
            metricOf(`${status.podIP}:9464`, 'outrigger_delivered_messages_total{topic="ticks"}'),
          ),
        );
        return delivered.filter((values) => (values[''] ?? 0) >= 100).length === count;
      });
    };
    await apply(
      {
        apiVersion: 'outrigger.dev/v1alpha1',
        kind: 'Topic',
        metadata: { name: 'ticks', namespace: kNamespace },
        spec: { flowControl: { strategy: 'Max' } },
      },
      pods.deployment('readers', ['sub', 'ticks', '--format', 'none']),
      pods.publisher('ticker', 'node1', 'ticks', ['--rate', '200', '--duration', '30m']),
    );
    await receiving(1);
    await kubectl(['scale', 'deployment/readers', '--replicas=3', '--namespace', kNamespace]);
    await receiving(3);
    await kubectl(['scale', 'deployment/readers', '--replicas=1', '--namespace', kNamespace]);
    await until('those that went are members no more', async () => {
      const { items } = await get<{ items: readonly Slice[] }>('topicendpointslices', '-n', kNamespace);
      const readers = items
        .flatMap(({ spec }) => (spec.topic === 'ticks' ? spec.members : []))
        .filter(({ role }) => role === 'Subscriber');
      return readers.length === 1;
    });
  });

  it('says in its notes how to make a first Topic and how to check, in lines that can be pasted', async () => {
    const notes = await helm('get', 'notes', 'outrigger', '--namespace', kSystem);
    const block = /^kubectl apply .*<<'EOF'\n[^]*?^EOF$/m.exec(notes)?.[0] ?? '';
    expect(await pasted(block)).toContain('topic.outrigger.dev/greetings created');
    const last = notes.trimEnd().split('\n').at(-1) ?? '';
    expect(last).toMatch(/^helm test /);
    expect(await pasted(last)).toMatch(/Phase:\s+Succeeded/);
    await kubectl(['delete', 'topic', 'greetings', '--namespace', 'default']);
    // The test takes away what it was: its pod, and the rights of the pod.
    for (const kind of ['pods', 'serviceaccounts', 'clusterroles', 'clusterrolebindings']) {
      await until(`${kind} of the test are gone`, async () => {
        const { items } = await get<Names>(kind, '--namespace', kSystem);
        return items.every(({ metadata }) => metadata.name !== 'outrigger-test');
      });
    }
  });

  it('leaves nothing that stops a pod behind when it is uninstalled, also by one who does not wait', async () => {
    await helm('uninstall', 'outrigger', '--namespace', kSystem, '--timeout', '120s');
    const ours = ['pods', '--namespace', kSystem, '--selector', 'app.kubernetes.io/name=outrigger'];
    await kubectl(['wait', '--for=delete', ...ours, '--timeout=90s'], { timeoutMs: 100_000 });
    // What the operator registered itself; the last one that could put it back is gone.
    for (const kind of [
      'mutatingwebhookconfigurations',
      'validatingadmissionpolicies',
      'validatingadmissionpolicybindings',
    ]) {
      const { items } = await get<Names>(kind);
      expect(
        items.map(({ metadata }) => metadata.name).filter((name) => name.startsWith('outrigger')),
      ).toEqual([]);
    }
    // Topics and their definitions stay.
    expect(await kubectl(['get', 'topic', 'orders', '-n', kNamespace])).toContain('orders');
  });
});
