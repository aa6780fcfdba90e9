// SPDX-License-Identifier: Apache-2.0
// The directory of one replica: joins registry, streams and the API server together. Changes gather for a moment, then go to the sidecars
// that have the topic open and to the slices that other replicas read. Neither gRPC nor HTTP.
import type { Log } from '../kit/informer';
import type { Topic, TopicEndpointSlice } from '../api';
import { RpcCode, RpcError } from '../../../sidecar/src/grpc/rpc_error';
import { Registry } from './registry';
import { definitionOf, foreignOf, kReplicaLabel, slicesOf } from './resources';
import { DirectorySession, type JoinRequest, type SessionStream } from './session';
import { SliceWriter, type SliceStore } from './slice_writer';
import { Throttle } from './throttle';
import { Tokens, type ReviewToken } from './tokens';
import { topicKey, type Endpoint, type PodIdentity, type TopicKey } from './types';

/** What the directory asks of the API server. Every call may reject; it is tried again. */
export interface DirectoryCluster extends SliceStore {
  readonly reviewToken: ReviewToken;
  /** Addresses of a pod; undefined when there is no such pod, or another one of that name. */
  podAddresses(identity: PodIdentity): Promise<readonly string[] | undefined>;
  /** True while what is watched is up to date. */
  isFresh(): boolean;
}

export interface DirectoryOptions {
  /** Unique among processes, also those before: what an earlier one wrote of its members holds for a lease, until they have come back. */
  readonly replica: string;
  /** Audience of the tokens. */
  readonly audience: string;
  readonly leaseMs: number;
  /** Slices that may be written to the API server a second; `leaseMs` holds for other replicas while renewals need at most half of that. */
  readonly writesPerSecond: number;
  readonly heartbeatMs: number;
  /** With those whose token is being checked. */
  readonly maxStreams: number;
  readonly maxRegistrationsPerPod: number;
  readonly requestsPerSecond: number;
}

export const kDirectoryDefaults: Omit<DirectoryOptions, 'replica'> = {
  audience: 'outrigger-directory',
  // A sidecar that is gone without a word costs its publishers datagrams into nowhere for so long; a restart of the directory must fit in.
  leaseMs: 30_000,
  writesPerSecond: 50,
  heartbeatMs: 5000,
  maxStreams: 20_000,
  maxRegistrationsPerPod: 1000,
  requestsPerSecond: 100,
};

/** Members are to be told within a second; what happens at once, as when a deployment scales, goes together. */
const kGatherMs = 50;
const kTickMs = 1000;

export interface DirectoryStats {
  readonly streams: number;
  /** Streams whose token is being checked. */
  readonly admissions: number;
  readonly instances: number;
  readonly registrations: number;
  readonly topics: number;
  readonly rejectedStreams: number;
  /** By reason. */
  readonly tokensRefused: Readonly<Record<string, number>>;
  readonly tokenReviews: number;
  /** Whose members here changed, and are not written yet. */
  readonly topicsWaiting: number;
  readonly sliceWrites: number;
  readonly sliceFailures: number;
  /** Looks at all leases. */
  readonly sweeps: number;
}

function draining(): RpcError {
  return new RpcError(RpcCode.UNAVAILABLE, 'this replica of the directory ends; connect again', {
    reason: 'DRAINING',
  });
}

export class Directory {
  private readonly registry: Registry;
  private readonly tokens: Tokens;
  private readonly podThrottle: Throttle;
  private readonly sessions = new Set<DirectorySession>();
  private changes = new Set<TopicKey>();
  private gatherTimer: NodeJS.Timeout | undefined;
  private tick: NodeJS.Timeout | undefined;
  /** Of those, the ones whose members here may have changed. */
  private localChanges = new Set<TopicKey>();
  private readonly writer: SliceWriter;
  /** Since when what is watched is up to date; undefined while it is not. */
  private freshSinceMs: number | undefined;
  private closed = false;
  private admissions = 0;
  private rejectedStreams = 0;
  private readonly tokensRefused: Record<string, number> = {};
  private sweeps = 0;

  constructor(
    private readonly cluster: DirectoryCluster,
    private readonly options: DirectoryOptions,
    private readonly log: Log,
    private readonly now: () => number = Date.now,
  ) {
    this.registry = new Registry(
      { leaseMs: options.leaseMs, maxRegistrations: options.maxRegistrationsPerPod },
      (key, local) => this.onChange(key, local),
    );
    this.tokens = new Tokens(cluster.reviewToken, options.audience, now);
    this.podThrottle = new Throttle(now);
    this.writer = new SliceWriter(
      cluster,
      (key, nowMs, leaseMs) =>
        slicesOf(key, this.registry.localMembers(key), options.replica, nowMs, leaseMs),
      options,
      log,
      now,
    );
  }

  start(): void {
    this.lookForFreshness();
    this.tick = setInterval(() => this.onTick(), kTickMs);
  }

  /** Ends all streams: their sidecars go to another replica. What they registered stays in the slices until their leases end. */
  async close(): Promise<void> {
    this.closed = true;
    clearInterval(this.tick);
    clearTimeout(this.gatherTimer);
    const goodbye = draining();
    this.tokens.close(goodbye);
    [...this.sessions].forEach((session) => session.end(goodbye));
    this.sessions.clear();
    await this.writer.close();
  }

  get stats(): DirectoryStats {
    const { instances, registrations, topics } = this.registry.stats;
    const { waiting, writes, failures } = this.writer.stats;
    return {
      streams: this.sessions.size,
      admissions: this.admissions,
      instances,
      registrations,
      topics,
      rejectedStreams: this.rejectedStreams,
      tokensRefused: { ...this.tokensRefused },
      tokenReviews: this.tokens.reviewed,
      topicsWaiting: waiting,
      sliceWrites: writes,
      sliceFailures: failures,
      sweeps: this.sweeps,
    };
  }

  // --- from the API server ---

  topicSet(topic: Topic): void {
    this.registry.setTopic(definitionOf(topic));
  }

  topicDeleted(namespace: string, name: string): void {
    this.registry.removeTopic(topicKey(namespace, name));
  }

  namespaceSet(name: string, labels: Readonly<Record<string, string>>): void {
    this.registry.setNamespace(name, labels);
  }

  namespaceDeleted(name: string): void {
    this.registry.setNamespace(name, undefined);
  }

  sliceSet(slice: TopicEndpointSlice): void {
    const id = `${slice.metadata.namespace ?? ''}/${slice.metadata.name ?? ''}`;
    const foreign = foreignOf(slice, this.options.replica);
    if (foreign !== undefined) {
      const { key, members, renewedMs, leaseMs } = foreign;
      this.registry.setForeign(id, key, members, renewedMs, leaseMs);
    }
  }

  sliceDeleted(namespace: string, name: string): void {
    this.registry.removeForeign(`${namespace}/${name}`);
    this.writer.deleted(namespace, name);
  }

  // --- from sidecars ---

  /**
   * A stream with its token. Rejects with RpcError; what the stream said meanwhile is given to the session by the caller, who aborts `signal` when
   * the stream ends.
   */
  async admit(
    token: string | undefined,
    stream: SessionStream,
    signal: AbortSignal,
  ): Promise<DirectorySession> {
    const known = this.sessions.size + this.admissions;
    if (this.closed || known >= this.options.maxStreams) {
      this.rejectedStreams++;
      throw this.closed
        ? draining()
        : new RpcError(
            RpcCode.RESOURCE_EXHAUSTED,
            `${known} streams are open or have their tokens checked, and no more are allowed; run more replicas of the operator`,
            { reason: 'TOO_MANY_STREAMS' },
          );
    }
    this.admissions++;
    try {
      const identity = await this.identify(token, signal);
      const session = new DirectorySession(stream, identity, {
        registry: this.registry,
        options: this.options,
        now: this.now,
        checkEndpoints: (who, endpoints) => this.checkEndpoints(who, endpoints),
      });
      this.sessions.add(session);
      return session;
    } finally {
      this.admissions--;
    }
  }

  private async identify(token: string | undefined, signal: AbortSignal): Promise<PodIdentity> {
    try {
      const identity = await this.tokens.identify(token, signal);
      if (!this.closed) {
        return identity;
      }
    } catch (error) {
      if (!this.closed) {
        const reason = error instanceof RpcError ? error.details.reason : 'INTERNAL';
        this.tokensRefused[reason] = (this.tokensRefused[reason] ?? 0) + 1;
        throw error;
      }
    }
    this.rejectedStreams++;
    throw draining();
  }

  left(session: DirectorySession): void {
    session.onClosed();
    this.sessions.delete(session);
  }

  /** On the pod network a sidecar may only name its own pod's addresses. While the API server is away or throttles, it is believed: its token was checked. */
  private async checkEndpoints(identity: PodIdentity, endpoints: readonly Endpoint[]): Promise<void> {
    const claimed = endpoints.filter((each) => each.network === 'pod');
    if (claimed.length === 0 || this.podThrottle.restMs > 0) {
      return;
    }
    let own: readonly string[] | undefined;
    try {
      own = await this.cluster.podAddresses(identity);
    } catch (error) {
      this.podThrottle.take(error);
      this.log.warn(
        { pod: identity.pod, namespace: identity.namespace, err: error },
        'addresses of a pod can not be checked',
      );
      return;
    }
    const wrong = claimed.find((each) => !(own ?? []).includes(each.address));
    if (wrong !== undefined) {
      throw new RpcError(
        RpcCode.PERMISSION_DENIED,
        `endpoint ${wrong.address} is not of pod "${identity.namespace}/${identity.pod}", which has ${own?.join(', ') ?? 'no addresses'}; set endpoints to the address of the pod (status.podIP)`,
        { reason: 'FOREIGN_ENDPOINT' },
      );
    }
  }

  private onChange(key: TopicKey, local: boolean): void {
    this.changes.add(key);
    if (local) {
      this.localChanges.add(key);
    }
    this.gatherTimer ??= setTimeout(() => this.spread(), kGatherMs);
  }

  private spread(): void {
    this.gatherTimer = undefined;
    const { changes, localChanges } = this;
    this.changes = new Set();
    this.localChanges = new Set();
    for (const session of [...this.sessions]) {
      session.topicsChanged(changes);
    }
    this.writer.changed(localChanges);
  }

  private lookForFreshness(): void {
    this.freshSinceMs = this.cluster.isFresh() ? (this.freshSinceMs ?? this.now()) : undefined;
  }

  private onTick(): void {
    this.sweeps++;
    this.lookForFreshness();
    if (this.freshSinceMs !== undefined) {
      this.registry.expire(this.now(), this.freshSinceMs);
    }
    this.writer.onTick();
  }
}

export { kReplicaLabel, type JoinRequest };
