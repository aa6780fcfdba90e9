// SPDX-License-Identifier: Apache-2.0
// Messages on their way: batches being filled, waiting and in flight, and who waits for their results. No connection and no timers here.
import { BatchWriter, type PublishResult } from './codec';
import type { OutriggerError } from './errors';

/** What became of the messages of one call. */
export interface Receipt {
  /** Session that the last of them went to. */
  readonly sessionId: number;
  /** Stream position at or after the last accepted one, bytes; 0n when none was. */
  readonly position: bigint;
  /** In the term buffer: sent, not yet delivered. */
  readonly accepted: number;
  /** Dropped, under back pressure policy "drop". */
  readonly dropped: number;
}

/** One call of the user, whose messages may lie in several batches. */
export class Ticket {
  private left: number;
  private accepted = 0;
  private dropped = 0;
  private position = 0n;
  private sessionId = 0;
  private error: OutriggerError | undefined;

  constructor(
    messages: number,
    private readonly resolve: (receipt: Receipt) => void,
    private readonly reject: (error: OutriggerError) => void,
  ) {
    this.left = messages;
  }

  get acceptedSoFar(): number {
    return this.accepted;
  }

  took(accepted: number, dropped: number, position: bigint, sessionId: number): void {
    this.accepted += accepted;
    this.dropped += dropped;
    if (accepted > 0) {
      this.position = position;
      this.sessionId = sessionId;
    }
    this.settle(accepted + dropped);
  }

  refused(messages: number, error: OutriggerError): void {
    this.error ??= error;
    this.settle(messages);
  }

  private settle(messages: number): void {
    this.left -= messages;
    if (this.left > 0) {
      return;
    }
    if (this.error === undefined) {
      const { accepted, dropped, position, sessionId } = this;
      this.resolve({ accepted, dropped, position, sessionId });
    } else {
      this.reject(this.error);
    }
  }
}

interface Share {
  readonly ticket: Ticket;
  /** Index of its first message in the batch. */
  readonly first: number;
  count: number;
}

/** One batch. Messages that nobody waits for have no share. */
export class Batch {
  readonly shares: Share[] = [];
  sequence = 0;

  constructor(
    readonly writer: BatchWriter,
    /** Its writer goes back to the pool. */
    readonly pooled: boolean,
  ) {}

  get count(): number {
    return this.writer.count;
  }

  append(payload: Uint8Array, ticket: Ticket | undefined): void {
    if (ticket !== undefined) {
      const last = this.shares.at(-1);
      if (last?.ticket === ticket) {
        last.count++;
      } else {
        this.shares.push({ ticket, first: this.writer.count, count: 1 });
      }
    }
    this.writer.append(payload);
  }

  answered(result: PublishResult, sessionId: number, errorOf: (accepted: number) => OutriggerError): void {
    for (const share of this.shares) {
      const accepted = Math.max(Math.min(result.accepted - share.first, share.count), 0);
      const rest = share.count - accepted;
      const dropped = result.dropped > 0 ? rest : 0;
      if (accepted + dropped > 0) {
        share.ticket.took(accepted, dropped, result.position, sessionId);
      }
      if (rest > dropped) {
        share.ticket.refused(rest - dropped, errorOf(share.ticket.acceptedSoFar));
      }
    }
  }

  failed(error: OutriggerError): void {
    this.shares.forEach((share) => share.ticket.refused(share.count, error));
  }
}

const kPoolSize = 64;

/** Buffers of batches, used again once HTTP/2 has taken their bytes. */
export class BatchPool {
  private readonly free: BatchWriter[] = [];

  constructor(private readonly capacityBytes: number) {}

  /** A batch with room for a message of this length. */
  take(length: number): Batch {
    const cost = BatchWriter.cost(length);
    if (cost > this.capacityBytes) {
      return new Batch(new BatchWriter(cost), false);
    }
    return new Batch(this.free.pop() ?? new BatchWriter(this.capacityBytes), true);
  }

  give(batch: Batch): void {
    if (batch.pooled && this.free.length < kPoolSize) {
      batch.writer.reset();
      this.free.push(batch.writer);
    }
  }
}
