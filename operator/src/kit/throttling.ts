// SPDX-License-Identifier: Apache-2.0
// An API server that is too busy for this process (429): said when it begins, each minute while it lasts, and when it is over; counted. Waiting as
// long as it asks is the work of whoever sent the request.
import type { Clock } from '../base/clock';
import type { Log } from './informer';
import type { ThrottleMetrics } from './metrics';

export interface Refusal {
  /** Method and path of the request. */
  readonly request: string;
  readonly retryAfterMs: number;
  /** UIDs of the FlowSchema that took the request and of its priority level, where the server is a kube-apiserver that says so. */
  readonly flowSchema?: string | undefined;
  readonly priorityLevel?: string | undefined;
}

/** A server that refuses a part of the requests begins and ends often. */
const kSayAgainMs = 60_000;
/** The longest pause between two tries of caches and queues: when nothing was refused for longer, nothing is asked that would be. */
const kQuietMs = 30_000;

export class Throttling {
  private sinceMs: number | undefined;
  private untilMs = 0;
  private refusals = 0;
  private saidMs = -Infinity;
  private said = false;

  constructor(
    private readonly clock: Clock,
    private readonly metrics: ThrottleMetrics,
    private readonly log: Log,
  ) {
    metrics.throttled(() => this.isThrottled);
  }

  get isThrottled(): boolean {
    return this.sinceMs !== undefined && this.clock.monotonicMs() < this.untilMs + kQuietMs;
  }

  /** A request was refused, and how long to wait was said. */
  refused({ request, retryAfterMs, flowSchema, priorityLevel }: Refusal): void {
    const nowMs = this.clock.monotonicMs();
    if (!this.isThrottled) {
      this.sinceMs = nowMs;
      this.refusals = 0;
    }
    this.refusals++;
    this.untilMs = Math.max(this.untilMs, nowMs + retryAfterMs);
    this.metrics.askedToWait(retryAfterMs / 1000);
    if (nowMs - this.saidMs < kSayAgainMs) {
      return;
    }
    this.saidMs = nowMs;
    this.said = true;
    this.log.warn(
      { request, retryAfterSeconds: retryAfterMs / 1000, refusals: this.refusals, flowSchema, priorityLevel },
      'the API server throttles this process (429): it waits as long as it is asked to, and serves what it has read before; ' +
        'which requests are limited, and how, is in: kubectl get flowschemas,prioritylevelconfigurations',
    );
  }

  /** A request was answered, with whatever else. It is over when that comes after the time that the server asked for. */
  answered(): void {
    const nowMs = this.clock.monotonicMs();
    if (this.sinceMs === undefined || nowMs < this.untilMs) {
      return;
    }
    const seconds = Math.round(this.untilMs - this.sinceMs) / 1000;
    const { refusals, said } = this;
    this.sinceMs = undefined;
    this.refusals = 0;
    this.said = false;
    if (said) {
      this.log.info({ seconds, refusals }, 'the API server throttles this process no more');
    }
  }
}
