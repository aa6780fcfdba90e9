// SPDX-License-Identifier: Apache-2.0
// Latencies in nanoseconds, summed up in microseconds.
import { build, type Histogram } from 'hdr-histogram-js';

export interface LatencyUs {
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly p999: number;
  readonly max: number;
}

const kLongestNs = 60e9;

export class Latencies {
  private readonly histogram: Histogram = build({
    lowestDiscernibleValue: 100,
    highestTrackableValue: kLongestNs,
    numberOfSignificantValueDigits: 3,
    bitBucketSize: 32,
  });

  record(nanoseconds: number): void {
    this.histogram.recordValue(Math.min(Math.max(Math.round(nanoseconds), 1), kLongestNs));
  }

  get count(): number {
    return this.histogram.totalCount;
  }

  summary(): LatencyUs {
    const us = (nanoseconds: number): number => Math.round(nanoseconds / 100) / 10;
    const max = us(this.histogram.maxValue);
    // A percentile is the upper end of its bucket, which may lie above the largest value.
    const at = (percentile: number): number =>
      Math.min(us(this.histogram.getValueAtPercentile(percentile)), max);
    return { p50: at(50), p90: at(90), p99: at(99), p999: at(99.9), max };
  }
}
