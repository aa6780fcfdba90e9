// SPDX-License-Identifier: Apache-2.0
// Runs one command of a suite: its output into a file, a process group of its own, ended as a whole when its time is up.
import { spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

export interface RunOptions {
  readonly logPath: string;
  readonly timeoutSeconds: number;
  readonly env?: Readonly<Record<string, string>>;
}

export interface RunResult {
  readonly ok: boolean;
  /** How it ended when not ok: "exit status 1", "killed by SIGSEGV", "no end within 600 s". */
  readonly ending: string;
  readonly output: () => string;
}

/** Process groups that run now. */
const running = new Set<number>();

export async function run(command: readonly string[], options: RunOptions): Promise<RunResult> {
  const log = openSync(options.logPath, 'a');
  const [program = '', ...args] = command;
  const child = spawn(program, args, {
    stdio: ['ignore', log, log],
    env: { ...process.env, ...options.env },
    detached: true,
  });
  closeSync(log);
  const group = child.pid;
  if (group !== undefined) running.add(group);

  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    if (group !== undefined) void endGroup(group);
  }, options.timeoutSeconds * 1000);

  const ending = await new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(`cannot start ${program}: ${error.message}`));
    child.once('exit', (code, signal) => {
      if (timedOut) resolve(`no end within ${String(options.timeoutSeconds)} s`);
      else if (signal !== null) resolve(`killed by ${signal}`);
      else resolve(code === 0 ? '' : `exit status ${String(code)}`);
    });
  });
  clearTimeout(timer);
  if (group !== undefined) running.delete(group);
  return { ok: ending === '', ending, output: () => readFileSync(options.logPath, 'utf8') };
}

/** Ends what still runs, for the moment when the user gives up. */
export async function endAll(): Promise<void> {
  await Promise.all([...running].map(endGroup));
}

async function endGroup(group: number): Promise<void> {
  if (!signalGroup(group, 'SIGTERM')) return;
  // Long enough for a test to take its network namespaces down.
  for (let i = 0; i < 50; ++i) {
    await sleep(100);
    if (!signalGroup(group, 0)) return;
  }
  signalGroup(group, 'SIGKILL');
}

function signalGroup(group: number, signal: NodeJS.Signals | 0): boolean {
  try {
    process.kill(-group, signal);
    return true;
  } catch {
    return false;
  }
}
