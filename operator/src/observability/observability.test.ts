// SPDX-License-Identifier: Apache-2.0
// Catalogue, rules, dashboards and docs say the same metrics.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { MetricObject, Registry } from 'prom-client';
import { kCatalogue, kOwnCounters, kSystemCounters } from '../../../sidecar/src/metrics/catalogue';
import { Metrics, type MetricsDependencies } from '../../../sidecar/src/metrics/metrics';
import type { DirectoryStats } from '../directory/directory';
import { directoryMetrics, kDirectoryMetrics } from '../directory/metrics';
import { kOperatorCatalogue } from '../metrics/catalogue';
import { OperatorMetrics } from '../metrics/operator_metrics';
import { injectionMetrics } from '../webhook/metrics';
import { kAlertGroups } from './alerts';
import { kDashboards, renderDashboard } from './dashboards';
import { renderRunbooks, ruleGroups } from './rules';

const kOperator = [...Object.values(kOperatorCatalogue), ...Object.values(kDirectoryMetrics)];
const kAll: readonly { readonly name: string; readonly labels: readonly string[] }[] = [
  ...Object.values(kCatalogue),
  ...kSystemCounters.values(),
  ...kOwnCounters.values(),
  ...kOperator,
];
const kNames = new Set(kAll.map((each) => each.name));
const kAlerts = kAlertGroups.flatMap((each) => each.alerts);

const kNoStats: DirectoryStats = {
  streams: 0,
  instances: 0,
  registrations: 0,
  topics: 0,
  admissions: 0,
  rejectedStreams: 0,
  tokensRefused: {},
  tokenReviews: 0,
  topicsWaiting: 0,
  sliceWrites: 0,
  sliceFailures: 0,
  sweeps: 0,
};

/** Name and type of each, in order. */
function declared(all: readonly { readonly name: string; readonly type: string }[]): string[] {
  return all.map(({ name, type }) => `${type} ${name}`).toSorted();
}

function registered(all: readonly MetricObject[]): string[] {
  // prom-client's JSON has the type as Prometheus writes it, whatever its own typings say.
  return declared(all.map(({ name, type }) => ({ name, type: String(type) })));
}

/** Names of metrics in an expression: our prefix, whatever stands around it. */
function metricsIn(text: string): string[] {
  return [...text.matchAll(/outrigger_[a-z0-9_]+/g)].map(([name]) =>
    name.replace(/_seconds_bucket$/, '_seconds'),
  );
}

describe('the observability of the product', () => {
  const dashboards = kDashboards.map((each) => JSON.stringify(renderDashboard(each)));

  it('names no metric that the catalogue does not have', () => {
    for (const text of [...dashboards, ...kAlerts.map((each) => each.expr)]) {
      expect(metricsIn(text).filter((name) => !kNames.has(name))).toEqual([]);
    }
  });

  it('has in its catalogue what the registries of operator and directory have, and no more', async () => {
    const metrics = new OperatorMetrics('test');
    injectionMetrics(metrics.registry, () => undefined);
    directoryMetrics(metrics.registry, () => kNoStats);
    expect(registered(await metrics.registry.getMetricsAsJSON())).toEqual(declared(kOperator));
  });

  it('has in its catalogue what the registry of a sidecar has, and no more', async () => {
    const { registry } = new Metrics({} as MetricsDependencies) as unknown as { readonly registry: Registry };
    const all = [...Object.values(kCatalogue), ...kSystemCounters.values(), ...kOwnCounters.values()];
    expect(registered(await registry.getMetricsAsJSON())).toEqual(declared(all));
  });

  it('shows every metric of the catalogue in a dashboard', () => {
    const shown = new Set(dashboards.flatMap(metricsIn));
    expect([...kNames].filter((name) => !shown.has(name))).toEqual([]);
  });

  it('documents every metric, and none that is not', () => {
    const page = readFileSync(join(__dirname, '../../../docs/metrics.md'), 'utf8');
    const documented = [...page.matchAll(/^\| `(outrigger_[a-z0-9_]+)`/gm)].map(([, name]) => name as string);
    expect(documented.sort()).toEqual([...kNames].sort());
  });

  it('selects only labels that a metric has', () => {
    const labels = new Map(
      kAll.map((each) => [each.name, new Set<string>(['namespace', 'pod', 'le', ...each.labels])]),
    );
    for (const dashboard of kDashboards) {
      for (const { queries } of dashboard.rows.flatMap((row) => row.panels)) {
        for (const { expr } of queries) {
          const grouped = /sum by \(([^)]*)\)/.exec(expr)?.[1]?.split(', ') ?? [];
          const [metric] = metricsIn(expr);
          expect(grouped.filter((label) => !labels.get(metric ?? '')?.has(label))).toEqual([]);
        }
      }
    }
  });

  it('has for each alert a runbook with steps, under the anchor that the alert links', () => {
    const runbooks = renderRunbooks(kAlertGroups);
    const rules = ruleGroups(kAlertGroups, 'https://example.test/runbooks') as {
      groups: { rules: { alert: string; annotations: { runbook_url: string } }[] }[];
    };
    const headings = new Set(
      [...runbooks.matchAll(/^## (\w+)$/gm)].map(([, name]) => (name as string).toLowerCase()),
    );
    const linked = rules.groups.flatMap((group) => group.rules.map((rule) => rule.annotations.runbook_url));
    expect(linked).toHaveLength(kAlerts.length);
    for (const url of linked) {
      expect(headings).toContain(url.split('#')[1]);
    }
    expect(kAlerts.filter(({ steps }) => steps.length === 0)).toEqual([]);
    expect(new Set(kAlerts.map(({ name }) => name)).size).toBe(kAlerts.length);
  });

  it('lays panels out without overlap and with ids of their own', () => {
    for (const dashboard of kDashboards) {
      const { panels } = renderDashboard(dashboard) as {
        panels: { id: number; gridPos: { x: number; y: number; w: number; h: number } }[];
      };
      expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
      const cells = panels.flatMap(({ gridPos: { x, y, w, h } }) =>
        Array.from({ length: w * h }, (_, i) => `${x + (i % w)},${y + Math.floor(i / w)}`),
      );
      expect(new Set(cells).size).toBe(cells.length);
    }
  });
});
