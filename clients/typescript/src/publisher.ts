// SPDX-License-Identifier: Apache-2.0
// One publisher: puts messages into batches, keeps several in flight, matches results, and opens its stream again when it breaks.
import { EventEmitter } from 'node:events';
import { Backoff, type ReconnectOptions } from './backoff';
import { BatchPool, Ticket, type Batch, type Receipt } from './batches';
import {
  decodePublishAnswer,
  encodePublishOpen,
  type BackPressure,
  type PublisherInfo,
  type PublishResult,
  type Target,
} from './codec';
import {
  BufferFullError,
  ClosedError,
  InternalError,
  OutcomeUnknownError,
  publishError,
  RpcCode,
  UnavailableError,
  type OutriggerError,
  type RefusedStatus,
  type RpcError,
} from './errors';
import type { Call, Channel } from './transport';

export interface PublisherOptions {
  /** What happens to a message that can't be taken now, by the transport or by this process (maxBufferedBytes). Default "wait". */
  readonly backPressure?: BackPressure;
  /** With "wait": how long the sidecar tries a batch, milliseconds. Default 5000. */
  readonly waitTimeoutMs?: number;
  /** An own session instead of one shared by all publishers of the topic in the sidecar. Default false. */
  readonly exclusive?: boolean;
  /** Longest batch, bytes of payload with their framing; a longer message travels alone. Default 64 KiB. */
  readonly maxBatchBytes?: number;
  /** Most messages in a batch. Default 4096. */
  readonly maxBatchMessages?: number;
  /** How long a message may wait for others to travel with, milliseconds. Default 0: until the end of the turn of the event loop. */
  readonly lingerMs?: number;
  /** Batches without a result, at a time. Default 32. */
  readonly maxInFlightBatches?: number;
  /** Payload bytes in this process that have no result yet; what comes beyond meets `backPressure`. Default 16 MiB. */
  readonly maxBufferedBytes?: number;
  /** How a broken stream is opened again; false: it fails at once. */
  readonly reconnect?: ReconnectOptions | false;
}

export interface PublisherEvents {
  /** The stream is open for the first time. */
  opened: [PublisherInfo];
  /** The stream, or the publication behind it, is open again: a new session, positions from its start. */
  reopened: [PublisherInfo];
  /** A first subscriber connected, or the last one left. */
  connected: [boolean];
  /** The stream broke; the next attempt follows after this many milliseconds. */
  reconnecting: [error: OutriggerError, delayMs: number];
  /** Messages were not accepted: of publish() and send() alike. */
  refused: [status: RefusedStatus | 'BUFFER_FULL', messages: number];
  /** It can't go on; everything that waits is rejected with this error, and everything later too. */
  failed: [OutriggerError];
}

export interface PublisherStats {
  accepted: number;
  refused: number;
  dropped: number;
  /** In flight when the connection broke. */
  unknown: number;
  batches: number;
}

interface Waiter {
  readonly payload: Uint8Array;
  readonly ticket: Ticket | undefined;
}

type Settings = Required<Omit<PublisherOptions, 'reconnect'>>;

const kDefaults: Settings = {
  backPressure: 'wait',
  waitTimeoutMs: 5000,
  exclusive: false,
  maxBatchBytes: 64 * 1024,
  maxBatchMessages: 4096,
  lingerMs: 0,
  maxInFlightBatches: 32,
  maxBufferedBytes: 16 * 1024 * 1024,
};
/** The longest message of the shortest term (64 KiB): longer ones travel alone until the real limit is known, so that one too long takes no other with it. */
const kAlwaysShortEnough = 8 * 1024;
/** Full batches handed to HTTP/2 before it has taken the ones before. A batch that is not full waits for all of them, and grows meanwhile. */
const kWritesAhead = 8;

function bytesOf(payload: Uint8Array | string): Uint8Array {
  return typeof payload === 'string' ? Buffer.from(payload, 'utf8') : payload;
}

export class Publisher extends EventEmitter<PublisherEvents> {
  readonly stats: PublisherStats = { accepted: 0, refused: 0, dropped: 0, unknown: 0, batches: 0 };
  private readonly settings: Settings;
  private readonly backoff: Backoff;
  private readonly pool: BatchPool;
  private call: Call | undefined;
  private infoNow: PublisherInfo | undefined;
  private connectedNow = false;
  private streamOpen = false;
  private usedUp = false;
  private openedOnce = false;
  private current: Batch | undefined;
  private currentDue = false;
  private lingering = false;
  private readonly full: Batch[] = [];
  /** A batch holds memory for maxBatchBytes however few messages it may take, so they count by that too. */
  private readonly maxFullBatches: number;
  private inFlight: Batch[] = [];
  private readonly waiters: Waiter[] = [];
  private writesPending = 0;
  private generation = 0;
  private sequence = 0;
  private bufferedBytes = 0;
  private enqueued = 0;
  private settled = 0;
  private readonly flushes: { target: number; resolve: () => void }[] = [];
  private readonly drains: (() => void)[] = [];
  /** Who waits for an event that will not come when it fails or is closed. */
  private readonly stops = new Set<(error: OutriggerError) => void>();
  private failure: OutriggerError | undefined;
  private closing: Promise<void> | undefined;
  private resolveEnded: () => void = () => undefined;
  private retryTimer: NodeJS.Timeout | undefined;

  /** Use OutriggerClient.publisher(). */
  constructor(
    private readonly channel: Channel,
    private readonly target: Target,
    options: PublisherOptions = {},
    private readonly onClosed: (publisher: Publisher) => void = () => undefined,
  ) {
    super();
    const { reconnect, ...settings } = options;
    this.settings = { ...kDefaults, ...settings };
    this.backoff = new Backoff(reconnect ?? {});
    this.pool = new BatchPool(this.settings.maxBatchBytes);
    const { maxBufferedBytes, maxBatchBytes, maxInFlightBatches } = this.settings;
    this.maxFullBatches = Math.max(maxInFlightBatches, Math.floor(maxBufferedBytes / maxBatchBytes));
    this.open();
  }

  /** Session and limits of the stream of now; undefined before the first one is open. */
  get info(): PublisherInfo | undefined {
    return this.infoNow;
  }

  /** A subscriber is connected, as far as the sidecar has said. */
  get connected(): boolean {
    return this.connectedNow;
  }

  /**
   * Publishes one message. Resolves when it is in the term buffer (sent, not yet delivered) or, under "drop", dropped; rejects with a
   * PublishError when it was refused, with OutcomeUnknownError when the connection broke meanwhile. The payload must stay as it is until then.
   */
  publish(payload: Uint8Array | string): Promise<Receipt> {
    return new Promise((resolve, reject) => this.enqueue(bytesOf(payload), new Ticket(1, resolve, reject)));
  }

  /** Publishes several messages in order; one result for all. Rejects at the first refusal, whose `accepted` says how many got through. */
  publishAll(payloads: readonly (Uint8Array | string)[]): Promise<Receipt> {
    return new Promise((resolve, reject) => {
      if (payloads.length === 0) {
        resolve({ accepted: 0, dropped: 0, position: 0n, sessionId: this.infoNow?.sessionId ?? 0 });
        return;
      }
      const ticket = new Ticket(payloads.length, resolve, reject);
      payloads.forEach((payload) => this.enqueue(bytesOf(payload), ticket));
    });
  }

  /**
   * Publishes one message without a promise: the fast way. Results are counted in `stats` and refusals told by the event "refused". False:
   * more than maxBufferedBytes wait now; go on after `drained()` ("wait"), or the message was not taken ("fail", "drop").
   * The payload is copied.
   */
  send(payload: Uint8Array | string): boolean {
    const before = this.waiters.length;
    const bytes = bytesOf(payload);
    const taken = this.enqueue(bytes, undefined);
    return taken && this.waiters.length === before && this.hasRoom();
  }

  /** Resolves when there is room after send() said false, or when the publisher has failed. */
  drained(): Promise<void> {
    return this.failure !== undefined || (this.waiters.length === 0 && this.hasRoom())
      ? Promise.resolve()
      : new Promise((resolve) => this.drains.push(resolve));
  }

  /** Resolves when every message of before has its result. */
  flush(): Promise<void> {
    if (this.settled >= this.enqueued || this.failure !== undefined) {
      return Promise.resolve();
    }
    this.currentDue = true;
    this.pump();
    return new Promise((resolve) => this.flushes.push({ target: this.enqueued, resolve }));
  }

  /** Resolves with its limits when the stream is open; rejects when it can't be. */
  ready(): Promise<PublisherInfo> {
    return this.until('opened', () => this.infoNow);
  }

  /** Resolves when a subscriber is connected. */
  async whenConnected(): Promise<void> {
    await this.until('connected', () => (this.connectedNow ? true : undefined));
  }

  /** Flushes, ends the stream in order (the last publisher of a topic in a sidecar ends the stream for its subscribers), and resolves then. */
  close(timeoutMs = 10_000): Promise<void> {
    this.closing ??= this.closeOnce(timeoutMs);
    return this.closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  private async closeOnce(timeoutMs: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const timeout = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, timeoutMs);
    });
    await Promise.race([timeout, this.flush()]);
    if (this.call !== undefined && this.settled >= this.enqueued) {
      const ended = new Promise<void>((resolve) => {
        this.resolveEnded = resolve;
      });
      this.call.halfClose();
      await Promise.race([timeout, ended]);
    }
    clearTimeout(timer);
    this.shut(new ClosedError('publisher'));
  }

  private until<T>(event: 'opened' | 'connected', value: () => T | undefined): Promise<T> {
    return new Promise((resolve, reject) => {
      const done = value();
      if (this.failure !== undefined) {
        reject(this.failure);
      } else if (done !== undefined) {
        resolve(done);
      } else {
        const check = (): void => {
          const now = value();
          if (now !== undefined) {
            stop();
            resolve(now);
          }
        };
        const fail = (error: OutriggerError): void => {
          stop();
          reject(error);
        };
        const stop = (): void => {
          this.off(event, check);
          this.stops.delete(fail);
        };
        this.on(event, check);
        this.stops.add(fail);
      }
    });
  }

  private open(): void {
    const generation = ++this.generation;
    const current = (): boolean => generation === this.generation && this.failure === undefined;
    this.writesPending = 0;
    const call = this.channel.open('Publish', {
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
    call.write(
      encodePublishOpen({
        target: this.target,
        backPressure: this.settings.backPressure,
        waitTimeoutMs: this.settings.waitTimeoutMs,
        exclusive: this.settings.exclusive,
      }),
    );
  }

  private onAnswer(bytes: Buffer): void {
    let answer;
    try {
      answer = decodePublishAnswer(bytes);
    } catch (error) {
      this.protocolFault((error as Error).message);
      return;
    }
    switch (answer.kind) {
      case 'result':
        this.onResult(answer);
        break;
      case 'opened':
        this.infoNow = answer.info;
        this.streamOpen = true;
        this.backoff.reset();
        this.emit(this.openedOnce ? 'reopened' : 'opened', answer.info);
        this.openedOnce = true;
        this.pump();
        break;
      case 'reopened':
        this.infoNow = answer.info;
        this.emit('reopened', answer.info);
        break;
      case 'connected':
        this.setConnected(answer.connected);
        break;
      case 'other':
        break; // an answer of a later version
    }
  }

  private setConnected(connected: boolean): void {
    if (this.connectedNow !== connected) {
      this.connectedNow = connected;
      this.emit('connected', connected);
    }
  }

  private protocolFault(what: string): void {
    this.call?.cancel();
    this.fail(
      new InternalError(RpcCode.INTERNAL, `the sidecar's answer can't be read: ${what}`, {
        reason: 'BAD_ANSWER',
      }),
    );
  }

  private onResult(result: PublishResult): void {
    const batch = this.inFlight.shift();
    if (batch?.sequence !== result.sequence) {
      this.protocolFault(
        `result of batch ${result.sequence} where ${batch === undefined ? 'none' : `that of batch ${batch.sequence}`} was due`,
      );
      return;
    }
    const rest = batch.count - result.accepted;
    this.stats.accepted += result.accepted;
    this.stats.dropped += result.dropped;
    this.stats.refused += rest - result.dropped;
    const status = result.status;
    const maximum = this.infoNow?.maxMessageBytes;
    batch.answered(result, this.infoNow?.sessionId ?? 0, (accepted) =>
      publishError(status === 'ACCEPTED' ? 'BACK_PRESSURED' : status, accepted, maximum),
    );
    if (rest > 0 && status !== 'ACCEPTED') {
      this.emit('refused', status, rest);
    }
    this.account(batch);
    if (status === 'MAX_POSITION_EXCEEDED') {
      this.streamOpen = false; // the positions of its stream are used up: once all is answered, a new call gets a new publication
      this.usedUp = true;
    }
    if (this.usedUp && this.inFlight.length === 0 && this.closing === undefined) {
      this.usedUp = false;
      this.call?.halfClose();
      this.open();
    }
    this.pump();
  }

  /** The messages of a batch have their results. */
  private account(batch: Batch): void {
    this.bufferedBytes -= batch.writer.bytes;
    this.settled += batch.count;
    this.pool.give(batch);
    this.admitWaiters();
    while (this.flushes.length > 0 && (this.flushes[0] as { target: number }).target <= this.settled) {
      this.flushes.shift()?.resolve();
    }
    if (this.waiters.length === 0 && this.hasRoom()) {
      this.drains.splice(0).forEach((resolve) => resolve());
    }
  }

  private hasRoom(): boolean {
    return this.bufferedBytes < this.settings.maxBufferedBytes && this.full.length < this.maxFullBatches;
  }

  private admitWaiters(): void {
    let waiter: Waiter | undefined;
    while (this.hasRoom() && (waiter = this.waiters.shift()) !== undefined) {
      this.append(waiter.payload, waiter.ticket);
    }
  }

  private enqueue(payload: Uint8Array, ticket: Ticket | undefined): boolean {
    const failure = this.failure ?? (this.closing === undefined ? undefined : new ClosedError('publisher'));
    if (failure !== undefined) {
      ticket?.refused(1, failure);
      return false;
    }
    const maximum = this.infoNow?.maxMessageBytes;
    if (maximum !== undefined && payload.length > maximum) {
      this.refuse('MESSAGE_TOO_LONG', ticket, maximum);
      return false;
    }
    if (this.waiters.length === 0 && this.hasRoom()) {
      this.enqueued++;
      this.append(payload, ticket);
      return true;
    }
    if (this.settings.backPressure === 'wait') {
      this.enqueued++;
      this.waiters.push({ payload: ticket === undefined ? Buffer.from(payload) : payload, ticket });
      return true;
    }
    this.refuse('BUFFER_FULL', ticket, undefined);
    return false;
  }

  private refuse(
    status: 'MESSAGE_TOO_LONG' | 'BUFFER_FULL',
    ticket: Ticket | undefined,
    maximum: number | undefined,
  ): void {
    if (status === 'BUFFER_FULL' && this.settings.backPressure === 'drop') {
      this.stats.dropped++;
      ticket?.took(0, 1, 0n, 0);
      return;
    }
    this.stats.refused++;
    const accepted = ticket?.acceptedSoFar ?? 0;
    ticket?.refused(
      1,
      status === 'MESSAGE_TOO_LONG'
        ? publishError(status, accepted, maximum)
        : new BufferFullError(
            status,
            `more than ${this.settings.maxBufferedBytes} bytes wait for their result; send more slowly, or raise maxBufferedBytes`,
            accepted,
            true,
          ),
    );
    this.emit('refused', status, 1);
  }

  private append(payload: Uint8Array, ticket: Ticket | undefined): void {
    const alone = this.infoNow === undefined && payload.length > kAlwaysShortEnough;
    if (this.current !== undefined && (alone || !this.current.writer.fits(payload.length))) {
      this.seal();
    }
    const batch = (this.current ??= this.pool.take(payload.length));
    const before = batch.writer.bytes;
    batch.append(payload, ticket);
    this.bufferedBytes += batch.writer.bytes - before;
    if (alone || batch.count >= this.settings.maxBatchMessages) {
      this.seal();
      this.pump();
    } else {
      this.linger();
    }
  }

  private seal(): void {
    if (this.current !== undefined) {
      this.full.push(this.current);
      this.current = undefined;
      this.currentDue = false;
    }
  }

  private linger(): void {
    if (this.lingering) {
      return;
    }
    this.lingering = true;
    const due = (): void => {
      this.lingering = false;
      this.currentDue = true;
      this.pump();
    };
    if (this.settings.lingerMs > 0) {
      setTimeout(due, this.settings.lingerMs);
    } else {
      setImmediate(due);
    }
  }

  private pump(): void {
    const { call } = this;
    while (call !== undefined && this.streamOpen && this.inFlight.length < this.settings.maxInFlightBatches) {
      let batch: Batch | undefined;
      if (this.full.length > 0) {
        batch = this.writesPending < kWritesAhead ? this.full.shift() : undefined;
      } else if (this.currentDue && this.writesPending === 0) {
        batch = this.current;
        this.current = undefined;
        this.currentDue = false;
      }
      if (batch === undefined) {
        return;
      }
      batch.sequence = ++this.sequence;
      this.inFlight.push(batch);
      this.stats.batches++;
      this.writesPending++;
      const { generation } = this;
      call.write(batch.writer.finish(batch.sequence), () => {
        if (generation === this.generation) {
          this.writesPending--;
          this.pump();
        }
      });
    }
  }

  private onEnd(ended: RpcError | undefined): void {
    this.call = undefined;
    this.streamOpen = false;
    this.setConnected(false);
    if (this.closing !== undefined && this.settled >= this.enqueued) {
      this.resolveEnded();
      return;
    }
    const error =
      ended ??
      new UnavailableError(
        RpcCode.UNAVAILABLE,
        'the sidecar ended the stream',
        { reason: 'STREAM_ENDED' },
        true,
      );
    const lost = this.inFlight;
    this.inFlight = [];
    for (const batch of lost) {
      this.stats.unknown += batch.count;
      batch.failed(new OutcomeUnknownError(error));
      this.account(batch);
    }
    const delayMs = error.retryable ? this.backoff.next() : undefined;
    if (delayMs === undefined) {
      this.fail(error);
      return;
    }
    this.emit('reconnecting', error, delayMs);
    this.retryTimer = setTimeout(() => this.open(), delayMs);
  }

  private fail(error: OutriggerError): void {
    if (this.failure === undefined) {
      this.shut(error);
      this.emit('failed', error);
    }
  }

  private shut(error: OutriggerError): void {
    if (this.failure !== undefined) {
      return;
    }
    this.failure = error;
    clearTimeout(this.retryTimer);
    this.call?.cancel();
    this.call = undefined;
    this.setConnected(false);
    const unknown = this.inFlight.splice(0);
    unknown.forEach((batch) => {
      this.stats.unknown += batch.count;
      batch.failed(new OutcomeUnknownError(error));
    });
    this.seal();
    for (const batch of this.full.splice(0)) {
      this.stats.refused += batch.count;
      batch.failed(error);
    }
    for (const { ticket } of this.waiters.splice(0)) {
      this.stats.refused++;
      ticket?.refused(1, error);
    }
    this.settled = this.enqueued;
    this.flushes.splice(0).forEach(({ resolve }) => resolve());
    this.drains.splice(0).forEach((resolve) => resolve());
    [...this.stops].forEach((stop) => stop(error));
    this.resolveEnded();
    this.onClosed(this);
  }
}
