// SPDX-License-Identifier: Apache-2.0
// Puts the policy where the driver reads it: a new file in the place of the old one at once, in a folder that nobody else may write.
import { chmodSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { formatDuration } from '../config/units';

/** A volume that was full may have room soon. */
const kRetryMs = 1000;
/** The driver may run as another user of the group: it reads, and writes nothing. */
const kFolderMode = 0o750;
const kFileMode = 0o640;

export class PolicyFile {
  private written: string | undefined;
  private wanted = '';
  private retry: NodeJS.Timeout | undefined;
  private writes = 0;
  private failures = 0;

  constructor(
    private readonly path: string,
    private readonly failed: (message: string) => void,
    private readonly retryMs = kRetryMs,
  ) {}

  get stats(): { readonly writes: number; readonly failures: number } {
    return { writes: this.writes, failures: this.failures };
  }

  /** Returns when the file stands, so that what is asked of the driver next is held against it. A failure is told, and tried again. */
  set(text: string): void {
    this.wanted = text;
    if (text !== this.written) {
      this.write();
    }
  }

  close(): void {
    clearTimeout(this.retry);
    this.retry = undefined;
  }

  private write(): void {
    clearTimeout(this.retry);
    this.retry = undefined;
    const fresh = `${this.path}.new`;
    try {
      mkdirSync(dirname(this.path), { recursive: true, mode: kFolderMode });
      rmSync(fresh, { force: true }); // what a crash left keeps its own rights
      writeFileSync(fresh, this.wanted, { mode: kFileMode, flag: 'wx' });
      chmodSync(fresh, kFileMode);
      renameSync(fresh, this.path);
      this.written = this.wanted;
      this.writes++;
    } catch (error) {
      this.failures++;
      this.failed(
        `policy file ${this.path} can't be written: ${(error as Error).message}; until it can, the driver keeps to the one before (without one it allows aeron:ipc and spies alone), so what topics allow since is refused; make room on its volume, or let this user write to ${dirname(this.path)}; tried again every ${formatDuration(this.retryMs)}`,
      );
      this.retry = setTimeout(() => this.write(), this.retryMs).unref();
    }
  }
}
