// SPDX-License-Identifier: Apache-2.0
// Leadership by a Lease (coordination.k8s.io/v1): at most one holder, as long as clocks run at the same speed. What a leader does is not known here.
// As in client-go, no clock of another machine is trusted: a lease is over when its record stood still for its duration on our own clock.
import { microTimeText, sleep, type Clock, type Random } from '../base/clock';
import type { KubeObject } from '../api';
import type { ApiClient } from './api_client';
import { askedToWaitMs, isConflict, isNotFound } from './api_error';
import type { Log } from './informer';
import type { LeaderMetrics } from './metrics';
import { ResourceClient, type Resource } from './resource';

export interface Lease extends KubeObject {
  readonly spec?: {
    readonly holderIdentity?: string | null;
    readonly leaseDurationSeconds?: number;
    readonly acquireTime?: string | null;
    readonly renewTime?: string | null;
    readonly leaseTransitions?: number;
  };
}

export const kLeases: Resource<Lease> = {
  group: 'coordination.k8s.io',
  version: 'v1',
  kind: 'Lease',
  plural: 'leases',
  namespaced: true,
};

export interface LeaderTimes {
  /** Others wait this long after the last renewal. */
  readonly leaseMs: number;
  /** A leader that could not renew for this long stops leading. Below leaseMs: it must have stopped when another begins. */
  readonly renewDeadlineMs: number;
  readonly retryMs: number;
}

/** client-go's defaults. */
export const kLeaderTimes: LeaderTimes = { leaseMs: 15_000, renewDeadlineMs: 10_000, retryMs: 2000 };

export interface LeaderElectionOptions {
  readonly api: ApiClient;
  readonly namespace: string;
  readonly name: string;
  /** Of this process; no two may have the same. */
  readonly identity: string;
  readonly times?: LeaderTimes;
  readonly clock: Clock;
  readonly random: Random;
  readonly metrics: LeaderMetrics;
  readonly log: Log;
}

export class LeaderElection {
  private readonly client: ResourceClient<Lease>;
  private readonly times: LeaderTimes;
  private seen: { readonly record: string; readonly atMs: number } | undefined;
  private lease: Lease | undefined;
  private renewedMs = -Infinity;
  /** What the server asked to wait at the last try. */
  private askedMs = 0;
  private leads = false;

  constructor(private readonly options: LeaderElectionOptions) {
    this.client = new ResourceClient(options.api, kLeases);
    this.times = options.times ?? kLeaderTimes;
    const { leaseMs, renewDeadlineMs, retryMs } = this.times;
    if (!(leaseMs > renewDeadlineMs && renewDeadlineMs > retryMs && retryMs > 0)) {
      throw new Error(
        `leader election: lease ${leaseMs} ms, renewal deadline ${renewDeadlineMs} ms, retry ${retryMs} ms; each must be longer than the next`,
      );
    }
  }

  /** True while the lease is held for certain: what is not renewed in time is not held. */
  get isLeader(): boolean {
    return this.leads && this.options.clock.monotonicMs() - this.renewedMs < this.times.renewDeadlineMs;
  }

  /** Until another may lead: what is left of the lease since it was renewed last; nothing where another has it. */
  get restMs(): number {
    if (this.takenByOther()) {
      return 0;
    }
    return Math.max(0, this.renewedMs + this.times.leaseMs - this.options.clock.monotonicMs());
  }

  /** Resolves when leadership is gained (true) or the signal is aborted (false). May be called again when it was lost. */
  async acquire(signal: AbortSignal): Promise<boolean> {
    await sleep(this.askedMs, signal);
    while (!signal.aborted) {
      if (await this.attempt(signal)) {
        this.become(true, 'acquired');
        return true;
      }
      // 1 to 1.2 times: candidates must not knock in step.
      await sleep(Math.max(this.askedMs, this.times.retryMs * (1 + 0.2 * this.options.random())), signal);
    }
    return false;
  }

  /** Renews until leadership is lost ('lost') or the signal is aborted ('released': the lease was given back). */
  async hold(signal: AbortSignal): Promise<'lost' | 'released'> {
    while (!signal.aborted) {
      await sleep(this.pauseMs(), signal);
      const held = await this.renew(signal);
      if (!held && !isAborted(signal) && (!this.isLeader || this.takenByOther())) {
        this.become(false, 'lost');
        return 'lost';
      }
    }
    await this.release();
    return 'released';
  }

  /** Before the next renewal: longer when the server asks for it, but not beyond the deadline, at which this one must know that it leads no more. */
  private pauseMs(): number {
    const { retryMs, renewDeadlineMs } = this.times;
    const restMs = this.renewedMs + renewDeadlineMs - this.options.clock.monotonicMs();
    return Math.max(retryMs, Math.min(this.askedMs, Math.ceil(restMs)));
  }

  private async renew(signal: AbortSignal): Promise<boolean> {
    const restMs = this.renewedMs + this.times.renewDeadlineMs - this.options.clock.monotonicMs();
    return (
      restMs > 0 &&
      !signal.aborted &&
      (await this.attempt(AbortSignal.any([signal, AbortSignal.timeout(Math.ceil(restMs))])))
    );
  }

  private become(leads: boolean, change: 'acquired' | 'lost' | 'released'): void {
    this.leads = leads;
    this.options.metrics.leading(leads);
    this.options.metrics.changed(change);
    this.options.log.info(
      { lease: this.options.name, identity: this.options.identity },
      `leadership ${change}`,
    );
  }

  private takenByOther(): boolean {
    const holder = this.lease?.spec?.holderIdentity;
    return typeof holder === 'string' && holder !== '' && holder !== this.options.identity;
  }

  /** One try to take or renew the lease. */
  private async attempt(signal: AbortSignal): Promise<boolean> {
    // Before the request: what is measured from here on can only be too early.
    const begunMs = this.options.clock.monotonicMs();
    try {
      const held = await this.takeOrRenew(signal);
      this.askedMs = 0;
      if (held) {
        this.renewedMs = begunMs;
      }
      return held;
    } catch (error) {
      this.askedMs = askedToWaitMs(error);
      if (!isConflict(error) && !signal.aborted) {
        this.options.log.warn(
          { lease: this.options.name, error: (error as Error).message },
          'lease not renewed',
        );
      }
      return false;
    }
  }

  private async takeOrRenew(signal: AbortSignal): Promise<boolean> {
    const { namespace, name, identity, clock } = this.options;
    let lease: Lease;
    try {
      lease = await this.client.get({ namespace, name }, signal);
    } catch (error) {
      if (!isNotFound(error)) {
        throw error;
      }
      this.lease = await this.client.create(
        { metadata: { namespace, name }, spec: this.record(0, undefined) },
        signal,
      );
      return true;
    }
    this.lease = lease;
    const record = JSON.stringify(lease.spec ?? {});
    if (this.seen?.record !== record) {
      this.seen = { record, atMs: clock.monotonicMs() };
    }
    const holder = lease.spec?.holderIdentity ?? '';
    const isMine = holder === identity;
    const durationMs = (lease.spec?.leaseDurationSeconds ?? 0) * 1000;
    if (!isMine && holder !== '' && clock.monotonicMs() < this.seen.atMs + durationMs) {
      return false;
    }
    const transitions = (lease.spec?.leaseTransitions ?? 0) + (isMine ? 0 : 1);
    // The resourceVersion in its metadata lets only one of several candidates through.
    this.lease = await this.client.update(
      {
        ...lease,
        spec: this.record(transitions, isMine ? (lease.spec?.acquireTime ?? undefined) : undefined),
      },
      signal,
    );
    return true;
  }

  private record(leaseTransitions: number, acquireTime: string | undefined): NonNullable<Lease['spec']> {
    const now = microTimeText(this.options.clock.wallMs());
    return {
      holderIdentity: this.options.identity,
      leaseDurationSeconds: Math.ceil(this.times.leaseMs / 1000), // others must not wait less than the holder counts on
      acquireTime: acquireTime ?? now,
      renewTime: now,
      leaseTransitions,
    };
  }

  /** Gives the lease back, so that another need not wait for its end. */
  private async release(): Promise<void> {
    this.become(false, 'released');
    if (this.lease === undefined || this.takenByOther()) {
      return;
    }
    const spec = {
      ...this.record(this.lease.spec?.leaseTransitions ?? 0, undefined),
      holderIdentity: '',
      leaseDurationSeconds: 1,
    };
    try {
      await this.client.update({ ...this.lease, spec }, AbortSignal.timeout(this.times.retryMs));
    } catch (error) {
      this.options.log.warn(
        { lease: this.options.name, error: (error as Error).message },
        'lease not given back; it ends by itself',
      );
    }
  }
}

function isAborted(signal: AbortSignal): boolean {
  return signal.aborted;
}
