// SPDX-License-Identifier: Apache-2.0
// What the backends' part of a run found, and its statistics: no text, no picture (backend_report.ts).
import { median } from './results';

// [per cent, µs]: so many of the round trips took no longer than that. By rising per cent.
export type Curve = [percent: number, us: number][];

// One setting's runs, in the order of their rounds.
export interface Rates {
  // That arrived in the window.
  bytes: number[];
  bytesPerSecond: number[];
  // Of both ends together, for each 10^9 bytes that arrived.
  cpuSecondsPerGigabyte: number[];
  // Per cent of what a floor sent and its receiver did not get: nothing slows a floor's sender down.
  missedPercent: number[];
}

export interface RatePoint {
  variant: string;
  trains: boolean;
  mtu: number;
  messageBytes: number;
  floorBytes: number;
  engine: Rates;
  floor: Rates;
}

export interface RoundTripPoint {
  variant: string;
  mtu: number;
  engine: Curve[];
  floor: Curve[];
}

export interface BackendResults {
  rounds: number;
  rates: RatePoint[];
  roundTrips: RoundTripPoint[];
  // The XDP reflector in the far host's interface, asked by `outrigger ping --xdp`: there is no engine in it.
  reflectors: { name: string; mtu: number; curves: Curve[] }[];
  // What could not be opened, and why.
  missing: { what: string; reason: string }[];
}

export const emptyRates = (): Rates => ({
  bytes: [],
  bytesPerSecond: [],
  cpuSecondsPerGigabyte: [],
  missedPercent: [],
});

// The middle run at each per cent.
export function medianCurve(curves: Curve[]): Curve {
  const [first] = curves;
  if (!first) throw new Error('no curves to take a median of');
  return first.map(([percent], i) => [
    percent,
    median(
      curves.map((curve) => {
        const point = curve[i];
        if (point?.[0] !== percent)
          throw new Error(`curves of different per cents: ${percent} is not in all`);
        return point[1];
      }),
    ),
  ]);
}

export function at(curve: Curve, percent: number): number {
  const found = curve.find((point) => point[0] === percent);
  if (!found) throw new Error(`no ${percent} % in a curve of ${curve.map((point) => point[0]).join(', ')}`);
  return found[1];
}

// Engine / floor, undefined where either was not measured.
export function rateRatio(point: RatePoint): number | undefined {
  if (point.engine.bytesPerSecond.length === 0 || point.floor.bytesPerSecond.length === 0) return undefined;
  return median(point.engine.bytesPerSecond) / median(point.floor.bytesPerSecond);
}

export function p50(curves: Curve[]): number | undefined {
  return curves.length === 0 ? undefined : at(medianCurve(curves), 50);
}

export interface Aim {
  aim: string;
  got: string;
  holds: boolean;
}

// The aims of the two charts; what was not measured is in no aim's favour and is said.
export function aims(results: BackendResults): Aim[] {
  const found: Aim[] = [];
  const full = results.rates.filter(
    (point) => point.mtu === 1500 && point.floorBytes === 1408 && point.messageBytes === 1376,
  );
  const ratios = full.flatMap((point) => {
    const ratio = rateRatio(point);
    return ratio === undefined ? [] : [{ name: point.variant, ratio }];
  });
  if (ratios.length > 0) {
    const short = ratios.filter((one) => one.ratio < 0.7);
    const lowest = ratios.reduce((low, one) => (one.ratio < low.ratio ? one : low));
    found.push({
      aim: 'throughput ≥ 0.7 of the raw floor of each API at 1408-byte datagrams',
      got:
        short.length === 0
          ? `${ratios.length} of ${ratios.length}; the lowest is ${lowest.name} with ${lowest.ratio.toFixed(2)}`
          : `${ratios.length - short.length} of ${ratios.length}; short of it: ${short.map((one) => `${one.name} ${one.ratio.toFixed(2)}`).join(', ')}`,
      holds: short.length === 0,
    });
  }
  const socket = p50(
    results.roundTrips.find((point) => point.variant === 'socket' && point.mtu === 1500)?.engine ?? [],
  );
  for (const mode of ['native', 'generic']) {
    const point = results.roundTrips.find((one) => one.variant === `xdp ${mode}` && one.mtu === 1500);
    const engine = p50(point?.engine ?? []);
    const floor = p50(point?.floor ?? []);
    if (engine === undefined) continue;
    if (floor !== undefined)
      found.push({
        aim: `\`xdp\` (${mode}) RTT p50 ≤ 1.5 × its raw floor`,
        got: `${(engine / floor).toFixed(2)} × (${engine.toFixed(1)} µs, floor ${floor.toFixed(1)} µs)`,
        holds: engine / floor <= 1.5,
      });
    if (socket !== undefined)
      found.push({
        aim: `\`xdp\` (${mode}) RTT p50 ≤ 0.5 × \`socket\``,
        got: `${(engine / socket).toFixed(2)} × (\`socket\` ${socket.toFixed(1)} µs${floor === undefined ? '' : `; the floor of xdp alone is ${(floor / socket).toFixed(2)} ×`})`,
        holds: engine / socket <= 0.5,
      });
  }
  return found;
}
