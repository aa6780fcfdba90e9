// SPDX-License-Identifier: Apache-2.0
// The last known state of each topic, and the roles in which it was granted, in a file that outlives a restart of this process: what to go on
// with while the directory is away.
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { kRoles, rolesAmong, type Endpoint, type Role, type TopicState } from './messages';

interface Entry {
  readonly state: TopicState;
  readonly roles: ReadonlySet<Role>;
}

/** Of a topic in the file. Earlier versions wrote no roles. */
type StoredTopic = TopicState & { readonly roles?: unknown };

const kNone: ReadonlySet<Role> = new Set();

function meets(one: Endpoint, other: Endpoint): boolean {
  return one.network === other.network && one.address === other.address && one.port === other.port;
}

export class TopicCache {
  private readonly entries = new Map<string, Entry>();
  private timer: NodeJS.Timeout | undefined;

  /**
   * @param path empty: memory only. An unreadable file is as good as none: it is told to `warn`.
   * @param own endpoints of this sidecar: by them it is found among the members, where the file says nothing of roles.
   */
  constructor(
    private readonly path: string,
    own: readonly Endpoint[],
    private readonly warn: (message: string) => void,
    /** Changes gather for so long. */
    private readonly delayMs = 200,
  ) {
    if (path === '') {
      return;
    }
    try {
      const file = JSON.parse(readFileSync(path, 'utf8')) as { topics?: readonly StoredTopic[] };
      for (const { roles: stored, ...state } of file.topics ?? []) {
        const roles = Array.isArray(stored)
          ? kRoles.filter((role) => stored.includes(role))
          : rolesAmong(state, ({ endpoints }) =>
              endpoints.some((each) => own.some((mine) => meets(each, mine))),
            );
        this.entries.set(state.topic, { state, roles: new Set(roles) });
      }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') {
        warn(`directory cache ${path} is not usable: ${(error as Error).message}; starting without`);
      }
    }
  }

  get(topic: string): TopicState | undefined {
    return this.entries.get(topic)?.state;
  }

  /** Roles in which the directory granted the topic, and did not take it back. */
  roles(topic: string): ReadonlySet<Role> {
    return this.entries.get(topic)?.roles ?? kNone;
  }

  /** @param granted roles that hold, beside those that were granted before. */
  set(state: TopicState, granted: readonly Role[]): void {
    this.entries.set(state.topic, { state, roles: new Set([...this.roles(state.topic), ...granted]) });
    this.schedule();
  }

  /** The role is granted no more. */
  drop(topic: string, role: Role): void {
    const entry = this.entries.get(topic);
    if (entry?.roles.has(role) === true) {
      this.entries.set(topic, { ...entry, roles: new Set([...entry.roles].filter((each) => each !== role)) });
      this.schedule();
    }
  }

  delete(topic: string): void {
    if (this.entries.delete(topic)) {
      this.schedule();
    }
  }

  /** Writes what is not written yet. */
  close(): void {
    if (this.timer !== undefined) {
      clearTimeout(this.timer);
      this.write();
    }
  }

  private schedule(): void {
    if (this.path !== '') {
      this.timer ??= setTimeout(() => this.write(), this.delayMs).unref();
    }
  }

  private write(): void {
    this.timer = undefined;
    const topics = [...this.entries.values()].map(({ state, roles }) => ({ ...state, roles: [...roles] }));
    try {
      // Written beside and renamed, so that a crash leaves the old file whole.
      writeFileSync(`${this.path}.new`, JSON.stringify({ topics }), { mode: 0o600 });
      renameSync(`${this.path}.new`, this.path);
    } catch (error) {
      this.warn(`directory cache ${this.path} can't be written: ${(error as Error).message}`);
    }
  }
}
