// SPDX-License-Identifier: Apache-2.0
// The connection to the driver: a small state machine that connects, notices the loss, and connects again with back-off. Who had something
// open hears of both through events and opens it anew itself.
import { EventEmitter } from 'node:events';
import type { Native, NativeClient } from '../native/types';

export type DriverState = 'connecting' | 'up' | 'closed';

export interface DriverLinkEvents {
  /** A client is there. `again` is false only the first time. */
  up: [client: NativeClient, again: boolean];
  /** The driver is lost; everything opened on it is closed. */
  down: [reason: string];
  /** An attempt failed; the next one follows after `retryMs`. */
  retry: [reason: string, retryMs: number];
}

export interface DriverLinkOptions {
  readonly native: Native;
  readonly directory: string;
  readonly driverTimeoutMs: number;
  /** First and longest pause between attempts; it doubles between them. */
  readonly firstRetryMs?: number;
  readonly longestRetryMs?: number;
}

export class DriverLink extends EventEmitter<DriverLinkEvents> {
  private current: NativeClient | undefined;
  private stateNow: DriverState = 'connecting';
  private timer: NodeJS.Timeout | undefined;
  private attempt: Promise<void> = Promise.resolve();
  private retryMs: number;
  private lastReasonText = 'not connected yet';
  private connects = 0;
  private losses = 0;

  constructor(private readonly options: DriverLinkOptions) {
    super();
    this.setMaxListeners(0);
    this.retryMs = options.firstRetryMs ?? 100;
  }

  start(): void {
    this.attempt = this.connect();
  }

  get state(): DriverState {
    return this.stateNow;
  }

  /** The client of now, or undefined while the driver is away. */
  get client(): NativeClient | undefined {
    return this.current;
  }

  /** Why the driver is away, in words. */
  get lastReason(): string {
    return this.lastReasonText;
  }

  get stats(): { readonly connects: number; readonly losses: number } {
    return { connects: this.connects, losses: this.losses };
  }

  async close(): Promise<void> {
    this.stateNow = 'closed';
    clearTimeout(this.timer);
    await this.attempt;
    const client = this.current;
    this.current = undefined;
    await client?.close();
  }

  private async connect(): Promise<void> {
    let lostEarly: string | undefined;
    let client: NativeClient | undefined;
    try {
      client = await this.options.native.connect({
        directory: this.options.directory,
        driverTimeoutMs: this.options.driverTimeoutMs,
        onDriverLost: (reason) => {
          if (client !== undefined && this.current === client) {
            this.lost(client, reason);
          } else {
            lostEarly = reason;
          }
        },
      });
    } catch (error) {
      this.retryLater((error as Error).message);
      return;
    }
    if (this.state === 'closed' || lostEarly !== undefined) {
      await this.dispose(client);
      this.retryLater(lostEarly ?? 'closed');
      return;
    }
    this.current = client;
    this.stateNow = 'up';
    this.retryMs = this.options.firstRetryMs ?? 100;
    this.connects++;
    this.emit('up', client, this.connects > 1);
  }

  private lost(client: NativeClient, reason: string): void {
    this.current = undefined;
    this.losses++;
    this.lastReasonText = reason;
    if (this.stateNow !== 'closed') {
      this.stateNow = 'connecting';
      this.emit('down', reason);
      // The old client is closed first: its threads and mappings must not outlive the directory it was for.
      this.attempt = this.dispose(client).then(() => this.retryLater(reason));
    }
  }

  private async dispose(client: NativeClient): Promise<void> {
    try {
      await client.close();
    } catch {
      // A client of a driver that died may fail to say goodbye; there is nobody left to hear it.
    }
  }

  private retryLater(reason: string): void {
    this.lastReasonText = reason;
    if (this.state === 'closed') {
      return;
    }
    const pause = this.retryMs;
    this.retryMs = Math.min(this.retryMs * 2, this.options.longestRetryMs ?? 2000);
    this.emit('retry', reason, pause);
    this.timer = setTimeout(() => {
      this.attempt = this.connect();
    }, pause);
  }
}
