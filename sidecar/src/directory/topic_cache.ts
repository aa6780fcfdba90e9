// SPDX-License-Identifier: Apache-2.0
// The last known state of each topic, in a file that outlives a restart of this process: what to go on with while the directory is away.
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import type { TopicState } from './messages';

export class TopicCache {
  private readonly states = new Map<string, TopicState>();
  private timer: NodeJS.Timeout | undefined;

  /** @param path empty: memory only. An unreadable file is as good as none: it is told to `warn`. */
  constructor(
    private readonly path: string,
    private readonly warn: (message: string) => void,
    /** Changes gather for so long. */
    private readonly delayMs = 200,
  ) {
    if (path === '') {
      return;
    }
    try {
      const file = JSON.parse(readFileSync(path, 'utf8')) as { topics?: readonly TopicState[] };
      for (const state of file.topics ?? []) {
        this.states.set(state.topic, state);
      }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') {
        warn(`directory cache ${path} is not usable: ${(error as Error).message}; starting without`);
      }
    }
  }

  get(topic: string): TopicState | undefined {
    return this.states.get(topic);
  }

  set(state: TopicState): void {
    this.states.set(state.topic, state);
    this.schedule();
  }

  delete(topic: string): void {
    if (this.states.delete(topic)) {
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
    try {
      // Written beside and renamed, so that a crash leaves the old file whole.
      writeFileSync(`${this.path}.new`, JSON.stringify({ topics: [...this.states.values()] }), {
        mode: 0o600,
      });
      renameSync(`${this.path}.new`, this.path);
    } catch (error) {
      this.warn(`directory cache ${this.path} can't be written: ${(error as Error).message}`);
    }
  }
}
