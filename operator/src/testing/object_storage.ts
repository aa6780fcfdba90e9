// SPDX-License-Identifier: Apache-2.0
// What an API server keeps: objects with versions and a history of events, and what each kind of write does to an object. HTTP is fake_api_server.ts.
import { randomUUID } from 'node:crypto';

export type Json = Record<string, unknown>;

export interface Stored extends Json {
  apiVersion: string;
  kind: string;
  metadata: Json & {
    name: string;
    namespace?: string;
    uid: string;
    resourceVersion: string;
    generation?: number;
    creationTimestamp: string;
    deletionTimestamp?: string;
    finalizers?: string[];
    labels?: Record<string, string>;
  };
}

export interface HistoryEvent {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  readonly version: number;
  /** /apis/GROUP/VERSION/PLURAL */
  readonly collection: string;
  readonly object: Stored;
}

/** A metav1.Status to be. */
export class Refusal extends Error {
  constructor(
    readonly code: number,
    readonly reason: string,
    message: string,
  ) {
    super(message);
  }
}

export interface Kind {
  readonly kind: string;
  readonly apiVersion: string;
  readonly hasStatus: boolean;
  /** Validation and defaults: answers the spec to store, or throws Refusal. */
  readonly admit?: (object: Json) => Json;
}

function clone<T>(value: T): T {
  return structuredClone(value);
}

function without(object: Json, ...names: readonly string[]): Json {
  return Object.fromEntries(Object.entries(object).filter(([name]) => !names.includes(name)));
}

/** RFC 7386. */
export function mergePatched(target: unknown, patch: unknown): unknown {
  if (typeof patch !== 'object' || patch === null || Array.isArray(patch)) {
    return patch;
  }
  const before = typeof target === 'object' && target !== null && !Array.isArray(target) ? target : {};
  const changes = Object.entries(patch as Json);
  return {
    ...without(before as Json, ...changes.map(([key]) => key)),
    ...Object.fromEntries(
      changes.flatMap(([key, value]) =>
        value === null ? [] : [[key, mergePatched((before as Json)[key], value)]],
      ),
    ),
  };
}

/** Server-side apply without conflicts: sets what is applied, removes what the same manager applied before and left out now. Lists are one value. */
function applied(target: Json, before: Json, now: Json): Json {
  const isMap = (value: unknown): value is Json =>
    typeof value === 'object' && value !== null && !Array.isArray(value);
  const left = Object.keys(before).flatMap((key): [string, unknown][] => {
    const [mine, theirs] = [before[key], target[key]];
    const rest = !(key in now) && isMap(mine) && isMap(theirs) ? applied(theirs, mine, {}) : {};
    return Object.keys(rest).length > 0 ? [[key, rest]] : [];
  });
  const set = Object.entries(now).map(([key, value]): [string, unknown] => {
    const [mine, theirs] = [before[key], target[key]];
    return [key, isMap(value) ? applied(isMap(theirs) ? theirs : {}, isMap(mine) ? mine : {}, value) : value];
  });
  return { ...without(target, ...Object.keys(before)), ...Object.fromEntries([...left, ...set]) };
}

/** Fields of metadata that the server alone writes. */
const kServerFields = [
  'uid',
  'resourceVersion',
  'generation',
  'creationTimestamp',
  'deletionTimestamp',
  'managedFields',
];

export class ObjectStorage {
  private readonly kinds = new Map<string, Kind>();
  private readonly objects = new Map<string, Stored>(); // by collection, namespace and name
  private readonly appliedBy = new Map<string, Json>(); // what a manager applied last, by object and manager
  private readonly watchers = new Set<(event: HistoryEvent) => void>();
  private history: HistoryEvent[] = [];
  private version = 100; // never 0: that has a meaning of its own in requests
  private compacted = 0;

  register(collection: string, kind: Kind): void {
    this.kinds.set(collection, kind);
  }

  kindOf(collection: string): Kind {
    const kind = this.kinds.get(collection);
    if (kind === undefined) {
      throw new Refusal(404, 'NotFound', `the server has no resource ${collection}`);
    }
    return kind;
  }

  get resourceVersion(): number {
    return this.version;
  }

  /** The oldest version that a watch may begin after. */
  get oldestVersion(): number {
    return this.compacted;
  }

  /** Forgets the history, as etcd's compaction does: watches and lists from before get 410. */
  compact(): void {
    this.compacted = this.version;
    this.history = [];
  }

  onEvent(watcher: (event: HistoryEvent) => void): () => void {
    this.watchers.add(watcher);
    return () => this.watchers.delete(watcher);
  }

  since(version: number, collection: string): readonly HistoryEvent[] {
    return this.history.filter((event) => event.version > version && event.collection === collection);
  }

  list(collection: string, namespace?: string): Stored[] {
    this.kindOf(collection);
    const prefix = `${collection}|${namespace === undefined ? '' : `${namespace}|`}`;
    return [...this.objects]
      .filter(([key]) => key.startsWith(prefix))
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([, object]) => clone(object));
  }

  get(collection: string, namespace: string | undefined, name: string): Stored {
    return clone(this.find(collection, namespace, name));
  }

  create(collection: string, namespace: string | undefined, body: Json): Stored {
    const kind = this.kindOf(collection);
    const metadata = without((body['metadata'] ?? {}) as Json, ...kServerFields);
    const name = metadata['name'];
    if (typeof name !== 'string' || name === '') {
      throw new Refusal(422, 'Invalid', 'metadata.name: Required value: name or generateName is required');
    }
    const key = this.key(collection, namespace, name);
    if (this.objects.has(key)) {
      throw new Refusal(409, 'AlreadyExists', `${kind.kind} "${name}" already exists`);
    }
    const object = this.admitted(kind, {
      ...body,
      apiVersion: kind.apiVersion,
      kind: kind.kind,
      metadata: {
        ...metadata,
        name,
        ...(namespace === undefined ? {} : { namespace }),
        uid: randomUUID(),
        resourceVersion: '',
        generation: 1,
        creationTimestamp: `${new Date().toISOString().slice(0, 19)}Z`,
      },
    });
    if (kind.hasStatus) {
      delete object['status'];
    }
    return this.commit('ADDED', collection, key, object);
  }

  /** Replaces all, or only the status. A resourceVersion in the body is a precondition. */
  replace(
    collection: string,
    namespace: string | undefined,
    name: string,
    body: Json,
    subresource?: string,
  ): Stored {
    const kind = this.kindOf(collection);
    const before = this.find(collection, namespace, name);
    const sent = (body['metadata'] ?? {}) as Json;
    const wanted = sent['resourceVersion'];
    if (wanted !== undefined && wanted !== '' && wanted !== before.metadata.resourceVersion) {
      throw new Refusal(
        409,
        'Conflict',
        `Operation cannot be fulfilled on ${kind.kind} "${name}": the object has been modified; please apply your changes to the latest version and try again`,
      );
    }
    if (sent['uid'] !== undefined && sent['uid'] !== before.metadata.uid) {
      throw new Refusal(409, 'Conflict', `${kind.kind} "${name}": uid mismatch`);
    }
    let next: Stored;
    if (subresource === 'status') {
      next = { ...before, status: body['status'] };
      if (body['status'] === undefined) delete next['status'];
    } else {
      const kept = Object.entries(before.metadata).filter(([field]) => kServerFields.includes(field));
      const metadata = {
        ...without(sent, ...kServerFields),
        ...Object.fromEntries(kept),
        name,
        ...(namespace === undefined ? {} : { namespace }),
      };
      next = this.admitted(kind, { ...body, apiVersion: kind.apiVersion, kind: kind.kind, metadata });
      if (kind.hasStatus) {
        if (before['status'] === undefined) delete next['status'];
        else next['status'] = before['status'];
      }
    }
    return this.store(collection, this.key(collection, namespace, name), before, next);
  }

  mergePatch(
    collection: string,
    namespace: string | undefined,
    name: string,
    patch: Json,
    subresource?: string,
  ): Stored {
    const before = this.get(collection, namespace, name);
    const merged = mergePatched(before, patch) as Json;
    const asked = (patch['metadata'] as Json | undefined)?.['resourceVersion'];
    const metadata = { ...(merged['metadata'] as Json) };
    if (asked === undefined) delete metadata['resourceVersion'];
    return this.replace(collection, namespace, name, { ...merged, metadata }, subresource);
  }

  apply(
    collection: string,
    namespace: string | undefined,
    name: string,
    body: Json,
    manager: string,
    subresource?: string,
  ): Stored {
    const key = this.key(collection, namespace, name);
    const fields = without(body, 'apiVersion', 'kind', 'metadata');
    const sent = (body['metadata'] ?? {}) as Json;
    const labels = without(sent, 'name', 'namespace', 'uid');
    const set: Json =
      subresource === 'status' ? { status: fields['status'] ?? {} } : { ...fields, metadata: labels };
    const owner = `${key}|${manager}|${subresource ?? ''}`;
    const exists = this.objects.has(key);
    const uid = this.objects.get(key)?.metadata.uid;
    if (sent['uid'] !== undefined && sent['uid'] !== uid && exists) {
      throw new Refusal(
        409,
        'Conflict',
        `Precondition failed: UID in precondition: ${JSON.stringify(sent['uid'])}, UID in object meta: ${uid}`,
      );
    }
    if (!exists && subresource !== undefined) {
      throw new Refusal(404, 'NotFound', `${this.kindOf(collection).kind} "${name}" not found`);
    }
    const result = exists
      ? this.replace(
          collection,
          namespace,
          name,
          applied(this.get(collection, namespace, name), this.appliedBy.get(owner) ?? {}, set),
          subresource,
        )
      : this.create(collection, namespace, { ...fields, metadata: { ...labels, name } });
    this.appliedBy.set(owner, set);
    return result;
  }

  delete(
    collection: string,
    namespace: string | undefined,
    name: string,
    preconditions: { uid?: string; resourceVersion?: string } = {},
  ): Stored {
    const before = this.find(collection, namespace, name);
    for (const field of ['uid', 'resourceVersion'] as const) {
      if (preconditions[field] !== undefined && preconditions[field] !== before.metadata[field]) {
        throw new Refusal(
          409,
          'Conflict',
          `precondition failed: ${field} is ${before.metadata[field]}, not ${preconditions[field]}`,
        );
      }
    }
    const key = this.key(collection, namespace, name);
    if ((before.metadata.finalizers ?? []).length > 0) {
      return before.metadata.deletionTimestamp === undefined
        ? this.store(collection, key, before, {
            ...before,
            metadata: { ...before.metadata, deletionTimestamp: new Date().toISOString() },
          })
        : clone(before);
    }
    return this.commit('DELETED', collection, key, clone(before));
  }

  private key(collection: string, namespace: string | undefined, name: string): string {
    return `${collection}|${namespace ?? ''}|${name}`;
  }

  private find(collection: string, namespace: string | undefined, name: string): Stored {
    const kind = this.kindOf(collection);
    const object = this.objects.get(this.key(collection, namespace, name));
    if (object === undefined) {
      throw new Refusal(404, 'NotFound', `${kind.kind} "${name}" not found`);
    }
    return object;
  }

  private admitted(kind: Kind, object: Json): Stored {
    return clone(kind.admit === undefined ? object : { ...object, ...kind.admit(object) }) as Stored;
  }

  private store(collection: string, key: string, before: Stored, next: Stored): Stored {
    const isGone =
      next.metadata.deletionTimestamp !== undefined && (next.metadata.finalizers ?? []).length === 0;
    if (isGone) {
      return this.commit('DELETED', collection, key, next);
    }
    if (JSON.stringify(sorted(next)) === JSON.stringify(sorted(before))) {
      return clone(before); // a write that changes nothing makes no version and no event
    }
    const specBefore = without(before, 'metadata', 'status');
    const specNow = without(next, 'metadata', 'status');
    const isNew = JSON.stringify(sorted(specBefore)) !== JSON.stringify(sorted(specNow));
    const generation = (before.metadata.generation ?? 1) + (isNew ? 1 : 0);
    return this.commit('MODIFIED', collection, key, { ...next, metadata: { ...next.metadata, generation } });
  }

  private commit(type: HistoryEvent['type'], collection: string, key: string, object: Stored): Stored {
    this.version++;
    const stored = clone(object);
    stored.metadata.resourceVersion = String(this.version);
    if (type === 'DELETED') {
      this.objects.delete(key);
      for (const owner of [...this.appliedBy.keys()]) {
        if (owner.startsWith(`${key}|`)) this.appliedBy.delete(owner);
      }
    } else {
      this.objects.set(key, stored);
    }
    const event: HistoryEvent = { type, version: this.version, collection, object: clone(stored) };
    this.history.push(event);
    for (const watcher of this.watchers) {
      watcher(event);
    }
    return clone(stored);
  }
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  return typeof value === 'object' && value !== null
    ? Object.fromEntries(
        Object.entries(value)
          .filter(([, member]) => member !== undefined)
          .sort(([a], [b]) => (a < b ? -1 : 1))
          .map(([name, member]) => [name, sorted(member)]),
      )
    : value;
}
