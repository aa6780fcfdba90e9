// SPDX-License-Identifier: Apache-2.0
// Which network backend a driver uses: in short from the label of a counter, at length from the note in its directory.
import { readFileSync, watch, type FSWatcher } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import type { CounterSnapshot } from '../native/types';

export interface BackendInfo {
  /** "mmsg"; empty when the driver does not say, as those of others. */
  readonly name: string;
  /** What it runs with: "kernel", "native copy"; empty when it does not say. */
  readonly mode: string;
  /** Network interface of a raw backend; empty for those on kernel sockets. */
  readonly interface: string;
  /** Why no better one is used; empty when none is better. */
  readonly reason: string;
}

const kNoBackend: BackendInfo = { name: '', mode: '', interface: '', reason: '' };
const kBackendInfoType = 40_001;

/** "outrigger: backend=xdp mode="native copy" interface="eth0" not better because: dpdk: …" */
export function backendOf(counters: readonly CounterSnapshot[]): BackendInfo {
  for (const { typeId, label } of counters) {
    const name = typeId === kBackendInfoType ? /\bbackend=([a-z]+)/.exec(label)?.[1] : undefined;
    if (name !== undefined) {
      return {
        name,
        mode: / mode="([^"]*)"/.exec(label)?.[1] ?? '',
        interface: / interface="([^"]*)"/.exec(label)?.[1] ?? '',
        reason: / not better because: (.*)$/s.exec(label)?.[1] ?? '',
      };
    }
  }
  return kNoBackend;
}

const noteSchema = z.object({
  backend: z.string(),
  sinceMs: z.number(),
  pid: z.number(),
  facts: z.record(z.string(), z.string()),
  reason: z.string(),
  notBetter: z.array(z.object({ name: z.string(), reason: z.string() })),
  changes: z.array(z.object({ atMs: z.number(), from: z.string(), to: z.string(), reason: z.string() })),
  threads: z.record(z.string(), z.string()),
  settings: z.record(z.string(), z.string()),
});

/** What a driver wrote of its backend. */
export type BackendNote = z.infer<typeof noteSchema>;

const kNoteFile = 'backend.json';

/** undefined: there is none, as with other drivers. */
export function readBackendNote(directory: string): BackendNote | undefined {
  let text: string;
  try {
    text = readFileSync(join(directory, kNoteFile), 'utf8');
  } catch {
    return undefined;
  }
  try {
    return noteSchema.parse(JSON.parse(text));
  } catch (error) {
    throw new Error(
      `${join(directory, kNoteFile)} is not what a driver writes: ${(error as Error).message}`,
      {
        cause: error,
      },
    );
  }
}

/** Calls back for each change of the backend from now on, until closed. A directory that can't be watched is not. */
export function watchBackend(
  directory: string,
  onChange: (change: BackendNote['changes'][number]) => void,
): { close(): void } {
  const read = (): BackendNote | undefined => {
    try {
      return readBackendNote(directory);
    } catch {
      return undefined; // `outrigger explain` says what is wrong with it
    }
  };
  let known = read();
  let watcher: FSWatcher | undefined;
  try {
    watcher = watch(directory, { persistent: false }, (_event, file) => {
      const now = file === kNoteFile ? read() : undefined;
      if (now === undefined) {
        return;
      }
      const before = known?.pid === now.pid ? (known.changes.at(-1)?.atMs ?? 0) : Infinity;
      known = now;
      now.changes.filter((each) => each.atMs > before).forEach(onChange);
    });
    watcher.on('error', () => undefined); // the directory went with its driver
  } catch {
    watcher = undefined;
  }
  return { close: () => watcher?.close() };
}
