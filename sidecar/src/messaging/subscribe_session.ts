// SPDX-License-Identifier: Apache-2.0
// One subscribe stream: open, credit, batches and events passed through, a rejoin with an explicit gap when the driver comes back.
import type { Config } from '../config/schema';
import type { DriverLink } from '../driver/driver_link';
import type { DuplexHandlers, DuplexStream } from '../grpc/duplex_stream';
import {
  gap,
  imageUnavailable,
  kGapRejoined,
  kImageEndDriverLost,
  readSubscribeRequest,
  subscribeOpened,
  summarizeResponse,
  type CreditMessage,
  type SubscribeOpenMessage,
} from '../grpc/codec';
import { invalidArgument, RpcCode, RpcError } from '../grpc/rpc_error';
import type { Totals, TopicTotals } from '../metrics/topic_totals';
import type { NativeClient, NativeSubscription, SlowPolicy, SubscriptionOptions } from '../native/types';
import type { TopicStore } from '../topics/topic_store';
import type { Access, TopicAccess } from './topic_access';
import { driverAway, fromNative, notOpened, resolveTarget, routeForSubscriber } from './targets';

export interface SubscribeDependencies {
  readonly config: Config;
  readonly topics: TopicStore;
  readonly link: DriverLink;
  readonly totals: TopicTotals;
  readonly access: TopicAccess;
  readonly onClosed: (session: SubscribeSession) => void;
}

const kPolicies: readonly SlowPolicy[] = ['BLOCK', 'BLOCK', 'DISCONNECT_AFTER', 'SKIP'];
const kDefaultDisconnectMs = 10_000;
const kMaxDisconnectMs = 600_000;
const kMaxBatchBytes = 4 * 1024 * 1024; // what gRPC clients take by default
/** Messages on their way to one subscriber at a time, beside the bytes of `subscriberBuffer`. */
const kMessageWindow = 1 << 20;

type OpenOptions = Omit<SubscriptionOptions, 'onResponses' | 'onEnd'>;

interface Figures {
  messages: bigint;
  bytes: bigint;
  skipped: bigint;
  gaps: bigint;
}

export class SubscribeSession implements DuplexHandlers {
  label = '';
  private totals: Totals | undefined;
  private access: Access | undefined;
  private options: OpenOptions | undefined;
  private native: NativeSubscription | undefined;
  private opening = false;
  private openTimer: NodeJS.Timeout | undefined;
  private announced = false;
  private early: Buffer[] = [];
  private ended = false;
  private congested = false;
  /** What the client granted and the native side does not have yet. */
  private readonly credit = { messages: 0, bytes: 0 };
  /** What the native side has been granted and has not used. */
  private readonly outstanding = { messages: 0, bytes: 0 };
  private seen: Figures = { messages: 0n, bytes: 0n, skipped: 0n, gaps: 0n };
  /** Position after the last delivered message of each live image. */
  private readonly images = new Map<number, bigint>();
  /** Addresses that the live images come from. */
  private readonly imageSources = new Map<number, string>();
  /** Images that ended with the driver: where they stood. */
  private readonly lost = new Map<number, bigint>();
  private readonly imageWaiters: { sessions: ReadonlySet<number>; resolve: () => void }[] = [];
  /** Which opening of the subscription a callback belongs to. */
  private generation = 0;
  private closedPromise: Promise<void> = Promise.resolve();
  readonly figures = { messages: 0, bytes: 0, skipped: 0 };
  private readonly onDown = (): void => this.driverLost();
  private readonly onUp = (client: NativeClient): void => void this.subscribe(client);

  constructor(
    private readonly stream: DuplexStream,
    private readonly deps: SubscribeDependencies,
  ) {}

  start(): void {
    const { openTimeout } = this.deps.config;
    this.openTimer = setTimeout(() => this.fail(notOpened(openTimeout)), openTimeout);
    this.stream.start(this);
  }

  get peer(): string {
    return this.stream.peer;
  }

  get streamId(): number {
    return this.options?.streamId ?? 0;
  }

  get imageCount(): number {
    return this.images.size;
  }

  /** Where its images come from: host:port of each publisher. */
  get sources(): readonly string[] {
    return [...this.imageSources.values()];
  }

  get policy(): SlowPolicy {
    return this.options?.slowPolicy ?? 'BLOCK';
  }

  /** Resolves when its subscription is closed. */
  get released(): Promise<void> {
    return this.closedPromise;
  }

  /** Resolves when it receives none of these publisher sessions any more, or has ended. */
  withoutImagesOf(sessions: ReadonlySet<number>): Promise<void> {
    return this.ended || !this.receivesOneOf(sessions)
      ? Promise.resolve()
      : new Promise((resolve) => this.imageWaiters.push({ sessions, resolve }));
  }

  /** Ends the stream after what it was already given. */
  finish(error: RpcError): void {
    this.fail(error);
  }

  onRequest(request: Buffer): void {
    if (this.ended) {
      return;
    }
    const read = readSubscribeRequest(request);
    if (read.kind === 'malformed') {
      this.fail(invalidArgument('request', 'is neither open nor credit'));
    } else if (read.kind === 'open') {
      if (this.options !== undefined || this.opening) {
        this.fail(invalidArgument('open', 'stands twice; only the first request of a stream may be open'));
        return;
      }
      clearTimeout(this.openTimer);
      void this.open(read.open);
    } else if (this.options === undefined) {
      this.fail(
        new RpcError(RpcCode.FAILED_PRECONDITION, 'the first request of a subscribe stream must be open', {
          reason: 'NOT_OPEN',
        }),
      );
    } else {
      this.grant(read.credit);
    }
  }

  onHalfClose(): void {
    // No more credit will come. What was granted is still delivered; the client ends the stream when it has enough.
  }

  onCancel(): void {
    this.leave();
  }

  onDrain(): void {
    this.congested = false;
    this.pump();
  }

  private async open(open: SubscribeOpenMessage): Promise<void> {
    try {
      const slowPolicy = kPolicies[open.slowPolicy];
      if (slowPolicy === undefined) {
        throw invalidArgument('open.slow_policy', `is ${open.slowPolicy}; allowed: 0 to 3`);
      }
      if (open.disconnectAfterMs > kMaxDisconnectMs) {
        throw invalidArgument(
          'open.disconnect_after_ms',
          `is ${open.disconnectAfterMs}; allowed: 1 to ${kMaxDisconnectMs}`,
        );
      }
      if (open.maxBatchBytes > kMaxBatchBytes) {
        throw invalidArgument(
          'open.max_batch_bytes',
          `is ${open.maxBatchBytes}; allowed: 0 to ${kMaxBatchBytes}`,
        );
      }
      this.opening = true;
      this.access = await this.deps.access.open(open.target, 'subscriber');
      this.opening = false;

      if (this.ended) {
        this.access.close();
        return;
      }
      const target = resolveTarget(open.target, this.deps.topics, this.deps.config);
      const route = routeForSubscriber(target, this.deps.config);
      const client = this.deps.link.client;
      if (client === undefined) {
        throw driverAway(this.deps.link.lastReason);
      }
      this.options = {
        channel: route.channel,
        streamId: route.streamId,
        slowPolicy,
        disconnectAfterMs: open.disconnectAfterMs === 0 ? kDefaultDisconnectMs : open.disconnectAfterMs,
        maxBatchBytes: open.maxBatchBytes === 0 ? this.deps.config.maxBatchBytes : open.maxBatchBytes,
      };
      this.label = target.label;
      this.totals = this.deps.totals.of(target.label);
      this.totals.subscribeStreams++;
      this.deps.link.on('down', this.onDown);
      this.deps.link.on('up', this.onUp);
      if (open.initialCredit !== undefined) {
        this.grant(open.initialCredit);
      }
      await this.subscribe(client);
    } catch (error) {
      this.fail(fromNative(error));
    }
  }

  private async subscribe(client: NativeClient): Promise<void> {
    if (this.ended || this.options === undefined) {
      return;
    }
    const generation = ++this.generation;
    const current = (): boolean => generation === this.generation && !this.ended;
    this.opening = true;
    this.seen = { messages: 0n, bytes: 0n, skipped: 0n, gaps: 0n };
    let native: NativeSubscription;
    try {
      native = await client.addSubscription({
        ...this.options,
        onResponses: (responses) => {
          if (current()) {
            this.deliver(responses);
          }
        },
        onEnd: (reason) => {
          if (current()) {
            this.nativeEnded(reason);
          }
        },
      });
    } catch (error) {
      if (current() && this.deps.link.client === client) {
        this.fail(fromNative(error));
      }
      return;
    }
    if (!current()) {
      await native.close().catch(() => undefined);
      return;
    }
    this.native = native;
    this.opening = false;
    if (!this.announced) {
      this.announced = true;
      this.write(subscribeOpened(native.streamId));
    }
    const early = this.early;
    this.early = [];
    this.deliver(early);
    this.pump();
  }

  private grant(credit: CreditMessage): void {
    this.credit.messages = Math.min(this.credit.messages + credit.messages, Number.MAX_SAFE_INTEGER);
    this.credit.bytes = Math.min(this.credit.bytes + credit.bytes, Number.MAX_SAFE_INTEGER);
    this.pump();
  }

  /** Hands credit on, never more than the window: a client that grants without end and does not read can't fill our memory. */
  private pump(): void {
    const native = this.native;
    if (native === undefined || this.congested || this.ended) {
      return;
    }
    const messages = Math.max(Math.min(this.credit.messages, kMessageWindow - this.outstanding.messages), 0);
    const bytes = Math.max(
      Math.min(this.credit.bytes, this.deps.config.subscriberBuffer - this.outstanding.bytes),
      0,
    );
    if (messages === 0 && bytes === 0) {
      return;
    }
    this.credit.messages -= messages;
    this.credit.bytes -= bytes;
    this.outstanding.messages += messages;
    this.outstanding.bytes += bytes;
    native.addCredit(messages, bytes);
  }

  private deliver(responses: readonly Buffer[]): void {
    if (this.native === undefined) {
      this.early.push(...responses);
      return;
    }
    for (const response of responses) {
      const summary = summarizeResponse(response);
      this.write(response);
      if (summary.kind === 'batch') {
        this.images.set(summary.sessionId, summary.position);
      } else if (summary.kind === 'available') {
        this.imageSources.set(summary.sessionId, summary.source);
        this.joined(summary.sessionId, summary.joinPosition);
      } else if (summary.kind === 'unavailable') {
        this.imageGone(summary.sessionId);
      }
    }
    this.account();
    this.pump();
  }

  private joined(sessionId: number, joinPosition: bigint): void {
    this.images.set(sessionId, joinPosition);
    const before = this.lost.get(sessionId);
    if (before !== undefined) {
      this.lost.delete(sessionId);
      if (before !== joinPosition) {
        this.gap(sessionId, before, joinPosition);
      }
    }
  }

  private receivesOneOf(sessions: ReadonlySet<number>): boolean {
    return [...this.images.keys()].some((each) => sessions.has(each));
  }

  private imageGone(sessionId: number): void {
    this.images.delete(sessionId);
    this.imageSources.delete(sessionId);
    for (const waiter of this.imageWaiters.splice(0)) {
      if (this.receivesOneOf(waiter.sessions)) {
        this.imageWaiters.push(waiter);
      } else {
        waiter.resolve();
      }
    }
  }

  private gap(sessionId: number, from: bigint, to: bigint): void {
    (this.totals as Totals).gaps++;
    this.write(gap(sessionId, from, to, kGapRejoined));
  }

  /** Brings totals and outstanding credit up to what the native side has done; once a burst. */
  private account(): void {
    const native = this.native;
    if (native === undefined) {
      return;
    }
    const stats = native.stats();
    const messages = Number(stats.messages - this.seen.messages);
    const bytes = Number(stats.bytes - this.seen.bytes);
    const skipped = Number(stats.skipped - this.seen.skipped);
    const totals = this.totals as Totals;
    totals.deliveredMessages += messages;
    totals.deliveredBytes += bytes;
    totals.skippedMessages += skipped;
    totals.gaps += Number(stats.gaps - this.seen.gaps);
    this.figures.messages += messages;
    this.figures.bytes += bytes;
    this.figures.skipped += skipped;
    this.outstanding.messages = Math.max(this.outstanding.messages - messages, 0);
    this.outstanding.bytes = Math.max(this.outstanding.bytes - bytes, 0);
    this.seen = { messages: stats.messages, bytes: stats.bytes, skipped: stats.skipped, gaps: stats.gaps };
  }

  private nativeEnded(reason: 'SLOW' | 'DRIVER_LOST' | 'CLOSED'): void {
    if (reason === 'DRIVER_LOST') {
      this.driverLost();
    } else if (reason === 'SLOW') {
      (this.totals as Totals).slowDisconnects++;
      const ms = this.options?.disconnectAfterMs ?? 0;
      this.fail(
        new RpcError(
          RpcCode.DEADLINE_EXCEEDED,
          `no credit for ${ms} ms while messages waited (policy DISCONNECT_AFTER); grant credit as batches are consumed`,
          {
            reason: 'SLOW_SUBSCRIBER',
            metadata: { disconnectAfterMs: `${ms}` },
          },
        ),
      );
    } else {
      this.fail(
        new RpcError(RpcCode.UNAVAILABLE, 'the subscription was closed by the driver; open it again', {
          reason: 'SUBSCRIPTION_CLOSED',
        }),
      );
    }
  }

  /** Says so for every image; the subscription opens again when the driver is back. */
  private driverLost(): void {
    if (this.ended || (this.native === undefined && !this.opening)) {
      return;
    }
    this.account();
    this.generation++;
    this.native = undefined;
    this.opening = false;
    this.early = [];
    this.credit.messages += this.outstanding.messages;
    this.credit.bytes += this.outstanding.bytes;
    this.outstanding.messages = 0;
    this.outstanding.bytes = 0;
    for (const [sessionId, position] of this.images) {
      this.lost.set(sessionId, position);
      this.write(imageUnavailable(sessionId, position, kImageEndDriverLost));
    }
    this.images.clear();
    this.imageSources.clear();
  }

  private write(response: Buffer): void {
    if (!this.ended && !this.stream.write(response)) {
      this.congested = true;
    }
  }

  private fail(error: RpcError): void {
    if (!this.ended) {
      this.leave();
      this.stream.end(error);
    }
  }

  private leave(): void {
    if (this.ended) {
      return;
    }
    this.account();
    this.ended = true;
    clearTimeout(this.openTimer);
    this.imageWaiters.splice(0).forEach(({ resolve }) => resolve());
    this.deps.link.off('down', this.onDown);
    this.deps.link.off('up', this.onUp);
    if (this.totals !== undefined) {
      this.totals.subscribeStreams--;
    }
    const native = this.native;
    this.native = undefined;
    if (native !== undefined) {
      this.closedPromise = native.close().catch(() => undefined);
    }
    this.access?.close();
    this.deps.onClosed(this);
  }
}
