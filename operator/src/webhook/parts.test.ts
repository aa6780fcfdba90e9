// SPDX-License-Identifier: Apache-2.0
// Injection in whole operators, against an API server: two replicas, one CA, and at all times a client that goes by what the API server has.
import { request } from 'node:https';
import { kSidecarProfile, type SidecarProfile } from '../api';
import {
  kConfigMaps,
  kEndpointSlices,
  kPolicies,
  kPolicyBindings,
  kSecrets,
  kWebhookConfigurations,
} from '../ca/resources';
import { splitBundle } from '../ca/certificates';
import { kClusterRoles, kNamespaceRoles, operatorComponents } from '../components';
import { loadOperatorConfig } from '../config/load';
import { isNotFound } from '../kit/api_error';
import { kEvents, type KubeEvent } from '../kit/events';
import { kNamespaces, kPods } from '../kit/kinds';
import { resource, ResourceClient, type Resource } from '../kit/resource';
import type { KubeObject } from '../api';
import { runOperator } from '../process/operator';
import type { FakeApiServer } from '../testing/fake_api_server';
import { Refusal } from '../testing/object_storage';
import { allows } from '../testing/roles';
import { seeded } from '../testing/seeded';
import { kSilent, plainAuth, TestCluster } from '../testing/test_cluster';
import { WebhookComponent } from './component';
import { decoded, reviewText, type Answer } from './testing';

const kNamespace = `injection-${process.pid}`;
const kServer = `outrigger-webhook.${kNamespace}.svc`;
const kPod = {
  metadata: { name: 'quotes', labels: { 'outrigger.dev/inject': 'true' } },
  spec: { containers: [{ name: 'app' }] },
};

interface Replica {
  readonly stop: () => Promise<number>;
  readonly address: string;
  readonly webhook: WebhookComponent;
}

// The fake server alone: a real one would ask the webhook itself, at an address that this process has not.
const describeFake = (process.env['OUTRIGGER_TEST_KUBECONFIG'] ?? '') === '' ? describe : describe.skip;

describeFake('injection in the operator', () => {
  let cluster: TestCluster;
  let replicas: Replica[];

  const client = <T extends KubeObject>(of: Resource<T>): ResourceClient<T> =>
    new ResourceClient(cluster.direct, of);

  async function found<T>(object: Promise<T>): Promise<T | undefined> {
    try {
      return await object;
    } catch (error) {
      if (isNotFound(error)) {
        return undefined;
      }
      throw error;
    }
  }

  async function eventually<T>(what: () => Promise<T | undefined | false>): Promise<T> {
    for (;;) {
      const result = await what();
      if (result !== undefined && result !== false) {
        return result;
      }
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  beforeEach(async () => {
    cluster = await TestCluster.start(seeded(1));
    await cluster.prepareNamespace(kNamespace);
    await cluster.prepareNamespace('shop');
    await client(kPods).create({
      metadata: { namespace: 'shop', name: 'first', labels: { 'outrigger.dev/inject': 'true' } },
    });
    replicas = [];
  });
  afterEach(async () => {
    await Promise.all(replicas.map(({ stop }) => stop()));
    await cluster.stop();
  });

  async function start(instance: string): Promise<Replica> {
    const stop = new AbortController();
    // Nobody takes over here: on a machine that stalls, the leader must stay it.
    const argv = [
      ...[
        '--http-listen',
        '127.0.0.1:0',
        '--webhook-listen',
        '127.0.0.1:0',
        '--sidecar-image',
        'example/o:1',
      ],
      ...['--directory-address', `outrigger-directory.${kNamespace}.svc:9443`],
      ...['--lease-duration', '60s', '--renew-deadline', '40s', '--retry-period', '100ms'],
    ];
    let webhook: WebhookComponent | undefined;
    let listening: (address: string) => void = () => undefined;
    const address = new Promise<string>((resolve) => (listening = resolve));
    const ended = runOperator({
      config: loadOperatorConfig(argv, {}),
      auth: { ...plainAuth(cluster.chaos.url), namespace: kNamespace },
      log: kSilent,
      version: '0.0.0',
      instance,
      identity: instance,
      components: (context) => {
        const components = operatorComponents(context);
        webhook = components.always.find((each) => each instanceof WebhookComponent);
        return components;
      },
      signal: stop.signal,
      onListening: listening,
    });
    const replica = {
      address: await address,
      webhook: webhook as unknown as WebhookComponent,
      stop: () => {
        stop.abort();
        return ended;
      },
    };
    replicas.push(replica);
    return replica;
  }

  const isReady =
    ({ address }: Replica) =>
    async (): Promise<boolean> =>
      (await fetch(`http://${address}/readyz`)).status === 200;

  /** As the EndpointSlice controller does; a slice each, since the ports differ here. */
  async function publishEndpoint(name: string, { webhook }: Replica): Promise<void> {
    await client(kEndpointSlices).create({
      metadata: {
        namespace: kNamespace,
        name,
        labels: { 'kubernetes.io/service-name': 'outrigger-webhook' },
      },
      endpoints: [{ addresses: ['127.0.0.1'] }],
      ports: [{ name: 'https', port: webhook.port ?? 0 }],
    });
  }

  async function bundle(): Promise<string | undefined> {
    const configuration = await found(client(kWebhookConfigurations).get({ name: 'outrigger-injector' }));
    const { caBundle } = configuration?.webhooks?.[0]?.clientConfig ?? {};
    return caBundle === undefined ? undefined : Buffer.from(caBundle, 'base64').toString();
  }

  /** A review, sent as the API server would with the bundle that it has. */
  function ask({ webhook }: Replica, ca: string): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const sent = request(
        {
          ...{ host: '127.0.0.1', port: webhook.port, path: '/inject', method: 'POST' },
          ...{ servername: kServer, ca, agent: false, headers: { 'content-type': 'application/json' } },
        },
        (response) => {
          let text = '';
          response.on('data', (chunk: Buffer) => (text += chunk.toString()));
          response.once('end', () => resolve(decoded(JSON.parse(text))));
        },
      );
      sent.once('error', reject);
      sent.end(reviewText(kPod));
    });
  }

  it('comes up with a CA of its own, and every replica answers whoever trusts it', async () => {
    const spec = { default: true, memory: '64Mi' };
    const profiles = client(resource<SidecarProfile>(kSidecarProfile));
    await profiles.create({ metadata: { namespace: 'shop', name: 'small' }, spec: spec as never });
    const [a, b] = [await start('a'), await start('b')];
    await eventually(isReady(a));
    await eventually(isReady(b));
    const ca = await eventually(bundle);
    for (const replica of [a, b]) {
      const answer = await ask(replica, ca);
      expect(answer).toMatchObject({ allowed: true });
      const text = JSON.stringify(answer.patch);
      expect(text).toContain('example/o:1');
      expect(text).toContain('"sizeLimit":"64Mi"');
      expect(text).toContain(`outrigger-directory.${kNamespace}.svc:9443`);
    }
    const configMap = await eventually(() =>
      found(client(kConfigMaps).get({ namespace: 'shop', name: 'outrigger-ca' })),
    );
    expect(configMap.data?.['ca.crt']).toBe(ca);
    for (const kind of [kPolicies, kPolicyBindings]) {
      await eventually(() => found(client(kind).get({ name: 'outrigger-sidecar-present' })));
    }
    const metrics = await (await fetch(`http://${a.address}/metrics`)).text();
    expect(metrics).toMatch(/^outrigger_operator_injection_reviews_total{outcome="injected"} 1$/m);
    expect(metrics).toMatch(
      /^outrigger_operator_certificate_expiry_timestamp_seconds{certificate="serving"} \d/m,
    );
  }, 90_000);

  it('puts back what is taken away, and announces a new CA beside the old one when its Secret is deleted', async () => {
    const a = await start('a');
    await eventually(isReady(a));
    const before = await eventually(bundle);
    await publishEndpoint('a', a);

    await client(kWebhookConfigurations).delete({ name: 'outrigger-injector' });
    expect(await eventually(bundle)).toBe(before);

    // Nothing else happens meanwhile, no pod and no renewal: that they are gone has to be seen.
    for (const kind of [kPolicyBindings, kPolicies]) {
      const name = 'outrigger-sidecar-present';
      const { metadata } = await eventually(() => found(client(kind).get({ name })));
      await client(kind).delete({ name });
      const again = await eventually(() => found(client(kind).get({ name })));
      expect(again.metadata.uid).not.toBe(metadata.uid);
    }

    await client(kConfigMaps).mergePatch(
      { namespace: 'shop', name: 'outrigger-ca' },
      { data: { 'ca.crt': 'x' } },
    );
    await eventually(async () => {
      const { data } = await client(kConfigMaps).get({ namespace: 'shop', name: 'outrigger-ca' });
      return data?.['ca.crt'] === before;
    });

    await client(kSecrets).delete({ namespace: kNamespace, name: 'outrigger-certificates' });
    const after = await eventually(async () => {
      const now = await bundle();
      return now !== before && now;
    });
    expect(splitBundle(after)).toHaveLength(2);
    expect(after.startsWith(before)).toBe(true);
    // With either bundle, since API servers differ in what they have seen.
    expect(await ask(a, before)).toMatchObject({ allowed: true });
    await eventually(async () => (await ask(a, after).catch(() => undefined))?.allowed);
  }, 90_000);

  it('a namespace gets the CA with its first pod', async () => {
    const a = await start('a');
    await eventually(isReady(a));
    await eventually(bundle);
    await cluster.prepareNamespace('late');
    await client(kPods).create({
      metadata: { namespace: 'late', name: 'p', labels: { 'outrigger.dev/inject': 'true' } },
    });
    await eventually(() => found(client(kConfigMaps).get({ namespace: 'late', name: 'outrigger-ca' })));
    expect(
      await found(client(kConfigMaps).get({ namespace: kNamespace, name: 'outrigger-ca' })),
    ).toBeUndefined();
  }, 90_000);

  it('a namespace that refuses the CA keeps no other from it, is named, and has it once it may', async () => {
    const fake = cluster.fake as FakeApiServer;
    // Before and behind it, in the order in which pods are listed and namespaces are.
    const others = ['alpha', 'zulu'];
    for (const namespace of ['refusing', 'ending', ...others]) {
      await cluster.prepareNamespace(namespace);
      await client(kPods).create({
        metadata: { namespace, name: 'p', labels: { 'outrigger.dev/inject': 'true' } },
      });
    }
    await client(kNamespaces).mergePatch(
      { name: 'ending' },
      { metadata: { finalizers: ['example.com/slow'] } },
    );
    await client(kNamespaces).delete({ name: 'ending' });
    const quota = 'exceeded quota: none, requested: configmaps=1, used: configmaps=0, limited: configmaps=0';
    let tried = 0;
    fake.refuse = (request) => {
      const [, namespace = ''] = /^PATCH .*\/namespaces\/([^/]+)\/configmaps\//.exec(request) ?? [];
      tried += namespace === 'refusing' ? 1 : 0;
      return ['refusing', 'ending'].includes(namespace) ? new Refusal(403, 'Forbidden', quota) : undefined;
    };

    const a = await start('a');
    await eventually(isReady(a));
    const ca = await eventually(bundle);
    const authorityOf = async (namespace: string): Promise<string | undefined> =>
      (await found(client(kConfigMaps).get({ namespace, name: 'outrigger-ca' })))?.data?.['ca.crt'];
    for (const namespace of ['shop', ...others]) {
      expect(await eventually(() => authorityOf(namespace))).toBe(ca);
    }
    const refusing = async (): Promise<string | undefined> =>
      /^outrigger_operator_ca_refusing_namespaces (\d+)$/m.exec(
        await (await fetch(`http://${a.address}/metrics`)).text(),
      )?.[1];
    await eventually(async () => (await refusing()) === '1');
    await eventually(() => Promise.resolve(tried > 1));
    const events = async (): Promise<readonly KubeEvent[]> => (await client(kEvents).list({})).items;
    await eventually(async () => (await events()).length > 0);
    expect(await events()).toMatchObject([
      {
        metadata: { namespace: 'refusing' },
        type: 'Warning',
        reason: 'AuthorityNotWritten',
        regarding: { kind: 'ConfigMap', namespace: 'refusing', name: 'outrigger-ca' },
        note: expect.stringContaining(quota) as string,
      },
    ]);

    fake.refuse = () => undefined;
    expect(await eventually(() => authorityOf('refusing'))).toBe(ca);
    await eventually(async () => (await refusing()) === '0');
    expect(await authorityOf('ending')).toBeUndefined();
  }, 90_000);

  it('asks for nothing that its roles do not allow', async () => {
    const { fake } = cluster;
    if (fake === undefined) {
      throw new Error('this needs the fake server');
    }
    fake.requests.length = 0;
    const a = await start('a');
    await eventually(isReady(a));
    await eventually(() => found(client(kConfigMaps).get({ namespace: 'shop', name: 'outrigger-ca' })));
    await a.stop();
    const permissions = [...Object.values(kClusterRoles), ...Object.values(kNamespaceRoles)].flat();
    const refused = fake.requests.filter(
      (each) => !permissions.some((permission) => allows(permission, each)),
    );
    // Ours alone: this test waits by asking, and reads the bundle.
    expect(refused.filter((each) => !each.startsWith('GET '))).toEqual([]);
    expect(fake.requests.filter((each) => each.startsWith('PATCH ')).length).toBeGreaterThanOrEqual(4);
  }, 90_000);
});
