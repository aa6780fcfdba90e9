// SPDX-License-Identifier: Apache-2.0
// What the demo found: the object of --json, and the table for people.
import type { LatencyUs } from '../latency';
import { grouped, short, table } from '../output';
import type { PublisherDone, SubscriberDone } from '../apps/protocol';

export interface DemoResult {
  readonly backend: string;
  readonly seconds: number;
  readonly sent: number;
  readonly received: number;
  readonly lost: number;
  readonly duplicated: number;
  readonly outOfOrder: number;
  readonly msgsPerSecond: number;
  readonly mbPerSecond: number;
  readonly appLatencyUs: LatencyUs;
  readonly engineLatencyUs: LatencyUs;
}

export function resultOf(
  backend: string,
  publisher: PublisherDone,
  subscriber: SubscriberDone,
  engineLatencyUs: LatencyUs,
): DemoResult {
  const seconds = Math.max(subscriber.seconds, 1e-3);
  return {
    backend,
    seconds: Math.round(seconds * 1000) / 1000,
    sent: publisher.sent,
    received: subscriber.received,
    // A message that came with a wrong checksum did not come: it is missing in `received`, and so counted here.
    lost: publisher.sent - subscriber.received,
    duplicated: subscriber.duplicated,
    outOfOrder: subscriber.outOfOrder,
    msgsPerSecond: Math.round(subscriber.received / seconds),
    mbPerSecond: Math.round((subscriber.bytes / seconds / 1e6) * 100) / 100,
    appLatencyUs: subscriber.latencyUs,
    engineLatencyUs,
  };
}

export function isClean(result: DemoResult): boolean {
  return result.lost === 0 && result.duplicated === 0 && result.outOfOrder === 0;
}

export function renderResult(result: DemoResult): string {
  const counts = table(
    ['', 'messages'],
    [
      ['sent', grouped(result.sent).padStart(12)],
      ['received', grouped(result.received).padStart(12)],
      ['lost', grouped(result.lost).padStart(12)],
      ['duplicated', grouped(result.duplicated).padStart(12)],
      ['out of order', grouped(result.outOfOrder).padStart(12)],
      ['messages/s', grouped(result.msgsPerSecond).padStart(12)],
      ['MB/s', short(result.mbPerSecond).padStart(12)],
    ],
  );
  const row = (name: string, us: LatencyUs): string[] => [
    name,
    ...[us.p50, us.p90, us.p99, us.p999, us.max].map((each) => short(each).padStart(9)),
  ];
  const head = ['latency, µs', ...['p50', 'p90', 'p99', 'p99.9', 'max'].map((each) => each.padStart(9))];
  const latencies = table(head, [
    row('app to app', result.appLatencyUs),
    row('engine to engine', result.engineLatencyUs),
  ]);
  return `${counts}\n\n${latencies}`;
}
