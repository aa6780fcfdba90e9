// SPDX-License-Identifier: Apache-2.0
// The backends' part as people read it: two charts, tables, and what they say.
import {
  type BackendResults,
  type RatePoint,
  type RoundTripPoint,
  aims,
  at,
  medianCurve,
  p50,
  rateRatio,
} from './backend_results';
import { type Panel, type Series, logarithmic, logarithmicTicks, svg } from './chart';
import { median } from './results';

export const LATENCY_CHART = 'benchmarks-latency.svg';
export const THROUGHPUT_CHART = 'benchmarks-throughput.svg';

const BEGIN = '<!-- backends: written by make bench -->';
const END = '<!-- end of backends -->';

const gigabits = (bytesPerSecond: number): number => (bytesPerSecond * 8) / 1e9;
const mtusOf = (points: { mtu: number }[]): number[] =>
  [...new Set(points.map((point) => point.mtu))].sort((a, b) => a - b);

// Percentiles as far from one another as their rarity: 90 and 99 like 99 and 99.9.
const rarity = (percent: number): number => -Math.log10(1 - Math.min(percent, 99.99) / 100);

export function latencyChart(results: BackendResults): string {
  const curves = results.roundTrips.flatMap((point) => [...point.engine, ...point.floor]);
  const values = [...curves, ...results.reflectors.flatMap((one) => one.curves)].flatMap((curve) =>
    curve.filter(([percent]) => percent >= 10 && percent < 100).map(([, us]) => us),
  );
  if (values.length === 0) throw new Error('no round trips to draw');
  const ticks = logarithmicTicks(Math.min(...values), Math.max(...values));
  const low = ticks[0] as number;
  const high = ticks.at(-1) as number;
  const line = (name: string, dashed: boolean, all: RoundTripPoint['engine']): Series[] =>
    all.length === 0
      ? []
      : [
          {
            name,
            dashed,
            points: medianCurve(all)
              .filter(([percent]) => percent >= 10 && percent < 100)
              .map(([percent, us]) => [percent, us]),
          },
        ];
  const panels: Panel[] = mtusOf(results.roundTrips).map((mtu) => ({
    title: `MTU ${mtu}`,
    x: {
      title: 'per cent of round trips',
      scale: (percent) => (rarity(percent) - rarity(10)) / (rarity(99.99) - rarity(10)),
      ticks: [10, 50, 90, 99, 99.9, 99.99].map((value) => ({ value, label: String(value) })),
    },
    y: {
      title: 'no longer than, µs',
      scale: logarithmic(low, high === low ? low * 2 : high),
      ticks: ticks.map((value) => ({ value, label: String(value) })),
    },
    series: [
      ...results.roundTrips
        .filter((point) => point.mtu === mtu)
        .flatMap((point) => [
          ...line(point.variant, false, point.engine),
          ...line(point.variant, true, point.floor),
        ]),
      ...results.reflectors
        .filter((one) => one.mtu === mtu)
        .flatMap((one) => line(one.name, true, one.curves)),
    ],
  }));
  return svg({
    title: 'Round trips over veth, engine to engine',
    subtitle:
      'solid: engine, driver and client on one thread a side; dashed: the raw floor of the same API, and XDP reflectors',
    columns: 2,
    panels,
  });
}

export function throughputChart(results: BackendResults): string {
  const panels: Panel[] = [];
  for (const trains of [false, true]) {
    for (const mtu of mtusOf(results.rates)) {
      const points = results.rates.filter((point) => point.mtu === mtu && point.trains === trains);
      const values = points.flatMap((point) =>
        [point.engine, point.floor].flatMap((side) =>
          side.bytesPerSecond.length === 0 ? [] : [gigabits(median(side.bytesPerSecond))],
        ),
      );
      if (values.length === 0) continue;
      const sizes = [...new Set(points.map((point) => point.messageBytes))].sort((a, b) => a - b);
      const ticks = logarithmicTicks(Math.min(...values), Math.max(...values));
      const low = ticks[0] as number;
      const high = ticks.at(-1) as number;
      const line = (name: string, dashed: boolean, side: 'engine' | 'floor'): Series => ({
        name,
        dashed,
        points: points
          .filter((point) => point.variant === name && point[side].bytesPerSecond.length > 0)
          .sort((a, b) => a.messageBytes - b.messageBytes)
          .map((point) => [point.messageBytes, gigabits(median(point[side].bytesPerSecond))]),
      });
      const smallest = sizes[0] as number;
      const largest = sizes.at(-1) as number;
      panels.push({
        title: `MTU ${mtu}, ${trains ? 'trains (segmentation offload)' : 'single datagrams'}`,
        x: {
          title: 'message, bytes',
          scale: smallest === largest ? () => 0.5 : logarithmic(smallest, largest),
          ticks: sizes.map((value) => ({ value, label: String(value) })),
        },
        y: {
          title: 'Gbit/s of messages',
          scale: logarithmic(low, high === low ? low * 2 : high),
          ticks: ticks.map((value) => ({ value, label: String(value) })),
        },
        series: [...new Set(points.map((point) => point.variant))].flatMap((name) => [
          line(name, false, 'engine'),
          line(name, true, 'floor'),
        ]),
      });
    }
  }
  if (panels.length === 0) throw new Error('no rates to draw');
  return svg({
    title: 'Throughput over veth, engine to engine',
    subtitle:
      'solid: engine, driver and client on one thread a side; dashed: the raw floor of the same API, which repairs nothing',
    columns: 2,
    panels,
  });
}

const shownRatio = (ratio: number | undefined): string =>
  ratio === undefined ? '–' : `**${ratio.toFixed(2)}**`;
const shownMedian = (values: number[], digits: number): string =>
  values.length === 0 ? '–' : median(values).toFixed(digits);

function rateRow(point: RatePoint): string {
  const rate = (side: RatePoint['engine']): string => shownMedian(side.bytesPerSecond.map(gigabits), 2);
  return (
    `| ${shownRatio(rateRatio(point))} | ${point.variant} | ${point.mtu} | ${point.messageBytes} | ${rate(point.engine)} | ` +
    `${shownMedian(point.engine.cpuSecondsPerGigabyte, 2)} | ${point.floorBytes} | ${rate(point.floor)} | ` +
    `${shownMedian(point.floor.cpuSecondsPerGigabyte, 2)} | ${shownMedian(point.floor.missedPercent, 0)} |`
  );
}

function roundTripRow(point: RoundTripPoint): string {
  const engine = p50(point.engine);
  const floor = p50(point.floor);
  const ratio = engine === undefined || floor === undefined ? undefined : engine / floor;
  const percents = (curves: RoundTripPoint['engine']): string =>
    curves.length === 0
      ? '– | – | –'
      : [50, 99, 99.9].map((percent) => at(medianCurve(curves), percent).toFixed(1)).join(' | ');
  return `| ${shownRatio(ratio)} | ${point.variant} | ${point.mtu} | ${percents(point.engine)} | ${percents(point.floor)} |`;
}

// What these numbers say of veth, in figures of this run.
export function verdicts(results: BackendResults): string[] {
  const lines: string[] = [];
  const rateOf = (variant: string): number | undefined => {
    const point = results.rates.find(
      (one) => one.variant === variant && one.mtu === 1500 && one.messageBytes === 1376,
    );
    return point && point.engine.bytesPerSecond.length > 0 ? median(point.engine.bytesPerSecond) : undefined;
  };
  const best = rateOf('mmsg, trains');
  const plain = rateOf('mmsg');
  if (best !== undefined) {
    const slower = ['xdp native', 'xdp generic', 'dpdk net_af_packet'].flatMap((name) => {
      const rate = rateOf(name);
      return rate === undefined || rate >= best ? [] : [`\`${name}\` ${(rate / best).toFixed(2)} ×`];
    });
    if (slower.length > 0)
      lines.push(
        `For throughput over veth nothing that moves frame by frame comes near trains: against \`mmsg\` with segmentation offload ${slower.join(', ')} of its rate.`,
      );
  }
  if (plain !== undefined) {
    const faster = results.rates
      .filter((point) => !point.trains && point.mtu === 1500 && point.messageBytes === 1376)
      .flatMap((point) => {
        const rate = rateOf(point.variant);
        return rate === undefined || point.variant === 'mmsg'
          ? []
          : [`\`${point.variant}\` ${(rate / plain).toFixed(2)} ×`];
      });
    if (faster.length > 0)
      lines.push(`Datagram by datagram, against \`mmsg\` without offload: ${faster.join(', ')}.`);
  }
  const tripOf = (variant: string): number | undefined =>
    p50(results.roundTrips.find((point) => point.variant === variant && point.mtu === 1500)?.engine ?? []);
  const socket = tripOf('socket');
  if (socket !== undefined) {
    const others = results.roundTrips
      .filter((point) => point.mtu === 1500 && point.variant !== 'socket')
      .flatMap((point) => {
        const trip = tripOf(point.variant);
        return trip === undefined ? [] : [`\`${point.variant}\` ${(trip / socket).toFixed(2)} ×`];
      });
    if (others.length > 0) lines.push(`Round trips (p50) against \`socket\`: ${others.join(', ')}.`);
  }
  return lines;
}

export function report(results: BackendResults, about: string): string {
  const lines = [
    BEGIN,
    '',
    `${about} Medians of ${results.rounds} rounds.`,
    '',
    `![round-trip times as percentile curves](${LATENCY_CHART})`,
    '',
    `![throughput against message size](${THROUGHPUT_CHART})`,
    '',
  ];
  const aimed = aims(results);
  if (aimed.length > 0) {
    lines.push('| aim | got | holds |', '|---|---|---|');
    for (const one of aimed) lines.push(`| ${one.aim} | ${one.got} | ${one.holds ? 'yes' : '**no**'} |`);
    lines.push('');
  }
  for (const verdict of verdicts(results)) lines.push(`- ${verdict}`);
  lines.push(
    '',
    '### Throughput against the raw floor',
    '',
    '| engine / floor | backend | MTU | message B | Gbit/s | CPU s/GB | floor datagram B | floor Gbit/s | floor CPU s/GB | floor lost % |',
    '|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|',
    ...results.rates.map(rateRow),
    '',
    '### Round trips against the raw floor',
    '',
    '| engine / floor, p50 | backend | MTU | p50 µs | p99 | p99.9 | floor p50 µs | p99 | p99.9 |',
    '|--:|---|--:|--:|--:|--:|--:|--:|--:|',
    ...results.roundTrips.map(roundTripRow),
    ...results.reflectors
      .filter((one) => one.curves.length > 0)
      .map((one) => roundTripRow({ variant: one.name, mtu: one.mtu, engine: [], floor: one.curves })),
    '',
  );
  if (results.missing.length > 0)
    lines.push('Not measured:', '', ...results.missing.map((one) => `- ${one.what}: ${one.reason}`), '');
  lines.push(END);
  return lines.join('\n').replaceAll(/\n{3,}/g, '\n\n');
}

// The document with its backends' part replaced; the prose around it stays.
export function withReport(document: string, text: string): string {
  const begin = document.indexOf(BEGIN);
  const end = document.indexOf(END);
  if (begin < 0 || end < begin)
    throw new Error(`the document has no '${BEGIN}' ... '${END}' section to put the report in`);
  return document.slice(0, begin) + text + document.slice(end + END.length);
}
