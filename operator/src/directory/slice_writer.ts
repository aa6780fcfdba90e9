// SPDX-License-Identifier: Apache-2.0
// The members of one replica on their way to the API server, as slices that other replicas read. What changed is written at once, several topics at
// a time; what did not is renewed before its lease ends, with a share of the requests that changes can't take. What a slice looks like is not known
// here.
import { ApiError, askedToWaitMs, isStatus } from '../kit/api_error';
import type { Log } from '../kit/informer';
import type { TopicEndpointSlice } from '../api';
import type { TopicKey } from './types';

export interface SliceStore {
  applySlice(slice: TopicEndpointSlice): Promise<void>;
  deleteSlice(namespace: string, name: string): Promise<void>;
}

export interface SliceWriterOptions {
  /** Shortest lease of a slice, milliseconds. */
  readonly leaseMs: number;
  /** Writes that the API server takes from this replica; renewals take half of them at most. */
  readonly writesPerSecond: number;
}

/** The slices that say what there is of a topic now, none without members. */
export type SlicesOf = (key: TopicKey, nowMs: number, leaseMs: number) => readonly TopicEndpointSlice[];

interface Written {
  readonly names: Set<string>;
  readonly writtenMs: number;
  readonly leaseMs: number;
}

/**
 * Topics written at once, of changes and of renewals each. Where both wait for the client's rate they take turns there, so that either has half.
 * Enough for `writesPerSecond` of 50 while an answer takes 300 ms.
 */
const kAtOnce = 8;
/** Tries before a lease ends: a slice is renewed after a third of it, and may wait as long again for those before it. */
const kRenewals = 3;
/** What the schema of a slice takes. */
const kLongestLeaseMs = 86_400_000;
const kRetryMs = 1000;
const kLongestRetryMs = 30_000;

/** Only this topic can't be written: its namespace ends, its name is refused. All else is trouble of the server, or on the way to it. */
function concernsTopic(error: unknown): boolean {
  return error instanceof ApiError && error.status >= 400 && error.status < 500 && !isStatus(error, 429);
}

export class SliceWriter {
  /** Changed since they were written, in order. */
  private readonly waiting = new Set<TopicKey>();
  private readonly changing = new Map<TopicKey, Promise<void>>();
  private readonly renewing = new Map<TopicKey, Promise<void>>();
  /** Slices that the API server has. Oldest first. */
  private readonly written = new Map<TopicKey, Written>();
  private readonly refused = new Map<TopicKey, { readonly againMs: number; readonly delayMs: number }>();
  /** Until then the API server gets no write, of no topic; and then one, before more. */
  private pausedUntilMs = 0;
  private probing = false;
  /** Renewals that may be written now. */
  private allowance = 0;
  private allowanceMs: number;
  private closed = false;
  private writes = 0;
  private failures = 0;

  constructor(
    private readonly store: SliceStore,
    private readonly slicesOf: SlicesOf,
    private readonly options: SliceWriterOptions,
    private readonly log: Log,
    private readonly now: () => number,
  ) {
    this.allowanceMs = now();
  }

  get stats(): { readonly waiting: number; readonly writes: number; readonly failures: number } {
    const waiting = new Set([...this.waiting, ...this.changing.keys(), ...this.refused.keys()]);
    return { waiting: waiting.size, writes: this.writes, failures: this.failures };
  }

  /** Members of these topics changed. */
  changed(keys: Iterable<TopicKey>): void {
    for (const key of keys) {
      this.waiting.add(key);
    }
    this.proceed();
  }

  /** A slice is gone from the API server. Ours is written again, unless we removed it: then, at most, what the topic has is written once more. */
  deleted(namespace: string, name: string): void {
    for (const [key, { names }] of this.written) {
      if (names.has(name) && key.startsWith(`${namespace}/`)) {
        this.changed([key]); // after what is under way, which may have written it before
        return;
      }
    }
  }

  /** Call it every second or so: pauses end, and leases get old, without another sign. */
  onTick(): void {
    const nowMs = this.now();
    for (const [key, { againMs }] of this.refused) {
      if (againMs <= nowMs) {
        this.waiting.add(key);
      }
    }
    this.proceed();
  }

  /** Begins nothing more, and waits for what is under way. */
  async close(): Promise<void> {
    this.closed = true;
    await Promise.all([...this.changing.values(), ...this.renewing.values()]);
  }

  /**
   * Lease of what is written now. With many slices it is so long that all of them can be renewed twice before: one that is written now waits for
   * those that are there already, not for those that come later.
   */
  private leaseMs(): number {
    let slices = 0;
    this.written.forEach(({ names }) => (slices += names.size));
    const enoughMs = Math.ceil((slices / this.renewalsPerSecond) * kRenewals) * 1000;
    return Math.min(kLongestLeaseMs, Math.max(this.options.leaseMs, enoughMs));
  }

  private get renewalsPerSecond(): number {
    return this.options.writesPerSecond / 2;
  }

  private isBusy(key: TopicKey): boolean {
    return this.changing.has(key) || this.renewing.has(key);
  }

  private hasRoom(lane: ReadonlyMap<TopicKey, unknown>): boolean {
    return this.probing ? this.changing.size + this.renewing.size === 0 : lane.size < kAtOnce;
  }

  private proceed(): void {
    const nowMs = this.now();
    if (this.closed || nowMs < this.pausedUntilMs) {
      return;
    }
    this.fillAllowance(nowMs);
    for (const [key, { writtenMs, leaseMs, names }] of this.written) {
      if (this.allowance < 1 || !this.hasRoom(this.renewing)) {
        break;
      }
      const ageMs = nowMs - writtenMs;
      // Below 0 the clock was set back.
      const due = ageMs >= leaseMs / kRenewals || ageMs < 0;
      if (due && !this.isBusy(key) && !this.refused.has(key)) {
        this.allowance -= names.size;
        this.begin(key, this.renewing);
      }
    }
    for (const key of this.waiting) {
      if (!this.hasRoom(this.changing)) {
        break;
      }
      if (!this.isBusy(key)) {
        this.begin(key, this.changing);
      }
    }
  }

  private fillAllowance(nowMs: number): void {
    const perSecond = this.renewalsPerSecond;
    const gained = (Math.max(0, nowMs - this.allowanceMs) / 1000) * perSecond;
    // Two seconds' worth: ticks come late. At least one, or it would never do for a slice.
    this.allowance = Math.min(Math.max(1, 2 * perSecond), this.allowance + gained);
    this.allowanceMs = nowMs;
  }

  private begin(key: TopicKey, lane: Map<TopicKey, Promise<void>>): void {
    this.waiting.delete(key);
    const work = this.write(key)
      .then(
        () => {
          this.refused.delete(key);
        },
        (error: unknown) => this.onFailure(key, error),
      )
      .finally(() => {
        lane.delete(key);
        this.proceed();
      });
    lane.set(key, work);
  }

  private onFailure(key: TopicKey, error: unknown): void {
    this.failures++;
    const nowMs = this.now();
    if (concernsTopic(error)) {
      const delayMs = Math.min(kLongestRetryMs, 2 * (this.refused.get(key)?.delayMs ?? kRetryMs / 2));
      this.refused.set(key, { againMs: nowMs + delayMs, delayMs });
    } else {
      this.waiting.add(key);
      this.probing = true;
      this.pausedUntilMs = Math.max(this.pausedUntilMs, nowMs + Math.max(kRetryMs, askedToWaitMs(error)));
    }
    this.log.warn({ topic: key, err: error }, 'members of a topic could not be written; trying again');
  }

  private async write(key: TopicKey): Promise<void> {
    const before = this.written.get(key);
    const nowMs = this.now();
    const leaseMs = this.leaseMs();
    const wanted = this.slicesOf(key, nowMs, leaseMs);
    const names = before?.names ?? new Set<string>();
    if (before === undefined && wanted.length > 0) {
      // Though it fails halfway: the first slice may be there then.
      this.written.set(key, { names, writtenMs: nowMs, leaseMs });
    }
    for (const slice of wanted) {
      names.add(slice.metadata.name ?? '');
      await this.store.applySlice(slice);
      this.probing = false;
      this.writes++;
    }
    const kept = new Set(wanted.map((each) => each.metadata.name));
    for (const name of [...names].filter((each) => !kept.has(each))) {
      await this.store.deleteSlice(key.slice(0, key.indexOf('/')), name);
      this.probing = false;
      names.delete(name);
    }
    this.written.delete(key);
    if (names.size > 0) {
      this.written.set(key, { names, writtenMs: nowMs, leaseMs });
    }
  }
}
