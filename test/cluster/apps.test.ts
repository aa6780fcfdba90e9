// SPDX-License-Identifier: Apache-2.0
// Apps that know nothing of Outrigger but its API, each with the sidecar that injection gives it: the examples in Go and Python over gRPC, an
// unmodified Aeron client in Java on shared memory; and a real Prometheus that watches them.
//
// All stories run at the same time, since most of each is waiting; a test is what one of them came to.
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseAllDocuments } from 'yaml';
import { javaArguments } from '../interop/support/jar';
import { Peer, type Client, type SubscriptionSeen } from '../interop/support/peer';
import { apply, command, get, kubectl, until } from './kubectl';
import { imageOf, loadImages, type Language } from './support/images';
import { FollowedLog, makeNamespace, Pods, type PodObject } from './support/pods';
import { installProduct, kRoot, kSystem, uninstallProduct, type NodeName } from './support/product';
import { defineMonitors, Prometheus, removeMonitors, type Alert } from './support/prometheus';

jest.setTimeout(300_000);

const kNamespace = 'apps';
const kPatienceMs = 120_000;
const kApi = 'outrigger.dev/v1alpha1';

const pods = new Pods(kNamespace);

interface Described {
  readonly kind: string;
  readonly metadata: { readonly name: string };
}

interface Deployment extends Described {
  readonly spec: {
    readonly template: {
      readonly spec: { readonly containers: readonly [{ readonly env: readonly object[] }] };
    };
  };
}

// ---------------------------------------------------------------------------------------------- the examples

/** What a subscriber of the examples says of a publisher that is gone. */
interface Gone {
  readonly publisher: string;
  readonly first: number;
  readonly messages: number;
  readonly closing: number;
  readonly missing: number;
  readonly outOfOrder: number;
  readonly reason: string;
}

/** What a publisher says at its end. */
interface Done {
  readonly publisher: string;
  readonly accepted: number;
  readonly closing: number;
}

interface ExamplesStory {
  readonly published: readonly Done[];
  /** By subscriber. */
  readonly received: ReadonlyMap<string, readonly Gone[]>;
}

const kExamples = ['go', 'python'] as const satisfies readonly Language[];
type Example = (typeof kExamples)[number];

/** Each language publishes on one node and subscribes on the other, so that every pair of them crosses. */
const kPublisherNode: Readonly<Record<Example, NodeName>> = { go: 'node1', python: 'node2' };

/** A Deployment of examples/LANGUAGE/kubernetes.yaml; only where its image comes from and its node are of this cluster. */
function exampleDeployment(language: Example, role: 'publisher' | 'subscriber'): object {
  const file = join(kRoot, 'examples', language, 'kubernetes.yaml');
  const documents = parseAllDocuments(readFileSync(file, 'utf8')).map((each) => each.toJS() as Described);
  const name = `quotes-${role}-${language}`;
  const found = documents.find((each) => each.metadata.name === name);
  if (found === undefined) {
    throw new Error(`${file} has no ${name}`);
  }
  const { spec, ...rest } = found as Deployment;
  const pod = spec.template.spec;
  const other = kPublisherNode[language] === 'node1' ? 'node2' : 'node1';
  const node = role === 'publisher' ? kPublisherNode[language] : other;
  return {
    ...rest,
    metadata: { name, namespace: kNamespace },
    spec: {
      ...spec,
      template: {
        ...spec.template,
        spec: {
          ...pod,
          nodeSelector: { 'kubernetes.io/hostname': node },
          containers: pod.containers.map((each) => ({
            ...each,
            image: imageOf(language),
            imagePullPolicy: 'Never',
          })),
        },
      },
    },
  };
}

/** Starts both of a role and follows what they say, once each has opened the topic. */
async function startExamples(role: 'publisher' | 'subscriber'): Promise<FollowedLog[]> {
  await apply(...kExamples.map((language) => exampleDeployment(language, role)));
  return Promise.all(
    kExamples.map(async (language) => {
      const name = `deployment/quotes-${role}-${language}`;
      const wait = ['rollout', 'status', name, '-n', kNamespace, `--timeout=${kPatienceMs}ms`];
      const { ok, stderr } = await command('kubectl', wait, { timeoutMs: kPatienceMs + 10_000 });
      if (!ok) {
        throw new Error(`${stderr}\n${await pods.storyOf(name, `app=quotes-${role}-${language}`)}`);
      }
      const log = new FollowedLog([name, '-n', kNamespace, '-c', 'app']);
      await until(`${name} has opened its topic`, () => log.last('open') !== undefined, kPatienceMs);
      return log;
    }),
  );
}

async function examplesStory(): Promise<ExamplesStory> {
  // Both subscribers from the first message on, so that each has to have all.
  await apply({
    apiVersion: kApi,
    kind: 'Topic',
    metadata: { name: 'quotes', namespace: kNamespace },
    spec: { flowControl: { strategy: 'Min', groupMinSize: 2 } },
  });
  const subscribers = await startExamples('subscriber');
  const publishers = await startExamples('publisher');
  const names = publishers.map((log) => String(log.last('open')?.['publisher']));
  const enough = (log: FollowedLog): boolean =>
    names.every((publisher) => Number(log.last('received', { publisher })?.['messages'] ?? 0) >= 2000);
  await until('every subscriber has much of every publisher', () => subscribers.every(enough), kPatienceMs);
  // SIGTERM; what they say after it they say until their very end.
  const deployments = kExamples.map((language) => `deployment/quotes-publisher-${language}`);
  await kubectl(['scale', ...deployments, '-n', kNamespace, '--replicas=0']);
  await until('the publishers end', () => publishers.every((log) => log.ended), kPatienceMs);
  const gone = (log: FollowedLog): Gone[] =>
    names.flatMap((publisher) => {
      const line = log.last('publisher gone', { publisher });
      return line === undefined ? [] : [line as unknown as Gone];
    });
  const all = (log: FollowedLog): boolean => gone(log).length === names.length;
  await until('every subscriber sees them go', () => subscribers.every(all), kPatienceMs);
  subscribers.forEach((log) => log.stop());
  return {
    published: publishers.map((log) => log.last('done') as unknown as Done),
    received: new Map(subscribers.map((log, i) => [kExamples[i] ?? '', gone(log)])),
  };
}

// ---------------------------------------------------------------------------------------------- Aeron in Java

/** Neither that of the sidecar nor that of any other app. */
const kJavaUser = 10_002;
const kJavaMessages = 5000;
const kPricesStream = 4711;
/** Of a profile's range, beside the first, on which the sidecars themselves receive. */
const kJavaPort = 40_201;
const kSidecarPort = 40_200;

interface JavaStory {
  readonly sidecarUser: number;
  readonly sent: readonly number[];
  /** At java-a from java-b, and the other way. */
  readonly received: readonly SubscriptionSeen[];
  readonly strayErrors: readonly string[];
  readonly readerExit: number;
}

function javaPod(name: string, node: NodeName, others: readonly object[] = []): PodObject {
  return pods.app(name, node, [], {
    annotations: { 'outrigger.dev/shared-memory': 'true' },
    container: {
      image: imageOf('java'),
      command: ['/opt/java/bin/java', ...javaArguments('/app', 64), 'dev.outrigger.interop.Peer', 'serve'],
      stdin: true,
      stdinOnce: true,
      securityContext: { runAsUser: kJavaUser, runAsGroup: kJavaUser, runAsNonRoot: true },
    },
    others,
  });
}

/** The peer of the interop tests, in a pod: requests and answers go through `kubectl attach`. */
async function attach(pod: string): Promise<{ peer: Peer; client: Client }> {
  const args = ['attach', '--stdin', '--quiet', '-n', kNamespace, pod, '-c', 'app'];
  const peer = new Peer(spawn('kubectl', args, { stdio: ['pipe', 'pipe', 'pipe'] }));
  const { spec } = await get<{
    spec: { containers: { name: string; env?: { name: string; value?: string }[] }[] };
  }>('pod', pod, '-n', kNamespace);
  const env = spec.containers.find(({ name }) => name === 'app')?.env ?? [];
  const directory = env.find(({ name }) => name === 'AERON_DIR')?.value ?? '';
  return { peer, client: await peer.client(directory) };
}

async function javaStory(): Promise<JavaStory> {
  await apply({
    apiVersion: kApi,
    kind: 'Topic',
    metadata: { name: 'prices', namespace: kNamespace },
    spec: { streamId: kPricesStream },
  });
  const reader = {
    name: 'reader',
    image: 'localhost/outrigger:dev',
    imagePullPolicy: 'Never',
    command: [
      '/usr/bin/outrigger',
      'sub',
      'prices',
      '--count',
      `${kJavaMessages}`,
      '--format',
      'none',
      '--json',
    ],
    securityContext: { runAsUser: 1000, runAsNonRoot: true },
  };
  await pods.start(javaPod('java-a', 'node1'), javaPod('java-b', 'node2', [reader]));
  const [a, b] = await Promise.all([attach('java-a'), attach('java-b')]);
  const [hereA, hereB] = await Promise.all([pods.addressOf('java-a'), pods.addressOf('java-b')]);
  const toA = `aeron:udp?endpoint=${hereA}:${kJavaPort}`;
  const toB = `aeron:udp?endpoint=${hereB}:${kJavaPort}`;
  const subscriptions = [await a.client.subscription(toA, 1), await b.client.subscription(toB, 1)];
  // Lengths from one frame to many fragments; short terms, so that they wrap.
  const publications = [
    await b.client.publication(`${toA}|term-length=1m`, 1),
    await a.client.publication(`${toB}|term-length=1m`, 1),
    // To the topic, whose subscriber is an app over gRPC.
    await a.client.publication(`aeron:udp?endpoint=${hereB}:${kSidecarPort}|term-length=1m`, kPricesStream),
  ];
  const sent = await Promise.all(
    publications.map((each) => each.send(kJavaMessages, { size: 'mix', 'timeout-ms': kPatienceMs })),
  );
  const received = await Promise.all(
    subscriptions.map((each) => each.until({ count: kJavaMessages, 'timeout-ms': kPatienceMs })),
  );
  const readerExit = await pods.exitOf('java-b', 'reader');
  const exec = ['exec', '-n', kNamespace, 'java-a', '-c', 'outrigger', '--'];
  const sidecarUser = await kubectl([...exec, '/usr/bin/node', '-p', 'process.getuid()']);
  const strayErrors = (await Promise.all([a, b].map(({ peer }) => peer.strayErrors()))).flat();
  await Promise.all([a.peer.close(), b.peer.close()]);
  await pods.expectToEndWell('java-a', 'java-b');
  return {
    sidecarUser: Number(sidecarUser),
    sent: sent.map((each) => each.sent),
    received,
    strayErrors,
    readerExit,
  };
}

// ---------------------------------------------------------------------------------------------- Prometheus

interface AlertStory {
  readonly before: readonly Alert[];
  readonly firing: readonly Alert[];
}

const kAlert = 'OutriggerTopicsStale';

function topicsFile(streamId: string): object {
  return {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: 'topics', namespace: kNamespace },
    data: { 'topics.yaml': `topics: [{ name: local, streamId: ${streamId}, channel: "aeron:ipc" }]` },
  };
}

/** Someone breaks a topics file and repairs it. */
async function alertStory(watch: Prometheus): Promise<AlertStory> {
  await apply(topicsFile('1'));
  await pods.start(
    pods.app('careful', 'node1', ['sub', 'local'], {
      annotations: { 'outrigger.dev/topics-config-map': 'topics' },
    }),
  );
  await until(
    'the pod is scraped',
    async () => (await watch.query('outrigger_topics_stale{pod="careful"} == 0')).length === 1,
  );
  const before = await watch.alerts(kAlert);
  await apply(topicsFile('one'));
  let firing: readonly Alert[] = [];
  await until(
    `${kAlert} fires`,
    async () => {
      firing = (await watch.alerts(kAlert)).filter(({ state }) => state === 'firing');
      return firing.length > 0;
    },
    kPatienceMs,
  );
  await apply(topicsFile('1'));
  await until(`${kAlert} is over`, async () => (await watch.alerts(kAlert)).length === 0, kPatienceMs);
  return { before, firing };
}

// ---------------------------------------------------------------------------------------------- all at once

let prometheus: Prometheus | undefined;
let stories: {
  readonly prometheus: Prometheus;
  readonly examples: Promise<ExamplesStory>;
  readonly java: Promise<JavaStory>;
  readonly alert: Promise<AlertStory>;
};

/** Begins now; a failure is that of the test that awaits it. */
function begun<T>(story: Promise<T>): Promise<T> {
  story.catch(() => undefined);
  return story;
}

beforeAll(async () => {
  const images = Promise.all([
    loadImages('node1', 'java', ...kExamples),
    loadImages('node2', 'java', ...kExamples),
  ]);
  images.catch(() => undefined);
  await defineMonitors();
  await installProduct({ 'monitoring.podMonitors': 'true', 'monitoring.rules': 'true' });
  await makeNamespace(kNamespace);
  await images;
  prometheus = await Prometheus.start();
  stories = {
    prometheus,
    examples: begun(examplesStory()),
    java: begun(javaStory()),
    alert: begun(alertStory(prometheus)),
  };
});

afterAll(async () => {
  await prometheus?.close();
  await command('kubectl', ['delete', 'namespace', kNamespace, '--wait=false']);
  await uninstallProduct();
  await removeMonitors();
});

describe('the examples in Go and Python, through the socket that injection gives them', () => {
  it('exchange quotes between nodes in every pair, to the last one that was accepted when they were told to stop', async () => {
    const { published, received } = await stories.examples;
    for (const { closing } of published) {
      expect(closing).toBe(200);
    }
    const whole = { first: 0, missing: 0, outOfOrder: 0, reason: 'IMAGE_END_END_OF_STREAM' };
    const all = published.map(({ publisher, accepted, closing }) => ({
      ...whole,
      publisher,
      messages: accepted,
      closing,
    }));
    for (const language of kExamples) {
      expect({ language, gone: received.get(language) }).toMatchObject({ language, gone: all });
    }
  });
});

describe('an unmodified Aeron client in Java, on the shared memory that injection mounts', () => {
  it('exchanges counted messages with one on the other node, both ways, as another user than the sidecar', async () => {
    const { sidecarUser, sent, received, strayErrors } = await stories.java;
    expect(sidecarUser).not.toBe(kJavaUser);
    expect(sent).toEqual([kJavaMessages, kJavaMessages, kJavaMessages]);
    for (const { count, images } of received) {
      expect(count).toBe(kJavaMessages);
      expect(images).toEqual([
        expect.objectContaining({ first: 0, next: kJavaMessages, outOfOrder: 0, corrupt: 0 }),
      ]);
    }
    expect(strayErrors).toEqual([]);
  });

  it('publishes to a topic whose subscriber is an app over gRPC', async () => {
    const { readerExit } = await stories.java;
    expect(readerExit).toBe(0);
  });
});

describe('a real Prometheus, set up by the PodMonitors and the PrometheusRule of the chart', () => {
  it('scrapes every sidecar, operator and directory', async () => {
    await stories.examples; // so that there is something to see
    const { prometheus: theirs } = stories;
    const { items } = await get<{ items: { metadata: { name: string }; status: { phase: string } }[] }>(
      'pods',
      '-n',
      kSystem,
    );
    const own = items.filter(({ status }) => status.phase === 'Running').map(({ metadata }) => metadata.name);
    expect(own).toHaveLength(4);
    await until('all of the system is scraped', async () => {
      const up = await theirs.query(`up{job="${kSystem}/outrigger-operator"} == 1`);
      return own.every((pod) => up.some(({ metric }) => metric['pod'] === pod));
    });
    expect(await theirs.query('sum(outrigger_operator_leader)')).toEqual([
      expect.objectContaining({ value: [expect.any(Number), '1'] }),
    ]);
    for (const [role, metric] of [
      ['publisher', 'outrigger_published_messages_total'],
      ['subscriber', 'outrigger_delivered_messages_total'],
    ]) {
      for (const language of kExamples) {
        const selector = `namespace="${kNamespace}",pod=~"quotes-${role}-${language}-.*",container="outrigger",topic="quotes"`;
        const [sample] = await theirs.query(`max_over_time(${metric}{${selector}}[10m])`);
        expect(Number(sample?.value[1] ?? 0)).toBeGreaterThanOrEqual(1000);
      }
    }
  });

  it('evaluates every rule without an error', async () => {
    const evaluated = await stories.prometheus.evaluated();
    const alerts = stories.prometheus.groups.flatMap(({ rules }) => rules.map(({ alert }) => alert));
    expect(alerts.length).toBeGreaterThan(10);
    expect([...evaluated.keys()].toSorted()).toEqual(alerts.toSorted());
    expect([...evaluated.values()].filter((error) => error !== '')).toEqual([]);
  });

  it('fires an alert when someone breaks a topics file, and ends it when the file is repaired', async () => {
    const { before, firing } = await stories.alert;
    expect(before).toEqual([]);
    expect(firing).toHaveLength(1);
    expect(firing[0]).toMatchObject({
      labels: { pod: 'careful', namespace: kNamespace, severity: 'warning' },
      annotations: { summary: `The topics file of ${kNamespace}/careful is refused` },
    });
    expect(firing[0]?.annotations['runbook_url']).toMatch(/^https:.*#outriggertopicsstale$/);
  });
});
