// SPDX-License-Identifier: Apache-2.0
// `outrigger pub`: lines of standard input, or generated messages, to a topic.
import type { Readable } from 'node:stream';
import {
  OutriggerClient,
  type BackPressure,
  type Publisher,
  type RefusedStatus,
} from '../../../clients/typescript/src';
import { kExit, unavailable, usage } from './exit';
import { onInterrupt } from './interrupt';
import { targetOf, type ConnectionOptions } from './options';
import { grouped, json, short, type Out } from './output';
import { paced } from './pacer';
import { blankPayload, kStampBytes, stamp } from './payload';

export interface PubOptions extends ConnectionOptions {
  readonly count?: number;
  readonly size?: number;
  readonly rate?: number;
  readonly duration?: number;
  readonly backPressure: BackPressure;
  readonly exclusive?: boolean;
  readonly linger: number;
  /** Milliseconds. */
  readonly wait: number;
  readonly json?: boolean;
}

interface Sender {
  readonly publisher: Publisher;
  readonly signal: AbortSignal;
}

function sendOne({ publisher }: Sender, payload: Uint8Array | string): Promise<void> | undefined {
  return publisher.send(payload) ? undefined : publisher.drained();
}

async function sendLines(sender: Sender, input: Readable): Promise<void> {
  let rest = '';
  const close = (): void => void input.destroy();
  sender.signal.addEventListener('abort', close);
  try {
    input.setEncoding('utf8');
    for await (const chunk of input) {
      const lines = (rest + (chunk as string)).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) {
        const waiting = sendOne(sender, line);
        if (waiting !== undefined) {
          await waiting;
        }
      }
    }
  } catch (error) {
    if (!sender.signal.aborted) {
      throw error;
    }
  }
  if (rest !== '' && !sender.signal.aborted) {
    await sendOne(sender, rest);
  }
}

async function sendGenerated(sender: Sender, options: PubOptions): Promise<void> {
  const payload = blankPayload(options.size ?? 288);
  await paced({
    rate: options.rate ?? 0,
    count: options.count ?? Infinity,
    durationMs: options.duration ?? Infinity,
    signal: sender.signal,
    send: (sequence, intendedNs) => {
      stamp(payload, sequence, intendedNs);
      return sendOne(sender, payload);
    },
  });
}

async function connected(publisher: Publisher, waitMs: number, signal: AbortSignal): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  let stop: () => void = () => undefined;
  const over = new Promise<boolean>((resolve) => {
    stop = () => resolve(false);
    timer = setTimeout(stop, waitMs);
    signal.addEventListener('abort', stop);
  });
  try {
    return await Promise.race([over, publisher.whenConnected().then(() => true)]);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', stop);
  }
}

function watchErrors(publisher: Publisher): Map<RefusedStatus | 'BUFFER_FULL', number> {
  const refused = new Map<RefusedStatus | 'BUFFER_FULL', number>();
  publisher.on('refused', (status, messages) => refused.set(status, (refused.get(status) ?? 0) + messages));
  publisher.on('reconnecting', (error, delayMs) =>
    process.stderr.write(`outrigger: ${error.message}; again in ${Math.round(delayMs)} ms\n`),
  );
  return refused;
}

export async function pub(
  topic: string | undefined,
  options: PubOptions,
  out: Out,
  input: Readable = process.stdin,
): Promise<number> {
  const generated = [options.count, options.size, options.rate, options.duration].some(
    (each) => each !== undefined,
  );
  if (generated && options.size !== undefined && options.size < kStampBytes) {
    throw usage(
      `--size ${options.size}: a generated message has ${kStampBytes} bytes at least (number, time, checksum)`,
    );
  }
  const target = targetOf(topic, options);
  const interrupt = onInterrupt();
  const client = new OutriggerClient({ address: options.address });
  try {
    const publisher = client.publisher(target, {
      backPressure: options.backPressure,
      exclusive: options.exclusive ?? false,
      lingerMs: options.linger,
    });
    const refused = watchErrors(publisher);
    const sessions: number[] = [];
    const joined = ({ sessionId }: { readonly sessionId: number }): void => void sessions.push(sessionId);
    publisher.on('opened', joined).on('reopened', joined);
    let failure: Error | undefined;
    publisher.on('failed', (error) => (failure = error));
    if (options.wait > 0 && !(await connected(publisher, options.wait, interrupt.signal))) {
      if (interrupt.name !== undefined) {
        return kExit.interrupted;
      }
      throw unavailable(
        publisher.info === undefined
          ? `no sidecar answers at ${options.address} within ${options.wait} ms; is one running? See \`outrigger run --help\``
          : `no subscriber came within ${options.wait} ms; start one, or publish without waiting (--wait 0)`,
      );
    }
    const started = performance.now();
    const sender = { publisher, signal: interrupt.signal };
    await (generated ? sendGenerated(sender, options) : sendLines(sender, input));
    await publisher.flush();
    const seconds = (performance.now() - started) / 1000;
    if (failure !== undefined) {
      throw failure;
    }
    const { stats } = publisher;
    const summary = {
      accepted: stats.accepted,
      refused: stats.refused,
      dropped: stats.dropped,
      unknown: stats.unknown,
      batches: stats.batches,
      seconds: Math.round(seconds * 1000) / 1000,
      msgsPerSecond: Math.round(stats.accepted / seconds),
      refusals: Object.fromEntries(refused),
      sessions,
    };
    if (options.json === true) {
      out.line(json(summary));
    } else if (generated || stats.refused + stats.dropped + stats.unknown > 0) {
      const reasons = [...refused].map(([status, count]) => `${grouped(count)} ${status}`).join(', ');
      process.stderr.write(
        `${grouped(stats.accepted)} accepted, ${grouped(stats.refused)} refused${reasons === '' ? '' : ` (${reasons})`}, ` +
          `${grouped(stats.dropped)} dropped, ${grouped(stats.unknown)} unknown in ${short(seconds)} s: ${grouped(summary.msgsPerSecond)} messages/s in ${grouped(stats.batches)} batches\n`,
      );
    }
    return stats.refused + stats.dropped + stats.unknown === 0 ? kExit.ok : kExit.failed;
  } finally {
    interrupt.stop();
    await client.close();
  }
}
