// SPDX-License-Identifier: Apache-2.0
// One sidecar's stream: checks what it says, keeps its registrations, tells it what changed. No grpc-js types.
import { isIP } from 'node:net';
import { RpcCode, RpcError } from '../../../sidecar/src/grpc/rpc_error';
import { registrationKey, type Instance, type RegistrationView, type Registry } from './registry';
import {
  resolveTopicName,
  type Endpoint,
  type Member,
  type PodIdentity,
  type Role,
  type TopicKey,
} from './types';

/** As proto-loader gives it: the name of the field that is set, and the field. */
export interface JoinRequest {
  readonly request?: 'hello' | 'register' | 'unregister' | 'heartbeat';
  readonly hello?: {
    readonly instanceId: string;
    readonly endpoints: readonly Endpoint[];
    readonly version: string;
  };
  readonly register?: { readonly topic: string; readonly role: string };
  readonly unregister?: { readonly topic: string; readonly role: string };
}

export interface SessionStream {
  /** False: wait for `onDrain` before more is sent. */
  send(response: object): boolean;
  end(error: RpcError): void;
}

export interface SessionOptions {
  readonly leaseMs: number;
  readonly heartbeatMs: number;
  /** Requests a second that a sidecar may send for long; ten times as many in a burst. */
  readonly requestsPerSecond: number;
}

export interface SessionDependencies {
  readonly registry: Registry;
  readonly options: SessionOptions;
  readonly now: () => number;
  /** Rejects with RpcError when an endpoint is not the pod's. */
  readonly checkEndpoints: (identity: PodIdentity, endpoints: readonly Endpoint[]) => Promise<void>;
}

const kMaxEndpoints = 8;
const kBurstSeconds = 10;
const kInstanceId = /^[A-Za-z0-9-]{1,64}$/;
const kNetwork = /^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$/;
const kTopic = /^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\/)?[A-Za-z0-9._-]{1,253}$/;
const kRoles: Readonly<Record<string, Role>> = { ROLE_PUBLISHER: 'publisher', ROLE_SUBSCRIBER: 'subscriber' };
const kRoleNames = { publisher: 'ROLE_PUBLISHER', subscriber: 'ROLE_SUBSCRIBER' } as const;

function invalid(field: string, description: string): RpcError {
  return new RpcError(RpcCode.INVALID_ARGUMENT, `${field}: ${description}`, {
    reason: 'INVALID_REQUEST',
    violations: [{ field, description }],
  });
}

function checkHello(hello: NonNullable<JoinRequest['hello']>): void {
  if (!kInstanceId.test(hello.instanceId)) {
    throw invalid('hello.instance_id', `is "${hello.instanceId}"; allowed: 1 to 64 of A-Z a-z 0-9 -`);
  }
  if (hello.endpoints.length > kMaxEndpoints) {
    throw invalid(
      'hello.endpoints',
      `has ${hello.endpoints.length} entries; at most ${kMaxEndpoints} are allowed`,
    );
  }
  hello.endpoints.forEach(({ network, address, port, mtu }, index) => {
    const field = `hello.endpoints[${index}]`;
    if (!kNetwork.test(network)) {
      throw invalid(`${field}.network`, `is "${network}"; allowed: a DNS label such as "pod"`);
    }
    if (isIP(address) === 0) {
      throw invalid(`${field}.address`, `is "${address}"; allowed: a numeric IPv4 or IPv6 address`);
    }
    if (port < 1 || port > 65_535) {
      throw invalid(`${field}.port`, `is ${port}; allowed: 1 to 65535`);
    }
    if (mtu !== 0 && (mtu < 576 || mtu > 65_535)) {
      throw invalid(`${field}.mtu`, `is ${mtu}; allowed: 0, or 576 to 65535`);
    }
  });
}

function checkRegistration(
  kind: string,
  body: { topic: string; role: string },
): { topic: string; role: Role } {
  const role = kRoles[body.role];
  if (role === undefined) {
    throw invalid(`${kind}.role`, `is ${body.role}; allowed: ROLE_PUBLISHER, ROLE_SUBSCRIBER`);
  }
  if (!kTopic.test(body.topic)) {
    throw invalid(`${kind}.topic`, `is "${body.topic}"; allowed: a name, or namespace/name`);
  }
  return { topic: body.topic, role };
}

function memberMessage(member: Member): object {
  const { instanceId, namespace, pod, node, endpoints } = member;
  return { instanceId, pod: `${namespace}/${pod}`, node, endpoints };
}

function messageOf({ written, role, view, refusal }: RegistrationView): object {
  if (view === undefined) {
    return {
      refusal: {
        topic: written,
        role: kRoleNames[role],
        reason: refusal?.reason ?? 'TOPIC_NOT_READY',
        message: refusal?.message ?? '',
        nearest: refusal?.nearest ?? '',
      },
    };
  }
  const { streamId, flowControl, reliable, termLength, mtu } = view.topic;
  return {
    topic: {
      topic: written,
      streamId,
      flowControl,
      reliable,
      termLength,
      mtu,
      subscribers: view.subscribers.map(memberMessage),
      publishers: view.publishers.map(memberMessage),
    },
  };
}

export class DirectorySession {
  private instance: Instance | undefined;
  private greeting = false;
  private ended = false;
  private heard = false;
  private readonly said = new Set<string>();
  private readonly dirty = new Set<TopicKey>();
  private readonly waiting: JoinRequest[] = [];
  private congested = false;
  private allowance: number;
  private allowanceMs: number;

  constructor(
    private readonly stream: SessionStream,
    readonly identity: PodIdentity,
    private readonly deps: SessionDependencies,
  ) {
    this.allowance = deps.options.requestsPerSecond * kBurstSeconds;
    this.allowanceMs = deps.now();
  }

  onRequest(request: JoinRequest): void {
    if (this.ended) {
      return;
    }
    try {
      this.takeAllowance();
      if (this.greeting) {
        this.waiting.push(request); // bounded by the allowance
        return;
      }
      this.handle(request);
    } catch (error) {
      this.fail(error);
    }
  }

  /** The peer took what was sent. */
  onDrain(): void {
    this.congested = false;
    this.pump();
  }

  onClosed(): void {
    this.ended = true;
    if (this.instance !== undefined) {
      this.deps.registry.leave(this.instance, this.deps.now());
    }
  }

  /** Ends the stream; what it registered keeps its lease. */
  end(error: RpcError): void {
    if (!this.ended) {
      this.ended = true;
      this.stream.end(error);
      if (this.instance !== undefined) {
        this.deps.registry.leave(this.instance, this.deps.now());
      }
    }
  }

  /** Topics changed: it is told of those that it has registered for. */
  topicsChanged(keys: Iterable<TopicKey>): void {
    const { instance } = this;
    if (instance === undefined || this.ended) {
      return;
    }
    if (!this.deps.registry.isCurrent(instance)) {
      this.end(replaced(this.identity));
      return;
    }
    const own = new Set([...instance.registrations.values()].map((each) => each.key));
    for (const key of keys) {
      if (own.has(key)) {
        this.dirty.add(key);
      }
    }
    this.pump();
  }

  private takeAllowance(): void {
    const now = this.deps.now();
    const { requestsPerSecond } = this.deps.options;
    const most = requestsPerSecond * kBurstSeconds;
    this.allowance = Math.min(most, this.allowance + ((now - this.allowanceMs) / 1000) * requestsPerSecond);
    this.allowanceMs = now;
    if (this.allowance < 1) {
      throw new RpcError(
        RpcCode.RESOURCE_EXHAUSTED,
        `pod "${this.identity.namespace}/${this.identity.pod}" sends more than ${requestsPerSecond} requests a second; open topics once and keep them open`,
        { reason: 'TOO_MANY_REQUESTS' },
      );
    }
    this.allowance--;
  }

  private handle(request: JoinRequest): void {
    if (request.hello !== undefined) {
      void this.greet(request.hello);
      return;
    }
    const { instance } = this;
    if (instance === undefined) {
      throw new RpcError(RpcCode.FAILED_PRECONDITION, 'the first request of a stream must be hello', {
        reason: 'NO_HELLO',
      });
    }
    if (!this.deps.registry.isCurrent(instance)) {
      throw replaced(this.identity);
    }
    if (request.register !== undefined) {
      const { topic, role } = checkRegistration('register', request.register);
      this.said.add(registrationKey(resolveTopicName(this.identity.namespace, topic), role));
      const view = this.deps.registry.register(instance, topic, role);
      this.send(messageOf(view));
    } else if (request.unregister !== undefined) {
      const { topic, role } = checkRegistration('unregister', request.unregister);
      this.said.delete(registrationKey(resolveTopicName(this.identity.namespace, topic), role));
      this.deps.registry.unregister(instance, topic, role);
    } else if (request.request === 'heartbeat') {
      if (!this.heard) {
        this.heard = true;
        this.deps.registry.keepOnly(instance, this.said);
      }
    } else {
      throw invalid('request', 'is none of hello, register, unregister, heartbeat');
    }
  }

  private async greet(hello: NonNullable<JoinRequest['hello']>): Promise<void> {
    try {
      if (this.instance !== undefined) {
        throw invalid('hello', 'stands twice; only the first request of a stream may be hello');
      }
      checkHello(hello);
      this.greeting = true;
      await this.deps.checkEndpoints(this.identity, hello.endpoints);
      this.greeting = false;
      if (this.ended) {
        return;
      }
      this.instance = this.deps.registry.join(this.identity, hello.instanceId, hello.endpoints);
      const { namespace, pod, node } = this.identity;
      const { leaseMs, heartbeatMs } = this.deps.options;
      this.send({ welcome: { namespace, pod, node, leaseMs, heartbeatMs } });
      for (const request of this.waiting.splice(0)) {
        this.handle(request);
      }
    } catch (error) {
      this.fail(error);
    }
  }

  /** Only the newest state of a topic matters: while the peer does not read, changes gather as names. */
  private pump(): void {
    const { instance } = this;
    if (instance === undefined) {
      return;
    }
    for (const key of this.dirty) {
      if (this.congested || this.ended) {
        return;
      }
      this.dirty.delete(key);
      for (const view of this.deps.registry.viewsOf(instance, key)) {
        this.send(messageOf(view));
      }
    }
  }

  private send(message: object): void {
    if (!this.ended) {
      this.congested = !this.stream.send(message);
    }
  }

  private fail(error: unknown): void {
    this.end(
      error instanceof RpcError
        ? error
        : new RpcError(RpcCode.INTERNAL, `unexpected: ${(error as Error).message}`, { reason: 'INTERNAL' }),
    );
  }
}

function replaced(identity: PodIdentity): RpcError {
  return new RpcError(
    RpcCode.ABORTED,
    `pod "${identity.namespace}/${identity.pod}" has a later stream; this one is of no more use`,
    { reason: 'REPLACED' },
  );
}
