// SPDX-License-Identifier: Apache-2.0
// Apps that know nothing of Outrigger but its API, each with the sidecar that injection gives it: the examples in Go and Python over gRPC, an
// unmodified Aeron client in Java on shared memory; and a real Prometheus that watches them.
//
// All stories run at the same time, since most of each is waiting; a test is what one of them came to.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { alertStory, type AlertStory } from './apps/alert';
import { examplesStory, kExamples, type ExamplesStory } from './apps/examples';
import { javaStory, kJavaMessages, kJavaUser, type JavaStory } from './apps/java';
import { command, get, until } from './kubectl';
import { loadImages } from './support/images';
import { makeNamespace, Pods } from './support/pods';
import { installProduct, kChart, kSystem, uninstallProduct } from './support/product';
import { defineMonitors, Prometheus, removeMonitors } from './support/prometheus';

jest.setTimeout(300_000);

const kNamespace = 'apps';

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
  await makeNamespace(kNamespace);
  await installProduct({
    'monitoring.podMonitors': 'true',
    'monitoring.rules': 'true',
    'monitoring.dashboards': 'true',
    'networkPolicy.namespaces': `{${kNamespace}}`,
  });
  await images;
  const pods = new Pods(kNamespace);
  prometheus = await Prometheus.start();
  stories = {
    prometheus,
    examples: begun(examplesStory(pods)),
    java: begun(javaStory(pods)),
    alert: begun(alertStory(pods, prometheus)),
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

describe('the chart, beside them', () => {
  it('has every dashboard in a ConfigMap that Grafana picks up', async () => {
    const { items } = await get<{ items: readonly { data: Readonly<Record<string, string>> }[] }>(
      'configmaps',
      ...['-n', kSystem, '-l', 'grafana_dashboard=1'],
    );
    const shown = items
      .flatMap(({ data }) => Object.entries(data))
      .map(([name, text]) => [name, JSON.parse(text) as unknown]);
    const folder = join(kChart, 'files/dashboards');
    const made = readdirSync(folder).map((name) => [
      name,
      JSON.parse(readFileSync(join(folder, name), 'utf8')) as unknown,
    ]);
    expect(made.length).toBeGreaterThan(0);
    expect(Object.fromEntries(shown)).toEqual(Object.fromEntries(made));
  });

  // The network of this cluster enforces no policy: what is looked at is what the API server has.
  it('opens the ports of the sidecars in the namespaces that it was told', async () => {
    const { spec } = await get<{ spec: object }>('networkpolicy', 'outrigger-sidecars', '-n', kNamespace);
    const sidecars = { matchLabels: { 'outrigger.dev/inject': 'true' } };
    expect(spec).toEqual({
      podSelector: sidecars,
      policyTypes: ['Ingress'],
      ingress: [
        {
          ports: [{ protocol: 'UDP', port: 40_200, endPort: 40_231 }],
          from: [{ namespaceSelector: {}, podSelector: sidecars }],
        },
        { ports: [{ protocol: 'TCP', port: 9464 }] },
      ],
    });
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
