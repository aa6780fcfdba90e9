// SPDX-License-Identifier: Apache-2.0
// One publish stream: open, batches in order, a result for each, policies, bounded waiting, flush at half-close.
import type { Config } from '../config/schema';
import type { DuplexHandlers, DuplexStream } from '../grpc/duplex_stream';
import {
  publishConnected,
  publishOpened,
  publishReopened,
  publishResult,
  readBatchHeader,
  readPublishRequest,
  type PublishOpenedMessage,
  type PublishOpenMessage,
} from '../grpc/codec';
import { invalidArgument, RpcCode, RpcError } from '../grpc/rpc_error';
import type { Totals, TopicTotals } from '../metrics/topic_totals';
import { NativeError, type OfferResult, type OfferStatus } from '../native/types';
import type { TopicStore } from '../topics/topic_store';
import type { PublicationListener, Publications, SharedPublication } from './publications';
import type { Access, TopicAccess } from './topic_access';
import { fromNative, notOpened, resolveTarget, routeForPublisher } from './targets';

export interface PublishDependencies {
  readonly config: Config;
  readonly topics: TopicStore;
  readonly publications: Publications;
  readonly totals: TopicTotals;
  readonly access: TopicAccess;
  readonly onClosed: (session: PublishSession) => void;
}

const enum Policy {
  FAIL = 1,
  WAIT = 2,
  DROP = 3,
}

const kDefaultWaitMs = 5000;
const kMaxWaitMs = 600_000;

export class PublishSession implements DuplexHandlers, PublicationListener {
  label = '';
  private totals: Totals | undefined;
  private access: Access | undefined;
  private publication: SharedPublication | undefined;
  private policy: Policy = Policy.FAIL;
  private waitMs = kDefaultWaitMs;
  private opening = false;
  private openTimer: NodeJS.Timeout | undefined;
  private readonly queue: Buffer[] = [];
  private queuedBytes = 0;
  private working = false;
  private congested = false;
  private paused = false;
  private halfClosed = false;
  private ended = false;
  private finishError: RpcError | undefined;
  private readonly reopenWaiters = new Set<() => void>();
  private releasedPromise: Promise<void> = Promise.resolve();
  private resolveClosed: () => void = () => undefined;
  /** Resolves when the session is over and its publication is released (closed, if it was the last one on it). */
  readonly closed = new Promise<void>((resolve) => {
    this.resolveClosed = resolve;
  });
  readonly figures = { messages: 0, bytes: 0 };

  constructor(
    private readonly stream: DuplexStream,
    private readonly deps: PublishDependencies,
  ) {}

  start(): void {
    const { openTimeout } = this.deps.config;
    this.openTimer = setTimeout(() => this.fail(notOpened(openTimeout)), openTimeout);
    this.stream.start(this);
  }

  get peer(): string {
    return this.stream.peer;
  }

  get shared(): SharedPublication | undefined {
    return this.publication;
  }

  /** What was read is still published and flushed, then the stream ends with the error. */
  finish(error: RpcError): void {
    if (this.ended || this.halfClosed) {
      return;
    }
    this.finishError = error;
    this.halfClosed = true;
    this.updateFlow();
    this.work();
  }

  onRequest(request: Buffer): void {
    if (this.ended || this.finishError !== undefined) {
      return;
    }
    const read = readPublishRequest(request);
    if (read.kind === 'open') {
      if (this.opening || this.publication !== undefined) {
        this.fail(invalidArgument('open', 'stands twice; only the first request of a stream may be open'));
        return;
      }
      clearTimeout(this.openTimer);
      this.opening = true;
      void this.open(read.open);
      return;
    }
    if (!this.opening && this.publication === undefined) {
      this.fail(
        new RpcError(RpcCode.FAILED_PRECONDITION, 'the first request of a publish stream must be open', {
          reason: 'NOT_OPEN',
        }),
      );
      return;
    }
    if (read.kind === 'malformed') {
      this.fail(invalidArgument('request', 'is neither open nor batch'));
      return;
    }
    this.queue.push(request);
    this.queuedBytes += request.length;
    this.work();
    this.updateFlow();
  }

  onHalfClose(): void {
    this.halfClosed = true;
    this.work();
  }

  onCancel(): void {
    this.leave();
  }

  onDrain(): void {
    this.congested = false;
    this.updateFlow();
  }

  onConnected(connected: boolean): void {
    if (!this.opening) {
      this.write(publishConnected(connected));
    }
  }

  onReopened(opened: PublishOpenedMessage): void {
    if (!this.opening) {
      this.write(publishReopened(opened));
    }
    this.reopenWaiters.forEach((wake) => wake());
  }

  onFailed(error: RpcError): void {
    this.fail(error);
  }

  private async open(open: PublishOpenMessage): Promise<void> {
    try {
      if (open.backPressure < 0 || open.backPressure > 3) {
        throw invalidArgument('open.back_pressure', `is ${open.backPressure}; allowed: 0 to 3`);
      }
      if (open.waitTimeoutMs > kMaxWaitMs) {
        throw invalidArgument(
          'open.wait_timeout_ms',
          `is ${open.waitTimeoutMs}; allowed: 1 to ${kMaxWaitMs}`,
        );
      }
      this.access = await this.deps.access.open(open.target, 'publisher');
      if (this.ended) {
        this.opening = false;
        this.access.close();
        return;
      }
      const target = resolveTarget(open.target, this.deps.topics, this.deps.config);
      // eslint-disable-next-line @typescript-eslint/no-unsafe-enum-assignment -- the range was checked above
      this.policy = open.backPressure === 0 ? Policy.FAIL : open.backPressure;
      this.waitMs = open.waitTimeoutMs === 0 ? kDefaultWaitMs : open.waitTimeoutMs;
      const route = routeForPublisher(target, this.deps.config);
      const publication = await this.deps.publications.acquire(target.label, route, open.exclusive, this);
      this.opening = false;
      // eslint-disable-next-line @typescript-eslint/no-unnecessary-condition -- the client may have left meanwhile
      if (this.ended) {
        this.releasedPromise = this.deps.publications.release(publication, this);
        return;
      }
      this.label = target.label;
      this.publication = publication;
      this.totals = this.deps.totals.of(target.label);
      this.totals.publishStreams++;
      this.write(publishOpened(publication.opened));
      if (publication.connected) {
        this.write(publishConnected(true));
      }
      this.work();
    } catch (error) {
      this.opening = false;
      this.fail(fromNative(error));
    }
  }

  private write(response: Buffer): void {
    if (!this.ended && !this.stream.write(response)) {
      this.congested = true;
      this.updateFlow();
    }
  }

  /** A client that floods, or reads no results, is stopped by HTTP/2 flow control: its requests are no longer read. */
  private updateFlow(): void {
    const { maxPendingBatches, maxPendingBytes } = this.deps.config;
    const full = this.queue.length >= maxPendingBatches || this.queuedBytes >= maxPendingBytes;
    const pause = full || this.congested || this.finishError !== undefined;
    if (pause && !this.paused) {
      this.paused = true;
      this.stream.pause();
    } else if (this.paused && !pause) {
      this.paused = false;
      this.stream.resume();
    }
  }

  private work(): void {
    if (this.working || this.opening || this.ended) {
      return;
    }
    // eslint-disable-next-line @typescript-eslint/no-unnecessary-condition -- process() may end the call
    while (this.publication !== undefined && !this.ended) {
      const request = this.queue.shift();
      if (request === undefined) {
        break;
      }
      this.queuedBytes -= request.length;
      const waiting = this.process(request);
      if (waiting !== undefined) {
        this.working = true;
        void waiting.then(() => {
          this.working = false;
          this.work();
          this.updateFlow();
        });
        return;
      }
    }
    // eslint-disable-next-line @typescript-eslint/no-unnecessary-condition -- process() may end the call
    if (this.halfClosed && !this.ended) {
      this.working = true;
      void this.flushAndEnd();
    }
  }

  /** Offers one batch; a promise when it has to wait. */
  private process(request: Buffer): Promise<void> | undefined {
    try {
      const first = this.offer(request, 0);
      if (this.policy === Policy.WAIT && mayChange(first.status)) {
        return this.waitFor(request, first).catch((error: unknown) => this.fail(fromNative(error)));
      }
      this.answer(first);
    } catch (error) {
      this.fail(fromNative(error));
    }
    return undefined;
  }

  private offer(request: Buffer, startIndex: number): OfferResult {
    const native = this.publication?.native;
    if (native !== undefined) {
      try {
        return native.offerBatch(request, startIndex);
      } catch (error) {
        if (!isGone(error)) {
          throw error;
        }
      }
    }
    return this.away(request, startIndex);
  }

  /** The answer while the driver is away: nothing was accepted. */
  private away(request: Buffer, startIndex: number): OfferResult {
    try {
      const { sequence, messages } = readBatchHeader(request);
      return {
        status: 'CLOSED',
        accepted: 0,
        total: messages - startIndex,
        position: 0n,
        sequence,
        bytes: 0,
      };
    } catch {
      throw invalidArgument('batch', 'is no encoded outrigger.v1.PublishRequest');
    }
  }

  private async waitFor(request: Buffer, first: OfferResult): Promise<void> {
    const deadline = performance.now() + this.waitMs;
    let sum = first;
    while (!this.ended && mayChange(sum.status)) {
      const left = Math.ceil(deadline - performance.now());
      if (left <= 0) {
        break;
      }
      const native = this.publication?.native;
      if (native === undefined || native.isClosed) {
        await this.reopenedWithin(left);
        if (this.publication?.native === undefined) {
          break;
        }
        sum = add(sum, this.offer(request, sum.accepted));
        continue;
      }
      try {
        sum = add(sum, await native.offerBatchWait(request, sum.accepted, left));
      } catch (error) {
        if (!isGone(error)) {
          throw error;
        }
        sum = { ...sum, status: 'CLOSED' };
        await this.reopenedWithin(Math.ceil(deadline - performance.now()));
      }
    }
    this.answer(sum);
  }

  private reopenedWithin(timeoutMs: number): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        clearTimeout(timer);
        this.reopenWaiters.delete(wake);
        resolve();
      };
      const timer = setTimeout(wake, Math.max(timeoutMs, 0));
      this.reopenWaiters.add(wake);
    });
  }

  private answer(result: OfferResult): void {
    const rest = result.total - result.accepted;
    const dropped = this.policy === Policy.DROP ? rest : 0;
    const totals = this.totals as Totals;
    totals.publishedMessages += result.accepted;
    totals.publishedBytes += result.bytes;
    totals.publishDroppedMessages += dropped;
    totals.publishRefusedMessages += rest - dropped;
    this.figures.messages += result.accepted;
    this.figures.bytes += result.bytes;
    if (result.status === 'MAX_POSITION_EXCEEDED') {
      this.deps.publications.retire(this.publication as SharedPublication);
    }
    this.write(publishResult(result, result.accepted, dropped));
  }

  private async flushAndEnd(): Promise<void> {
    let error = this.finishError;
    const native = this.publication?.native;
    if (native !== undefined) {
      try {
        if (
          native.isConnected &&
          !(await native.drained(this.deps.config.flushTimeout)) &&
          error === undefined
        ) {
          error = new RpcError(
            RpcCode.DEADLINE_EXCEEDED,
            `not everything had left within flushTimeout (${this.deps.config.flushTimeout} ms)`,
            { reason: 'FLUSH_TIMEOUT' },
          );
        }
      } catch (thrown) {
        error ??= fromNative(thrown);
      }
    }
    this.leave();
    await this.releasedPromise;
    this.stream.end(error);
  }

  private fail(error: RpcError): void {
    if (!this.ended) {
      this.leave();
      this.stream.end(error);
    }
  }

  /** Gives everything back; nothing is written after it. */
  private leave(): void {
    if (this.ended) {
      return;
    }
    this.ended = true;
    clearTimeout(this.openTimer);
    this.queue.length = 0;
    this.queuedBytes = 0;
    this.reopenWaiters.forEach((wake) => wake());
    if (this.publication !== undefined) {
      (this.totals as Totals).publishStreams--;
      this.releasedPromise = this.deps.publications.release(this.publication, this);
    }
    this.deps.onClosed(this);
    void this.releasedPromise.then(() => {
      this.access?.close();
      this.resolveClosed();
    });
  }
}

/** True for outcomes that may be better a moment later. */
function mayChange(status: OfferStatus): boolean {
  return status === 'BACK_PRESSURED' || status === 'NOT_CONNECTED' || status === 'CLOSED';
}

function isGone(error: unknown): boolean {
  return error instanceof NativeError && (error.code === 'CLOSED' || error.code === 'DRIVER_UNAVAILABLE');
}

/** One result from what a batch had so far and what its rest got. */
function add(before: OfferResult, after: OfferResult): OfferResult {
  return {
    status: after.status,
    accepted: before.accepted + after.accepted,
    total: before.total,
    position: after.accepted > 0 ? after.position : before.position,
    sequence: before.sequence,
    bytes: before.bytes + after.bytes,
  };
}
