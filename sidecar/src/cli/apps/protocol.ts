// SPDX-License-Identifier: Apache-2.0
// How the apps of demo and bench talk with the command that started them: JSON lines on standard output, JSON lines and the end of standard
// input the other way. The end of standard input ends the app, so that none outlives a command that was killed.
import { createInterface } from 'node:readline';
import type { Target } from '../../../../clients/typescript/src';
import type { LatencyUs } from '../latency';

export interface PublisherAppConfig {
  readonly address: string;
  readonly target: Target;
  readonly sizeBytes: number;
  /** Messages a second, open loop; 0: as fast as they are taken. */
  readonly rate: number;
  readonly durationMs: number;
}

export interface SubscriberAppConfig {
  readonly address: string;
  readonly target: Target;
  /** Messages due within this time after the first one are checked, but not in the latencies: compilers and caches warm up. */
  readonly warmupMs: number;
}

export interface PublisherProgress {
  readonly type: 'progress';
  readonly sent: number;
}

export interface PublisherDone {
  readonly type: 'done';
  /** Numbered messages handed to the client library. */
  readonly sent: number;
  readonly accepted: number;
  readonly refused: number;
  readonly unknown: number;
  readonly batches: number;
}

export interface SubscriberProgress {
  readonly type: 'progress';
  readonly received: number;
  readonly bytes: number;
  /** Of the messages since the last one. */
  readonly latencyUs: LatencyUs;
}

export interface SubscriberDone {
  readonly type: 'done';
  readonly received: number;
  readonly bytes: number;
  /** Numbers missing among those seen; what is missing at the end shows against the publisher's count. */
  readonly holes: number;
  readonly duplicated: number;
  readonly outOfOrder: number;
  readonly corrupt: number;
  readonly gaps: number;
  readonly batches: number;
  /** From the first to the last message. */
  readonly seconds: number;
  readonly latencyUs: LatencyUs;
}

export interface Ready {
  readonly type: 'ready';
}

export interface Failed {
  readonly type: 'failed';
  readonly message: string;
}

export type PublisherReport = Ready | Failed | PublisherProgress | PublisherDone;
export type SubscriberReport = Ready | Failed | SubscriberProgress | SubscriberDone;

/** To the subscriber: so many were sent in all. */
export interface AllSent {
  readonly sent: number;
}

export const kProgressMs = 250;

export function report(line: PublisherReport | SubscriberReport): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

/** Configuration of this app. Runs it; its end, good or bad, is the end of the process. */
export function runApp<T>(app: (config: T, commands: Commands) => Promise<void>): void {
  const commands = new Commands();
  app(JSON.parse(process.argv[2] ?? '{}') as T, commands).then(
    () => process.exit(0),
    (error: unknown) => {
      report({ type: 'failed', message: (error as Error).message });
      process.exit(1);
    },
  );
}

export class Commands {
  private readonly controller = new AbortController();
  onAllSent: (sent: number) => void = () => undefined;

  constructor() {
    const lines = createInterface({ input: process.stdin });
    lines.on('line', (line) => this.onAllSent((JSON.parse(line) as AllSent).sent));
    lines.on('close', () => this.controller.abort());
    // The command decides when to end, also at Ctrl-C, which the terminal sends to all.
    process.on('SIGINT', () => undefined);
    process.on('SIGTERM', () => this.controller.abort());
  }

  /** Aborted when the app must end. */
  get stop(): AbortSignal {
    return this.controller.signal;
  }
}
