// SPDX-License-Identifier: Apache-2.0
// Every backend against the raw floor of its API: the engine, with driver and client on one thread a side, and a program of that API alone take turns, round
// after round. Host a's thread has the first core to itself, host b's the second.
import { join } from 'node:path';
import { type BackendResults, type Curve, type Rates, emptyRates } from './backend_results';
import { type Ends, VARIANTS, type Variant, datagramBytes, floorBytes } from './backend_variants';
import type { Window } from './engine';
import type { Host, Hosts } from './hosts';
import type { BackendsPlan } from './plan';
import { type JsonLine, type Measured, run, start, tryRun } from './shell';

const FIRST_PORT = 24_000;
// io_uring lets go of a socket some time after its process is gone: every run has ports of its own.
const PORTS = 4_000;
const PATIENCE_MS = 30_000;
const REFLECTORS = [
  { name: 'XDP reflector, by xdp', via: ['--via', 'xdp', '--mode', 'native'] },
  { name: 'XDP reflector, by socket', via: ['--via', 'socket'] },
];

type Side = 'a' | 'b';
type Arguments = Record<string, string | number>;

const CORES: Record<Side, string> = { a: '0', b: '1' };

function numberOf(line: JsonLine, key: string): number {
  const value = line[key];
  if (typeof value !== 'number') throw new Error(`no number '${key}' in ${JSON.stringify(line)}`);
  return value;
}

function requireIntact(line: JsonLine): void {
  for (const key of ['corrupt', 'outOfOrder'])
    if (line[key] !== 0) throw new Error(`payload check failed: ${key}=${String(line[key])}`);
}

// A program that ended before it was ready: what it asked for can't be had here.
class Unavailable extends Error {}

export class BackendRuns {
  private readonly macs: Record<Side, string>;
  private started = 0;

  constructor(
    private readonly hosts: Hosts,
    // Folder of the benchmark programs, and the tag in the names of what a run leaves in /dev/shm.
    private readonly programs: string,
    private readonly tag: string,
  ) {
    const macOf = (host: Host): string => {
      const [link] = JSON.parse(
        run('ip', '-n', host.namespace, '-j', 'link', 'show', 'dev', host.interface),
      ) as { address: string }[];
      if (!link) throw new Error(`no interface ${host.interface}`);
      return link.address;
    };
    this.macs = { a: macOf(hosts.a), b: macOf(hosts.b) };
    // A floor that takes every frame answers no ARP.
    for (const [from, to] of [
      ['a', 'b'],
      ['b', 'a'],
    ] as const)
      run(
        ...(['ip', '-n', hosts[from].namespace, 'neigh', 'replace', hosts[to].address] as const),
        ...['lladdr', this.macs[to], 'dev', hosts[from].interface, 'nud', 'permanent'],
      );
  }

  async floorRate(variant: Variant, mtu: number, bytes: number, window: Window): Promise<Rates> {
    const args = { size: bytes, 'warmup-ms': window.warmupMs, 'measure-ms': window.measureMs };
    const port = this.nextPort();
    return this.rate(
      () => this.floor(variant, 'a', 'throughput', mtu, { role: 'send', port, size: bytes }),
      (cpu) => this.floor(variant, 'b', 'throughput', mtu, { role: 'receive', port, ...args, cpu }),
      window,
      ['corrupt', 'outOfOrder'],
    );
  }

  async engineRate(variant: Variant, mtu: number, bytes: number, window: Window): Promise<Rates> {
    const args = { size: bytes, 'warmup-ms': window.warmupMs, 'measure-ms': window.measureMs };
    const channel = `aeron:udp?endpoint=${this.hosts.b.address}:${this.nextPort()}`;
    return this.rate(
      () => this.engine(variant, 'a', 'throughput', mtu, { role: 'send', channel, size: bytes }),
      (cpu) => this.engine(variant, 'b', 'throughput', mtu, { role: 'receive', channel, ...args, cpu }),
      window,
      ['corrupt', 'outOfOrder', 'lost'],
    );
  }

  async floorTrips(variant: Variant, mtu: number, plan: BackendsPlan['latency']): Promise<Curve> {
    const port = this.nextPort();
    return this.trips(
      () => this.floor(variant, 'b', 'latency', mtu, { role: 'pong', port, size: plan.bytes }),
      () => this.floor(variant, 'a', 'latency', mtu, { role: 'ping', port, ...this.pace(plan) }),
      plan.window,
    );
  }

  async engineTrips(variant: Variant, mtu: number, plan: BackendsPlan['latency']): Promise<Curve> {
    const port = this.nextPort();
    const channels = {
      channel: `aeron:udp?endpoint=${this.hosts.b.address}:${port}`,
      back: `aeron:udp?endpoint=${this.hosts.a.address}:${port + 1}`,
    };
    return this.trips(
      () => this.engine(variant, 'b', 'latency', mtu, { role: 'pong', ...channels }),
      () => this.engine(variant, 'a', 'latency', mtu, { role: 'ping', ...channels, ...this.pace(plan) }),
      plan.window,
    );
  }

  // No process at the far end but the one that holds the program there.
  async reflectorTrips(via: string[], plan: BackendsPlan['latency']): Promise<Curve> {
    const probe = join(this.programs, 'outrigger-probe');
    const { a, b } = this.hosts;
    const reflector = start(
      { name: 'reflector', namespace: b.namespace },
      probe,
      'reflect',
      '--interface',
      b.interface,
      '--mode',
      'native',
    );
    try {
      await this.ready(reflector);
      const count = Math.round((plan.rate * (plan.window.warmupMs + plan.window.measureMs)) / 1000);
      const pinger = start(
        { name: 'ping', namespace: a.namespace, cores: CORES.a },
        ...([probe, 'ping', '--host', b.address, '--wait', 'spin', ...via] as [string, ...string[]]),
        ...[
          '--count',
          String(count),
          '--interval-us',
          String(Math.round(1e6 / plan.rate)),
          '--size',
          String(Math.max(plan.bytes, 32)),
        ],
      );
      try {
        const line = await this.ready(pinger, (count / plan.rate) * 1000 + PATIENCE_MS);
        const us = line['rttUs'] as Record<string, number>;
        if (numberOf(line, 'received') === 0) throw new Error('the reflector answered nothing');
        return (
          [
            [0, 'min'],
            [50, 'p50'],
            [90, 'p90'],
            [99, 'p99'],
            [99.9, 'p999'],
            [100, 'max'],
          ] as const
        ).map(([percent, key]) => [percent, us[key] ?? NaN]);
      } finally {
        await pinger.stop();
      }
    } finally {
      await reflector.stop();
    }
  }

  private nextPort(): number {
    return FIRST_PORT + 2 * (this.started++ % PORTS);
  }

  private pace(plan: BackendsPlan['latency']): Arguments {
    return {
      size: plan.bytes,
      rate: plan.rate,
      'warmup-ms': plan.window.warmupMs,
      'measure-ms': plan.window.measureMs,
    };
  }

  private async rate(
    sender: () => Measured,
    receiver: (cpu: string) => Measured,
    window: Window,
    mustBeZero: string[],
  ): Promise<Rates> {
    const from = sender();
    let to: Measured | undefined;
    try {
      await this.ready(from);
      to = receiver(`sender=${from.pid},receiver=self`);
      await this.ready(to);
      const line = await to.next(window.warmupMs + window.measureMs + PATIENCE_MS);
      requireIntact(line);
      const bad = mustBeZero.filter((key) => line[key] !== 0);
      if (bad.length > 0)
        throw new Error(`payload check failed: ${bad.map((key) => `${key}=${String(line[key])}`).join(' ')}`);
      const [messages, bytes, missed] = [
        numberOf(line, 'messages'),
        numberOf(line, 'bytes'),
        numberOf(line, 'missed'),
      ];
      if (messages === 0) throw new Error('no message in the window');
      const cpu = Object.values(line['cpuSeconds'] as Record<string, number>).reduce(
        (sum, value) => sum + value,
        0,
      );
      return {
        bytes: [bytes],
        bytesPerSecond: [bytes / numberOf(line, 'seconds')],
        cpuSecondsPerGigabyte: [cpu / (bytes / 1e9)],
        missedPercent: [(missed / (messages + missed)) * 100],
      };
    } finally {
      await from.stop();
      await to?.stop();
    }
  }

  private async trips(reflector: () => Measured, pinger: () => Measured, window: Window): Promise<Curve> {
    const far = reflector();
    let near: Measured | undefined;
    try {
      await this.ready(far);
      near = pinger();
      await this.ready(near);
      const line = await near.next(window.warmupMs + window.measureMs + PATIENCE_MS);
      requireIntact(line);
      if (numberOf(line, 'measured') === 0) throw new Error('no message came back');
      return line['curve'] as Curve;
    } finally {
      await far.stop();
      await near?.stop();
    }
  }

  private async ready(process: Measured, timeoutMs = PATIENCE_MS): Promise<JsonLine> {
    try {
      return await process.next(timeoutMs);
    } catch (error) {
      if (!process.isOver) throw error;
      // Libraries talk too: the program's own sentence is its last.
      throw new Unavailable(process.errors.split('\n').at(-1) ?? process.name);
    }
  }

  private floor(
    variant: Variant,
    side: Side,
    purpose: Ends['purpose'],
    mtu: number,
    args: Arguments,
  ): Measured {
    const host = this.hosts[side];
    const far = side === 'a' ? 'b' : 'a';
    return this.start(`floor of ${variant.name}`, side, join(this.programs, variant.floor.program), {
      ...variant.floor.args({ interface: host.interface, mtu, purpose }),
      ...args,
      local: host.address,
      peer: this.hosts[far].address,
      interface: host.interface,
      'peer-mac': this.macs[far],
    });
  }

  private engine(
    variant: Variant,
    side: Side,
    purpose: Ends['purpose'],
    mtu: number,
    args: Arguments,
  ): Measured {
    const host = this.hosts[side];
    return this.start(
      `engine over ${variant.name}`,
      side,
      join(this.programs, 'bench_engine'),
      { ...args, dir: `/dev/shm/outrigger-bench-${this.tag}-engine-${side}` },
      {
        AERON_MTU_LENGTH: String(datagramBytes(mtu)),
        AERON_SOCKET_SO_SNDBUF: '2m',
        AERON_SOCKET_SO_RCVBUF: '2m',
        AERON_RCV_INITIAL_WINDOW_LENGTH: '2m',
        AERON_TERM_BUFFER_LENGTH: '512k', // the longest message is an eighth of it, 64 KiB; a core's cache holds most of three
        ...variant.engine({ interface: host.interface, mtu, purpose }),
      },
    );
  }

  private start(
    name: string,
    side: Side,
    program: string,
    args: Arguments,
    env: Record<string, string> = {},
  ): Measured {
    const line = Object.entries(args).flatMap(([key, value]) => [`--${key}`, String(value)]);
    return start(
      { name: `${name}, host ${side}`, namespace: this.hosts[side].namespace, cores: CORES[side], env },
      program,
      ...line,
    );
  }
}

// Adds what one run found to what earlier ones did.
function add(to: Rates, found: Rates): void {
  to.bytes.push(...found.bytes);
  to.bytesPerSecond.push(...found.bytesPerSecond);
  to.cpuSecondsPerGigabyte.push(...found.cpuSecondsPerGigabyte);
  to.missedPercent.push(...found.missedPercent);
}

export async function backendsSuite(
  hosts: Hosts,
  programs: string,
  plan: BackendsPlan,
  tag: string,
  caller: { log: (text: string) => void; isInterrupted: () => boolean },
): Promise<{ results: BackendResults; failures: string[] }> {
  const { log, isInterrupted } = caller;
  const runs = new BackendRuns(hosts, programs, tag);
  const results: BackendResults = {
    rounds: plan.rounds,
    rates: [],
    roundTrips: [],
    reflectors: [],
    missing: [],
  };
  const failures: string[] = [];
  // What can't be opened is not tried again: by side and variant.
  const given = new Set<string>();
  const variants = VARIANTS.filter(
    (variant) => plan.variants === undefined || plan.variants.includes(variant.name),
  );

  const attempt = async <T>(
    what: string,
    about: string,
    action: () => Promise<T>,
    keep: (found: T) => string,
  ): Promise<void> => {
    if (given.has(what) || isInterrupted()) return;
    try {
      log(`${what}, ${about}: ${keep(await action())}`);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      log(`${what}, ${about}: NOT MEASURED: ${reason}`);
      if (error instanceof Unavailable) {
        given.add(what);
        results.missing.push({ what, reason });
      } else {
        failures.push(`${what}, ${about}: ${reason}`);
      }
    }
  };
  const rateText = (found: Rates): string =>
    `${(((found.bytesPerSecond[0] ?? 0) * 8) / 1e9).toFixed(2)} Gbit/s, ${(found.cpuSecondsPerGigabyte[0] ?? 0).toFixed(2)} CPU s/GB, ${(found.missedPercent[0] ?? 0).toFixed(0)} % lost`;
  const curveText = (curve: Curve): string =>
    curve.map(([percent, us]) => `${percent} % ${us.toFixed(1)}`).join(', ');
  const keepRates = (to: Rates) => (found: Rates) => {
    add(to, found);
    return rateText(found);
  };
  const keepCurve = (to: Curve[]) => (found: Curve) => {
    to.push(found);
    return `µs ${curveText(found)}`;
  };

  for (const { mtu, messages } of plan.throughput)
    for (const variant of variants)
      for (const messageBytes of messages)
        results.rates.push({
          ...{
            variant: variant.name,
            trains: variant.trains,
            mtu,
            messageBytes,
            floorBytes: floorBytes(messageBytes, mtu),
          },
          ...{ engine: emptyRates(), floor: emptyRates() },
        });
  for (const mtu of plan.latency.mtus) {
    for (const variant of variants.filter((one) => !one.trains))
      results.roundTrips.push({ variant: variant.name, mtu, engine: [], floor: [] });
    // The echo program takes frames of one buffer: natively up to this MTU on veth.
    for (const { name } of plan.reflectors && mtu <= 3506 ? REFLECTORS : [])
      results.reflectors.push({ name, mtu, curves: [] });
  }

  const variantOf = (name: string): Variant => variants.find((one) => one.name === name) as Variant;
  try {
    for (let round = 0; round < plan.rounds; ++round) {
      for (const { mtu } of plan.throughput) {
        if (isInterrupted()) return { results, failures };
        hosts.setMtu(mtu);
        // A floor is the same for all messages that fill its datagrams: measured once a round.
        const floors = new Map<string, Rates>();
        for (const point of results.rates.filter((one) => one.mtu === mtu)) {
          const variant = variantOf(point.variant);
          const about = `MTU ${mtu}, ${point.messageBytes} B`;
          const key = `${variant.name} ${point.floorBytes}`;
          const known = floors.get(key);
          if (known) add(point.floor, known);
          else
            await attempt(
              `floor of ${variant.name}`,
              `MTU ${mtu}, ${point.floorBytes} B`,
              () => runs.floorRate(variant, mtu, point.floorBytes, plan.window),
              (found) => {
                floors.set(key, found);
                return keepRates(point.floor)(found);
              },
            );
          await attempt(
            `engine over ${variant.name}`,
            about,
            () => runs.engineRate(variant, mtu, point.messageBytes, plan.window),
            keepRates(point.engine),
          );
        }
      }
      for (const mtu of plan.latency.mtus) {
        if (isInterrupted()) return { results, failures };
        hosts.setMtu(mtu);
        for (const point of results.roundTrips.filter((one) => one.mtu === mtu)) {
          const variant = variantOf(point.variant);
          const about = `MTU ${mtu}, round trips`;
          await attempt(
            `floor of ${variant.name}`,
            about,
            () => runs.floorTrips(variant, mtu, plan.latency),
            keepCurve(point.floor),
          );
          await attempt(
            `engine over ${variant.name}`,
            about,
            () => runs.engineTrips(variant, mtu, plan.latency),
            keepCurve(point.engine),
          );
        }
        for (const point of results.reflectors.filter((one) => one.mtu === mtu)) {
          const via = REFLECTORS.find((one) => one.name === point.name)?.via ?? [];
          await attempt(
            point.name,
            `MTU ${mtu}`,
            () => runs.reflectorTrips(via, plan.latency),
            keepCurve(point.curves),
          );
        }
      }
    }
  } finally {
    // After an interruption the namespaces may be gone already.
    for (const host of [hosts.a, hosts.b])
      tryRun('ip', '-n', host.namespace, 'link', 'set', host.interface, 'mtu', '1500');
  }
  return { results, failures };
}
