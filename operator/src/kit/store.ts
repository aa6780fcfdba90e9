// SPDX-License-Identifier: Apache-2.0
// Objects by key, indexes over them, and listeners. Filled by a reflector; never asks the API server itself.
import type { KubeObject } from '../api';
import { keyOf } from './resource';
import { isNoNewer } from './resource_version';

export type Change<T> =
  | { readonly kind: 'added'; readonly after: T }
  | { readonly kind: 'updated'; readonly before: T; readonly after: T }
  | { readonly kind: 'deleted'; readonly before: T };

export type Listener<T> = (change: Change<T>) => void;

/** What an object is found by, besides its key. */
export type Indexer<T> = (object: T) => readonly string[];

/** The object of a change: the newest there is. */
export function objectOf<T>(change: Change<T>): T {
  return change.kind === 'deleted' ? change.before : change.after;
}

/** Both sides of a change: for what must look at where an object was and where it is. */
export function sidesOf<T>(change: Change<T>): readonly T[] {
  switch (change.kind) {
    case 'added':
      return [change.after];
    case 'updated':
      return [change.before, change.after];
    case 'deleted':
      return [change.before];
  }
}

export class Store<T extends KubeObject, I extends string = never> {
  private readonly objects = new Map<string, T>();
  private readonly indexed = new Map<I, Map<string, Set<string>>>();
  private readonly listeners: Listener<T>[] = [];
  /** Newest version of the whole collection that has been seen. */
  private seen: string | undefined;
  private changes = 0;

  constructor(private readonly indexers: Readonly<Record<I, Indexer<T>>>) {
    for (const name of Object.keys(indexers) as I[]) {
      this.indexed.set(name, new Map());
    }
  }

  get size(): number {
    return this.objects.size;
  }

  /** Grows with each change: equal numbers mean equal contents. */
  get revision(): number {
    return this.changes;
  }

  get(key: string): T | undefined {
    return this.objects.get(key);
  }

  list(): readonly T[] {
    return [...this.objects.values()];
  }

  keys(): readonly string[] {
    return [...this.objects.keys()];
  }

  by(index: I, value: string): readonly T[] {
    const keys = this.indexed.get(index)?.get(value) ?? [];
    return [...keys].map((key) => this.objects.get(key) as T);
  }

  /** Called after each change, in order. A listener must not throw. */
  onChange(listener: Listener<T>): void {
    this.listeners.push(listener);
  }

  /** A list of everything, as of `version`. */
  replace(objects: readonly T[], version: string | undefined): void {
    this.seen = version ?? this.seen;
    const listed = new Map(objects.map((object) => [keyOf(object), object]));
    for (const [key, before] of [...this.objects]) {
      // A namesake that was made anew is another object: who watches uids must see the old one go.
      if (listed.get(key)?.metadata.uid !== before.metadata.uid) {
        this.remove(key);
      }
    }
    for (const [key, object] of listed) {
      const before = this.objects.get(key);
      if (before?.metadata.resourceVersion !== object.metadata.resourceVersion || before === undefined) {
        this.put(key, object);
      }
    }
  }

  /** An event of a watch. Answers false when it says nothing new: events come at least once. */
  observe(type: 'ADDED' | 'MODIFIED' | 'DELETED', object: T): boolean {
    const version = object.metadata.resourceVersion;
    if (isNoNewer(version, this.seen)) {
      return false;
    }
    this.seen = version;
    const key = keyOf(object);
    const before = this.objects.get(key);
    if (type === 'DELETED') {
      this.remove(key);
    } else if (before === undefined || !isNoNewer(version, before.metadata.resourceVersion)) {
      if (before !== undefined && before.metadata.uid !== object.metadata.uid) {
        this.remove(key);
      }
      this.put(key, object);
    }
    return true;
  }

  /** Everything up to `version` has been seen: a bookmark. */
  advance(version: string | undefined): void {
    if (!isNoNewer(version, this.seen)) {
      this.seen = version ?? this.seen;
    }
  }

  /** What a write answered, so that its writer reads it before the watch brings it. Only newer versions of what is here, since the watch alone knows what was deleted. */
  wrote(object: T): void {
    const key = keyOf(object);
    const before = this.objects.get(key);
    const isSame = before !== undefined && before.metadata.uid === object.metadata.uid;
    if (isSame && !isNoNewer(object.metadata.resourceVersion, before.metadata.resourceVersion)) {
      this.put(key, object);
    }
  }

  private put(key: string, after: T): void {
    const before = this.objects.get(key);
    if (before !== undefined) {
      this.unindex(key, before);
    }
    this.objects.set(key, after);
    for (const [name, values] of this.indexed) {
      for (const value of this.indexers[name](after)) {
        const keys = values.get(value) ?? new Set();
        values.set(value, keys.add(key));
      }
    }
    this.tell(before === undefined ? { kind: 'added', after } : { kind: 'updated', before, after });
  }

  private remove(key: string): void {
    const before = this.objects.get(key);
    if (before !== undefined) {
      this.unindex(key, before);
      this.objects.delete(key);
      this.tell({ kind: 'deleted', before });
    }
  }

  private unindex(key: string, object: T): void {
    for (const [name, values] of this.indexed) {
      for (const value of this.indexers[name](object)) {
        const keys = values.get(value);
        keys?.delete(key);
        if (keys?.size === 0) {
          values.delete(value);
        }
      }
    }
  }

  private tell(change: Change<T>): void {
    this.changes++;
    for (const listener of this.listeners) {
      listener(change);
    }
  }
}
