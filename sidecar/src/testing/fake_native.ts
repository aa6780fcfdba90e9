// SPDX-License-Identifier: Apache-2.0
// A driver in memory behind the facade of the native addon, for unit tests: enough of it that services can't tell the difference. No network.
import { join } from 'node:path';
import { Root, type Type } from 'protobufjs';
import { kMessagingProto, protoRoot } from '../grpc/proto_files';
import {
  NativeError,
  type ClientOptions,
  type CounterSnapshot,
  type Native,
  type NativeClient,
  type NativePublication,
  type NativeSubscription,
  type OfferResult,
  type OfferStatus,
  type PublicationOptions,
  type SubscriptionOptions,
} from '../native/types';

const root = new Root();
root.resolvePath = (_origin, target) => join(protoRoot(), target);
root.loadSync(kMessagingProto);
const PublishRequest: Type = root.lookupType('outrigger.v1.PublishRequest');
const SubscribeResponse: Type = root.lookupType('outrigger.v1.SubscribeResponse');

const kMaxMessage = 64 * 1024;
const kFrame = 32; // header of a data frame

function response(value: object): Buffer {
  return Buffer.from(SubscribeResponse.encode(SubscribeResponse.fromObject(value)).finish());
}

function endpointOf(uri: string): string {
  return /endpoint=([^|]+)/.exec(uri)?.[1] ?? uri.split('?')[0] ?? uri;
}

export class FakePublication implements NativePublication {
  readonly maxMessageBytes = kMaxMessage;
  readonly maxPayloadBytes = 1376;
  readonly destinations = new Set<string>();
  isClosed = false;
  closedInOrder = false;
  where = 0n;

  constructor(
    private readonly driver: FakeDriver,
    readonly options: PublicationOptions,
    readonly sessionId: number,
  ) {}

  get streamId(): number {
    return this.options.streamId;
  }

  targets(): FakeSubscription[] {
    const manual = this.options.channel.includes('control-mode=manual');
    const ends = manual ? [...this.destinations].map(endpointOf) : [endpointOf(this.options.channel)];
    return [...this.driver.subscriptions].filter(
      (each) => each.options.streamId === this.streamId && ends.includes(endpointOf(each.options.channel)),
    );
  }

  get isConnected(): boolean {
    return !this.isClosed && this.targets().length > 0;
  }

  position(): { position: bigint; limit: bigint } {
    return { position: this.where, limit: this.where + BigInt(this.driver.room) };
  }

  offerBatch(request: Uint8Array, startIndex = 0): OfferResult {
    let batch: { sequence: string; messages: Buffer[] };
    try {
      const decoded = PublishRequest.toObject(PublishRequest.decode(request), {
        longs: String,
        defaults: true,
        oneofs: true,
        bytes: Buffer,
      });
      const found = decoded['batch'] as typeof batch | undefined;
      if (found === undefined) {
        throw new Error('no batch');
      }
      batch = found;
    } catch {
      throw new NativeError('INVALID_ARGUMENT', 'batch: is no encoded outrigger.v1.PublishRequest');
    }
    const messages = batch.messages.slice(startIndex);
    let accepted = 0;
    let bytes = 0;
    let status: OfferStatus = 'ACCEPTED';
    const took: Buffer[] = [];
    for (const message of messages) {
      if (this.isClosed) {
        status = 'CLOSED';
      } else if (message.length > kMaxMessage) {
        status = 'MESSAGE_TOO_LONG';
      } else if (this.driver.nextStatus !== undefined) {
        status = this.driver.nextStatus;
      } else if (!this.isConnected) {
        status = 'NOT_CONNECTED';
      } else if (this.driver.room <= 0) {
        status = 'BACK_PRESSURED';
      }
      if (status !== 'ACCEPTED') {
        break;
      }
      this.driver.room--;
      accepted++;
      bytes += message.length;
      this.where += BigInt(kFrame + message.length);
      took.push(message);
    }
    if (took.length > 0) {
      this.targets().forEach((each) => each.take(this, took));
    }
    return {
      status,
      accepted,
      total: messages.length,
      position: accepted > 0 ? this.where : 0n,
      sequence: BigInt(batch.sequence),
      bytes,
    };
  }

  async offerBatchWait(request: Uint8Array, startIndex: number, timeoutMs: number): Promise<OfferResult> {
    const deadline = performance.now() + timeoutMs;
    this.driver.waits++;
    let accepted = 0;
    let bytes = 0;
    for (;;) {
      const result = this.offerBatch(request, startIndex + accepted);
      accepted += result.accepted;
      bytes += result.bytes;
      const left = deadline - performance.now();
      if (left <= 0 || (result.status !== 'BACK_PRESSURED' && result.status !== 'NOT_CONNECTED')) {
        return { ...result, accepted, bytes, total: result.total + accepted - result.accepted };
      }
      await this.driver.changed(left);
    }
  }

  addDestination(uri: string): Promise<bigint> {
    if (this.driver.refusedDestinations.has(uri)) {
      return Promise.reject(new NativeError('DRIVER_REFUSED', `destination ${uri}: unknown host`, 9));
    }
    this.destinations.add(uri);
    this.driver.notify();
    return Promise.resolve(this.driver.registrationOf(uri));
  }

  removeDestination(uri: string): Promise<void> {
    this.destinations.delete(uri);
    this.driver.notify();
    return Promise.resolve();
  }

  drained(): Promise<boolean> {
    return Promise.resolve(true);
  }

  close(): Promise<void> {
    if (!this.isClosed) {
      this.isClosed = true;
      this.closedInOrder = true;
      this.driver.publications.delete(this);
      this.driver.subscriptions.forEach((each) => each.publicationGone(this, 1));
    }
    return Promise.resolve();
  }
}

export class FakeSubscription implements NativeSubscription {
  credit = { messages: 0, bytes: 0 };
  closed = false;
  private readonly waiting: { from: FakePublication; message: Buffer; position: bigint }[] = [];
  private readonly joined = new Set<number>();
  private timer: NodeJS.Timeout | undefined;
  private figures = { messages: 0n, bytes: 0n, skipped: 0n, gaps: 0n };

  constructor(
    private readonly driver: FakeDriver,
    readonly options: SubscriptionOptions,
  ) {}

  get streamId(): number {
    return this.options.streamId;
  }

  addCredit(messages: number, bytes: number): void {
    this.credit.messages += messages;
    this.credit.bytes += bytes;
    this.deliver();
  }

  join(publication: FakePublication): void {
    if (!this.joined.has(publication.sessionId)) {
      this.joined.add(publication.sessionId);
      const joinPosition = publication.where.toString();
      this.emit([
        response({
          event: { imageAvailable: { sessionId: publication.sessionId, joinPosition, source: 'fake' } },
        }),
      ]);
    }
  }

  take(from: FakePublication, messages: readonly Buffer[]): void {
    if (!this.joined.has(from.sessionId)) {
      this.joined.add(from.sessionId);
      this.emit([
        response({
          event: {
            imageAvailable: {
              sessionId: from.sessionId,
              joinPosition: this.driver.joinAt.toString(),
              source: 'fake',
            },
          },
        }),
      ]);
    }
    let position = from.where - messages.reduce((sum, each) => sum + BigInt(kFrame + each.length), 0n);
    for (const message of messages) {
      position += BigInt(kFrame + message.length);
      this.waiting.push({ from, message, position });
    }
    this.deliver();
  }

  publicationGone(publication: FakePublication, reason: number): void {
    if (this.joined.delete(publication.sessionId)) {
      this.emit([
        response({
          event: {
            imageUnavailable: {
              sessionId: publication.sessionId,
              position: publication.where.toString(),
              reason,
            },
          },
        }),
      ]);
    }
  }

  stats(): { messages: bigint; bytes: bigint; skipped: bigint; gaps: bigint; images: number } {
    return { ...this.figures, images: this.joined.size };
  }

  close(): Promise<void> {
    this.closed = true;
    clearTimeout(this.timer);
    this.driver.subscriptions.delete(this);
    return Promise.resolve();
  }

  private emit(responses: Buffer[]): void {
    setImmediate(() => {
      if (!this.closed) {
        this.options.onResponses(responses);
      }
    });
  }

  private deliver(): void {
    const out: Buffer[] = [];
    while (this.waiting.length > 0 && this.credit.messages > 0 && this.credit.bytes > 0) {
      const next = this.waiting.shift() as { from: FakePublication; message: Buffer; position: bigint };
      this.credit.messages--;
      this.credit.bytes -= next.message.length;
      this.figures.messages++;
      this.figures.bytes += BigInt(next.message.length);
      out.push(
        response({
          batch: {
            sessionId: next.from.sessionId,
            streamId: this.streamId,
            position: next.position.toString(),
            messages: [next.message],
          },
        }),
      );
    }
    if (out.length > 0) {
      this.emit(out);
    }
    if (this.waiting.length === 0) {
      clearTimeout(this.timer);
      this.timer = undefined;
    } else if (this.options.slowPolicy === 'SKIP') {
      const first = this.waiting[0] as { from: FakePublication; position: bigint };
      const messages = this.waiting.length;
      const toPosition = (this.waiting.at(-1) as { position: bigint }).position.toString();
      this.waiting.length = 0;
      this.figures.skipped += BigInt(messages);
      this.figures.gaps++;
      this.emit([
        response({
          event: {
            gap: { sessionId: first.from.sessionId, fromPosition: '0', toPosition, messages, reason: 1 },
          },
        }),
      ]);
    } else if (this.options.slowPolicy === 'DISCONNECT_AFTER') {
      this.timer ??= setTimeout(() => this.options.onEnd('SLOW'), this.options.disconnectAfterMs);
    }
  }
}

/** One driver. `die` and `revive` make it go and come back; `room` is how many messages it still takes. */
export class FakeDriver implements Native {
  readonly publications = new Set<FakePublication>();
  readonly subscriptions = new Set<FakeSubscription>();
  readonly refusedDestinations = new Set<string>();
  room = Number.MAX_SAFE_INTEGER;
  nextStatus: OfferStatus | undefined;
  alive = true;
  waits = 0;
  joinAt = 0n;
  counterList: CounterSnapshot[] = [];
  /** How often a client read all of them. */
  counterReads = 0;
  refuse: NativeError | undefined;
  private readonly registrations = new Map<string, bigint>();
  private sessions = 100;
  private clients: ClientOptions[] = [];
  private waiters: (() => void)[] = [];

  /** Of a destination; the same for each that is written alike. */
  registrationOf(uri: string): bigint {
    const known = this.registrations.get(uri) ?? BigInt(this.registrations.size + 1);
    this.registrations.set(uri, known);
    return known;
  }

  notify(): void {
    for (const publication of this.publications) {
      publication.targets().forEach((each) => each.join(publication));
    }
    const waiters = this.waiters;
    this.waiters = [];
    waiters.forEach((wake) => wake());
  }

  changed(timeoutMs: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, timeoutMs).unref();
      this.waiters.push(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }

  grantRoom(messages: number): void {
    this.room = messages;
    this.notify();
  }

  die(reason = 'no heartbeat'): void {
    this.alive = false;
    this.publications.forEach((each) => (each.isClosed = true));
    this.publications.clear();
    const subscriptions = [...this.subscriptions];
    this.subscriptions.clear();
    subscriptions.forEach((each) => each.options.onEnd('DRIVER_LOST'));
    const clients = this.clients;
    this.clients = [];
    clients.forEach((each) => each.onDriverLost(reason));
    this.notify();
  }

  revive(): void {
    this.alive = true;
  }

  /** Sessions of a remote publisher outlive our driver: the next publication gets this one again. */
  reuseSession(sessionId: number): void {
    this.sessions = sessionId - 1;
  }

  connect(options: ClientOptions): Promise<NativeClient> {
    if (!this.alive) {
      return Promise.reject(new NativeError('DRIVER_UNAVAILABLE', `no driver in ${options.directory}`));
    }
    this.clients.push(options);
    const client: NativeClient = {
      clientId: 1n,
      addPublication: (publication) => {
        if (this.refuse !== undefined) {
          return Promise.reject(this.refuse);
        }
        const made = new FakePublication(this, publication, ++this.sessions);
        this.publications.add(made);
        this.notify();
        return Promise.resolve(made);
      },
      addSubscription: (subscription) => {
        if (this.refuse !== undefined) {
          return Promise.reject(this.refuse);
        }
        const made = new FakeSubscription(this, subscription);
        this.subscriptions.add(made);
        this.notify();
        return Promise.resolve(made);
      },
      counters: () => {
        this.counterReads++;
        return this.counterList;
      },
      errors: () => [{ count: 2, firstMs: 1, lastMs: 2, text: 'address in use' }],
      losses: () => [
        {
          observations: 3n,
          bytesLost: 4096n,
          firstMs: 1,
          lastMs: 2,
          sessionId: 5,
          streamId: 6,
          channel: 'aeron:udp?endpoint=a:1',
          source: '10.0.0.1:9',
        },
      ],
      driver: () => ({ pid: 4711, startMs: 1, heartbeatAgeMs: 12 }),
      close: () => {
        this.clients = this.clients.filter((each) => each !== options);
        return Promise.resolve();
      },
    };
    return Promise.resolve(client);
  }

  readCounters(): CounterSnapshot[] {
    return this.counterList;
  }

  readErrors(): [] {
    return [];
  }

  readLosses(): [] {
    return [];
  }

  readDriver(): { pid: number; startMs: number; heartbeatAgeMs: number } {
    return { pid: 4711, startMs: 1, heartbeatAgeMs: 12 };
  }
}
