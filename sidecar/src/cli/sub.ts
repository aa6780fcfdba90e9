// SPDX-License-Identifier: Apache-2.0
// `outrigger sub`: messages of a topic to standard output, events to standard error.
import {
  OutriggerClient,
  type MessageBatch,
  type SlowPolicy,
  type Subscription,
  type SubscriptionEvent,
} from '../../../clients/typescript/src';
import { kExit } from './exit';
import { onInterrupt } from './interrupt';
import { targetOf, type ConnectionOptions } from './options';
import { grouped, json, short } from './output';
import { isIntact, sequenceOf } from './payload';
import { SessionChecks, type SessionReport } from './sequence_check';

export const kFormats = ['text', 'hex', 'base64', 'none'] as const;
export type Format = (typeof kFormats)[number];

export interface SubOptions extends ConnectionOptions {
  readonly count?: number;
  /** Milliseconds. */
  readonly duration?: number;
  readonly format: Format;
  readonly slowPolicy: SlowPolicy;
  readonly check?: boolean;
  readonly quiet?: boolean;
  readonly json?: boolean;
}

interface Sink {
  write(text: string): Promise<void> | undefined;
}

/** Writes in one go what a batch gives, and waits when the reader of the pipe is slow: then credit stops too. */
function standardOutput(): Sink {
  return {
    write: (text) =>
      process.stdout.write(text)
        ? undefined
        : new Promise<void>((resolve) => {
            process.stdout.once('drain', resolve);
          }),
  };
}

function textOf(payload: Buffer, format: Format): string {
  return format === 'text' ? payload.toString('utf8') : payload.toString(format === 'hex' ? 'hex' : 'base64');
}

function describe(event: SubscriptionEvent): string {
  switch (event.kind) {
    case 'imageAvailable':
      return `publisher ${event.sessionId} from ${event.source}, joined at ${event.joinPosition}`;
    case 'imageUnavailable':
      return `publisher ${event.sessionId} gone at ${event.position}: ${event.reason}`;
    case 'gap':
      return `gap in ${event.sessionId}: ${event.fromPosition} to ${event.toPosition}, ${
        event.messages === 0 ? 'messages not counted' : `${event.messages} messages`
      }, ${event.reason}`;
    case 'lagging':
      return `lagging: messages have waited ${event.milliseconds} ms for credit`;
    case 'reconnecting':
      return `${event.error.message}; again in ${Math.round(event.delayMs)} ms`;
    case 'reopened':
      return 'open again';
  }
}

function eventJson(event: SubscriptionEvent): string {
  const { kind, ...rest } = event;
  return json({
    type: kind,
    ...rest,
    ...(event.kind === 'reconnecting' ? { error: event.error.message, reason: event.error.reason } : {}),
  });
}

interface Summary {
  readonly received: number;
  readonly bytes: number;
  readonly seconds: number;
  readonly msgsPerSecond: number;
  readonly lost?: number;
  readonly duplicated?: number;
  readonly outOfOrder?: number;
  readonly corrupt?: number;
  readonly sessions?: readonly SessionReport[];
}

class Printer {
  messages = 0;
  bytes = 0;
  corrupt = 0;
  readonly checks = new SessionChecks();

  constructor(
    private readonly options: SubOptions,
    private readonly sink: Sink,
  ) {}

  batch(batch: MessageBatch, limit: number): Promise<void> | undefined {
    let text = '';
    for (const payload of batch.messages) {
      if (this.messages >= limit) {
        break;
      }
      this.messages++;
      this.bytes += payload.length;
      if (this.options.check === true) {
        if (isIntact(payload)) {
          this.checks.take(batch.sessionId, sequenceOf(payload));
        } else {
          this.corrupt++;
        }
      }
      if (this.options.format !== 'none') {
        text +=
          this.options.json === true
            ? `${json({ type: 'message', sessionId: batch.sessionId, size: payload.length, payload: textOf(payload, this.options.format) })}\n`
            : `${textOf(payload, this.options.format)}\n`;
      }
    }
    return text === '' ? undefined : this.sink.write(text);
  }

  event(event: SubscriptionEvent): Promise<void> | undefined {
    if (event.kind === 'imageAvailable') {
      this.checks.joined(event.sessionId);
    }
    if (this.options.json === true) {
      return this.sink.write(`${eventJson(event)}\n`);
    }
    if (this.options.quiet !== true) {
      process.stderr.write(`outrigger: ${describe(event)}\n`);
    }
    return undefined;
  }

  summary(seconds: number): Summary {
    const { reports } = this.checks;
    const sum = (of: 'lost' | 'duplicated' | 'outOfOrder'): number =>
      reports.reduce((total, each) => total + each[of], 0);
    return {
      received: this.messages,
      bytes: this.bytes,
      seconds: Math.round(seconds * 1000) / 1000,
      msgsPerSecond: seconds > 0 ? Math.round(this.messages / seconds) : 0,
      ...(this.options.check === true
        ? {
            lost: sum('lost'),
            duplicated: sum('duplicated'),
            outOfOrder: sum('outOfOrder'),
            corrupt: this.corrupt,
            sessions: reports,
          }
        : {}),
    };
  }
}

async function print(subscription: Subscription, printer: Printer, limit: number): Promise<void> {
  for await (const item of subscription.items()) {
    const waiting = item.kind === 'batch' ? printer.batch(item, limit) : printer.event(item);
    if (waiting !== undefined) {
      await waiting;
    }
    if (printer.messages >= limit) {
      return;
    }
  }
}

export async function sub(
  topic: string | undefined,
  options: SubOptions,
  sink: Sink = standardOutput(),
): Promise<number> {
  const target = targetOf(topic, options);
  const interrupt = onInterrupt();
  const client = new OutriggerClient({ address: options.address });
  const limit = options.count ?? Infinity;
  try {
    const subscription = client.subscribe(target, { slowPolicy: options.slowPolicy });
    const printer = new Printer(options, sink);
    const timer =
      options.duration === undefined ? undefined : setTimeout(() => subscription.close(), options.duration);
    interrupt.signal.addEventListener('abort', () => subscription.close());
    const started = performance.now();
    try {
      await print(subscription, printer, limit);
    } finally {
      clearTimeout(timer);
    }
    const summary = printer.summary((performance.now() - started) / 1000);
    if (options.json === true) {
      await sink.write(`${json({ type: 'summary', ...summary })}\n`);
    } else if (options.check === true || options.format === 'none') {
      process.stderr.write(
        `${grouped(printer.messages)} received in ${short(summary.seconds)} s${
          options.check === true
            ? `: ${summary['lost']} lost, ${summary['duplicated']} duplicated, ${summary['outOfOrder']} out of order, ${summary['corrupt']} corrupt`
            : ''
        }\n`,
      );
    }
    const bad = (['lost', 'duplicated', 'outOfOrder', 'corrupt'] as const).some(
      (key) => (summary[key] ?? 0) > 0,
    );
    const missed = options.count !== undefined && printer.messages < options.count;
    return bad || missed ? kExit.failed : kExit.ok;
  } finally {
    interrupt.stop();
    await client.close();
  }
}
