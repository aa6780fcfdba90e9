// SPDX-License-Identifier: Apache-2.0
// What came of a numbered sequence: each number once and in order, or else lost, duplicated, out of order.

interface Hole {
  readonly from: number;
  readonly to: number; // exclusive
}

export class SequenceCheck {
  private expected: number;
  private holes: Hole[] = [];
  received = 0;
  duplicated = 0;
  outOfOrder = 0;

  /** @param first number of the first message that counts. */
  constructor(readonly first = 0) {
    this.expected = first;
  }

  /** Highest number that came; `first - 1` when none did. */
  get last(): number {
    return this.expected - 1;
  }

  take(sequence: number): void {
    if (sequence === this.expected) {
      this.expected++;
      this.received++;
    } else if (sequence > this.expected) {
      this.holes.push({ from: this.expected, to: sequence });
      this.expected = sequence + 1;
      this.received++;
    } else {
      this.late(sequence);
    }
  }

  /** Numbers that never came, of `sent` in all. */
  lost(sent = this.expected): number {
    return this.holes.reduce((sum, hole) => sum + hole.to - hole.from, 0) + Math.max(sent - this.expected, 0);
  }

  private late(sequence: number): void {
    const at = this.holes.findIndex((hole) => sequence >= hole.from && sequence < hole.to);
    if (at < 0) {
      this.duplicated++;
      return;
    }
    const { from, to } = this.holes[at] as Hole;
    const rest = [
      { from, to: sequence },
      { from: sequence + 1, to },
    ].filter((hole) => hole.from < hole.to);
    this.holes.splice(at, 1, ...rest);
    this.received++;
    this.outOfOrder++;
  }
}

/** What came of a publisher's session between joining it and its end. */
export interface SessionReport {
  readonly sessionId: number;
  /** Numbers of its first and last message here. */
  readonly first: number;
  readonly last: number;
  readonly received: number;
  readonly lost: number;
  readonly duplicated: number;
  readonly outOfOrder: number;
}

/** A check for each session, from when it was joined: what a publisher sent before, or while a subscriber was away, is no loss. */
export class SessionChecks {
  private readonly all: { readonly sessionId: number; readonly check: SequenceCheck }[] = [];
  private readonly live = new Map<number, SequenceCheck>();

  take(sessionId: number, sequence: number): void {
    let check = this.live.get(sessionId);
    if (check === undefined) {
      check = new SequenceCheck(sequence);
      this.live.set(sessionId, check);
      this.all.push({ sessionId, check });
    }
    check.take(sequence);
  }

  /** The session was joined, for the first time or again. */
  joined(sessionId: number): void {
    this.live.delete(sessionId);
  }

  get reports(): readonly SessionReport[] {
    return this.all.map(({ sessionId, check }) => ({
      sessionId,
      first: check.first,
      last: check.last,
      received: check.received,
      lost: check.lost(),
      duplicated: check.duplicated,
      outOfOrder: check.outOfOrder,
    }));
  }
}
