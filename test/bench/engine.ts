// SPDX-License-Identifier: Apache-2.0
// One engine-to-engine run: C++ clients in shared memory on each side of a driver pair. The same programs, checks and windows for every contender.
import { join } from 'node:path';
import type { Build, DriverPair, Fleet } from './contenders';
import type { Host, Hosts } from './hosts';
import { type JsonLine, type Measured, cpuSeconds, memoryOf, sleep, start } from './shell';

export type Size = number | 'mix';

export interface Window {
  warmupMs: number;
  measureMs: number;
}

export interface Throughput {
  messagesPerSecond: number;
  megabytesPerSecond: number;
  // Of drivers and clients of both hosts together.
  cpuSecondsPerMillion: number;
  cpuSeconds: Record<string, number>;
}

export interface RoundTrip {
  us: { p50: number; p90: number; p99: number; p999: number; max: number };
  cpuSeconds: Record<string, number>;
}

export interface Idleness {
  // Of one core, the driver with its clients connected and nothing sent.
  driverCpuPercent: number;
  rssMb: number;
  pssMb: number;
}

function program(build: Build, host: Host, name: string, args: Record<string, string | number>): Measured {
  const line = Object.entries(args).flatMap(([key, value]) => [`--${key}`, String(value)]);
  return start({ name, namespace: host.namespace }, join(build.benchPrograms, name), ...line);
}

function channel(host: Host, port: number): string {
  return `aeron:udp?endpoint=${host.address}:${port}`;
}

function requireClean(who: string, line: JsonLine, keys: string[]): void {
  const bad = keys.filter((key) => line[key] !== 0);
  if (bad.length > 0)
    throw new Error(
      `${who}: payload check failed: ${bad.map((key) => `${key}=${String(line[key])}`).join(' ')}`,
    );
}

const numberOf = (line: JsonLine, key: string): number => {
  const value = line[key];
  if (typeof value !== 'number') throw new Error(`no number '${key}' in ${JSON.stringify(line)}`);
  return value;
};

export class Engine {
  constructor(
    private readonly hosts: Hosts,
    private readonly build: Build,
    private readonly fleet: Fleet,
  ) {}

  async throughput(pair: DriverPair, size: Size, window: Window): Promise<Throughput> {
    const stream = this.fleet.stream();
    const common = { channel: channel(this.hosts.b, pair.port), stream, idle: pair.contender.clientIdle };
    const sender = program(this.build, this.hosts.a, 'bench_send', {
      ...common,
      dir: pair.a.directory,
      size,
    });
    let receiver: Measured | undefined;
    try {
      await sender.next(15_000);
      receiver = program(this.build, this.hosts.b, 'bench_receive', {
        ...common,
        dir: pair.b.directory,
        'warmup-ms': window.warmupMs,
        'measure-ms': window.measureMs,
        cpu: `sender=${sender.pid},driverA=${pair.a.process.pid},driverB=${pair.b.process.pid},receiver=self`,
      });
      await receiver.next(15_000);
      const line = await receiver.next(window.warmupMs + window.measureMs + 30_000);
      requireClean(pair.contender.name, line, ['lost', 'outOfOrder', 'corrupt']);
      const messages = numberOf(line, 'messages');
      const seconds = numberOf(line, 'seconds');
      if (messages === 0) throw new Error(`${pair.contender.name}: no message in ${seconds} s`);
      const cpu = line['cpuSeconds'] as Record<string, number>;
      const total = Object.values(cpu).reduce((sum, value) => sum + value, 0);
      return {
        messagesPerSecond: messages / seconds,
        megabytesPerSecond: numberOf(line, 'bytes') / seconds / 1e6,
        cpuSecondsPerMillion: (total / messages) * 1e6,
        cpuSeconds: cpu,
      };
    } finally {
      await sender.stop();
      if (receiver) {
        await receiver.exit(3000);
        await receiver.stop();
      }
    }
  }

  async roundTrip(pair: DriverPair, size: number, ratePerSecond: number, window: Window): Promise<RoundTrip> {
    const stream = this.fleet.stream();
    const common = {
      channel: channel(this.hosts.b, pair.port + 1),
      back: channel(this.hosts.a, pair.port + 2),
      stream,
      idle: pair.contender.clientIdle,
    };
    const pong = program(this.build, this.hosts.b, 'bench_pong', { ...common, dir: pair.b.directory });
    let ping: Measured | undefined;
    try {
      await pong.next(15_000);
      ping = program(this.build, this.hosts.a, 'bench_ping', {
        ...common,
        dir: pair.a.directory,
        size,
        rate: ratePerSecond,
        'warmup-ms': window.warmupMs,
        'measure-ms': window.measureMs,
        cpu: `ping=self,driverA=${pair.a.process.pid},driverB=${pair.b.process.pid},pong=${pong.pid}`,
      });
      await ping.next(15_000);
      const line = await ping.next(window.warmupMs + window.measureMs + 30_000);
      requireClean(pair.contender.name, line, ['lost', 'outOfOrder', 'corrupt']);
      return { us: line['us'] as RoundTrip['us'], cpuSeconds: line['cpuSeconds'] as Record<string, number> };
    } finally {
      await pong.stop();
      if (ping) {
        await ping.exit(2000);
        await ping.stop();
      }
    }
  }

  // Nothing is sent: `streams` publications on host A, as many subscriptions on host B.
  async idle(pair: DriverPair, streams: number, measureMs: number): Promise<Idleness> {
    const clients: Measured[] = [];
    try {
      if (streams > 0) {
        const common = { channel: channel(this.hosts.b, pair.port + 3), stream: 5_000_000, streams };
        clients.push(
          program(this.build, this.hosts.b, 'bench_hold', {
            ...common,
            dir: pair.b.directory,
            role: 'subscribe',
          }),
        );
        clients.push(
          program(this.build, this.hosts.a, 'bench_hold', {
            ...common,
            dir: pair.a.directory,
            role: 'publish',
          }),
        );
        for (const client of clients) await client.next(30_000);
        for (const client of clients) await client.next(30_000);
      }
      await sleep(2000);
      const pids = [pair.a.process.pid, pair.b.process.pid];
      const before = pids.map(cpuSeconds);
      const startedAt = performance.now();
      await sleep(measureMs);
      const seconds = (performance.now() - startedAt) / 1000;
      const used = pids.map((pid, i) => cpuSeconds(pid) - (before[i] ?? 0));
      const memory = pids.map(memoryOf);
      // The worse of the two hosts.
      return {
        driverCpuPercent: (Math.max(...used) / seconds) * 100,
        rssMb: Math.max(...memory.map((one) => one.rssMb)),
        pssMb: Math.max(...memory.map((one) => one.pssMb)),
      };
    } finally {
      for (const client of clients) await client.stop();
    }
  }
}
