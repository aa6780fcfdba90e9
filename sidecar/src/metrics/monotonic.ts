// SPDX-License-Identifier: Apache-2.0
// Sums over sources that come and go (sessions, drivers) that never go back.

/** A sum for each series; a source that vanishes or starts anew leaves what it had counted. */
export class MonotonicSums {
  private readonly folded = new Map<string, number>();
  private live = new Map<string, { readonly series: string; readonly value: number }>();

  /** All sources of now, by an identity that is never used twice. Returns the sum of each series ever seen. */
  update(
    sources: Iterable<readonly [source: string, series: string, value: number]>,
  ): ReadonlyMap<string, number> {
    const now = new Map<string, { readonly series: string; readonly value: number }>();
    for (const [source, series, value] of sources) {
      const before = this.live.get(source);
      if (before !== undefined && value < before.value) {
        this.fold(before.series, before.value);
      }
      // It stays in the series it began in, also when topics change: moving it would take from a sum.
      now.set(source, { series: before?.series ?? series, value });
    }
    for (const [source, before] of this.live) {
      if (!now.has(source)) {
        this.fold(before.series, before.value);
      }
    }
    this.live = now;
    const sums = new Map(this.folded);
    for (const { series, value } of now.values()) {
      sums.set(series, (sums.get(series) ?? 0) + value);
    }
    return sums;
  }

  private fold(series: string, value: number): void {
    this.folded.set(series, (this.folded.get(series) ?? 0) + value);
  }
}
