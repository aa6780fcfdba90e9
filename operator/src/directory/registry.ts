// SPDX-License-Identifier: Apache-2.0
// Who has which topic open: sidecars with a stream here, those whose stream broke less than a lease ago, and those of other replicas as their
// slices say. No I/O and no clock: time is an argument. What to write to the API server and what to send to whom is decided elsewhere.
import { refusalOf } from './authorization';
import {
  resolveTopicName,
  topicKey,
  type Endpoint,
  type Member,
  type PodIdentity,
  type Refusal,
  type Role,
  type TopicDefinition,
  type TopicKey,
} from './types';

export interface RegistryOptions {
  /** A member whose stream ended is one no more after so long, milliseconds. */
  readonly leaseMs: number;
  /** Registrations that one pod may hold at a time. */
  readonly maxRegistrations: number;
}

interface Registration {
  readonly key: TopicKey;
  /** The topic as the app wrote it: answers use the same words. */
  readonly written: string;
  readonly role: Role;
}

/** A sidecar. One a pod: a later instance takes the place of an earlier one. */
export interface Instance {
  readonly identity: PodIdentity;
  readonly instanceId: string;
  readonly endpoints: readonly Endpoint[];
  readonly registrations: ReadonlyMap<string, Registration>;
}

interface LocalInstance extends Instance {
  readonly registrations: Map<string, Registration>;
  /** When it stops being a member; undefined while its stream is open. */
  expiresMs: number | undefined;
  /** It has said all that it has open: what other replicas still know of its pod is outdated. */
  complete: boolean;
}

/** A topic as one sidecar is told of it. */
export interface TopicView {
  readonly written: string;
  readonly topic: TopicDefinition & { readonly streamId: number };
  readonly subscribers: readonly Member[];
  readonly publishers: readonly Member[];
}

export interface RegistrationView {
  readonly written: string;
  readonly role: Role;
  readonly view: TopicView | undefined;
  readonly refusal: Refusal | undefined;
}

interface Foreign {
  readonly key: TopicKey;
  readonly members: readonly Member[];
  readonly renewedMs: number;
}

export function registrationKey(key: TopicKey, role: Role): string {
  return `${role} ${key}`;
}

export class Registry {
  private readonly topics = new Map<TopicKey, TopicDefinition>();
  private readonly namespaces = new Map<string, Readonly<Record<string, string>>>();
  private readonly byPod = new Map<string, LocalInstance>();
  private readonly foreign = new Map<string, Foreign>();

  /** @param changed called with each topic whose members, definition or permissions changed. */
  constructor(
    private readonly options: RegistryOptions,
    private readonly changed: (key: TopicKey) => void,
  ) {}

  // --- what the API server says ---

  setTopic(topic: TopicDefinition): void {
    const key = topicKey(topic.namespace, topic.name);
    if (JSON.stringify(this.topics.get(key)) !== JSON.stringify(topic)) {
      this.topics.set(key, topic);
      this.changed(key);
    }
  }

  removeTopic(key: TopicKey): void {
    if (this.topics.delete(key)) {
      this.changed(key);
    }
  }

  /** undefined: the namespace is gone. Permissions of its pods are looked at anew. */
  setNamespace(name: string, labels: Readonly<Record<string, string>> | undefined): void {
    if (JSON.stringify(this.namespaces.get(name)) === JSON.stringify(labels)) {
      return;
    }
    if (labels === undefined) {
      this.namespaces.delete(name);
    } else {
      this.namespaces.set(name, labels);
    }
    const keys = new Set<TopicKey>();
    for (const instance of this.byPod.values()) {
      if (instance.identity.namespace === name) {
        instance.registrations.forEach((each) => keys.add(each.key));
      }
    }
    keys.forEach((key) => this.changed(key));
  }

  /** A slice of another replica. */
  setForeign(slice: string, key: TopicKey, members: readonly Member[], renewedMs: number): void {
    const before = this.foreign.get(slice);
    this.foreign.set(slice, { key, members, renewedMs });
    if (before?.key !== key || JSON.stringify(before.members) !== JSON.stringify(members)) {
      this.changed(key);
      if (before !== undefined && before.key !== key) {
        this.changed(before.key);
      }
    }
  }

  removeForeign(slice: string): void {
    const before = this.foreign.get(slice);
    if (this.foreign.delete(slice) && before !== undefined) {
      this.changed(before.key);
    }
  }

  // --- what sidecars say ---

  /** A stream began. The instance that this pod had before is one no more, unless it is the same one coming back. */
  join(identity: PodIdentity, instanceId: string, endpoints: readonly Endpoint[]): Instance {
    const before = this.byPod.get(identity.podUid);
    const instance: LocalInstance = {
      identity,
      instanceId,
      endpoints,
      // The same instance says its registrations again, but until it has, nobody must think that they are gone.
      registrations: before?.registrations ?? new Map<string, Registration>(),
      expiresMs: undefined,
      complete: false,
    };
    this.byPod.set(identity.podUid, instance);
    this.touch(instance);
    return instance;
  }

  /** Its stream ended: its registrations stay for the lease. Nothing happens when a later stream of the pod has taken over. */
  leave(instance: Instance, nowMs: number): void {
    const local = this.byPod.get(instance.identity.podUid);
    if (local === instance) {
      local.expiresMs = nowMs + this.options.leaseMs;
    }
  }

  /** True while no later stream of the pod has taken over. */
  isCurrent(instance: Instance): boolean {
    return this.byPod.get(instance.identity.podUid) === instance;
  }

  register(instance: Instance, written: string, role: Role): RegistrationView {
    const local = instance as LocalInstance;
    const key = resolveTopicName(instance.identity.namespace, written);
    const id = registrationKey(key, role);
    let registration = local.registrations.get(id);
    if (registration === undefined) {
      if (local.registrations.size >= this.options.maxRegistrations) {
        return {
          written,
          role,
          view: undefined,
          refusal: {
            reason: 'TOO_MANY',
            message: `pod "${instance.identity.pod}" has ${local.registrations.size} registrations, and more are not allowed; close topics that are not used`,
            nearest: '',
          },
        };
      }
      registration = { key, written, role };
      local.registrations.set(id, registration);
      if (this.refusal(local, registration) === undefined) {
        this.changed(key);
      }
    }
    return this.viewOf(local, registration);
  }

  unregister(instance: Instance, written: string, role: Role): void {
    const local = instance as LocalInstance;
    const key = resolveTopicName(instance.identity.namespace, written);
    if (local.registrations.delete(registrationKey(key, role))) {
      this.changed(key);
    }
  }

  /** Ends what was registered by the instance before, and not again by this one: call it when the sidecar has said all it has open. */
  keepOnly(instance: Instance, said: ReadonlySet<string>): void {
    const local = instance as LocalInstance;
    for (const [id, registration] of [...local.registrations]) {
      if (!said.has(id)) {
        local.registrations.delete(id);
        this.changed(registration.key);
      }
    }
    local.complete = true;
    for (const { key, members } of this.foreign.values()) {
      if (members.some((each) => each.podUid === instance.identity.podUid)) {
        this.changed(key);
      }
    }
  }

  /**
   * Removes members whose lease ran out, and slices of other replicas that were not renewed for a lease. Every lease counts from `freshSinceMs` at
   * least, when this replica's view of the API server became whole: before, other replicas could not renew, and a sidecar that came back
   * to a replica that had not seen its token was refused.
   */
  expire(nowMs: number, freshSinceMs: number): void {
    const { leaseMs } = this.options;
    const firstEndMs = freshSinceMs + leaseMs;
    for (const [uid, instance] of [...this.byPod]) {
      if (instance.expiresMs !== undefined && Math.max(instance.expiresMs, firstEndMs) <= nowMs) {
        this.byPod.delete(uid);
        this.touch(instance);
      }
    }
    for (const [slice, { renewedMs }] of [...this.foreign]) {
      if (Math.max(renewedMs + leaseMs, firstEndMs) <= nowMs) {
        this.removeForeign(slice);
      }
    }
  }

  // --- what is asked ---

  /** Registrations of an instance for a topic, looked at anew: what to tell it after a change. */
  viewsOf(instance: Instance, key: TopicKey): readonly RegistrationView[] {
    const local = instance as LocalInstance;
    return [...local.registrations.values()]
      .filter((each) => each.key === key)
      .map((each) => this.viewOf(local, each));
  }

  /** Members with a stream here, or a lease: what this replica's slices say. */
  localMembers(key: TopicKey): readonly Member[] {
    return this.membersAmong([...this.byPod.values()], key);
  }

  /** Everybody: one member a pod, the local one where both are known. */
  members(key: TopicKey): readonly Member[] {
    const local = this.localMembers(key);
    const seen = new Set(local.map((each) => each.podUid));
    const others = new Map<string, Member>();
    for (const slice of this.foreign.values()) {
      if (slice.key !== key) {
        continue;
      }
      for (const member of slice.members) {
        // One that is just moving here is a member by what it told another replica, until it has said all.
        if (!seen.has(member.podUid) && this.byPod.get(member.podUid)?.complete !== true) {
          others.set(member.podUid, member);
        }
      }
    }
    return [...local, ...others.values()];
  }

  /** Topics that have a local member. */
  localTopics(): readonly TopicKey[] {
    const keys = new Set<TopicKey>();
    for (const instance of this.byPod.values()) {
      for (const registration of instance.registrations.values()) {
        if (this.refusal(instance, registration) === undefined) {
          keys.add(registration.key);
        }
      }
    }
    return [...keys];
  }

  get stats(): {
    readonly instances: number;
    readonly registrations: number;
    readonly foreignSlices: number;
    readonly topics: number;
  } {
    let registrations = 0;
    this.byPod.forEach((each) => (registrations += each.registrations.size));
    return {
      instances: this.byPod.size,
      registrations,
      foreignSlices: this.foreign.size,
      topics: this.topics.size,
    };
  }

  private touch(instance: LocalInstance): void {
    new Set([...instance.registrations.values()].map((each) => each.key)).forEach((key) => this.changed(key));
  }

  private refusal({ identity }: LocalInstance, { key, role }: Registration): Refusal | undefined {
    const labels = this.namespaces.get(identity.namespace);
    return refusalOf(key, this.topics.get(key), identity, role, labels, () => this.topics.values());
  }

  private membersAmong(instances: readonly LocalInstance[], key: TopicKey): readonly Member[] {
    return instances.flatMap((instance): Member[] => {
      const roles = [...instance.registrations.values()]
        .filter((each) => each.key === key && this.refusal(instance, each) === undefined)
        .map((each) => each.role);
      if (roles.length === 0) {
        return [];
      }
      const { namespace, pod, podUid, node } = instance.identity;
      return [
        {
          instanceId: instance.instanceId,
          namespace,
          pod,
          podUid,
          node,
          roles,
          endpoints: instance.endpoints,
        },
      ];
    });
  }

  private viewOf(instance: LocalInstance, registration: Registration): RegistrationView {
    const { written, role, key } = registration;
    const refusal = this.refusal(instance, registration);
    const topic = this.topics.get(key);
    if (refusal !== undefined || topic?.streamId === undefined) {
      return { written, role, view: undefined, refusal };
    }
    const members = this.members(key);
    const withRole = (wanted: Role): Member[] => members.filter((each) => each.roles.includes(wanted));
    return {
      written,
      role,
      refusal: undefined,
      view: {
        written,
        topic: { ...topic, streamId: topic.streamId },
        subscribers: withRole('subscriber'),
        publishers: withRole('publisher'),
      },
    };
  }
}
