// SPDX-License-Identifier: Apache-2.0
// This sidecar in the directory: registers the topics that streams open, keeps their members up to date in the topic store, comes back after
// every outage, and goes on with what it knew meanwhile.
import { randomUUID } from 'node:crypto';
import { EventEmitter } from 'node:events';
import type { Logger } from 'pino';
import { RpcCode, RpcError } from '../grpc/rpc_error';
import type { TopicStore } from '../topics/topic_store';
import {
  kRoleNames,
  rolesAmong,
  topicOf,
  type Endpoint,
  type JoinResponse,
  type Refusal,
  type Role,
  type TopicState,
  type Welcome,
} from './messages';
import type { TopicCache } from './topic_cache';
import type { DirectoryStream, OpenDirectoryStream } from './transport';

export interface DirectoryClientOptions {
  readonly endpoints: readonly Endpoint[];
  readonly version: string;
  /** How long an open waits for the directory's answer. */
  readonly answerTimeoutMs: number;
  /** First and longest pause before the next attempt to reach the directory. */
  readonly minRetryMs?: number;
  readonly maxRetryMs?: number;
}

export interface DirectoryClientEvents {
  /** A registration that held does no longer. */
  revoked: [{ readonly topic: string; readonly role: Role; readonly error: RpcError }];
  /** Reached (undefined), or lost with the reason. */
  connection: [string | undefined];
  /** What `grants` says changed. Before the topic store hears of it. */
  grants: [];
}

/** A topic that this sidecar has open in a role, with what was last said of it. */
export interface Grant {
  readonly role: Role;
  readonly state: TopicState;
}

interface Registration {
  readonly topic: string;
  readonly role: Role;
  users: number;
  /** The directory said that it holds, in this process. */
  held: boolean;
  /** It holds, or went on with what was last known. */
  granted: boolean;
  readonly waiters: Set<{ resolve(): void; reject(error: RpcError): void }>;
}

const kMinRetryMs = 200;
const kMaxRetryMs = 5000;
/** Longest wait that the directory is believed to ask for: it takes no longer one from the API server either. */
const kLongestAskedMs = 60_000;
const kReadable: Readonly<Record<string, Role>> = {
  ROLE_PUBLISHER: 'publisher',
  ROLE_SUBSCRIBER: 'subscriber',
};

const kRefusalCodes: Readonly<Record<string, RpcCode>> = {
  UNKNOWN_TOPIC: RpcCode.NOT_FOUND,
  NOT_ALLOWED: RpcCode.PERMISSION_DENIED,
  TOPIC_NOT_READY: RpcCode.FAILED_PRECONDITION,
  TOO_MANY: RpcCode.RESOURCE_EXHAUSTED,
};

function refusalError({ topic, reason, message, nearest }: Refusal): RpcError {
  return new RpcError(kRefusalCodes[reason] ?? RpcCode.FAILED_PRECONDITION, message, {
    reason,
    metadata: nearest === '' ? { topic } : { topic, nearest },
  });
}

export class DirectoryClient extends EventEmitter<DirectoryClientEvents> {
  private readonly registrations = new Map<string, Registration>();
  private readonly instanceId = randomUUID();
  private readonly networks: ReadonlySet<string>;
  private stream: DirectoryStream | undefined;
  private welcome: Welcome | undefined;
  private heartbeat: NodeJS.Timeout | undefined;
  private retry: NodeJS.Timeout | undefined;
  private attempt = 0;
  private closed = false;
  private reason = 'not asked yet';
  private losses = 0;

  constructor(
    private readonly openStream: OpenDirectoryStream,
    private readonly topics: TopicStore,
    private readonly cache: TopicCache,
    private readonly options: DirectoryClientOptions,
    private readonly log: Logger,
  ) {
    super();
    this.networks = new Set(options.endpoints.map((each) => each.network));
  }

  start(): void {
    this.connect();
  }

  /** Says goodbye: what it registered ends at once. */
  close(): void {
    this.closed = true;
    clearTimeout(this.retry);
    clearInterval(this.heartbeat);
    for (const { topic, role } of this.registrations.values()) {
      this.send({ unregister: { topic, role: kRoleNames[role] } });
    }
    this.stream?.close();
    this.stream = undefined;
    this.cache.close();
  }

  /** Connected and greeted. */
  get connected(): boolean {
    return this.welcome !== undefined;
  }

  /** Why not. */
  get lastReason(): string {
    return this.reason;
  }

  get stats(): { readonly connected: boolean; readonly losses: number; readonly registrations: number } {
    return { connected: this.connected, losses: this.losses, registrations: this.registrations.size };
  }

  /** Who and where this sidecar is, as the directory sees it. */
  get self(): Welcome | undefined {
    return this.welcome;
  }

  /** Networks that this sidecar receives on. */
  get ownNetworks(): ReadonlySet<string> {
    return this.networks;
  }

  /** What the directory lets this sidecar do now. */
  grants(): readonly Grant[] {
    return [...this.registrations.values()].flatMap(({ topic, role, granted }): Grant[] => {
      const state = granted ? this.cache.get(topic) : undefined;
      return state === undefined ? [] : [{ role, state }];
    });
  }

  /** Last known state of a topic that is open. */
  state(topic: string): TopicState | undefined {
    return this.cache.get(topic);
  }

  /**
   * Opens a topic in a role, and resolves when the topic store has it. While the directory is away, what was last known of the topic will do, in
   * the roles that the directory granted and has not taken back since.
   * Rejects with RpcError: NOT_FOUND, PERMISSION_DENIED, FAILED_PRECONDITION, UNAVAILABLE. Each success needs a `release`.
   */
  async acquire(topic: string, role: Role): Promise<void> {
    const key = `${role} ${topic}`;
    let registration = this.registrations.get(key);
    if (registration === undefined) {
      registration = { topic, role, users: 0, held: false, granted: false, waiters: new Set() };
      this.registrations.set(key, registration);
      this.send({ register: { topic, role: kRoleNames[role] } });
    }
    registration.users++;
    if (registration.held) {
      return;
    }
    const known = this.lastGranted(registration);
    if (!this.connected && known !== undefined) {
      registration.granted = true;
      this.take(known);
      return;
    }
    try {
      await this.answer(registration);
    } catch (error) {
      this.release(topic, role);
      throw error;
    }
  }

  release(topic: string, role: Role): void {
    const key = `${role} ${topic}`;
    const registration = this.registrations.get(key);
    if (registration !== undefined && --registration.users <= 0) {
      this.registrations.delete(key);
      this.send({ unregister: { topic, role: kRoleNames[role] } });
      this.emit('grants');
      if (![...this.registrations.values()].some((each) => each.topic === topic)) {
        this.topics.setRemote(topic, undefined);
      }
    }
  }

  private lastGranted({ topic, role }: Pick<Registration, 'topic' | 'role'>): TopicState | undefined {
    return this.cache.roles(topic).has(role) ? this.cache.get(topic) : undefined;
  }

  private unanswered({ topic, role }: Registration): RpcError {
    const roles = [...this.cache.roles(topic)].join(' and ');
    const what =
      roles === ''
        ? `topic "${topic}" can't be looked up: the directory does not answer (${this.reason})`
        : `topic "${topic}" can't be opened as ${role}: the directory does not answer (${this.reason}), and has let this pod be ${roles} only`;
    return new RpcError(RpcCode.UNAVAILABLE, `${what}; retry`, {
      reason: 'DIRECTORY_UNAVAILABLE',
      metadata: { topic },
    });
  }

  private answer(registration: Registration): Promise<void> {
    return new Promise((resolve, reject) => {
      const waiter = {
        resolve: () => {
          clearTimeout(timer);
          resolve();
        },
        reject: (error: RpcError) => {
          clearTimeout(timer);
          reject(error);
        },
      };
      const timer = setTimeout(() => {
        registration.waiters.delete(waiter);
        reject(this.unanswered(registration));
      }, this.options.answerTimeoutMs);
      registration.waiters.add(waiter);
    });
  }

  private send(request: object): void {
    if (this.welcome !== undefined) {
      this.stream?.send(request);
    }
  }

  private connect(): void {
    if (this.closed) {
      return;
    }
    const handlers = {
      onResponse: (response: JoinResponse) => this.onResponse(response),
      onEnd: (code: number, message: string, retryAfterMs?: number) =>
        this.onEnd(`${RpcCode[code] ?? code}: ${message}`, retryAfterMs),
    };
    try {
      this.stream = this.openStream(handlers);
    } catch (error) {
      this.onEnd((error as Error).message);
      return;
    }
    const { endpoints, version } = this.options;
    this.stream.send({ hello: { instanceId: this.instanceId, endpoints, version } });
  }

  private onEnd(reason: string, retryAfterMs = 0): void {
    const wasConnected = this.connected;
    this.stream = undefined;
    this.welcome = undefined;
    clearInterval(this.heartbeat);
    if (this.closed) {
      return;
    }
    this.reason = reason;
    if (wasConnected) {
      this.losses++;
      this.attempt = 0;
      this.emit('connection', reason);
      this.log.warn({ reason }, 'directory lost; going on with the members known');
    }
    // Half of it is chance, so that the sidecars of a whole cluster do not come back at once; and so when all were asked to wait for the same time.
    const { minRetryMs = kMinRetryMs, maxRetryMs = kMaxRetryMs } = this.options;
    const longest = Math.min(maxRetryMs, minRetryMs * 2 ** this.attempt++);
    const askedMs = Math.min(retryAfterMs, kLongestAskedMs);
    const pauseMs = askedMs + longest / 2 + (Math.random() * (longest + askedMs)) / 2;
    if (!wasConnected) {
      this.log.debug({ reason, pauseMs }, 'directory can not be reached');
    }
    this.retry = setTimeout(() => this.connect(), pauseMs);
    this.fallBack();
  }

  /** Opens that wait go on with what was last known, where there is something. */
  private fallBack(): void {
    for (const registration of this.registrations.values()) {
      const known = this.lastGranted(registration);
      if (registration.waiters.size > 0 && known !== undefined) {
        registration.granted = true;
        this.take(known);
        this.settle(registration, undefined);
      }
    }
  }

  private onResponse({ welcome, topic, refusal }: JoinResponse): void {
    if (this.closed) {
      return;
    }
    if (welcome !== undefined) {
      this.welcome = welcome;
      this.attempt = 0;
      for (const { topic: name, role } of this.registrations.values()) {
        this.send({ register: { topic: name, role: kRoleNames[role] } });
      }
      // The first heartbeat says that this was all.
      this.send({ heartbeat: {} });
      clearInterval(this.heartbeat);
      this.heartbeat = setInterval(() => this.send({ heartbeat: {} }), welcome.heartbeatMs);
      this.log.info({ namespace: welcome.namespace, pod: welcome.pod }, 'directory reached');
      this.emit('connection', undefined);
    } else if (topic !== undefined) {
      // The answer to one role may come while another is asked for, or refused: only a role that this sidecar is listed in holds.
      const granted = rolesAmong(topic, ({ instanceId }) => instanceId === this.instanceId);
      this.cache.set(topic, granted);
      const mine = [...this.registrations.values()].filter((each) => each.topic === topic.topic);
      const holding = mine.filter(({ role }) => granted.includes(role));
      holding.forEach((registration) => {
        registration.held = true;
        registration.granted = true;
      });
      if (mine.some((registration) => registration.granted)) {
        this.take(topic);
      }
      holding.forEach((registration) => this.settle(registration, undefined));
    } else if (refusal !== undefined) {
      this.onRefusal(refusal);
    }
  }

  private onRefusal(refusal: Refusal): void {
    const role = kReadable[refusal.role];
    const registration = role === undefined ? undefined : this.registrations.get(`${role} ${refusal.topic}`);
    const error = refusalError(refusal);
    if (refusal.reason === 'UNKNOWN_TOPIC') {
      this.cache.delete(refusal.topic);
    } else if (refusal.reason === 'NOT_ALLOWED' && role !== undefined) {
      this.cache.drop(refusal.topic, role);
    }
    if (registration === undefined || role === undefined) {
      return;
    }
    const wasOpen = registration.waiters.size < registration.users;
    registration.held = false;
    registration.granted = false;
    this.emit('grants');
    this.settle(registration, error);
    if (wasOpen) {
      this.log.warn({ topic: refusal.topic, role, reason: refusal.reason }, refusal.message);
      this.emit('revoked', { topic: refusal.topic, role, error });
    }
  }

  private settle(registration: Registration, error: RpcError | undefined): void {
    const waiters = [...registration.waiters];
    registration.waiters.clear();
    waiters.forEach((waiter) => (error === undefined ? waiter.resolve() : waiter.reject(error)));
  }

  private take(state: TopicState): void {
    this.emit('grants');
    this.topics.setRemote(state.topic, topicOf(state, this.networks));
  }
}
