// SPDX-License-Identifier: Apache-2.0
// Keys with work to do: each at most once in the queue, each processed by one worker at a time, failures again after a growing delay.
import { backoffMs } from '../base/backoff';
import { kLongestTimerMs, sleep, type Clock, type Random } from '../base/clock';
import { TokenBucket } from '../base/token_bucket';
import { askedToWaitMs } from './api_error';
import type { QueueMetrics } from './metrics';

/** When to look at the key again although nothing changed. */
export interface Again {
  readonly afterMs: number;
}

export interface WorkQueueOptions {
  readonly process: (key: string, signal: AbortSignal) => Promise<Again | undefined>;
  readonly concurrency: number;
  readonly metrics: QueueMetrics;
  readonly clock: Clock;
  readonly random: Random;
  readonly backoff?: { readonly baseMs: number; readonly maxMs: number };
  /** Keys begun a second, and at once. */
  readonly perSecond?: number;
  readonly burst?: number;
  readonly onFailure: (key: string, error: Error, failures: number) => void;
}

/** From 100 ms, since a conflict is over at once, to half a minute: nobody waits longer than that once an outage is over. */
const kBackoff = { baseMs: 100, maxMs: 30_000 };

export class WorkQueue {
  private readonly waiting = new Set<string>(); // in order of arrival
  private readonly running = new Set<string>();
  private readonly dirty = new Set<string>();
  private readonly failures = new Map<string, number>();
  private readonly timers = new Map<string, { readonly atMs: number; readonly timer: NodeJS.Timeout }>();
  private readonly bucket: TokenBucket;
  private readonly abort = new AbortController();
  private started = false;
  private stopping = false;
  private pacing = false;
  private idle: (() => void)[] = [];

  constructor(private readonly options: WorkQueueOptions) {
    this.bucket = new TokenBucket(options.perSecond ?? 100, options.burst ?? 200, options.clock);
  }

  get depth(): number {
    return this.waiting.size;
  }

  /** Keys are taken before this, and processed from here on. */
  start(): void {
    this.started = true;
    this.pump();
  }

  add(key: string): void {
    if (this.stopping) {
      return;
    }
    this.cancelTimer(key);
    if (this.running.has(key)) {
      this.dirty.add(key);
    } else {
      this.waiting.add(key);
      this.pump();
    }
    this.options.metrics.depth(this.waiting.size);
  }

  /** Adds the key later; the earliest of several times holds. */
  addAfter(key: string, afterMs: number): void {
    if (this.stopping) {
      return;
    }
    const atMs = this.options.clock.monotonicMs() + afterMs;
    const known = this.timers.get(key);
    if (known !== undefined && known.atMs <= atMs) {
      return;
    }
    this.cancelTimer(key);
    // A longer wait than a timer takes is looked at again after that.
    const timer = setTimeout(() => this.add(key), Math.min(afterMs, kLongestTimerMs));
    this.timers.set(key, { atMs, timer });
  }

  /** Resolves when nothing waits, runs or is due for a retry. For tests and for a drain. */
  async settled(): Promise<void> {
    while (this.waiting.size > 0 || this.running.size > 0 || this.failures.size > 0) {
      await new Promise<void>((resolve) => this.idle.push(resolve));
    }
  }

  /** Begins nothing more, waits for what runs, and after `graceMs` aborts it. */
  async stop(graceMs: number): Promise<void> {
    this.stopping = true;
    for (const key of [...this.timers.keys()]) {
      this.cancelTimer(key);
    }
    this.waiting.clear();
    this.dirty.clear();
    this.failures.clear();
    this.options.metrics.depth(0);
    const timer = setTimeout(() => this.abort.abort(), graceMs);
    await this.settled();
    clearTimeout(timer);
    this.abort.abort();
  }

  private cancelTimer(key: string): void {
    clearTimeout(this.timers.get(key)?.timer);
    this.timers.delete(key);
  }

  private pump(): void {
    while (this.started && !this.stopping && !this.pacing && this.running.size < this.options.concurrency) {
      const [key] = this.waiting;
      if (key === undefined) {
        return;
      }
      const waitMs = this.bucket.reserve();
      if (waitMs > 0) {
        this.pacing = true;
        void sleep(waitMs, this.abort.signal).then(() => {
          this.pacing = false;
          const [next] = this.waiting;
          if (next !== undefined && !this.stopping) {
            this.begin(next);
          }
          this.pump();
        });
        return;
      }
      this.begin(key);
    }
  }

  private begin(key: string): void {
    this.waiting.delete(key);
    this.running.add(key);
    void this.work(key);
  }

  private async work(key: string): Promise<void> {
    const { process, metrics, clock } = this.options;
    const startedMs = clock.monotonicMs();
    try {
      const again = await process(key, this.abort.signal);
      this.failures.delete(key);
      metrics.reconciled('ok', (clock.monotonicMs() - startedMs) / 1000);
      if (again !== undefined) {
        this.addAfter(key, again.afterMs);
      }
    } catch (error) {
      metrics.reconciled('failed', (clock.monotonicMs() - startedMs) / 1000);
      this.retry(key, error as Error);
    } finally {
      this.running.delete(key);
      if (this.dirty.delete(key)) {
        this.add(key);
      }
      metrics.depth(this.waiting.size);
      this.pump();
      for (const resolve of this.idle.splice(0)) {
        resolve();
      }
    }
  }

  private retry(key: string, error: Error): void {
    if (this.stopping) {
      return;
    }
    const failures = this.failures.get(key) ?? 0;
    this.failures.set(key, failures + 1);
    this.addAfter(
      key,
      Math.max(
        askedToWaitMs(error),
        backoffMs(this.options.backoff ?? kBackoff, failures, this.options.random),
      ),
    );
    this.options.onFailure(key, error, failures + 1);
  }
}
