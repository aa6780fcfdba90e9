// SPDX-License-Identifier: Apache-2.0
// Grafana dashboards as data: rows of panels of queries on the catalogues' metrics. Layout and JSON come from here, so that no panel names a
// metric that is not there.
import {
  kCatalogue,
  kOwnCounters,
  kSystemCounters,
  type MetricEntry,
} from '../../../sidecar/src/metrics/catalogue';
import { kDirectoryMetrics } from '../directory/metrics';
import { kOperatorCatalogue } from '../metrics/catalogue';

interface Query {
  readonly expr: string;
  readonly legend: string;
}

interface Panel {
  readonly title: string;
  readonly description: string;
  /** A unit id of Grafana. */
  readonly unit: string;
  readonly kind: 'timeseries' | 'stat' | 'table';
  readonly queries: readonly Query[];
}

interface Row {
  readonly title: string;
  readonly panels: readonly Panel[];
}

export interface Dashboard {
  readonly uid: string;
  readonly title: string;
  readonly rows: readonly Row[];
}

const kFilter = 'namespace=~"$namespace",pod=~"$pod"';
const m = kCatalogue;

/** Units as Grafana names them, for a rate of a counter or a gauge as it is. */
const kUnits: Readonly<Record<MetricEntry['unit'], readonly [rate: string, value: string]>> = {
  messages: ['cps', 'short'],
  bytes: ['Bps', 'bytes'],
  datagrams: ['pps', 'short'],
  frames: ['pps', 'short'],
  streams: ['cps', 'short'],
  events: ['cps', 'short'],
  seconds: ['s', 's'],
  boolean: ['short', 'short'],
};

function legendOf(entry: MetricEntry, by: readonly string[]): string {
  return [...by, ...entry.labels.filter((each) => !by.includes(each))].map((each) => `{{${each}}}`).join(' ');
}

/** A panel of one metric: rates of counters, values of gauges, one line for each of its labels and of `by`. */
function panel(entry: MetricEntry, title: string, by: readonly string[] = []): Panel {
  const counter = entry.type === 'counter';
  const labels = [...new Set([...by, ...entry.labels])];
  const selected = `${entry.name}{${kFilter}}`;
  const value = counter ? `rate(${selected}[$__rate_interval])` : selected;
  return {
    title,
    description: entry.help,
    unit: kUnits[entry.unit][counter ? 0 : 1],
    kind: 'timeseries',
    queries: [
      {
        expr: labels.length === 0 ? `sum(${value})` : `sum by (${labels.join(', ')}) (${value})`,
        legend: legendOf(entry, by),
      },
    ],
  };
}

function stat(entry: MetricEntry, title: string, expr: string): Panel {
  return { title, description: entry.help, unit: 'short', kind: 'stat', queries: [{ expr, legend: title }] };
}

/** "outrigger_driver_naks_sent_total" → "NAKs sent" would need a dictionary; the metric's own words do. */
function titleOf(entry: Pick<MetricEntry, 'name'>): string {
  const words = entry.name
    .replace(/^outrigger_(driver_)?/, '')
    .replace(/_total$/, '')
    .replaceAll('_', ' ');
  return words.charAt(0).toUpperCase() + words.slice(1);
}

const kTopicPanels = ['namespace', 'pod'];

export const kMessagingDashboard: Dashboard = {
  uid: 'outrigger-messaging',
  title: 'Outrigger / Messaging',
  rows: [
    {
      title: 'Overview',
      panels: [
        stat(m.driverUp, 'Drivers up', `sum(${m.driverUp.name}{${kFilter}})`),
        stat(m.driverUp, 'Drivers away', `count(${m.driverUp.name}{${kFilter}} == 0) or vector(0)`),
        stat(
          m.directoryUp,
          'Sidecars without directory',
          `count(${m.directoryUp.name}{${kFilter}} == 0) or vector(0)`,
        ),
        stat(m.draining, 'Draining', `sum(${m.draining.name}{${kFilter}})`),
      ],
    },
    {
      title: 'Topics',
      panels: [
        panel(m.published, 'Published messages'),
        panel(m.delivered, 'Delivered messages'),
        panel(m.publishedBytes, 'Published payload'),
        panel(m.deliveredBytes, 'Delivered payload'),
        panel(m.sentBytes, 'Sent by the driver, frames included'),
        panel(m.consumedBytes, 'Consumed from the driver, frames included'),
        panel(m.streams, 'gRPC streams'),
        panel(m.topics, 'Topics in use', kTopicPanels),
      ],
    },
    {
      title: 'What went wrong',
      panels: [
        panel(m.refused, 'Refused messages'),
        panel(m.dropped, 'Dropped messages'),
        panel(m.skipped, 'Skipped messages'),
        panel(m.gaps, 'Gaps'),
        panel(m.slow, 'Slow subscribers ended'),
        panel(m.rejected, 'Streams rejected', kTopicPanels),
      ],
    },
    {
      title: 'Sidecars',
      panels: [
        panel(m.build, 'Versions'),
        panel(m.backendInfo, 'Backends', kTopicPanels),
        panel(m.start, 'Started', kTopicPanels),
        panel(m.driverHeartbeatAge, "Age of the driver's heartbeat", kTopicPanels),
        panel(m.driverConnects, 'Driver connects', kTopicPanels),
        panel(m.driverLosses, 'Driver losses', kTopicPanels),
        panel(m.directoryLosses, 'Directory losses', kTopicPanels),
        panel(m.directoryRegistrations, 'Directory registrations', kTopicPanels),
        panel(m.topicsLoaded, 'Topics files taken', kTopicPanels),
        panel(m.topicsFailed, 'Topics files refused', kTopicPanels),
        panel(m.topicsStale, 'Stale topics files', kTopicPanels),
        panel(m.policyWrites, 'Policies written', kTopicPanels),
        panel(m.policyFailures, 'Policies that could not be written', kTopicPanels),
      ],
    },
  ],
};

export const kDriverDashboard: Dashboard = {
  uid: 'outrigger-driver',
  title: 'Outrigger / Driver',
  rows: [
    {
      title: 'Protocol (counters of Aeron)',
      panels: [...kSystemCounters.values()].map((entry) => panel(entry, titleOf(entry), kTopicPanels)),
    },
    {
      title: 'Network and memory (counters of Outrigger)',
      panels: [...kOwnCounters.values(), m.network].map((entry) =>
        panel(entry, titleOf(entry), kTopicPanels),
      ),
    },
  ],
};

interface OperatorEntry {
  readonly name: string;
  readonly type: string;
  readonly help: string;
  readonly labels: readonly string[];
}

/** A panel of one metric of the operator; of a histogram, its median and its 99th percentile. */
function operatorPanel(entry: OperatorEntry): Panel {
  const title = titleOf({ name: entry.name.replace('outrigger_operator_', 'outrigger_') });
  const by = ['pod', ...entry.labels];
  const legend = by.map((each) => `{{${each}}}`).join(' ');
  if (entry.type === 'histogram') {
    const quantile = (q: number): Query => ({
      expr: `histogram_quantile(${q}, sum by (le, ${by.join(', ')}) (rate(${entry.name}_bucket{${kFilter}}[$__rate_interval])))`,
      legend: `p${q * 100} ${legend}`,
    });
    return {
      title,
      description: entry.help,
      unit: 's',
      kind: 'timeseries',
      queries: [quantile(0.5), quantile(0.99)],
    };
  }
  const selected = `${entry.name}{${kFilter}}`;
  const counter = entry.type === 'counter';
  const value = counter ? `rate(${selected}[$__rate_interval])` : selected;
  const unit = counter ? 'cps' : entry.name.endsWith('_seconds') ? 's' : 'short';
  return {
    title,
    description: entry.help,
    unit,
    kind: 'timeseries',
    queries: [{ expr: `sum by (${by.join(', ')}) (${value})`, legend }],
  };
}

export const kOperatorDashboard: Dashboard = {
  uid: 'outrigger-operator',
  title: 'Outrigger / Operator',
  rows: [
    { title: 'Directory', panels: Object.values(kDirectoryMetrics).map(operatorPanel) },
    { title: 'Controllers and caches', panels: Object.values(kOperatorCatalogue).map(operatorPanel) },
  ],
};

export const kDashboards: readonly Dashboard[] = [kMessagingDashboard, kDriverDashboard, kOperatorDashboard];

const kColumns = 24;
const kPanelWidth = 8;
const kPanelHeight = 7;
const kStatWidth = 6;
const kStatHeight = 4;

function variable(name: string, query: string): object {
  return {
    name,
    type: 'query',
    datasource: { type: 'prometheus', uid: '${datasource}' },
    query: { query, refId: name },
    definition: query,
    includeAll: true,
    multi: true,
    allValue: '.*',
    current: { selected: true, text: 'All', value: '$__all' },
    refresh: 2,
    sort: 1,
  };
}

/** The JSON model that Grafana imports (schema 39, Grafana 10 and later). */
export function renderDashboard(dashboard: Dashboard): object {
  const panels: object[] = [];
  let y = 0;
  let id = 1;
  for (const row of dashboard.rows) {
    panels.push({
      id: id++,
      type: 'row',
      title: row.title,
      collapsed: false,
      gridPos: { x: 0, y, w: kColumns, h: 1 },
      panels: [],
    });
    y++;
    let x = 0;
    let height = 0;
    for (const each of row.panels) {
      const [w, h] = each.kind === 'stat' ? [kStatWidth, kStatHeight] : [kPanelWidth, kPanelHeight];
      if (x + w > kColumns) {
        x = 0;
        y += height;
      }
      height = h;
      panels.push({
        id: id++,
        type: each.kind,
        title: each.title,
        description: each.description,
        datasource: { type: 'prometheus', uid: '${datasource}' },
        gridPos: { x, y, w, h },
        fieldConfig: {
          defaults: { unit: each.unit, min: each.kind === 'timeseries' ? 0 : undefined },
          overrides: [],
        },
        options:
          each.kind === 'timeseries'
            ? {
                legend: { displayMode: 'list', placement: 'bottom' },
                tooltip: { mode: 'multi', sort: 'desc' },
              }
            : {},
        targets: each.queries.map(({ expr, legend }, index) => ({
          refId: String.fromCharCode(65 + index), // A, B, ...
          datasource: { type: 'prometheus', uid: '${datasource}' },
          expr,
          legendFormat: legend === '' ? each.title : legend,
        })),
      });
      x += w;
    }
    y += height;
  }
  return {
    uid: dashboard.uid,
    title: dashboard.title,
    tags: ['outrigger'],
    schemaVersion: 39,
    version: 1,
    editable: true,
    refresh: '30s',
    time: { from: 'now-1h', to: 'now' },
    templating: {
      list: [
        { name: 'datasource', type: 'datasource', query: 'prometheus', label: 'Data source', current: {} },
        variable('namespace', `label_values(${m.build.name}, namespace)`),
        variable('pod', `label_values(${m.build.name}{namespace=~"$namespace"}, pod)`),
      ],
    },
    panels,
  };
}
