// SPDX-License-Identifier: Apache-2.0
// A running client program of another language: its lines of JSON, awaited by event.
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Host } from '../interop/support/hosts';
import type { ClientProgram } from './toolchains';

export interface ClientLine {
  readonly event: string;
  readonly [field: string]: unknown;
}

export interface ClientRun {
  /** The first line with this event; rejects with what the client wrote when it ends without. */
  line(event: string): Promise<ClientLine>;
}

export function startClient(
  host: Host,
  program: ClientProgram,
  command: string,
  options: Readonly<Record<string, string | number>>,
): ClientRun {
  const flags = Object.entries(options).flatMap(([key, value]) => [`--${key}`, String(value)]);
  const child = host.spawn(program.command, [...program.args, command, ...flags], {
    stdio: ['ignore', 'pipe', 'pipe'],
    // No proxy between a test's hosts, whatever this machine uses towards the world.
    env: { ...process.env, ...program.env, no_proxy: '*', NO_PROXY: '*' },
  });
  const lines: ClientLine[] = [];
  let errors = '';
  let notify: () => void = () => undefined;
  let ended: string | undefined;
  child.stderr?.on('data', (data: Buffer) => (errors += data.toString()));
  if (child.stdout) {
    createInterface({ input: child.stdout }).on('line', (text) => {
      lines.push(JSON.parse(text) as ClientLine);
      notify();
    });
  }
  void once(child, 'close').then(() => {
    ended = `${program.language} ${command} ended with ${child.exitCode ?? child.signalCode}: ${errors}`;
    notify();
  });
  return {
    line: async (event) => {
      for (;;) {
        const found = lines.find((line) => line.event === event);
        if (found !== undefined) {
          return found;
        }
        if (ended !== undefined) {
          throw new Error(`no '${event}': ${ended}`);
        }
        await new Promise<void>((resolve) => {
          const before = notify;
          notify = () => {
            before();
            resolve();
          };
        });
      }
    },
  };
}
