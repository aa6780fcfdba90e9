// SPDX-License-Identifier: Apache-2.0
// An API server for a test: the fake one, or the real one that OUTRIGGER_TEST_KUBECONFIG names, with the chaos proxy before it.
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { parse } from 'yaml';
import type { Random } from '../base/clock';
import { ApiClient } from '../kit/api_client';
import type { ClusterAuth } from '../kit/auth';
import type { KitContext, Log } from '../kit/informer';
import { isNotFound } from '../kit/api_error';
import { kNamespaces } from '../kit/kinds';
import { resource, ResourceClient } from '../kit/resource';
import { OperatorMetrics } from '../metrics/operator_metrics';
import { ChaosProxy } from './chaos_proxy';
import { FakeApiServer } from './fake_api_server';

export const kSilent: Log = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
};

export function plainAuth(server: string): ClusterAuth {
  return {
    server,
    namespace: 'default',
    credentials: () => Promise.resolve({ headers: {}, tls: {} }),
    refresh: () => undefined,
  };
}

const kServiceAccounts = resource({
  group: '',
  version: 'v1',
  kind: 'ServiceAccount',
  plural: 'serviceaccounts',
});

async function exists(request: Promise<unknown>): Promise<boolean> {
  try {
    await request;
    return true;
  } catch (error) {
    if (isNotFound(error)) return false;
    throw error;
  }
}

interface Kubeconfig {
  readonly clusters: { readonly cluster: Record<string, string> }[];
  readonly users: { readonly user: Record<string, string> }[];
}

/** A kubeconfig with one cluster and one user that has a certificate or a token, in the file or beside it. jest can't load client-node's ES modules. */
export function kubeconfigAuth(path: string): ClusterAuth {
  const { clusters, users } = parse(readFileSync(path, 'utf8')) as Kubeconfig;
  const cluster = clusters[0]?.cluster ?? {};
  const user = users[0]?.user ?? {};
  const read = (from: Record<string, string>, name: string): Buffer | undefined => {
    const [data, file] = [from[`${name}-data`], from[name]];
    return data !== undefined
      ? Buffer.from(data, 'base64')
      : file !== undefined
        ? readFileSync(file)
        : undefined;
  };
  const tls = {
    ca: read(cluster, 'certificate-authority'),
    cert: read(user, 'client-certificate'),
    key: read(user, 'client-key'),
  };
  const token = user['token'];
  return {
    server: cluster['server'] ?? '',
    namespace: 'default',
    credentials: () =>
      Promise.resolve({
        headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
        tls: Object.fromEntries(Object.entries(tls).filter(([, value]) => value !== undefined)),
      }),
    refresh: () => undefined,
  };
}

export class TestCluster {
  private readonly namespaces: string[] = [];

  private constructor(
    /** The calm way in: what users do, and what is true. */
    readonly direct: ApiClient,
    /** The way in through the proxy. */
    readonly stormy: ApiClient,
    readonly chaos: ChaosProxy,
    /** undefined when the server is real. */
    readonly fake: FakeApiServer | undefined,
    readonly metrics: OperatorMetrics,
    readonly random: Random,
    private readonly upstream: ClusterAuth,
  ) {}

  static async start(random: Random): Promise<TestCluster> {
    const kubeconfig = process.env['OUTRIGGER_TEST_KUBECONFIG'] ?? '';
    const fake = kubeconfig === '' ? new FakeApiServer() : undefined;
    await fake?.start();
    const upstream = fake === undefined ? kubeconfigAuth(kubeconfig) : plainAuth(fake.url);
    const chaos = new ChaosProxy(upstream, random);
    await chaos.start();
    const metrics = new OperatorMetrics('test');
    const client = (auth: ClusterAuth): ApiClient =>
      new ApiClient({
        auth,
        userAgent: 'outrigger-test',
        timeoutMs: 5000,
        perSecond: 1000,
        burst: 1000,
        observe: metrics.request,
      });
    return new TestCluster(
      client(upstream),
      client(plainAuth(chaos.url)),
      chaos,
      fake,
      metrics,
      random,
      upstream,
    );
  }

  /** For informers and controllers under test: waits are short, and a full list comes often, since events may be swallowed. */
  get context(): KitContext {
    return {
      api: this.stormy,
      metrics: this.metrics,
      log: kSilent,
      random: this.random,
      queueBackoff: { baseMs: 5, maxMs: 100 },
      reflectorTimes: {
        pageSize: 3,
        watchSeconds: 1,
        silenceMs: 2000,
        relistMs: 500,
        backoff: { baseMs: 5, maxMs: 50 },
      },
    };
  }

  /** Makes a namespace that no other test has; stop() begins to delete it, with all that is in it. */
  async namespace(prefix: string, labels: Readonly<Record<string, string>> = {}): Promise<string> {
    const name = `${prefix}-${randomBytes(4).toString('hex')}`;
    await this.prepareNamespace(name, labels);
    return name;
  }

  /** The same, under a name that is given. */
  async prepareNamespace(name: string, labels: Readonly<Record<string, string>> = {}): Promise<void> {
    await new ResourceClient(this.direct, kNamespaces).create({ metadata: { name, labels } });
    this.namespaces.push(name);
    // A real server refuses pods until a controller has made their service account.
    const accounts = new ResourceClient(this.direct, kServiceAccounts);
    while (this.fake === undefined && !(await exists(accounts.get({ namespace: name, name: 'default' })))) {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** The calm way in, for a client of its own. */
  get calm(): ClusterAuth {
    return this.upstream;
  }

  /** The real server, as another user. */
  impersonating(user: string): ClusterAuth {
    return {
      ...this.upstream,
      credentials: async () => {
        const { headers, tls } = await this.upstream.credentials();
        return { headers: { ...headers, 'impersonate-user': user }, tls };
      },
    };
  }

  /** Sum of a metric over its labels. */
  async metric(name: string): Promise<number> {
    const { values } = (await this.metrics.registry.getSingleMetric(name)?.get()) ?? { values: [] };
    return values.reduce((sum, { value }) => sum + value, 0);
  }

  async stop(): Promise<void> {
    for (const name of this.namespaces.splice(0)) {
      await new ResourceClient(this.direct, kNamespaces).delete({ name });
    }
    this.direct.close();
    this.stormy.close();
    await this.chaos.stop();
    await this.fake?.stop();
  }
}
