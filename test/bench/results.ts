// SPDX-License-Identifier: Apache-2.0
// The results of a run: one case for each metric of each of our settings against each setting of a peer, ratio first, as a file and as a table.
import { readFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import type { BackendResults } from './backend_results';

export type Metric = 'throughput' | 'cpuSecondsPerMillion' | 'rttP50' | 'rttP99' | 'idleCpu' | 'rss' | 'pss';
export type Peer = 'aeron' | 'nats' | 'outrigger';

export interface Case {
  suite: string;
  path: 'engine' | 'app';
  backend: string;
  mtu: number;
  sizeBytes: number;
  lossPercent: number;
  metric: Metric;
  unit: string;
  ours: number;
  peer: Peer;
  peerTuning: string;
  peerValue: number;
  // Always better when larger: ours / peer for rates, peer / ours for costs and times.
  ratio: number;
  // Interleaved runs; ours and peerValue are their medians.
  runs: number;
  oursRuns: number[];
  peerRuns: number[];
}

export interface Machine {
  cpu: string;
  cores: number;
  memoryGb: number;
  kernel: string;
}

export interface Results {
  machine: Machine;
  date: string;
  mode: string;
  seconds: number;
  cases: Case[];
  // What could not be measured, and why. Empty in a good run.
  failures: string[];
  // Of the part `backends`, where that ran.
  backends?: BackendResults;
}

const METRICS: Record<Metric, { unit: string; larger: 'better' | 'worse'; title: string }> = {
  throughput: { unit: 'messages/s', larger: 'better', title: 'rate' },
  cpuSecondsPerMillion: { unit: 's/million messages', larger: 'worse', title: 'CPU s per million' },
  rttP50: { unit: 'us', larger: 'worse', title: 'RTT p50' },
  rttP99: { unit: 'us', larger: 'worse', title: 'RTT p99' },
  idleCpu: { unit: 'percent of a core', larger: 'worse', title: 'idle CPU' },
  rss: { unit: 'MB', larger: 'worse', title: 'resident memory' },
  pss: { unit: 'MB', larger: 'worse', title: 'proportional memory' },
};

// Smallest idle CPU that the clock ticks of /proc can tell from nothing in a run of some seconds; keeps ratios finite.
const FLOOR: Partial<Record<Metric, number>> = { idleCpu: 0.1 };

export function median(values: number[]): number {
  const sorted = [...values].sort((x, y) => x - y);
  const middle = sorted.length >> 1;
  const upper = sorted[middle];
  if (upper === undefined) throw new Error('no values to take a median of');
  return sorted.length % 2 === 1 ? upper : (upper + (sorted[middle - 1] as number)) / 2;
}

export function makeCase(
  about: Pick<
    Case,
    'suite' | 'path' | 'backend' | 'mtu' | 'sizeBytes' | 'lossPercent' | 'peer' | 'peerTuning'
  >,
  metric: Metric,
  oursRuns: number[],
  peerRuns: number[],
): Case {
  const ours = median(oursRuns);
  const peerValue = median(peerRuns);
  const { unit, larger } = METRICS[metric];
  const floor = FLOOR[metric] ?? Number.MIN_VALUE;
  const ratio =
    larger === 'better'
      ? ours / Math.max(peerValue, floor)
      : Math.max(peerValue, floor) / Math.max(ours, floor);
  const round = (value: number): number => Number(value.toPrecision(4));
  return {
    suite: about.suite,
    path: about.path,
    backend: about.backend,
    mtu: about.mtu,
    sizeBytes: about.sizeBytes,
    lossPercent: about.lossPercent,
    metric,
    unit,
    ours: round(ours),
    peer: about.peer,
    peerTuning: about.peerTuning,
    peerValue: round(peerValue),
    ratio: round(ratio),
    runs: Math.min(oursRuns.length, peerRuns.length),
    oursRuns: oursRuns.map(round),
    peerRuns: peerRuns.map(round),
  };
}

export function thisMachine(): Machine {
  const processors = cpus();
  return {
    cpu: processors[0]?.model.trim() ?? 'unknown',
    cores: processors.length,
    memoryGb: Math.round(totalmem() / 2 ** 30),
    kernel: release(),
  };
}

const BEGIN = '<!-- results: written by make bench -->';
const END = '<!-- end of results -->';

function shown(value: number, metric: Metric): string {
  if (metric === 'throughput')
    return value >= 1e6 ? `${(value / 1e6).toFixed(2)} M/s` : `${(value / 1e3).toFixed(0)} k/s`;
  const { unit } = METRICS[metric];
  const digits = value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return `${value.toFixed(digits)}${unit === 'us' ? ' µs' : unit === 'MB' ? ' MB' : unit.startsWith('percent') ? ' %' : ' s'}`;
}

export function table(results: Results): string {
  const lines = [
    BEGIN,
    '',
    `${results.machine.cores} × ${results.machine.cpu}, ${results.machine.memoryGb} GiB, Linux ${results.machine.kernel}; ${results.date}; ` +
      `mode \`${results.mode}\`, ${Math.round(results.seconds)} s. Ratios first: larger is better for us, whatever the metric.`,
    '',
  ];
  const suites = [...new Set(results.cases.map((one) => one.suite))];
  for (const suite of suites) {
    lines.push(
      `### ${suite}`,
      '',
      '| ratio | metric | size B | MTU | loss % | backend | Outrigger | peer | peer tuning | peer value | runs |',
      '|--:|---|--:|--:|--:|---|--:|---|---|--:|--:|',
    );
    for (const one of results.cases.filter((candidate) => candidate.suite === suite)) {
      lines.push(
        `| **${one.ratio >= 10 ? one.ratio.toFixed(0) : one.ratio.toFixed(2)}×** | ${METRICS[one.metric].title} | ${one.sizeBytes || ''} | ${one.mtu || ''} | ${one.lossPercent} | ${one.backend} | ` +
          `${shown(one.ours, one.metric)} | ${one.peer} | ${one.peerTuning} | ${shown(one.peerValue, one.metric)} | ${one.runs} |`,
      );
    }
    lines.push('');
  }
  if (results.failures.length > 0)
    lines.push('Not measured:', '', ...results.failures.map((failure) => `- ${failure}`), '');
  lines.push(END);
  return lines.join('\n');
}

// The document with its table replaced; the prose around it stays.
export function withTable(document: string, results: Results): string {
  const begin = document.indexOf(BEGIN);
  const end = document.indexOf(END);
  if (begin < 0 || end < begin)
    throw new Error(`the document has no '${BEGIN}' ... '${END}' section to put the table in`);
  return document.slice(0, begin) + table(results) + document.slice(end + END.length);
}

export function readResults(file: string): Results {
  return JSON.parse(readFileSync(file, 'utf8')) as Results;
}
