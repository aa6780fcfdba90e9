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
  constructor(first = 0) {
    this.expected = first;
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
