// SPDX-License-Identifier: Apache-2.0
// `outrigger bench`: what a sidecar that runs gives on this machine, in seconds: throughput, then latency at a rate. Publisher and subscriber are
// processes of their own, as apps are. For comparisons there is `make bench`.
import type { Target } from '../../../clients/typescript/src';
import { appChild } from './apps/app_child';
import type {
  PublisherAppConfig,
  PublisherDone,
  PublisherReport,
  SubscriberAppConfig,
  SubscriberDone,
  SubscriberReport,
} from './apps/protocol';
import { Child } from './child';
import { CliError, kExit, unavailable } from './exit';
import { onInterrupt } from './interrupt';
import type { LatencyUs } from './latency';
import { targetOf, type ConnectionOptions } from './options';
import { grouped, json, short, table, type Out } from './output';

export interface BenchOptions extends ConnectionOptions {
  /** Of the subscriber, when it is another sidecar. */
  readonly to?: string;
  readonly seconds: number;
  readonly rate: number;
  readonly size: number;
  readonly json?: boolean;
}

export interface BenchPhase {
  readonly sent: number;
  readonly received: number;
  readonly lost: number;
  readonly duplicated: number;
  readonly outOfOrder: number;
  readonly msgsPerSecond: number;
  readonly mbPerSecond: number;
  readonly messagesPerBatch: number;
  readonly latencyUs: LatencyUs;
}

const kStartMs = 20_000;
const kEndMs = 60_000;
const kWarmupShare = 200; // ms of each second

interface PhaseOptions {
  readonly target: Target;
  readonly from: string;
  readonly to: string;
  readonly rate: number;
  readonly size: number;
  readonly seconds: number;
}

function phaseOf(publisher: PublisherDone, subscriber: SubscriberDone): BenchPhase {
  const seconds = Math.max(subscriber.seconds, 1e-3);
  return {
    sent: publisher.sent,
    received: subscriber.received,
    lost: publisher.sent - subscriber.received,
    duplicated: subscriber.duplicated,
    outOfOrder: subscriber.outOfOrder,
    msgsPerSecond: Math.round(subscriber.received / seconds),
    mbPerSecond: Math.round((subscriber.bytes / seconds / 1e6) * 100) / 100,
    messagesPerBatch: Math.round((publisher.sent / Math.max(publisher.batches, 1)) * 10) / 10,
    latencyUs: subscriber.latencyUs,
  };
}

async function phase(options: PhaseOptions, interrupted: Promise<never>): Promise<BenchPhase> {
  const children: Child[] = [];
  const start = (app: ReturnType<typeof appChild>): Promise<never> => {
    const child = new Child(app.options);
    children.push(child);
    return child.exited.then((status) => {
      if (child.stopping || status === 0) {
        return new Promise<never>(() => undefined);
      }
      throw new CliError(kExit.failed, `${child.name} ended with ${status}:\n${child.lastWords()}`);
    });
  };
  const within = async <T>(
    promise: Promise<T>,
    milliseconds: number,
    trouble: Promise<never>[],
    what: string,
  ): Promise<T> => {
    let timer: NodeJS.Timeout | undefined;
    const timeout = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(unavailable(what)), milliseconds);
    });
    try {
      return await Promise.race([promise, interrupted, timeout, ...trouble]);
    } finally {
      clearTimeout(timer);
    }
  };
  try {
    const subscriberConfig: SubscriberAppConfig = {
      address: options.to,
      target: options.target,
      warmupMs: options.seconds * kWarmupShare,
    };
    const subscriber = appChild<SubscriberReport>('subscriber', subscriberConfig);
    const trouble = [start(subscriber)];
    const none = `no sidecar answers at ${options.to}; is one running? See \`outrigger run --help\``;
    await within(subscriber.ready, kStartMs, trouble, none);
    const publisherConfig: PublisherAppConfig = {
      address: options.from,
      target: options.target,
      sizeBytes: options.size,
      rate: options.rate,
      durationMs: options.seconds * 1000,
    };
    const publisher = appChild<PublisherReport>('publisher', publisherConfig);
    trouble.push(start(publisher));
    await within(publisher.ready, kStartMs, trouble, `the publisher at ${options.from} found no subscriber`);
    const sent = await within(
      publisher.done,
      options.seconds * 1000 + kEndMs,
      trouble,
      'the publisher did not end',
    );
    children[0]?.write({ sent: sent.sent });
    return phaseOf(sent, await within(subscriber.done, kEndMs, trouble, 'the subscriber did not end'));
  } finally {
    await Promise.all(children.map((child) => child.stop()));
  }
}

function render(throughput: BenchPhase, latency: BenchPhase): string {
  const row = (name: string, of: BenchPhase): string[] => [
    name,
    ...[of.received, of.lost, of.duplicated, of.outOfOrder, of.msgsPerSecond].map((each) =>
      grouped(each).padStart(10),
    ),
    short(of.mbPerSecond).padStart(8),
    short(of.messagesPerBatch).padStart(8),
    ...[of.latencyUs.p50, of.latencyUs.p90, of.latencyUs.p99, of.latencyUs.p999, of.latencyUs.max].map(
      (each) => short(each).padStart(9),
    ),
  ];
  const names = ['received', 'lost', 'doubled', 'disorder', 'msgs/s'].map((each) => each.padStart(10));
  const times = ['p50 µs', 'p90', 'p99', 'p99.9', 'max'].map((each) => each.padStart(9));
  return table(
    ['', ...names, 'MB/s'.padStart(8), 'batch'.padStart(8), ...times],
    [row('throughput', throughput), row('latency', latency)],
  );
}

export async function bench(topic: string | undefined, options: BenchOptions, out: Out): Promise<number> {
  const target = targetOf(topic, options);
  const interrupt = onInterrupt();
  const interrupted = interrupt.came.then(() => {
    throw new CliError(kExit.interrupted, `ended by ${interrupt.name}`);
  });
  interrupted.catch(() => undefined);
  const shared = {
    target,
    from: options.address,
    to: options.to ?? options.address,
    size: options.size,
    seconds: options.seconds,
  };
  try {
    const throughput = await phase({ ...shared, rate: 0 }, interrupted);
    const latency = await phase({ ...shared, rate: options.rate }, interrupted);
    if (options.json === true) {
      out.line(json({ sizeBytes: options.size, rate: options.rate, throughput, latency }));
    } else {
      out.line(`${options.size} bytes; latency at ${grouped(options.rate)} messages/s, open loop\n`);
      out.line(render(throughput, latency));
    }
    const bad = [throughput, latency].some((each) => each.lost + each.duplicated + each.outOfOrder > 0);
    return bad ? kExit.failed : kExit.ok;
  } finally {
    interrupt.stop();
  }
}
