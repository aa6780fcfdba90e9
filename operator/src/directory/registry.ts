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
  /** When it had said all that it has open, in this registry's own order: what other replicas knew of its pod before is outdated. */
  completeAt: number | undefined;
  /** Its lease ended. Kept while slices of another replica that is gone, too, have it as a member. */
  gone: boolean;
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
  readonly leaseMs: number;
  /** When its replica last wrote it, in this registry's own order. */
  readonly heardAt: number;
}

const kBothRoles: readonly Role[] = ['publisher', 'subscriber'];

export function registrationKey(key: TopicKey, role: Role): string {
  return `${role} ${key}`;
}

export class Registry {
  private readonly topics = new Map<TopicKey, TopicDefinition>();
  private readonly namespaces = new Map<string, Readonly<Record<string, string>>>();
  private readonly byPod = new Map<string, LocalInstance>();
  private readonly foreign = new Map<string, Foreign>();
  private readonly foreignByTopic = new Map<TopicKey, Map<string, Foreign>>();
  /** Orders what is heard of sidecars and of other replicas: clocks of several replicas would not. */
  private events = 0;

  /**
   * @param changed called with each topic whose members, definition or permissions changed. `local`: perhaps its members here; false where only
   * those of other replicas did.
   */
  constructor(
    private readonly options: RegistryOptions,
    private readonly changed: (key: TopicKey, local: boolean) => void,
  ) {}

  // --- what the API server says ---

  setTopic(topic: TopicDefinition): void {
    const key = topicKey(topic.namespace, topic.name);
    if (JSON.stringify(this.topics.get(key)) !== JSON.stringify(topic)) {
      this.topics.set(key, topic);
      this.changed(key, true);
    }
  }

  removeTopic(key: TopicKey): void {
    if (this.topics.delete(key)) {
      this.changed(key, true);
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
    keys.forEach((key) => this.changed(key, true));
  }

  /** A slice of another replica, which holds for `leaseMs` after `renewedMs`. */
  setForeign(
    slice: string,
    key: TopicKey,
    members: readonly Member[],
    renewedMs: number,
    leaseMs: number,
  ): void {
    const before = this.foreign.get(slice);
    const heardAt = before?.renewedMs === renewedMs ? before.heardAt : ++this.events;
    if (before !== undefined && before.key !== key) {
      this.removeForeign(slice);
    }
    const foreign = { key, members, renewedMs, leaseMs, heardAt };
    this.foreign.set(slice, foreign);
    const ofTopic = this.foreignByTopic.get(key) ?? new Map<string, Foreign>();
    this.foreignByTopic.set(key, ofTopic.set(slice, foreign));
    if (before?.key !== key || JSON.stringify(before.members) !== JSON.stringify(members)) {
      this.changed(key, false);
    }
  }

  removeForeign(slice: string): void {
    const before = this.foreign.get(slice);
    if (before === undefined) {
      return;
    }
    this.foreign.delete(slice);
    const ofTopic = this.foreignByTopic.get(before.key);
    ofTopic?.delete(slice);
    if (ofTopic?.size === 0) {
      this.foreignByTopic.delete(before.key);
    }
    this.changed(before.key, false);
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
      completeAt: undefined,
      gone: false,
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
        this.changed(key, true);
      }
    }
    return this.viewOf(local, registration);
  }

  unregister(instance: Instance, written: string, role: Role): void {
    const local = instance as LocalInstance;
    const key = resolveTopicName(instance.identity.namespace, written);
    if (local.registrations.delete(registrationKey(key, role))) {
      this.changed(key, true);
    }
  }

  /** Ends what was registered by the instance before, and not again by this one: call it when the sidecar has said all it has open. */
  keepOnly(instance: Instance, said: ReadonlySet<string>): void {
    const local = instance as LocalInstance;
    for (const [id, registration] of [...local.registrations]) {
      if (!said.has(id)) {
        local.registrations.delete(id);
        this.changed(registration.key, true);
      }
    }
    local.completeAt = ++this.events;
    for (const { key, members } of this.foreign.values()) {
      if (members.some((each) => each.podUid === instance.identity.podUid)) {
        this.changed(key, false);
      }
    }
  }

  /**
   * Removes members whose lease ran out, and slices of other replicas that were not renewed for theirs. Every lease counts from `freshSinceMs` at
   * least, when this replica's view of the API server became whole: before, other replicas could not renew, and a sidecar that came back
   * to a replica that had not seen its token was refused.
   */
  expire(nowMs: number, freshSinceMs: number): void {
    const firstEndMs = freshSinceMs + this.options.leaseMs;
    for (const instance of this.byPod.values()) {
      const { expiresMs, gone } = instance;
      if (!gone && expiresMs !== undefined && Math.max(expiresMs, firstEndMs) <= nowMs) {
        instance.gone = true;
        this.touch(instance);
        instance.registrations.clear();
      }
    }
    for (const [slice, { renewedMs, leaseMs }] of [...this.foreign]) {
      if (Math.max(renewedMs, freshSinceMs) + leaseMs <= nowMs) {
        this.removeForeign(slice);
      }
    }
    this.forget();
  }

  /** Those that are gone, and that no slice from before they came here would bring back. */
  private forget(): void {
    const gone = new Map([...this.byPod].filter(([, instance]) => instance.gone));
    if (gone.size === 0) {
      return;
    }
    for (const foreign of this.foreign.values()) {
      for (const { podUid } of foreign.members) {
        if (gone.has(podUid) && this.isOutdated(podUid, foreign)) {
          gone.delete(podUid);
        }
      }
    }
    gone.forEach((_, podUid) => this.byPod.delete(podUid));
  }

  /** What a slice says of a pod that was heard of here. */
  private isOutdated(podUid: string, { heardAt }: Foreign): boolean {
    const local = this.byPod.get(podUid);
    // One that is just moving here is a member by what it told another replica, until it has said all.
    if (local?.completeAt === undefined) {
      return false;
    }
    // One whose lease here ended may be a member by another replica: by one that has written since, not by one that ended before it came here.
    return !local.gone || heardAt < local.completeAt;
  }

  // --- what is asked ---

  /** Registrations of an instance for a topic, looked at anew: what to tell it after a change. */
  viewsOf(instance: Instance, key: TopicKey): readonly RegistrationView[] {
    const local = instance as LocalInstance;
    return this.registrationsOf(local, key).map((each) => this.viewOf(local, each));
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
    for (const slice of this.foreignByTopic.get(key)?.values() ?? []) {
      for (const member of slice.members) {
        if (!seen.has(member.podUid) && !this.isOutdated(member.podUid, slice)) {
          others.set(member.podUid, member);
        }
      }
    }
    return [...local, ...others.values()];
  }

  get stats(): {
    readonly instances: number;
    readonly registrations: number;
    readonly foreignSlices: number;
    readonly topics: number;
  } {
    let registrations = 0;
    let instances = 0;
    this.byPod.forEach((each) => {
      registrations += each.registrations.size;
      instances += each.gone ? 0 : 1;
    });
    return {
      instances,
      registrations,
      foreignSlices: this.foreign.size,
      topics: this.topics.size,
    };
  }

  private touch(instance: LocalInstance): void {
    new Set([...instance.registrations.values()].map((each) => each.key)).forEach((key) =>
      this.changed(key, true),
    );
  }

  /** In both roles, where it has them. */
  private registrationsOf(instance: Instance, key: TopicKey): readonly Registration[] {
    return kBothRoles.flatMap((role) => instance.registrations.get(registrationKey(key, role)) ?? []);
  }

  private refusal({ identity }: LocalInstance, { key, role }: Registration): Refusal | undefined {
    const labels = this.namespaces.get(identity.namespace);
    return refusalOf(key, this.topics.get(key), identity, role, labels, () => this.topics.values());
  }

  private membersAmong(instances: readonly LocalInstance[], key: TopicKey): readonly Member[] {
    return instances.flatMap((instance): Member[] => {
      const roles = this.registrationsOf(instance, key)
        .filter((each) => this.refusal(instance, each) === undefined)
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
