// SPDX-License-Identifier: Apache-2.0
// A peer process that obeys requests, one a line, and answers in JSON: the Java one on real Aeron, or bench_interop_peer on our client.
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { ChildProcess, SpawnOptions } from 'node:child_process';
import type { Host } from './hosts';
import { javaArguments, javaPeerFolder, kRoot } from './jar';

export interface ImageSeen {
  readonly session: number;
  readonly source: string;
  readonly joinPosition: number;
  readonly count: number;
  readonly bytes: number;
  readonly first: number;
  readonly next: number;
  readonly outOfOrder: number;
  readonly corrupt: number;
  readonly longest: number;
  /** Reserved value in the header of the last message: 64 bits. */
  readonly reserved: string;
  readonly ended: boolean;
  readonly endPosition: number;
  readonly endOfStream: boolean;
  readonly revoked: boolean;
}

export interface SubscriptionSeen {
  readonly count: number;
  readonly connected: boolean;
  readonly status: number;
  readonly addresses: readonly string[];
  readonly images: readonly ImageSeen[];
}

export interface PublicationSeen {
  readonly registrationId: string;
  readonly session: number;
  readonly maxMessage: number;
  readonly maxPayload: number;
  readonly termLength: number;
  readonly position: number;
  readonly limit: number;
  readonly connected: boolean;
  readonly closed: boolean;
  readonly status: number;
  readonly addresses: readonly string[];
}

export interface SendResult {
  readonly sent: number;
  readonly next: number;
  readonly backPressured: number;
  readonly notConnected: number;
  readonly adminActions: number;
  readonly position: number;
}

export interface CounterSeen {
  readonly id: number;
  readonly type: number;
  readonly value: string;
  readonly registrationId: string;
  readonly ownerId: string;
  readonly label: string;
}

export type Arguments = Readonly<Record<string, string | number | boolean>>;

/** A request was answered with an error. `code` is Aeron's name of the driver's error code, when the driver refused. */
export class PeerError extends Error {
  constructor(
    request: string,
    message: string,
    readonly kind: string,
    readonly code: string | undefined,
  ) {
    super(`${request}: ${message}`);
    this.name = 'PeerError';
  }
}

interface Answer {
  readonly re: number;
  readonly error?: string;
  readonly kind?: string;
  readonly code?: string;
}

interface Waiting {
  readonly request: string;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
}

let names = 0;
/** A name that no other object of any peer has. */
export const unique = (kind: string): string => `${kind}${++names}`;

export class Peer {
  readonly child: ChildProcess;
  readonly exited: Promise<void>;
  private readonly waiting = new Map<number, Waiting>();
  private requests = 0;
  private stderr = '';

  constructor(child: ChildProcess) {
    this.child = child;
    this.exited = once(child, 'close').then(() => {
      for (const { request, reject } of this.waiting.values()) {
        reject(
          new Error(`${request}: the peer ended (${child.exitCode ?? child.signalCode}): ${this.stderr}`),
        );
      }
      this.waiting.clear();
    });
    child.stderr?.on('data', (data: Buffer) => (this.stderr = (this.stderr + data.toString()).slice(-16384)));
    // A dead peer is told by `exited`; the write that met it is not a failure of its own.
    child.stdin?.on('error', () => undefined);
    if (child.stdout) {
      createInterface({ input: child.stdout }).on('line', (line) => this.onLine(line));
    }
  }

  static async java(host: Host, options: SpawnOptions = {}, folder?: string): Promise<Peer> {
    const jars = folder ?? (await javaPeerFolder());
    return new Peer(
      host.spawn('java', [...javaArguments(jars), 'dev.outrigger.interop.Peer', 'serve'], options),
    );
  }

  static native(host: Host, options: SpawnOptions = {}): Peer {
    return new Peer(host.spawn(nativeProgram('bench_interop_peer'), [], options));
  }

  request<T>(verb: string, args: Arguments = {}): Promise<T> {
    const re = ++this.requests;
    const line = [verb, ...Object.entries(args).map(([key, value]) => `${key}=${value}`)].join(' ');
    return new Promise<T>((resolve, reject) => {
      if (this.child.exitCode !== null || this.child.signalCode !== null) {
        reject(new Error(`${line}: the peer has ended: ${this.stderr}`));
        return;
      }
      this.waiting.set(re, { request: line, resolve: (value) => resolve(value as T), reject });
      this.child.stdin?.write(`${re} ${line}\n`);
    });
  }

  async client(dir: string, args: Arguments = {}): Promise<Client> {
    const name = unique('c');
    await this.request('client', { name, dir, ...args });
    return new Client(this, name);
  }

  /** What threads of the peer reported that belongs to no request: nothing, when all is well. */
  async strayErrors(): Promise<readonly string[]> {
    return (await this.request<{ errors: string[] }>('driver-errors')).errors;
  }

  /** Ends it in order: clients, then drivers. */
  async close(): Promise<void> {
    this.child.stdin?.end();
    await this.exited;
  }

  kill(): Promise<void> {
    this.child.kill('SIGKILL');
    return this.exited;
  }

  private onLine(line: string): void {
    const answer = JSON.parse(line) as Answer;
    const waiting = this.waiting.get(answer.re);
    if (waiting === undefined) {
      return;
    }
    this.waiting.delete(answer.re);
    if (answer.error === undefined) {
      waiting.resolve(answer);
    } else {
      waiting.reject(new PeerError(waiting.request, answer.error, answer.kind ?? '', answer.code));
    }
  }
}

/** An Aeron client in a peer. */
export class Client {
  constructor(
    readonly peer: Peer,
    readonly name: string,
  ) {}

  async publication(channel: string, stream: number, args: Arguments = {}): Promise<Publication> {
    const name = unique('p');
    return new Publication(
      this.peer,
      name,
      await this.peer.request('pub', { name, client: this.name, channel, stream, ...args }),
    );
  }

  async subscription(channel: string, stream: number, args: Arguments = {}): Promise<Subscription> {
    const name = unique('s');
    return new Subscription(
      this.peer,
      name,
      await this.peer.request('sub', { name, client: this.name, channel, stream, ...args }),
    );
  }

  async counters(): Promise<readonly CounterSeen[]> {
    return (await this.peer.request<{ counters: CounterSeen[] }>('counters', { name: this.name })).counters;
  }

  status(args: Arguments = {}): Promise<{ closed: boolean; errors: readonly string[] }> {
    return this.peer.request('client-status', { name: this.name, ...args });
  }

  close(): Promise<unknown> {
    return this.peer.request('close', { name: this.name });
  }
}

export class Publication {
  constructor(
    private readonly peer: Peer,
    readonly name: string,
    readonly opened: PublicationSeen,
  ) {}

  send(count: number, args: Arguments = {}): Promise<SendResult> {
    return this.peer.request('send', { name: this.name, count, ...args });
  }
  /** One attempt; the answer's name as Aeron has it: OK, BACK_PRESSURED, NOT_CONNECTED, CLOSED, ... */
  async offer(size = 64): Promise<string> {
    return (await this.peer.request<{ name: string }>('offer', { name: this.name, size })).name;
  }
  abandonClaim(size: number): Promise<{ result: number }> {
    return this.peer.request('abandon-claim', { name: this.name, size });
  }
  status(): Promise<PublicationSeen> {
    return this.peer.request('pub-status', { name: this.name });
  }
  until(args: Arguments): Promise<PublicationSeen> {
    return this.peer.request('await-pub', { name: this.name, ...args });
  }
  addDestination(channel: string): Promise<unknown> {
    return this.peer.request('add-destination', { name: this.name, channel });
  }
  removeDestination(channel: string): Promise<unknown> {
    return this.peer.request('remove-destination', { name: this.name, channel });
  }
  revoke(): Promise<unknown> {
    return this.peer.request('revoke', { name: this.name });
  }
  close(): Promise<unknown> {
    return this.peer.request('close', { name: this.name });
  }
}

export class Subscription {
  constructor(
    private readonly peer: Peer,
    readonly name: string,
    readonly opened: SubscriptionSeen,
  ) {}

  status(): Promise<SubscriptionSeen> {
    return this.peer.request('sub-status', { name: this.name });
  }
  until(args: Arguments): Promise<SubscriptionSeen> {
    return this.peer.request('await-sub', { name: this.name, ...args });
  }
  pause(on: boolean): Promise<unknown> {
    return this.peer.request('pause', { name: this.name, on });
  }
  reject(reason: string): Promise<unknown> {
    return this.peer.request('reject', { name: this.name, reason });
  }
  addDestination(channel: string): Promise<unknown> {
    return this.peer.request('add-destination', { name: this.name, channel });
  }
  close(): Promise<unknown> {
    return this.peer.request('close', { name: this.name });
  }
}

/**
 * A program of the native build: where `make build` leaves the driver, else in the CMake folder. OUTRIGGER_TEST_BUILD names another one, such
 * as build/asan.
 */
export function nativeProgram(name: string): string {
  const other = process.env['OUTRIGGER_TEST_BUILD'];
  const candidates = [
    ...(other === undefined ? [] : [resolve(kRoot, other, name)]),
    join(kRoot, 'build', name),
    join(kRoot, 'build/native', name),
  ];
  const found = candidates.find((path) => existsSync(path));
  if (found === undefined) {
    throw new Error(`${name} is not built (looked for ${candidates.join(' and ')}): run make build`);
  }
  return found;
}
