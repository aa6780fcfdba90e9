// SPDX-License-Identifier: Apache-2.0
// A child process that the command owns: its lines, its last words, its end. Nothing about what it is.
import { spawn, type ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';

export interface ChildOptions {
  readonly name: string;
  readonly command: string;
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly onLine?: (line: string) => void;
}

const kLastWords = 20;

export class Child {
  readonly lines: string[] = [];
  /** Resolves with its status, or the name of the signal that ended it. */
  readonly exited: Promise<number | string>;
  private readonly process: ChildProcess;
  private over = false;
  /** Its end was asked for. */
  stopping = false;

  constructor(private readonly options: ChildOptions) {
    // A session of its own: Ctrl-C reaches the command only, which then ends its children in order.
    this.process = spawn(options.command, options.args ?? [], {
      detached: true,
      env: { ...process.env, ...options.env },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    this.process.stdin?.on('error', () => undefined); // it ended while we wrote: its end is reported elsewhere
    for (const stream of [this.process.stdout, this.process.stderr]) {
      if (stream !== null) {
        createInterface({ input: stream }).on('line', (line) => this.took(line));
      }
    }
    this.exited = new Promise((resolve) => {
      this.process.once('error', (error) => {
        this.over = true;
        this.took(error.message);
        resolve(error.message);
      });
      this.process.once('close', (code, signal) => {
        this.over = true;
        resolve(code ?? signal ?? 'unknown');
      });
    });
  }

  get name(): string {
    return this.options.name;
  }

  get pid(): number {
    return this.process.pid ?? 0;
  }

  write(value: object): void {
    this.process.stdin?.write(`${JSON.stringify(value)}\n`);
  }

  lastWords(): string {
    return this.lines.map((line) => `  ${line}`).join('\n');
  }

  /** SIGTERM, then SIGKILL after the grace. Resolves when it is gone. */
  async stop(graceMs = 5000): Promise<void> {
    this.stopping = true;
    if (this.over) {
      return;
    }
    this.process.stdin?.end();
    this.process.kill('SIGTERM');
    const timer = setTimeout(() => this.process.kill('SIGKILL'), graceMs);
    await this.exited;
    clearTimeout(timer);
  }

  /** At the exit of the command, when nothing can be awaited any more. */
  kill(): void {
    if (!this.over) {
      this.process.kill('SIGKILL');
    }
  }

  private took(line: string): void {
    this.lines.push(line);
    if (this.lines.length > kLastWords) {
      this.lines.shift();
    }
    this.options.onLine?.(line);
  }
}
