// SPDX-License-Identifier: Apache-2.0
// `outrigger demo`: two hosts on this machine, a driver and a sidecar on each, a publisher app on one and a subscriber app on the other.
// Everything that is started or made here is ended and removed here, however the demo ends.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type {
  PublisherAppConfig,
  PublisherDone,
  PublisherReport,
  SubscriberAppConfig,
  SubscriberDone,
  SubscriberProgress,
  SubscriberReport,
} from '../apps/protocol';
import { appChild } from '../apps/app_child';
import { Child, type ChildOptions } from '../child';
import { CliError, kExit } from '../exit';
import { nativeProgram, script } from '../installation';
import { onInterrupt, type Interrupt } from '../interrupt';
import type { LatencyUs } from '../latency';
import { grouped, json, short, type Out } from '../output';
import { makeHosts, type Host, type Hosts } from './hosts';
import { isClean, renderResult, resultOf, type DemoResult } from './result';

export interface DemoOptions {
  /** Names for OUTRIGGER_BACKENDS; the driver knows which there are. */
  readonly backend: string;
  readonly seconds: number;
  /** Messages a second; 0: as fast as they are taken. */
  readonly rate: number;
  readonly size: number;
  /** Per cent of datagrams lost on purpose, each way. */
  readonly loss: number;
  readonly json?: boolean;
}

const kStreamId = 1001;
const kEngineRate = 10_000; // of the engine's latency, when the apps have no rate of their own
const kLongestEngineRate = 100_000;
const kLongestEngineMs = 3000;
const kStartMs = 30_000;
const kEndMs = 60_000;

/** Ended by a signal. */
class Interrupted extends Error {}

class Demo {
  private readonly children: Child[] = [];
  private readonly folder: string;
  private readonly directories: string[] = [];
  private reject: (error: Error) => void = () => undefined;
  /** Rejects when a signal comes or a child ends that should not. */
  private readonly trouble: Promise<never>;

  constructor(
    private readonly options: DemoOptions,
    private readonly hosts: Hosts,
    private readonly out: Out,
    interrupt: Interrupt,
  ) {
    this.folder = mkdtempSync(join(tmpdir(), `outrigger-demo-${process.pid}-`));
    this.trouble = new Promise((_, reject) => {
      this.reject = reject;
    });
    this.trouble.catch(() => undefined);
    void interrupt.came.then(() => this.reject(new Interrupted(`ended by ${interrupt.name}`)));
    process.once('exit', this.onExit);
  }

  async run(): Promise<DemoResult> {
    const { a, b, ports } = this.hosts;
    const topics = join(this.folder, 'topics.json');
    const endpoint = `${b.address}:${ports[0]}`;
    writeFileSync(
      topics,
      JSON.stringify({ topics: [{ name: 'demo', streamId: kStreamId, subscribers: [endpoint] }] }),
    );
    const drivers = [this.startDriver(a, 1), this.startDriver(b, 2)];
    const [backend] = await Promise.all(drivers);
    this.startSidecar(a, topics, []);
    this.startSidecar(b, topics, [`--endpoints=${endpoint}`]);
    const { publisher, subscriber } = await this.runApps(a, b);
    const engine = await this.runEngine(a, b, ports[1]);
    return resultOf(backend as string, publisher, subscriber, engine);
  }

  /** Ends everything in order: apps, sidecars, drivers, network, files. */
  async remove(): Promise<void> {
    for (const kind of ['app', 'engine', 'sidecar', 'driver']) {
      await Promise.all(
        this.children.filter((child) => child.name.startsWith(kind)).map((child) => child.stop()),
      );
    }
    this.removeFiles();
    process.off('exit', this.onExit);
  }

  private readonly onExit = (): void => {
    this.children.forEach((child) => child.kill());
    this.removeFiles();
  };

  private removeFiles(): void {
    this.hosts.remove();
    [this.folder, ...this.directories].forEach((each) => rmSync(each, { recursive: true, force: true }));
  }

  private directoryOf(host: Host): string {
    return `/dev/shm/outrigger-demo-${process.pid}-${host.name}`;
  }

  private socketOf(host: Host): string {
    return join(this.folder, `${host.name}.sock`);
  }

  /** A child that must live until it is stopped, or, `mayEnd`, end well. */
  private start(host: Host, options: ChildOptions, mayEnd = false): Child {
    const [command, ...args] = [...host.prefix, options.command, ...(options.args ?? [])] as [
      string,
      ...string[],
    ];
    const child = new Child({ ...options, command, args });
    this.children.push(child);
    void child.exited.then((status) => {
      if (!child.stopping && !(mayEnd && status === 0)) {
        this.reject(new CliError(kExit.failed, `${child.name} ended with ${status}:\n${child.lastWords()}`));
      }
    });
    return child;
  }

  /** Resolves with the name of its backend when it is ready. */
  private startDriver(host: Host, seed: number): Promise<string> {
    const directory = this.directoryOf(host);
    this.directories.push(directory);
    const { loss } = this.options;
    const ready = new Promise<string>((resolve) => {
      this.start(host, {
        name: `driver ${host.name}`,
        command: nativeProgram('outrigger-driver'),
        env: {
          AERON_DIR: directory,
          OUTRIGGER_BACKENDS: this.options.backend,
          OUTRIGGER_INTERFACE: host.interface,
          OUTRIGGER_IMPAIR: loss > 0 ? `rx-loss=${loss / 100},seed=${seed}` : 'none',
          AERON_RCV_INITIAL_WINDOW_LENGTH: '1m',
          AERON_SOCKET_SO_RCVBUF: '2m',
        },
        onLine: (line) => {
          const match = /"backend":"([a-z]+)".*driver is ready/.exec(line);
          if (match !== null) {
            resolve(match[1] as string);
          }
        },
      });
    });
    return this.within(ready, kStartMs, `driver ${host.name} did not get ready`);
  }

  private startSidecar(host: Host, topics: string, more: readonly string[]): void {
    this.start(host, {
      name: `sidecar ${host.name}`,
      command: process.execPath,
      args: [
        script('..', 'main.js'),
        `--driver-directory=${this.directoryOf(host)}`,
        `--grpc-socket=${this.socketOf(host)}`,
        '--http-listen=',
        `--topics-file=${topics}`,
        '--log-level=warn',
        ...more,
      ],
    });
  }

  private async runApps(a: Host, b: Host): Promise<{ publisher: PublisherDone; subscriber: SubscriberDone }> {
    const { options } = this;
    const subscriberConfig: SubscriberAppConfig = {
      address: `unix:${this.socketOf(b)}`,
      target: { topic: 'demo' },
      warmupMs: Math.min(1000, options.seconds * 200),
    };
    const live = new LiveView(this.out, options.json === true);
    const subscriber = appChild<SubscriberReport>('subscriber', subscriberConfig, (report) => {
      if (report.type === 'progress') {
        live.received(report);
      }
    });
    const subscriberChild = this.start(b, subscriber.options, true);
    await this.within(subscriber.ready, kStartMs, 'the subscriber app did not get ready');
    const publisherConfig: PublisherAppConfig = {
      address: `unix:${this.socketOf(a)}`,
      target: { topic: 'demo' },
      sizeBytes: options.size,
      rate: options.rate,
      durationMs: options.seconds * 1000,
    };
    const publisher = appChild<PublisherReport>('publisher', publisherConfig, (report) => {
      if (report.type === 'progress') {
        live.sent(report.sent);
      }
    });
    this.start(a, publisher.options, true);
    await this.within(publisher.ready, kStartMs, 'the publisher found no subscriber');
    const sent = await this.within(
      publisher.done,
      options.seconds * 1000 + kEndMs,
      'the publisher did not end',
    );
    subscriberChild.write({ sent: sent.sent });
    const received = await this.within(subscriber.done, kEndMs, 'the subscriber did not end');
    return { publisher: sent, subscriber: received };
  }

  /** The latency between two C++ clients in shared memory, one a driver: the same drivers, network, size and rate, without gRPC and Node. */
  private async runEngine(a: Host, b: Host, port: number): Promise<LatencyUs> {
    const { options } = this;
    const program = nativeProgram('bench_one_way');
    const measureMs = Math.round(Math.min(options.seconds * 1000, kLongestEngineMs));
    const channel = `aeron:udp?endpoint=${b.address}:${port}|term-length=2m`;
    const args = (host: Host, role: string): string[] => [
      ...[
        '--role',
        role,
        '--dir',
        this.directoryOf(host),
        '--channel',
        channel,
        '--stream',
        `${kStreamId + 1}`,
      ],
      ...(role === 'send'
        ? [
            ...['--size', `${Math.min(Math.max(options.size, 32), 65_536)}`, '--measure-ms', `${measureMs}`],
            ...[
              '--rate',
              `${Math.max(Math.round(Math.min(options.rate || kEngineRate, kLongestEngineRate)), 1)}`,
            ],
          ]
        : []),
    ];
    let ready: () => void = () => undefined;
    const isReady = new Promise<void>((resolve) => (ready = resolve));
    const done = new Promise<LatencyUs>((resolve) => {
      this.start(
        b,
        {
          name: 'engine receiver',
          command: program,
          args: args(b, 'receive'),
          onLine: (line) => {
            if (line.includes('"ready"')) {
              ready();
            } else if (line.startsWith('{')) {
              resolve((JSON.parse(line) as { us: LatencyUs }).us);
            }
          },
        },
        true,
      );
    });
    await this.within(isReady, kStartMs, "the engine's receiver did not get ready");
    this.start(a, { name: 'engine sender', command: program, args: args(a, 'send') }, true);
    const us = await this.within(done, measureMs + kEndMs, "the engine's run did not end");
    const round = (value: number): number => Math.round(value * 10) / 10;
    return {
      p50: round(us.p50),
      p90: round(us.p90),
      p99: round(us.p99),
      p999: round(us.p999),
      max: round(us.max),
    };
  }

  private async within<T>(promise: Promise<T>, milliseconds: number, what: string): Promise<T> {
    let timer: NodeJS.Timeout | undefined;
    const timeout = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        const words = this.children.map((child) => `${child.name}:\n${child.lastWords()}`).join('\n');
        reject(new CliError(kExit.failed, `${what} within ${milliseconds / 1000} s\n${words}`));
      }, milliseconds);
    });
    try {
      return await Promise.race([promise, this.trouble, timeout]);
    } finally {
      clearTimeout(timer);
    }
  }
}

/** One line that changes, on a terminal. */
class LiveView {
  private sentBefore = { at: performance.now(), count: 0 };
  private receivedBefore = { at: performance.now(), count: 0, bytes: 0 };
  private sentRate = 0;
  private sentTotal = 0;

  constructor(
    private readonly out: Out,
    private readonly quiet: boolean,
  ) {}

  sent(count: number): void {
    const at = performance.now();
    this.sentRate = ((count - this.sentBefore.count) / (at - this.sentBefore.at)) * 1000;
    this.sentBefore = { at, count };
    this.sentTotal = count;
  }

  received(progress: SubscriberProgress): void {
    const at = performance.now();
    const seconds = (at - this.receivedBefore.at) / 1000;
    const messages = (progress.received - this.receivedBefore.count) / seconds;
    const megabytes = (progress.bytes - this.receivedBefore.bytes) / seconds / 1e6;
    this.receivedBefore = { at, count: progress.received, bytes: progress.bytes };
    if (this.out.isTty && !this.quiet) {
      const { p50, p99 } = progress.latencyUs;
      this.out.frame(
        `sent ${grouped(this.sentTotal)} (${grouped(this.sentRate)}/s)   received ${grouped(progress.received)} ` +
          `(${grouped(messages)}/s, ${short(megabytes)} MB/s)   latency p50 ${short(p50)} µs, p99 ${short(p99)} µs`,
      );
    }
  }
}

export async function demo(options: DemoOptions, out: Out): Promise<number> {
  const say = (text: string): void => {
    if (options.json !== true) {
      out.line(text);
    }
  };
  const interrupt = onInterrupt();
  let hosts: Hosts | undefined;
  let running: Demo | undefined;
  try {
    hosts = await makeHosts();
    running = new Demo(options, hosts, out, interrupt);
    say(`network: ${hosts.description}`);
    say(
      `backend ${options.backend}, ${options.size} bytes, ${options.rate === 0 ? 'as fast as they are taken' : `${grouped(options.rate)} messages/s`}, ` +
        `${options.seconds} s${options.loss > 0 ? `, ${options.loss} % of datagrams lost on purpose, each way` : ''}`,
    );
    const result = await running.run();
    if (options.json === true) {
      out.line(json(result));
    } else {
      out.line(`\n${renderResult(result)}`);
    }
    return isClean(result) ? kExit.ok : kExit.failed;
  } catch (error) {
    if (error instanceof Interrupted) {
      return interrupt.name === 'SIGTERM' ? 143 : kExit.interrupted;
    }
    throw error;
  } finally {
    if (running === undefined) {
      hosts?.remove();
    } else {
      await running.remove();
    }
    interrupt.stop();
  }
}
