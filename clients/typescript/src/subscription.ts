// SPDX-License-Identifier: Apache-2.0
// One subscription: grants credit as batches are consumed, hands batches and events on in order, joins again when its stream breaks.
import { EventEmitter } from 'node:events';
import { Backoff, type ReconnectOptions } from './backoff';
import {
  decodeSubscribeAnswer,
  encodeCredit,
  encodeSubscribeOpen,
  type Gap,
  type ImageAvailable,
  type ImageUnavailable,
  type Lagging,
  type MessageBatch,
  type SlowPolicy,
  type Target,
} from './codec';
import { InternalError, RpcCode, UnavailableError, type OutriggerError, type RpcError } from './errors';
import type { Call, Channel } from './transport';

export interface SubscriptionOptions {
  /** What happens when this program does not keep up. Default "block": the publisher slows down with it. */
  readonly slowPolicy?: SlowPolicy;
  /** With "disconnectAfter": milliseconds without credit. Default 10000. */
  readonly disconnectAfterMs?: number;
  /** Messages on their way or unread in this process, at most. Default 65536. */
  readonly windowMessages?: number;
  /** Their payload bytes. Default 4 MiB. */
  readonly windowBytes?: number;
  /** Longest batch, bytes. Default: the sidecar's (256 KiB). */
  readonly maxBatchBytes?: number;
  /** How a broken stream is opened again; false: it fails at once. */
  readonly reconnect?: ReconnectOptions | false;
}

/** The stream broke; the next attempt follows. What is missed meanwhile shows as a gap, or as other sessions. */
export interface Reconnecting {
  readonly kind: 'reconnecting';
  readonly error: OutriggerError;
  readonly delayMs: number;
}

/** The stream is open again. */
export interface Reopened {
  readonly kind: 'reopened';
}

export type SubscriptionEvent = ImageAvailable | ImageUnavailable | Gap | Lagging | Reconnecting | Reopened;
export type SubscriptionItem = MessageBatch | SubscriptionEvent;

export interface Message {
  readonly payload: Buffer;
  readonly sessionId: number;
  readonly streamId: number;
}

export interface SubscriptionEvents {
  /** An event has its turn: everything before it was consumed. So events come as fast as the messages are iterated. */
  event: [SubscriptionEvent];
}

const kDefaults = {
  slowPolicy: 'block' as SlowPolicy,
  disconnectAfterMs: 10_000,
  windowMessages: 65_536,
  windowBytes: 4 * 1024 * 1024,
  maxBatchBytes: 0,
};

interface Weight {
  messages: number;
  bytes: number;
}

function weightOf(batch: MessageBatch): Weight {
  let bytes = 0;
  for (const message of batch.messages) {
    bytes += message.length;
  }
  return { messages: batch.messages.length, bytes };
}

export class Subscription extends EventEmitter<SubscriptionEvents> implements AsyncIterable<Message> {
  readonly stats = { messages: 0, bytes: 0, batches: 0, gaps: 0 };
  private readonly settings: typeof kDefaults;
  private readonly backoff: Backoff;
  private call: Call | undefined;
  private generation = 0;
  private openedOnce = false;
  private readonly queue: SubscriptionItem[] = [];
  private readonly waiting: ((item: SubscriptionItem | undefined) => void)[] = [];
  private readonly openWaiters: { resolve: () => void; reject: (error: OutriggerError) => void }[] = [];
  private streamOpen = false;
  /** Received and not consumed. */
  private readonly unread: Weight = { messages: 0, bytes: 0 };
  /** Consumed and not granted again. */
  private readonly owed: Weight = { messages: 0, bytes: 0 };
  /** Handed out by the last next(): consumed when the following one is asked for. */
  private lent: Weight | undefined;
  /** Where each live session stands. */
  private readonly images = new Map<number, bigint>();
  /** Sessions that were live when the stream broke. */
  private readonly lost = new Map<number, bigint>();
  private failure: OutriggerError | undefined;
  private over = false;
  private retryTimer: NodeJS.Timeout | undefined;

  /** Use OutriggerClient.subscribe(). */
  constructor(
    private readonly channel: Channel,
    private readonly target: Target,
    options: SubscriptionOptions = {},
    private readonly onClosed: (subscription: Subscription) => void = () => undefined,
  ) {
    super();
    const { reconnect, ...settings } = options;
    this.settings = { ...kDefaults, ...settings };
    this.backoff = new Backoff(reconnect ?? {});
    this.open();
  }

  /** Sessions that are received now. */
  get sessions(): readonly number[] {
    return [...this.images.keys()];
  }

  /** Resolves when the sidecar has opened it: messages published from now on arrive. */
  ready(): Promise<void> {
    if (this.failure !== undefined) {
      return Promise.reject(this.failure);
    }
    return this.streamOpen
      ? Promise.resolve()
      : new Promise((resolve, reject) => this.openWaiters.push({ resolve, reject }));
  }

  /** Batches and events, in order. Ends at close(); throws when the subscription fails. Leaving the loop closes the subscription. */
  items(): AsyncIterableIterator<SubscriptionItem> {
    return this.iterate((item) => item);
  }

  /** Batches only: the fast way. Events are told by `on("event")` in their turn. */
  batches(): AsyncIterableIterator<MessageBatch> {
    return this.iterate((item) => (item.kind === 'batch' ? item : undefined));
  }

  /** Message by message. */
  [Symbol.asyncIterator](): AsyncIterableIterator<Message> {
    const batches = this.batches();
    let batch: MessageBatch | undefined;
    let at = 0;
    const next = async (): Promise<IteratorResult<Message>> => {
      while (batch === undefined || at >= batch.messages.length) {
        const result = await batches.next();
        if (result.done === true) {
          return { done: true, value: undefined };
        }
        batch = result.value;
        at = 0;
      }
      const { sessionId, streamId } = batch;
      return { done: false, value: { payload: batch.messages[at++] as Buffer, sessionId, streamId } };
    };
    const iterator: AsyncIterableIterator<Message> = {
      next,
      return: async () => {
        await batches.return?.();
        return { done: true, value: undefined };
      },
      [Symbol.asyncIterator]: () => iterator,
    };
    return iterator;
  }

  /** Ends it; iterations end after what they have. */
  close(): void {
    this.shut(undefined);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  private iterate<T>(pick: (item: SubscriptionItem) => T | undefined): AsyncIterableIterator<T> {
    const iterator: AsyncIterableIterator<T> = {
      next: async () => {
        for (;;) {
          const item = this.queue.length > 0 ? this.take() : await this.arrival();
          if (item === undefined) {
            if (this.failure !== undefined) {
              throw this.failure;
            }
            return { done: true, value: undefined };
          }
          const picked = pick(item);
          if (picked !== undefined) {
            return { done: false, value: picked };
          }
        }
      },
      return: () => {
        this.close();
        return Promise.resolve({ done: true, value: undefined });
      },
      [Symbol.asyncIterator]: () => iterator,
    };
    return iterator;
  }

  private arrival(): Promise<SubscriptionItem | undefined> {
    this.giveBack();
    return this.over
      ? Promise.resolve(undefined)
      : new Promise((resolve) =>
          this.waiting.push((item) => resolve(item === undefined ? undefined : this.lend(item))),
        );
  }

  private take(): SubscriptionItem {
    this.giveBack();
    return this.lend(this.queue.shift() as SubscriptionItem);
  }

  private lend(item: SubscriptionItem): SubscriptionItem {
    if (item.kind === 'batch') {
      this.lent = weightOf(item);
    } else {
      this.emit('event', item);
    }
    return item;
  }

  /** What was handed out is consumed: its credit is granted anew, a quarter of the window at a time. */
  private giveBack(): void {
    const { lent, owed, unread } = this;
    if (lent === undefined) {
      return;
    }
    this.lent = undefined;
    unread.messages -= lent.messages;
    unread.bytes -= lent.bytes;
    owed.messages += lent.messages;
    owed.bytes += lent.bytes;
    this.grant();
  }

  private grant(): void {
    const { owed, settings } = this;
    if (
      this.streamOpen &&
      (owed.messages >= settings.windowMessages / 4 || owed.bytes >= settings.windowBytes / 4)
    ) {
      this.call?.write(encodeCredit(owed.messages, owed.bytes));
      owed.messages = 0;
      owed.bytes = 0;
    }
  }

  private open(): void {
    const generation = ++this.generation;
    const current = (): boolean => generation === this.generation && !this.over;
    const call = this.channel.open('Subscribe', {
      onAnswer: (answer) => {
        if (current()) {
          this.onAnswer(answer);
        }
      },
      onEnd: (error) => {
        if (current()) {
          this.onEnd(error);
        }
      },
    });
    this.call = call;
    this.owed.messages = 0;
    this.owed.bytes = 0;
    // What is unread from before keeps its part of the window until it is consumed; a window of 0 would never open again.
    call.write(
      encodeSubscribeOpen({
        target: this.target,
        slowPolicy: this.settings.slowPolicy,
        disconnectAfterMs: this.settings.disconnectAfterMs,
        maxBatchBytes: this.settings.maxBatchBytes,
        creditMessages: Math.max(this.settings.windowMessages - this.unread.messages, 0),
        creditBytes: Math.max(this.settings.windowBytes - this.unread.bytes, 0),
      }),
    );
  }

  private onAnswer(bytes: Buffer): void {
    let answer;
    try {
      answer = decodeSubscribeAnswer(bytes);
    } catch (error) {
      this.shut(
        new InternalError(
          RpcCode.INTERNAL,
          `the sidecar's answer can't be read: ${(error as Error).message}`,
          { reason: 'BAD_ANSWER' },
        ),
      );
      return;
    }
    switch (answer.kind) {
      case 'batch': {
        const weight = weightOf(answer);
        this.unread.messages += weight.messages;
        this.unread.bytes += weight.bytes;
        this.stats.messages += weight.messages;
        this.stats.bytes += weight.bytes;
        this.stats.batches++;
        this.images.set(answer.sessionId, answer.position);
        this.push(answer);
        break;
      }
      case 'opened':
        this.streamOpen = true;
        this.backoff.reset();
        if (this.openedOnce) {
          this.push({ kind: 'reopened' });
        }
        this.openedOnce = true;
        this.grant(); // of what was consumed while it opened
        this.openWaiters.splice(0).forEach(({ resolve }) => resolve());
        break;
      case 'imageAvailable':
        this.push(answer);
        this.joined(answer);
        break;
      case 'imageUnavailable':
        this.images.delete(answer.sessionId);
        this.push(answer);
        break;
      case 'gap':
        this.stats.gaps++;
        this.push(answer);
        break;
      case 'lagging':
        this.push(answer);
        break;
      case 'other':
        break; // an answer of a later version
    }
  }

  /** A session that went on while the stream was broken: what lies between is missing, and says so. */
  private joined(image: ImageAvailable): void {
    const before = this.lost.get(image.sessionId);
    this.lost.delete(image.sessionId);
    this.images.set(image.sessionId, image.joinPosition);
    if (before !== undefined && before !== image.joinPosition) {
      this.stats.gaps++;
      this.push({
        kind: 'gap',
        sessionId: image.sessionId,
        fromPosition: before,
        toPosition: image.joinPosition,
        messages: 0,
        reason: 'REJOINED',
      });
    }
  }

  private push(item: SubscriptionItem): void {
    const waiter = this.waiting.shift();
    if (waiter === undefined) {
      this.queue.push(item);
    } else {
      waiter(item);
    }
  }

  private onEnd(ended: RpcError | undefined): void {
    this.call = undefined;
    this.streamOpen = false;
    const error =
      ended ??
      new UnavailableError(
        RpcCode.UNAVAILABLE,
        'the sidecar ended the stream',
        { reason: 'STREAM_ENDED' },
        true,
      );
    const delayMs = error.retryable ? this.backoff.next() : undefined;
    if (delayMs === undefined) {
      this.shut(error);
      return;
    }
    for (const [sessionId, position] of this.images) {
      this.lost.set(sessionId, position);
      this.push({ kind: 'imageUnavailable', sessionId, position, reason: 'CONNECTION_LOST' });
    }
    this.images.clear();
    this.push({ kind: 'reconnecting', error, delayMs });
    this.retryTimer = setTimeout(() => this.open(), delayMs);
  }

  private shut(error: OutriggerError | undefined): void {
    if (this.over) {
      return;
    }
    this.over = true;
    this.failure = error;
    this.streamOpen = false;
    clearTimeout(this.retryTimer);
    this.call?.cancel();
    this.call = undefined;
    this.images.clear();
    const closed =
      error ??
      new UnavailableError(RpcCode.CANCELLED, 'the subscription is closed', { reason: 'CLIENT_CLOSED' });
    this.openWaiters.splice(0).forEach(({ reject }) => reject(closed));
    this.waiting.splice(0).forEach((waiter) => waiter(undefined));
    this.onClosed(this);
  }
}
