// SPDX-License-Identifier: Apache-2.0
// The cluster that these tests run in, through kubectl and helm as a user has them.
import { execFile } from 'node:child_process';

export interface CommandResult {
  readonly ok: boolean;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CommandOptions {
  readonly input?: string;
  readonly timeoutMs?: number;
}

const kTimeoutMs = 60_000;
const kMaxOutput = 64 * 1024 * 1024;

/** Runs a program to its end; never rejects. */
export function command(
  program: string,
  args: readonly string[],
  { input, timeoutMs = kTimeoutMs }: CommandOptions = {},
): Promise<CommandResult> {
  return new Promise((resolve) => {
    const child = execFile(
      program,
      args,
      { timeout: timeoutMs, killSignal: 'SIGKILL', maxBuffer: kMaxOutput },
      (error, stdout, stderr) =>
        resolve({
          ok: error === null,
          stdout,
          stderr: error === null ? stderr : `${stderr}${error.message}`,
        }),
    );
    // A program that ends without reading it: its outcome is what counts.
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(input ?? '');
  });
}

/** Standard output of a kubectl command that must succeed. */
export async function kubectl(args: readonly string[], options: CommandOptions = {}): Promise<string> {
  const { ok, stdout, stderr } = await command('kubectl', args, options);
  if (!ok) {
    throw new Error(`kubectl ${args.join(' ')}: ${stderr}`);
  }
  return stdout;
}

/** Objects as the API server has them. */
export async function get<T>(...args: readonly string[]): Promise<T> {
  return JSON.parse(await kubectl(['get', ...args, '-o', 'json'])) as T;
}

/** JSON, which every YAML reads alike: kubectl's is 1.1, where a bare Off or No is no string. */
function documents(objects: readonly object[]): string {
  return objects.map((each) => JSON.stringify(each)).join('\n---\n');
}

export async function apply(...objects: readonly object[]): Promise<void> {
  await kubectl(['apply', '--server-side', '-f', '-'], { input: documents(objects) });
}

/** What the API server says to objects that it must refuse. */
export async function refusalOf(...objects: readonly object[]): Promise<string> {
  const { ok, stderr } = await command('kubectl', ['apply', '--server-side', '-f', '-'], {
    input: documents(objects),
  });
  if (ok) {
    throw new Error('accepted, although it should have been refused');
  }
  return stderr;
}

export async function helm(...args: readonly string[]): Promise<string> {
  const { ok, stdout, stderr } = await command('helm', args, { timeoutMs: 180_000 });
  if (!ok) {
    throw new Error(`helm ${args.join(' ')}: ${stderr}`);
  }
  return stdout;
}

/** Asks again until it is true; for what no watch tells. Rejects with `what` when it never is. */
export async function until(
  what: string,
  condition: () => Promise<boolean> | boolean,
  timeoutMs = 60_000,
): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  let last: unknown;
  while (Date.now() < deadline) {
    try {
      if (await condition()) {
        return;
      }
    } catch (error) {
      last = error;
    }
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  throw new Error(
    `${what}: not within ${timeoutMs} ms${last === undefined ? '' : `: ${(last as Error).message}`}`,
  );
}
