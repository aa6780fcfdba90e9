// SPDX-License-Identifier: Apache-2.0
// Short commands that set something up, and measured processes: started in a namespace, read line by line as JSON, and stopped by
// their own pid only.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';

export function run(command: string, ...args: string[]): string {
  return runIn(process.cwd(), command, ...args);
}

export function runIn(cwd: string, command: string, ...args: string[]): string {
  return execFileSync(command, args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

export function tryRun(command: string, ...args: string[]): string | undefined {
  try {
    return run(command, ...args);
  } catch {
    return undefined;
  }
}

export const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

export type JsonLine = Record<string, unknown>;

export interface StartOptions {
  name: string;
  namespace?: string;
  env?: Record<string, string>;
  // Cores the process may use, as taskset takes them; all by default.
  cores?: string;
}

const running = new Set<Measured>();

// A process that answers in JSON lines on standard output.
export class Measured {
  readonly lines: JsonLine[] = [];
  private readonly child: ChildProcess;
  private readonly waiting: ((line: JsonLine | undefined) => void)[] = [];
  private stderr = '';
  private closed: Promise<number>;
  private ended = false;

  constructor(
    readonly name: string,
    child: ChildProcess,
  ) {
    this.child = child;
    running.add(this);
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.stderr = (this.stderr + text).slice(-4000);
    });
    if (child.stdout) {
      createInterface({ input: child.stdout }).on('line', (text) => {
        if (!text.startsWith('{')) return;
        const line = JSON.parse(text) as JsonLine;
        const next = this.waiting.shift();
        if (next) next(line);
        else this.lines.push(line);
      });
    }
    this.closed = new Promise((resolve) => {
      const end = (code: number): void => {
        this.ended = true;
        running.delete(this);
        for (const next of this.waiting.splice(0)) next(undefined);
        resolve(code);
      };
      child.on('error', (error) => {
        this.stderr += String(error);
        end(127);
      });
      child.on('close', (code, signal) => end(code ?? (signal ? 128 : 1)));
    });
  }

  get pid(): number {
    const { pid } = this.child;
    if (pid === undefined) throw new Error(`${this.name} did not start: ${this.stderr}`);
    return pid;
  }
  get isOver(): boolean {
    return this.ended;
  }
  get errors(): string {
    return this.stderr.trim();
  }

  // The next JSON line; an error with what the process said when it ends or stays silent for too long.
  async next(timeoutMs: number): Promise<JsonLine> {
    const queued = this.lines.shift();
    if (queued) return queued;
    if (this.ended) throw new Error(`${this.name} ended: ${this.errors || 'without a word'}`);
    let timer: NodeJS.Timeout | undefined;
    const line = await new Promise<JsonLine | undefined | 'late'>((resolve) => {
      timer = setTimeout(() => resolve('late'), timeoutMs);
      this.waiting.push(resolve);
    });
    clearTimeout(timer);
    if (line === 'late') throw new Error(`${this.name} said nothing for ${timeoutMs} ms: ${this.errors}`);
    if (line === undefined) throw new Error(`${this.name} ended: ${this.errors || 'without a word'}`);
    return line;
  }

  signal(signal: NodeJS.Signals): void {
    if (!this.ended) this.child.kill(signal);
  }
  tell(line: string): void {
    this.child.stdin?.write(`${line}\n`);
  }
  async exit(timeoutMs: number): Promise<number | undefined> {
    return Promise.race([this.closed, sleep(timeoutMs).then(() => undefined)]);
  }
  // SIGTERM, then SIGKILL when that did not help.
  async stop(timeoutMs = 5000): Promise<void> {
    this.signal('SIGCONT');
    this.signal('SIGTERM');
    if ((await this.exit(timeoutMs)) !== undefined) return;
    this.signal('SIGKILL');
    await this.exit(timeoutMs);
  }
}

export function start(options: StartOptions, command: string, ...args: string[]): Measured {
  const line = [
    ...(options.namespace ? ['ip', 'netns', 'exec', options.namespace] : []),
    ...(options.cores ? ['taskset', '-c', options.cores] : []),
    command,
    ...args,
  ];
  const child = spawn(line[0] as string, line.slice(1), {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { ...process.env, ...options.env },
  });
  return new Measured(options.name, child);
}

// With autogroup scheduling a session is a scheduling group: `nice` and sched_yield mean nothing between groups, the weight of a group does. So everything
// that is measured, of every contender, stays in this process's session (scripts/bench makes it one of its own), which gets a weight above other work.
export function raiseSessionWeight(): void {
  const file = '/proc/self/autogroup';
  try {
    if (existsSync(file)) writeFileSync(file, '-15');
  } catch {
    // Not permitted: other work on the machine then disturbs all contenders alike.
  }
}

export async function stopAll(): Promise<void> {
  await Promise.all([...running].map((process) => process.stop()));
}

const TICKS_PER_SECOND = Number(tryRun('getconf', 'CLK_TCK') ?? '100');

// User and system CPU seconds of a process so far (proc(5), fields 14 and 15 after the name in parentheses).
export function cpuSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

export interface Memory {
  rssMb: number;
  pssMb: number;
}

export function memoryOf(pid: number): Memory {
  const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
  const megabytes = (key: string): number =>
    Number(new RegExp(`^${key}:\\s+(\\d+)`, 'm').exec(rollup)?.[1] ?? NaN) / 1024;
  return { rssMb: megabytes('Rss'), pssMb: megabytes('Pss') };
}
