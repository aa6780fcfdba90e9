// SPDX-License-Identifier: Apache-2.0
// `stat`, `errors` and `loss`: a driver as its directory shows it, read without being its client. No sidecar is needed.
import { backendOf } from '../driver/backend';
import type { CounterSnapshot, DriverInfo, NativeTools } from '../native/types';
import { kExit } from './exit';
import { onInterrupt } from './interrupt';
import { grouped, json, short, table, time, type Cell, type Out } from './output';
import { progressOf, streamTable, type StreamRow } from './stream_table';

export interface DirectoryOptions {
  readonly dir: string;
  readonly json?: boolean;
}

export interface StatOptions extends DirectoryOptions {
  /** Milliseconds. */
  readonly interval: number;
  readonly count?: number;
  readonly all?: boolean;
}

/** Counters of Outrigger's and Aeron's own whose value is a quantity of the driver as a whole. */
const kSystemTypes = new Set([0, 40_000]);

interface Sample {
  readonly atMs: number;
  readonly driver: DriverInfo;
  readonly counters: readonly CounterSnapshot[];
  readonly streams: readonly StreamRow[];
}

function sample(tools: NativeTools, directory: string): Sample {
  const driver = tools.readDriver(directory);
  const counters = tools.readCounters(directory);
  return { atMs: performance.now(), driver, counters, streams: streamTable(counters) };
}

/** Change a second of a value between two samples; undefined without an earlier one, or when the driver is another one by now. */
function rates(before: Sample | undefined, now: Sample): (id: string) => number | undefined {
  if (before?.driver.startMs !== now.driver.startMs || before.driver.pid !== now.driver.pid) {
    return () => undefined;
  }
  const seconds = (now.atMs - before.atMs) / 1000;
  const values = new Map<string, bigint>();
  for (const counter of before.counters) {
    values.set(`counter ${counter.id} ${counter.registrationId}`, counter.value);
  }
  for (const row of before.streams) {
    values.set(`stream ${row.streamId} ${row.sessionId}`, progressOf(row));
  }
  const current = new Map<string, bigint>();
  for (const counter of now.counters) {
    current.set(`counter ${counter.id} ${counter.registrationId}`, counter.value);
  }
  for (const row of now.streams) {
    current.set(`stream ${row.streamId} ${row.sessionId}`, progressOf(row));
  }
  return (id) => {
    const earlier = values.get(id);
    const later = current.get(id);
    return earlier === undefined || later === undefined ? undefined : Number(later - earlier) / seconds;
  };
}

function cell(value: bigint | undefined): Cell {
  return value === undefined ? '-' : grouped(value);
}

function frameOf(now: Sample, before: Sample | undefined, options: StatOptions): string {
  const rate = rates(before, now);
  const { driver } = now;
  const backend = backendOf(now.counters).name;
  const head =
    `driver ${driver.pid} in ${options.dir}${backend === '' ? '' : `, backend ${backend}`}, ` +
    `up ${Math.round((Date.now() - driver.startMs) / 1000)} s, heartbeat ${driver.heartbeatAgeMs} ms ago`;
  const streams = now.streams.map((row): Cell[] => [
    row.streamId,
    row.sessionId,
    row.channel,
    cell(row.published),
    cell(row.sent),
    cell(row.limit),
    cell(row.received),
    cell(row.ahead),
    cell(row.consumed),
    row.subscribers,
    short((rate(`stream ${row.streamId} ${row.sessionId}`) ?? 0) / 1e6),
  ]);
  const system = now.counters
    .filter((each) => options.all === true || (kSystemTypes.has(each.typeId) && each.value !== 0n))
    .map((each): Cell[] => {
      const perSecond = rate(`counter ${each.id} ${each.registrationId}`);
      return [
        each.id,
        each.typeId,
        grouped(each.value).padStart(18),
        (perSecond === undefined ? '' : short(perSecond)).padStart(12),
        each.label,
      ];
    });
  const streamHead = [
    'STREAM',
    'SESSION',
    'CHANNEL',
    'PUBLISHED',
    'SENT',
    'LIMIT',
    'RECEIVED',
    'AHEAD',
    'CONSUMED',
    'SUBS',
    'MB/S',
  ];
  return [
    head,
    '',
    streams.length === 0 ? 'no streams' : table(streamHead, streams),
    '',
    system.length === 0
      ? 'no counter above 0'
      : table(['ID', 'TYPE', 'VALUE', 'PER SECOND', 'COUNTER'], system),
  ].join('\n');
}

function statJson(now: Sample, before: Sample | undefined, options: StatOptions): string {
  const rate = rates(before, now);
  return json({
    directory: options.dir,
    backend: backendOf(now.counters).name,
    driver: now.driver,
    streams: now.streams.map((row) => ({
      ...row,
      bytesPerSecond: rate(`stream ${row.streamId} ${row.sessionId}`) ?? null,
    })),
    counters: now.counters.map((counter) => ({
      id: counter.id,
      typeId: counter.typeId,
      label: counter.label,
      value: counter.value,
      registrationId: counter.registrationId,
      ownerId: counter.ownerId,
      perSecond: rate(`counter ${counter.id} ${counter.registrationId}`) ?? null,
    })),
  });
}

/** Shows counters and streams; again and again on a terminal, until Ctrl-C. */
export async function stat(options: StatOptions, tools: NativeTools, out: Out): Promise<number> {
  const interrupt = onInterrupt();
  const count = options.count ?? (out.isTty && options.json !== true ? Infinity : 1);
  let before: Sample | undefined;
  try {
    for (let i = 0; i < count && !interrupt.signal.aborted; i++) {
      if (i > 0) {
        await Promise.race([interrupt.came, new Promise((resolve) => setTimeout(resolve, options.interval))]);
        if (interrupt.name !== undefined) {
          break;
        }
      }
      const now = sample(tools, options.dir);
      if (options.json === true) {
        out.line(statJson(now, before, options));
      } else {
        out.frame(frameOf(now, before, options));
      }
      before = now;
    }
    return kExit.ok;
  } finally {
    interrupt.stop();
  }
}

export function errors(options: DirectoryOptions, tools: NativeTools, out: Out): number {
  tools.readDriver(options.dir); // says so when no driver ever ran there
  const found = tools.readErrors(options.dir);
  if (options.json === true) {
    out.line(json({ directory: options.dir, errors: found }));
  } else if (found.length === 0) {
    out.line('no errors');
  } else {
    found.forEach((each) =>
      out.line(
        `${grouped(each.count)} times, first ${time(each.firstMs)}, last ${time(each.lastMs)}\n  ${each.text.trim().replace(/\n/g, '\n  ')}`,
      ),
    );
  }
  return kExit.ok;
}

export function loss(options: DirectoryOptions, tools: NativeTools, out: Out): number {
  tools.readDriver(options.dir);
  const found = tools.readLosses(options.dir);
  if (options.json === true) {
    out.line(json({ directory: options.dir, losses: found }));
  } else if (found.length === 0) {
    out.line('no loss');
  } else {
    out.line(
      table(
        ['GAPS', 'BYTES', 'FIRST', 'LAST', 'STREAM', 'SESSION', 'SOURCE', 'CHANNEL'],
        found.map((each) => [
          each.observations,
          each.bytesLost,
          time(each.firstMs),
          time(each.lastMs),
          each.streamId,
          each.sessionId,
          each.source,
          each.channel,
        ]),
      ),
    );
  }
  return kExit.ok;
}
