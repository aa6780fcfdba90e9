// SPDX-License-Identifier: Apache-2.0
// A real Prometheus that scrapes the cluster by the chart's PodMonitors and evaluates the chart's PrometheusRule, as the Prometheus operator would
// configure it; but in its time a minute takes two seconds.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { apply, command, get, kubectl, until } from '../kubectl';
import { metaLabel, servePodTargets, type PodTargets } from './pod_targets';
import { kSystem } from './product';

const kSpeed = 30;
const kListen = '127.0.0.1:19090';

export interface PodMonitor {
  readonly metadata: { readonly name: string; readonly namespace: string };
  readonly spec: {
    readonly namespaceSelector?: { readonly any?: boolean; readonly matchNames?: readonly string[] };
    readonly selector: { readonly matchLabels: Readonly<Record<string, string>> };
    readonly podMetricsEndpoints: readonly {
      readonly port: string;
      readonly path: string;
      readonly interval: string;
    }[];
  };
}

export interface Alert {
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  readonly state: 'pending' | 'firing';
}

export interface Sample {
  readonly metric: Readonly<Record<string, string>>;
  readonly value: readonly [number, string];
}

interface Rule {
  readonly alert: string;
  readonly expr: string;
  readonly for: string;
}

interface RuleGroup {
  readonly name: string;
  readonly rules: readonly Rule[];
}

const kSeconds: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400 };

/** A duration of the chart, in the faster time. */
function faster(duration: string): string {
  return duration.replace(
    /^(\d+)([smhd])$/,
    (_, count: string, unit: string) =>
      `${Math.round((Number(count) * (kSeconds[unit] ?? 1) * 1000) / kSpeed)}ms`,
  );
}

function fasterRule<T extends Rule>(rule: T): T {
  return {
    ...rule,
    for: faster(rule.for),
    expr: rule.expr.replaceAll(/\[(\w+)\]/g, (_, range: string) => `[${faster(range)}]`),
  };
}

/** What the Prometheus operator makes of a PodMonitor, but for the discovery itself. */
function scrapeConfigs({ metadata, spec }: PodMonitor, pods: PodTargets): object[] {
  const { any = false, matchNames = [metadata.namespace] } = spec.namespaceSelector ?? {};
  const urls = any ? [pods.url()] : matchNames.map((each) => pods.url(each));
  return spec.podMetricsEndpoints.map((endpoint, i) => ({
    job_name: `podMonitor/${metadata.namespace}/${metadata.name}/${i}`,
    scrape_interval: faster(endpoint.interval),
    scrape_timeout: faster(endpoint.interval),
    metrics_path: endpoint.path,
    http_sd_configs: urls.map((url) => ({ url, refresh_interval: '2s' })),
    relabel_configs: [
      { source_labels: ['__meta_kubernetes_pod_phase'], regex: '(Failed|Succeeded)', action: 'drop' },
      ...Object.entries(spec.selector.matchLabels).map(([label, value]) => ({
        source_labels: [metaLabel(label)],
        regex: value,
        action: 'keep',
      })),
      {
        source_labels: ['__meta_kubernetes_pod_container_port_name'],
        regex: endpoint.port,
        action: 'keep',
      },
      { source_labels: ['__meta_kubernetes_namespace'], target_label: 'namespace' },
      { source_labels: ['__meta_kubernetes_pod_container_name'], target_label: 'container' },
      { source_labels: ['__meta_kubernetes_pod_name'], target_label: 'pod' },
      { target_label: 'job', replacement: `${metadata.namespace}/${metadata.name}` },
    ],
  }));
}

/** So that the API server takes PodMonitors and PrometheusRules; their operator, which has the real definitions, is not here. */
export async function defineMonitors(): Promise<void> {
  const definition = (plural: string, kind: string): object => ({
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: `${plural}.monitoring.coreos.com` },
    spec: {
      group: 'monitoring.coreos.com',
      scope: 'Namespaced',
      names: { plural, singular: kind.toLowerCase(), kind, listKind: `${kind}List` },
      versions: [
        {
          name: 'v1',
          served: true,
          storage: true,
          schema: {
            openAPIV3Schema: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true },
          },
        },
      ],
    },
  });
  await apply(definition('podmonitors', 'PodMonitor'), definition('prometheusrules', 'PrometheusRule'));
  const names = ['podmonitors', 'prometheusrules'].map((each) => `crd/${each}.monitoring.coreos.com`);
  await kubectl(['wait', '--for=condition=Established', '--timeout=30s', ...names]);
}

export async function removeMonitors(): Promise<void> {
  const names = ['podmonitors', 'prometheusrules'].map((each) => `${each}.monitoring.coreos.com`);
  await command('kubectl', ['delete', 'crd', '--ignore-not-found', '--wait=false', ...names]);
}

export class Prometheus {
  private constructor(
    readonly groups: readonly RuleGroup[],
    private readonly stop: () => Promise<void>,
  ) {}

  /** Takes the monitors and rules that are in the namespace of the installation; resolves when it answers. */
  static async start(): Promise<Prometheus> {
    const monitors = await get<{ items: PodMonitor[] }>('podmonitors', '-n', kSystem);
    const rules = await get<{ items: { spec: { groups: RuleGroup[] } }[] }>('prometheusrules', '-n', kSystem);
    const pods = await servePodTargets();
    const groups = rules.items.flatMap(({ spec }) => spec.groups);
    const folder = mkdtempSync(join(tmpdir(), 'prometheus-'));
    const fasterGroups = groups.map(({ name, rules: all }) => ({ name, rules: all.map(fasterRule) }));
    writeFileSync(join(folder, 'rules.yaml'), stringify({ groups: fasterGroups }));
    writeFileSync(
      join(folder, 'prometheus.yaml'),
      stringify({
        global: { evaluation_interval: '1s' },
        rule_files: [join(folder, 'rules.yaml')],
        scrape_configs: monitors.items.flatMap((each) => scrapeConfigs(each, pods)),
      }),
    );
    const args = [
      `--config.file=${join(folder, 'prometheus.yaml')}`,
      `--storage.tsdb.path=${join(folder, 'data')}`,
      `--web.listen-address=${kListen}`,
      '--log.level=warn',
    ];
    const child = spawn('prometheus', args, { stdio: ['ignore', 'ignore', 'pipe'] });
    let log = '';
    child.stderr.on('data', (data: Buffer) => (log += data.toString()));
    const ended = once(child, 'close');
    const stop = async (): Promise<void> => {
      child.kill('SIGKILL');
      await ended;
      pods.close();
      rmSync(folder, { recursive: true, force: true });
    };
    try {
      await until('Prometheus is ready', async () => {
        if (child.exitCode !== null) {
          throw new Error(`it ended with ${child.exitCode}: ${log}`);
        }
        return (await fetch(`http://${kListen}/-/ready`)).ok;
      });
    } catch (error) {
      await stop();
      throw error;
    }
    return new Prometheus(groups, stop);
  }

  async query(expression: string): Promise<readonly Sample[]> {
    const { result } = await ask<{ result: Sample[] }>(`query?query=${encodeURIComponent(expression)}`);
    return result;
  }

  /** Alerts of this name that are pending or firing. */
  async alerts(name: string): Promise<readonly Alert[]> {
    const { alerts } = await ask<{ alerts: Alert[] }>('alerts');
    return alerts.filter(({ labels }) => labels['alertname'] === name);
  }

  /** Names of the alerts that it evaluates, with what went wrong at the last evaluation. */
  async evaluated(): Promise<ReadonlyMap<string, string>> {
    const { groups } = await ask<{ groups: { rules: { name: string; lastError?: string }[] }[] }>('rules');
    return new Map(
      groups.flatMap(({ rules }) => rules.map((each) => [each.name, each.lastError ?? ''] as const)),
    );
  }

  close(): Promise<void> {
    return this.stop();
  }
}

async function ask<T>(path: string): Promise<T> {
  const response = await fetch(`http://${kListen}/api/v1/${path}`);
  const { status, data, error } = (await response.json()) as { status: string; data: T; error?: string };
  if (status !== 'success') {
    throw new Error(`Prometheus, ${path}: ${error ?? status}`);
  }
  return data;
}
