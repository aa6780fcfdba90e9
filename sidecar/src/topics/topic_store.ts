// SPDX-License-Identifier: Apache-2.0
// The topics of now: reads the file, notices changes (edits, atomic renames, symlink swaps of a ConfigMap), keeps the old topics when a
// new file is bad. Beside them stand those that the directory says; the file comes first. Not what a topic means.
import { EventEmitter } from 'node:events';
import { readFileSync, statSync, watch, type FSWatcher } from 'node:fs';
import { dirname } from 'node:path';
import { isRedefined, parseTopics, type Topic } from './schema';

export interface TopicChange {
  readonly name: string;
  readonly before: Topic | undefined;
  readonly after: Topic | undefined;
  /** Removed, or so different that open streams must start anew. */
  readonly redefined: boolean;
}

export interface TopicStoreEvents {
  change: [TopicChange];
  /** A file was taken (undefined) or refused. */
  loaded: [string | undefined];
}

/** What differs between two sets of topics. */
export function diffTopics(
  before: ReadonlyMap<string, Topic>,
  after: ReadonlyMap<string, Topic>,
): TopicChange[] {
  const changes: TopicChange[] = [];
  for (const [name, topic] of after) {
    const old = before.get(name);
    if (old === undefined || JSON.stringify(old) !== JSON.stringify(topic)) {
      changes.push({
        name,
        before: old,
        after: topic,
        redefined: old !== undefined && isRedefined(old, topic),
      });
    }
  }
  for (const [name, old] of before) {
    if (!after.has(name)) {
      changes.push({ name, before: old, after: undefined, redefined: true });
    }
  }
  return changes;
}

export class TopicStore extends EventEmitter<TopicStoreEvents> {
  private topics: ReadonlyMap<string, Topic> = new Map();
  private readonly remote = new Map<string, Topic>();
  private watcher: FSWatcher | undefined;
  private timer: NodeJS.Timeout | undefined;
  private fingerprint = '';
  private errorText: string | undefined;
  private loads = 0;
  private failures = 0;

  /** @param pollMs how often the file is looked at where no notification arrives (some volumes send none). */
  constructor(
    private readonly path: string,
    private readonly pollMs = 2000,
  ) {
    super();
    this.setMaxListeners(0);
  }

  /** Reads the file, throws when it is bad (a start with a bad file is refused), and watches it from now on. */
  start(): void {
    if (this.path === '') {
      return;
    }
    this.load();
    if (this.errorText !== undefined) {
      throw new Error(`topics file ${this.path}: ${this.errorText}`);
    }
    this.watchFile();
  }

  close(): void {
    this.watcher?.close();
    this.watcher = undefined;
    clearInterval(this.timer);
    this.timer = undefined;
  }

  get(name: string): Topic | undefined {
    return this.topics.get(name) ?? this.remote.get(name);
  }

  list(): readonly Topic[] {
    const remote = [...this.remote.values()].filter((each) => !this.topics.has(each.name));
    return [...this.topics.values(), ...remote];
  }

  /** Topics of the file. */
  local(): Iterable<Topic> {
    return this.topics.values();
  }

  /** The file names it, so the directory is not asked. */
  isLocal(name: string): boolean {
    return this.topics.has(name);
  }

  /** What the directory says of a topic; undefined when nobody here uses it any more. */
  setRemote(name: string, topic: Topic | undefined): void {
    const before = this.remote.get(name);
    if (topic === undefined) {
      this.remote.delete(name);
      return; // its users left, or were told why they must
    }
    this.remote.set(name, topic);
    if (before !== undefined && !this.isLocal(name)) {
      const [change] = diffTopics(new Map([[name, before]]), new Map([[name, topic]]));
      if (change !== undefined) {
        this.emit('change', change);
      }
    }
  }

  /** Why the file of now is not in use; undefined when it is. */
  get error(): string | undefined {
    return this.errorText;
  }

  get stats(): { readonly loads: number; readonly failures: number } {
    return { loads: this.loads, failures: this.failures };
  }

  /** Looks at the file now; does nothing when it is as before. */
  check(): void {
    if (this.fingerprintNow() !== this.fingerprint) {
      this.load();
    }
  }

  private fingerprintNow(): string {
    try {
      const stat = statSync(this.path, { bigint: true });
      return `${stat.dev} ${stat.ino} ${stat.size} ${stat.mtimeNs} ${stat.ctimeNs}`;
    } catch (error) {
      return `absent ${(error as NodeJS.ErrnoException).code}`;
    }
  }

  private load(): void {
    this.fingerprint = this.fingerprintNow();
    let next: ReadonlyMap<string, Topic>;
    try {
      next = parseTopics(readFileSync(this.path, 'utf8'));
    } catch (error) {
      this.failures++;
      this.errorText = (error as Error).message;
      this.emit('loaded', this.errorText);
      return;
    }
    const changes = diffTopics(this.topics, next);
    this.topics = next;
    this.loads++;
    this.errorText = undefined;
    this.emit('loaded', undefined);
    for (const change of changes) {
      this.emit('change', change);
    }
  }

  private watchFile(): void {
    // The folder, not the file: a rename or a symlink swap gives the path another inode, and a watch of the file would stay on the old one.
    try {
      this.watcher = watch(dirname(this.path), { persistent: false }, () => this.check());
      this.watcher.on('error', () => {
        this.watcher?.close();
        this.watcher = undefined; // the timer goes on
      });
    } catch {
      this.watcher = undefined;
    }
    this.timer = setInterval(() => this.check(), this.pollMs);
    this.timer.unref();
  }
}
