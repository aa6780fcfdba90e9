// SPDX-License-Identifier: Apache-2.0
// What a run must not leave behind: processes, network namespaces and interfaces, shared memory, pinned programs and maps, files of huge pages, temporary
// files. A program or map that is not pinned goes with the process or the interface that has it, and a huge page in no file with its process, which are
// looked at; how many the machine has in use is others' doing too.
//
// In a process tree of the run's own (see scripts/test) every other process was left behind. Elsewhere they are found by a variable in
// their environment, which a daemon that changed its group and lost its parent still has, unless it was started with a new environment.
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { join, relative } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const kMarker = 'OUTRIGGER_TEST_RUN';
const kOwnTree = process.env.OUTRIGGER_TEST_ISOLATED === '1';

// A process that was told to end needs a moment, and so does the kernel to take an interface away.
const kPatienceMs = 5_000;

export class Leftovers {
  readonly #id = `${String(process.pid)}-${String(Date.now())}`;
  readonly #folders: readonly {
    readonly kind: string;
    readonly path: string;
    readonly list: (path: string) => string[];
    readonly before: Set<string>;
  }[];

  constructor(temporary: string) {
    this.#folders = [
      { kind: 'network namespace', path: '/run/netns' },
      { kind: 'shared memory', path: '/dev/shm' },
      { kind: 'network interface', path: '/sys/class/net' },
      { kind: 'pinned program or map', path: '/sys/fs/bpf', list: listFiles },
      { kind: 'huge page file', path: '/dev/hugepages' },
      { kind: 'temporary file', path: temporary },
    ].map((folder) => {
      const named = { list, ...folder };
      return { ...named, before: new Set(named.list(folder.path)) };
    });
  }

  /** To be set for every command of the run. */
  get env(): Record<string, string> {
    return { [kMarker]: this.#id };
  }

  /** Names of what is left, after waiting for what is on its way out. */
  async find(): Promise<string[]> {
    const deadline = Date.now() + kPatienceMs;
    for (;;) {
      const found = [
        ...this.#processes().map((each) => `process ${String(each.pid)}: ${each.command}`),
        ...this.#entries(),
      ];
      if (found.length === 0 || Date.now() > deadline) return found;
      await sleep(100);
    }
  }

  /** Ends the processes and removes the temporary files, and blames nothing twice: the next suite starts clean. */
  clear(): void {
    for (const { pid } of this.#processes()) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // It ended meanwhile.
      }
    }
    for (const folder of this.#folders) {
      for (const name of folder.list(folder.path)) {
        if (folder.kind !== 'temporary file') folder.before.add(name);
        else if (!folder.before.has(name)) rmSync(join(folder.path, name), { recursive: true, force: true });
      }
    }
  }

  #entries(): string[] {
    return this.#folders.flatMap((folder) =>
      folder
        .list(folder.path)
        .filter((name) => !folder.before.has(name))
        .map((name) => `${folder.kind} ${join(folder.path, name)}`),
    );
  }

  #processes(): { pid: number; command: string }[] {
    const wanted = `${kMarker}=${this.#id}`;
    return list('/proc')
      .filter((name) => /^\d+$/.test(name))
      .flatMap((name) => {
        if (Number(name) === 1 || Number(name) === process.pid) return [];
        if (!kOwnTree && !read(`/proc/${name}/environ`).split('\0').includes(wanted)) return [];
        const command = read(`/proc/${name}/cmdline`).replaceAll('\0', ' ').trim();
        return command === '' ? [] : [{ pid: Number(name), command: command.slice(0, 200) }];
      });
  }
}

function list(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}

/** Those of folders in it too, which themselves hold nothing: libxdp makes one on each bpffs, and leaves it. */
function listFiles(path: string): string[] {
  try {
    return readdirSync(path, { recursive: true, withFileTypes: true })
      .filter((entry) => !entry.isDirectory())
      .map((entry) => relative(path, join(entry.parentPath, entry.name)));
  } catch {
    return [];
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
