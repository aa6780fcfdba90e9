// SPDX-License-Identifier: Apache-2.0
// What the tests of the addon share: a driver process in a directory of its own, messages that prove themselves, subscribers to wait for.
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Root, type Type } from 'protobufjs';
import { native } from '../../sidecar/src/native/index';
import type {
  NativeClient,
  NativePublication,
  NativeSubscription,
  SubscriptionOptions,
} from '../../sidecar/src/native/types';

export const kRepository = resolve(__dirname, '..', '..');
const kDriver = process.env['OUTRIGGER_DRIVER'] ?? join(kRepository, 'build', 'native', 'outrigger-driver');
const kMemoryVolume = existsSync('/dev/shm') ? '/dev/shm' : '/tmp';

// ---- protocol ----

const root = new Root();
root.resolvePath = (_origin, target) => join(kRepository, 'proto', target);
root.loadSync('outrigger/v1/messaging.proto');
export const PublishRequest: Type = root.lookupType('outrigger.v1.PublishRequest');
export const SubscribeResponse: Type = root.lookupType('outrigger.v1.SubscribeResponse');

export function encodeBatch(sequence: number, messages: readonly Uint8Array[]): Buffer {
  return Buffer.from(
    PublishRequest.encode(PublishRequest.fromObject({ batch: { sequence, messages } })).finish(),
  );
}

export interface Batch {
  readonly sessionId: number;
  readonly streamId: number;
  readonly position: string;
  readonly messages: readonly Buffer[];
}

export interface SubscribeEvent {
  readonly event: 'imageAvailable' | 'imageUnavailable' | 'gap' | 'laggingMs';
  readonly imageAvailable?: { sessionId: number; joinPosition: string; source: string };
  readonly imageUnavailable?: { sessionId: number; position: string; reason: number };
  readonly gap?: {
    sessionId: number;
    fromPosition: string;
    toPosition: string;
    messages: string;
    reason: number;
  };
  readonly laggingMs?: number;
}

export interface Decoded {
  readonly batch?: Batch;
  readonly event?: SubscribeEvent;
}

export function decodeResponse(response: Uint8Array): Decoded {
  const object: unknown = SubscribeResponse.toObject(SubscribeResponse.decode(response), {
    longs: String,
    defaults: true,
    oneofs: true,
    bytes: Buffer,
  });
  return object as Decoded;
}

// ---- messages that can be checked ----

const kMessageHeader = 12;

/** A message that carries its number and a checksum over the rest, which depends on the number. */
export function numbered(sequence: number, length: number): Buffer {
  const message = Buffer.alloc(Math.max(length, kMessageHeader), sequence & 0xff);
  message.writeDoubleLE(sequence, 0);
  message.writeUInt32LE(checksum(message), 8);
  return message;
}

function checksum(message: Buffer): number {
  let sum = (message.readUInt32LE(0) ^ message.readUInt32LE(4) ^ message.length) >>> 0;
  for (let i = kMessageHeader; i < message.length; i += 8) {
    sum = (Math.imul(sum, 31) + (message[i] as number)) >>> 0;
  }
  return sum;
}

/** The number of a message, after checking it. */
export function numberOf(message: Buffer): number {
  if (message.readUInt32LE(8) !== checksum(message)) {
    throw new Error(`message of ${message.length} bytes is damaged`);
  }
  return message.readDoubleLE(0);
}

// ---- waiting ----

export async function until(what: string, condition: () => boolean, timeoutMs = 15_000): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!condition()) {
    if (performance.now() > deadline) {
      throw new Error(`waited ${timeoutMs} ms for: ${what}`);
    }
    await new Promise((done) => setTimeout(done, 2));
  }
}

// ---- driver ----

export class Driver {
  private child: ChildProcess | undefined;
  private exited: Promise<void> = Promise.resolve();
  private output = '';
  readonly folder = mkdtempSync(join(kMemoryVolume, 'outrigger-addon-test-'));
  readonly directory = join(this.folder, 'driver');

  static async start(): Promise<Driver> {
    const driver = new Driver();
    await driver.start();
    return driver;
  }

  async start(): Promise<void> {
    this.output = '';
    const child = spawn(kDriver, [], {
      env: {
        ...process.env,
        AERON_DIR: this.directory,
        AERON_DIR_DELETE_ON_START: 'true',
        AERON_TERM_BUFFER_LENGTH: '1048576',
        AERON_IPC_TERM_BUFFER_LENGTH: '1048576',
        AERON_CLIENT_LIVENESS_TIMEOUT: '5000000000',
        AERON_PUBLICATION_LINGER_TIMEOUT: '200000000',
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.child = child;
    child.stdout.on('data', (data: Buffer) => (this.output += data.toString()));
    child.stderr.on('data', (data: Buffer) => (this.output += data.toString()));
    this.exited = new Promise((done) => {
      child.once('error', (error) => {
        this.output += `${error.message}\n`;
        done();
      });
      child.once('exit', () => done());
    });
    const running = (): boolean => {
      if (child.exitCode !== null || child.signalCode !== null) {
        throw new Error(`the driver ended: ${this.output}`);
      }
      try {
        // One that was killed leaves a young heartbeat behind.
        const found = native.readDriver(this.directory);
        return found.pid === child.pid && found.heartbeatAgeMs < 1000;
      } catch {
        return false;
      }
    };
    await until(`a driver in ${this.directory}`, running);
  }

  async kill(signal: 'SIGKILL' | 'SIGTERM' = 'SIGKILL'): Promise<void> {
    this.child?.kill(signal);
    await this.exited;
  }

  async stop(): Promise<void> {
    await this.kill('SIGTERM');
    rmSync(this.folder, { recursive: true, force: true });
  }
}

// ---- subscriber ----

/** Everything that one subscription said, in order. */
export class Collector {
  readonly responses: Buffer[] = [];
  readonly events: SubscribeEvent[] = [];
  readonly order: string[] = [];
  readonly ends: string[] = [];
  messages = 0;
  bytes = 0;
  /** What arrived that was not the next number; only for subscribers of one publisher of numbered messages. */
  firstWrong: string | undefined;
  nextNumber = 0;
  subscription: NativeSubscription | undefined;
  onBatch: ((batch: Batch) => void) | undefined;

  constructor(private readonly keepResponses = false) {}

  async open(
    client: NativeClient,
    channel: string,
    streamId: number,
    options: Partial<SubscriptionOptions> = {},
  ): Promise<NativeSubscription> {
    this.subscription = await client.addSubscription({
      channel,
      streamId,
      slowPolicy: 'BLOCK',
      disconnectAfterMs: 1000,
      maxBatchBytes: 256 * 1024,
      ...options,
      onResponses: (responses) => responses.forEach((each) => this.take(each)),
      onEnd: (reason) => this.ends.push(reason),
    });
    return this.subscription;
  }

  eventsOf<K extends SubscribeEvent['event']>(kind: K): NonNullable<SubscribeEvent[K]>[] {
    return this.events
      .filter((each) => each.event === kind)
      .map((each) => each[kind] as NonNullable<SubscribeEvent[K]>);
  }

  private take(response: Buffer): void {
    if (this.keepResponses) {
      this.responses.push(response);
    }
    const { batch, event } = decodeResponse(response);
    if (event !== undefined) {
      this.events.push(event);
      this.order.push(event.event);
    } else if (batch !== undefined) {
      this.order.push('batch');
      this.messages += batch.messages.length;
      for (const message of batch.messages) {
        this.bytes += message.length;
        const number = message.length >= kMessageHeader ? numberOf(message) : this.nextNumber;
        if (number !== this.nextNumber) {
          this.firstWrong ??= `${number} where ${this.nextNumber} was due`;
        }
        this.nextNumber = number + 1;
      }
      this.onBatch?.(batch);
    }
  }
}

/** Offers batches one after the other and waits for room; the number of messages that were taken. */
export async function publishAll(
  publication: NativePublication,
  count: number,
  length: number,
  batchSize = 200,
): Promise<number> {
  let sent = 0;
  while (sent < count) {
    const size = Math.min(batchSize, count - sent);
    const batch = encodeBatch(
      sent,
      Array.from({ length: size }, (_, i) => numbered(sent + i, length)),
    );
    let result = publication.offerBatch(batch);
    let accepted = result.accepted;
    if (result.status === 'BACK_PRESSURED' || result.status === 'NOT_CONNECTED') {
      result = await publication.offerBatchWait(batch, accepted, 20_000);
      accepted += result.accepted;
    }
    sent += accepted;
    if (result.status !== 'ACCEPTED') {
      throw new Error(`after ${sent} of ${count} messages: ${result.status}`);
    }
    if ((sent / batchSize) % 16 === 0) {
      await new Promise((done) => setImmediate(done)); // responses come on this thread
    }
  }
  return sent;
}
