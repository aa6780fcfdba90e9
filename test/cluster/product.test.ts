// SPDX-License-Identifier: Apache-2.0
// The product as its users have it: helm install, a label on a pod, and apps that publish and subscribe by topic name, on one node and on two.
import { apply, command, get, helm, kubectl, refusalOf } from './kubectl';
import { makeNamespace, Pods } from './support/pods';
import { installProduct, kOutrigger, kSystem, uninstallProduct } from './support/product';

const kNamespace = 'shop';
const kMessages = 2000;

jest.setTimeout(240_000);

const pods = new Pods(kNamespace);

describe('an installation by helm', () => {
  beforeAll(async () => {
    await installProduct();
    await makeNamespace(kNamespace);
  });

  afterAll(async () => {
    await command('kubectl', ['delete', 'namespace', kNamespace, '--wait=false']);
    await uninstallProduct(); // a test that failed left it
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

  it('passes helm test, and leaves no injector behind when it is uninstalled', async () => {
    await helm('test', 'outrigger', '--namespace', kSystem, '--timeout', '120s');
    await helm('uninstall', 'outrigger', '--namespace', kSystem, '--wait', '--timeout', '120s');
    const left = await get<{ items: { metadata: { name: string } }[] }>('mutatingwebhookconfigurations');
    expect(left.items.map(({ metadata }) => metadata.name)).not.toContain('outrigger-injector');
    // Topics and their definitions stay.
    expect(await kubectl(['get', 'topic', 'orders', '-n', kNamespace])).toContain('orders');
  });
});
