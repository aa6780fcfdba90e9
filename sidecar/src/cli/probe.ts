// SPDX-License-Identifier: Apache-2.0
// `ping` and `reflect`: round trips to an XDP reflector. The work is done by outrigger-probe; here its answers become readable.
import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import { Child } from './child';
import { CliError, kExit, unavailable, usage } from './exit';
import { nativeProgram } from './installation';
import { onInterrupt } from './interrupt';
import { grouped, short, table, type Out } from './output';

export const kReflectorPort = 40_399;

export interface PingOptions {
  readonly xdp?: boolean;
  readonly port: number;
  readonly count: number;
  /** Milliseconds. */
  readonly interval: number;
  readonly size: number;
  readonly timeout: number;
  readonly via: 'socket' | 'xdp';
  readonly mode: string;
  readonly wait: 'spin' | 'sleep';
  readonly json?: boolean;
}

export interface ReflectOptions {
  readonly interface?: string;
  readonly port: number;
  readonly mode: string;
  readonly json?: boolean;
}

/** What outrigger-probe prints about a ping. */
export interface PingResult {
  readonly target: string;
  readonly interface: string;
  readonly via: string;
  readonly size: number;
  readonly intervalUs: number;
  readonly sent: number;
  readonly received: number;
  readonly lost: number;
  readonly refused: number;
  readonly duplicates: number;
  readonly rttUs: Readonly<Record<'min' | 'p50' | 'p90' | 'p99' | 'p999' | 'max', number>>;
  readonly notes: readonly string[];
  readonly interrupted: boolean;
}

const kKnownStatus = new Set<number>([kExit.usage, kExit.unavailable]);

async function addressOf(host: string): Promise<string> {
  if (isIP(host.replace(/%.*$/, '')) !== 0) {
    return host;
  }
  try {
    return (await lookup(host)).address;
  } catch (error) {
    throw unavailable(`the name '${host}' has no address: ${(error as Error).message}`);
  }
}

function render(result: PingResult): string {
  const { rttUs } = result;
  const cells = [rttUs.min, rttUs.p50, rttUs.p90, rttUs.p99, rttUs.p999, rttUs.max].map((each) =>
    short(each).padStart(9),
  );
  const loss = [
    `${grouped(result.received)} of ${grouped(result.sent)} answered`,
    ...(result.lost > 0 ? [`${grouped(result.lost)} lost`] : []),
    ...(result.refused > 0 ? [`${grouped(result.refused)} not sent for lack of room`] : []),
    ...(result.duplicates > 0 ? [`${grouped(result.duplicates)} doubled`] : []),
  ].join(', ');
  return [
    `XDP reflector at ${result.target} from ${result.interface} by ${result.via}: ${result.size} bytes every ${result.intervalUs} µs, open loop`,
    ...result.notes.map((note) => `(${note})`),
    loss,
    '',
    table(
      ['min µs', 'p50', 'p90', 'p99', 'p99.9', 'max'].map((each) => each.padStart(9)),
      [cells],
    ),
  ].join('\n');
}

/** Ends the child when the command is interrupted; resolves with its status. */
async function runToEnd(child: Child): Promise<number> {
  const interrupt = onInterrupt();
  let end: Promise<void> | undefined;
  void interrupt.came.then(() => {
    end = child.stop();
  });
  const status = await child.exited;
  await end;
  interrupt.stop();
  if (typeof status === 'number' && (status === kExit.ok || status === kExit.failed)) {
    return status;
  }
  if (typeof status === 'number' && kKnownStatus.has(status)) {
    throw new CliError(status, child.lines.at(-1) ?? '');
  }
  throw new CliError(kExit.internal, `outrigger-probe ended with ${status}`);
}

export async function ping(host: string, options: PingOptions, out: Out): Promise<number> {
  if (options.via === 'socket' && options.mode !== 'auto') {
    throw usage('--mode goes with --via xdp; a socket has none');
  }
  let result: PingResult | undefined;
  const child = new Child({
    name: 'probe',
    command: nativeProgram('outrigger-probe'),
    args: [
      ...[
        'ping',
        '--host',
        await addressOf(host),
        '--port',
        `${options.port}`,
        '--count',
        `${options.count}`,
      ],
      ...['--interval-us', `${Math.round(options.interval * 1000)}`, '--size', `${options.size}`],
      ...['--timeout-ms', `${Math.round(options.timeout)}`, '--via', options.via, '--mode', options.mode],
      ...['--wait', options.wait],
    ],
    onLine: (line) => {
      if (line.startsWith('{')) {
        result = JSON.parse(line) as PingResult;
        out.line(options.json === true ? line : render(result));
      }
    },
  });
  const status = await runToEnd(child);
  return result?.interrupted === true ? kExit.interrupted : status;
}

/** What outrigger-probe prints while it reflects. */
interface ReflectEvent {
  readonly event: 'reflecting' | 'ended';
  readonly interface?: string;
  readonly port?: number;
  readonly mode?: string;
  readonly note?: string;
  readonly reason?: string;
  readonly reflected?: number;
}

function describe(event: ReflectEvent): string {
  if (event.event === 'ended') {
    return `${grouped(event.reflected ?? 0)} probes reflected${event.reason === undefined ? '' : `; ${event.reason}`}`;
  }
  const why = event.reason === undefined ? '' : `\n(not natively: ${event.reason})`;
  const note = event.note === undefined ? '' : `\n(${event.note})`;
  return `reflecting on ${event.interface ?? ''}, UDP port ${event.port ?? 0}, ${event.mode ?? ''}; Ctrl-C ends it${why}${note}`;
}

export async function reflect(options: ReflectOptions, out: Out): Promise<number> {
  const child = new Child({
    name: 'probe',
    command: nativeProgram('outrigger-probe'),
    args: [
      'reflect',
      ...(options.interface === undefined ? [] : ['--interface', options.interface]),
      ...['--port', `${options.port}`, '--mode', options.mode],
    ],
    onLine: (line) => {
      if (line.startsWith('{')) {
        out.line(options.json === true ? line : describe(JSON.parse(line) as ReflectEvent));
      }
    },
  });
  return runToEnd(child);
}
