// SPDX-License-Identifier: Apache-2.0
// The only TypeScript that loads the addon: finds it, gives its three bindings the shape of types.ts, and turns its errors into NativeError.
import { existsSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import {
  NativeError,
  type ClientOptions,
  type CounterSnapshot,
  type DriverInfo,
  type ErrorObservation,
  type LossEntry,
  type Native,
  type NativeClient,
  type NativeErrorCode,
  type NativePublication,
  type NativeSubscription,
  type OfferResult,
  type OfferStatus,
  type PublicationOptions,
  type SubscriptionOptions,
} from './types';

// ---- what the addon exports ----

interface OfferRecord {
  readonly status: number;
  readonly accepted: number;
  readonly total: number;
  readonly position: bigint;
  readonly sequence: bigint;
  readonly bytes: number;
}

interface PublicationBinding {
  describe(): { sessionId: number; streamId: number; maxMessageBytes: number; maxPayloadBytes: number };
  isConnected(): boolean;
  isClosed(): boolean;
  position(words: BigInt64Array): void;
  offer(request: Uint8Array, startIndex: number, words: BigInt64Array): number;
  offerWait(request: Uint8Array, startIndex: number, timeoutMs: number): Promise<OfferRecord>;
  addDestination(uri: string): Promise<bigint>;
  removeDestination(uri: string): Promise<bigint>;
  drained(timeoutMs: number): Promise<boolean>;
  close(): void;
}

interface SubscriptionBinding {
  addCredit(messages: number, bytes: number): void;
  stats(words: BigInt64Array): void;
  close(): void;
}

type OnBurst = (bytes: Buffer, bounds?: readonly number[]) => void;

interface ClientBinding {
  clientId(): bigint;
  addPublication(channel: string, streamId: number, exclusive: boolean): Promise<PublicationBinding>;
  addSubscription(
    channel: string,
    streamId: number,
    slowPolicy: string,
    disconnectAfterMs: number,
    maxBatchBytes: number,
    onBurst: OnBurst,
    onEnd: (reason: 'SLOW' | 'DRIVER_LOST' | 'CLOSED') => void,
  ): Promise<SubscriptionBinding>;
  counters(): CounterSnapshot[];
  errors(): ErrorObservation[];
  losses(): LossEntry[];
  driver(): DriverInfo;
  close(): Promise<void>;
  closeNow(): void;
}

interface Addon {
  readonly Client: new (
    directory: string,
    driverTimeoutMs: number,
    onLost: (reason: string) => void,
  ) => ClientBinding;
  readCounters(directory: string): CounterSnapshot[];
  readErrors(directory: string): ErrorObservation[];
  readLosses(directory: string): LossEntry[];
  readDriver(directory: string): DriverInfo;
}

// ---- loading ----

const kAddonPath = join('build', 'native', 'outrigger.node');

/** From this file upwards, so that sources and compiled code both find the build of their tree. */
function findAddon(): string {
  const override = process.env['OUTRIGGER_ADDON'];
  if (override !== undefined && override !== '') {
    return resolve(override);
  }
  for (let folder = __dirname; ; folder = dirname(folder)) {
    const candidate = join(folder, kAddonPath);
    if (existsSync(candidate)) {
      return candidate;
    }
    if (folder === dirname(folder)) {
      throw new Error(
        `no ${kAddonPath} at or above ${__dirname}; run \`make build\`, or name the file in OUTRIGGER_ADDON`,
      );
    }
  }
}

function loadAddon(): Addon {
  const path = findAddon();
  try {
    // eslint-disable-next-line @typescript-eslint/no-require-imports -- a native addon can only be required
    return require(path) as Addon;
  } catch (error) {
    throw new Error(`cannot load the addon ${path}: ${(error as Error).message}`, { cause: error });
  }
}

// ---- errors and arguments ----

const kCodes: ReadonlySet<string> = new Set<NativeErrorCode>([
  'DRIVER_UNAVAILABLE',
  'DRIVER_REFUSED',
  'INVALID_ARGUMENT',
  'CLOSED',
  'TIMEOUT',
]);

function typed(error: unknown): unknown {
  const { code, driverErrorCode, message } = error as {
    code?: string;
    driverErrorCode?: number;
    message: string;
  };
  return code !== undefined && kCodes.has(code)
    ? new NativeError(code as NativeErrorCode, message, driverErrorCode)
    : error;
}

function sync<T>(action: () => T): T {
  try {
    return action();
  } catch (error) {
    throw typed(error);
  }
}

async function settled<T>(action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (error) {
    throw typed(error);
  }
}

/** A callback of the user's that throws ends the process as any uncaught exception does, and not the burst that it was called in. */
function guarded(action: () => void): void {
  try {
    action();
  } catch (error) {
    process.nextTick(() => {
      throw error;
    });
  }
}

function integer(name: string, value: number, min: number, max: number): number {
  if (!Number.isInteger(value) || value < min || value > max) {
    throw new NativeError(
      'INVALID_ARGUMENT',
      `${name}: is ${value}; allowed: whole numbers from ${min} to ${max}`,
    );
  }
  return value;
}

const kMaxInt32 = 0x7fff_ffff;
const kMaxUint32 = 0xffff_ffff;
const kMaxTimeoutMs = 24 * 3600 * 1000;
const kMaxBatchBytes = 64 * 1024 * 1024;
const kDefaultDriverTimeoutMs = 10_000;
const kDefaultConnectTimeoutMs = 5000;
const kConnectRetryMs = 20;

const streamIdOf = (value: number): number => integer('stream id', value, -kMaxInt32 - 1, kMaxInt32);
const timeoutOf = (value: number): number => integer('timeout', Math.ceil(value), 0, kMaxTimeoutMs);

// ---- publications ----

/** By the numbers of outrigger.v1.PublishStatus. */
const kStatuses: readonly OfferStatus[] = [
  'CLOSED',
  'ACCEPTED',
  'BACK_PRESSURED',
  'NOT_CONNECTED',
  'CLOSED',
  'MAX_POSITION_EXCEEDED',
  'MESSAGE_TOO_LONG',
];

/** What a synchronous call answers beside its status: read at once, hence one for all of them. */
const words = new BigInt64Array(5);

class Publication implements NativePublication {
  readonly sessionId: number;
  readonly streamId: number;
  readonly maxMessageBytes: number;
  readonly maxPayloadBytes: number;

  constructor(
    private readonly binding: PublicationBinding,
    /** Not used: a publication that is held holds its client. */
    readonly client: NativeClient,
  ) {
    const description = binding.describe();
    this.sessionId = description.sessionId;
    this.streamId = description.streamId;
    this.maxMessageBytes = description.maxMessageBytes;
    this.maxPayloadBytes = description.maxPayloadBytes;
  }

  get isConnected(): boolean {
    return this.binding.isConnected();
  }

  get isClosed(): boolean {
    return this.binding.isClosed();
  }

  position(): { position: bigint; limit: bigint } {
    this.binding.position(words);
    const [position = 0n, limit = 0n] = words;
    return { position: position < 0n ? 0n : position, limit: limit < 0n ? 0n : limit };
  }

  offerBatch(request: Uint8Array, startIndex = 0): OfferResult {
    integer('start index', startIndex, 0, kMaxUint32);
    const status = sync(() => this.binding.offer(request, startIndex, words));
    return {
      status: kStatuses[status] as OfferStatus,
      accepted: Number(words[0]),
      total: Number(words[1]),
      position: words[2] as bigint,
      sequence: BigInt.asUintN(64, words[3] as bigint),
      bytes: Number(words[4]),
    };
  }

  async offerBatchWait(request: Uint8Array, startIndex: number, timeoutMs: number): Promise<OfferResult> {
    integer('start index', startIndex, 0, kMaxUint32);
    const timeout = timeoutOf(Math.max(timeoutMs, 0));
    const record = await settled(() => this.binding.offerWait(request, startIndex, timeout));
    return { ...record, status: kStatuses[record.status] as OfferStatus };
  }

  addDestination(uri: string): Promise<bigint> {
    return settled(() => this.binding.addDestination(uri));
  }

  async removeDestination(uri: string): Promise<void> {
    await settled(() => this.binding.removeDestination(uri));
  }

  drained(timeoutMs: number): Promise<boolean> {
    return settled(async () => this.binding.drained(timeoutOf(timeoutMs)));
  }

  // eslint-disable-next-line @typescript-eslint/require-await -- the facade promises; the driver is told at once
  async close(): Promise<void> {
    this.binding.close();
  }
}

// ---- subscriptions ----

class Subscription implements NativeSubscription {
  constructor(
    private readonly binding: SubscriptionBinding,
    readonly streamId: number,
    /** Not used: a subscription that is held holds its client. */
    readonly client: NativeClient,
  ) {}

  addCredit(messages: number, bytes: number): void {
    integer('credit in messages', messages, 0, Number.MAX_SAFE_INTEGER);
    integer('credit in bytes', bytes, 0, Number.MAX_SAFE_INTEGER);
    sync(() => this.binding.addCredit(messages, bytes));
  }

  stats(): { messages: bigint; bytes: bigint; skipped: bigint; gaps: bigint; images: number } {
    this.binding.stats(words);
    return {
      messages: words[0] as bigint,
      bytes: words[1] as bigint,
      skipped: words[2] as bigint,
      gaps: words[3] as bigint,
      images: Number(words[4]),
    };
  }

  // eslint-disable-next-line @typescript-eslint/require-await -- the facade promises; no callback comes from here on
  async close(): Promise<void> {
    this.binding.close();
  }
}

/** One response is a Buffer of its own; several of a burst share the memory of one. */
function responsesOf(bytes: Buffer, bounds: readonly number[] | undefined): Buffer[] {
  if (bounds === undefined) {
    return [bytes];
  }
  const responses: Buffer[] = [];
  for (let i = 0; i < bounds.length; i += 2) {
    responses.push(bytes.subarray(bounds[i], bounds[i + 1]));
  }
  return responses;
}

// ---- clients ----

/** Clients that are open. A process that exits tells the driver, which would else keep its streams until the client's liveness timeout. */
const open = new Set<ClientBinding>();
process.once('exit', () => open.forEach((binding) => binding.closeNow()));

class Client implements NativeClient {
  readonly clientId: bigint;

  constructor(private readonly binding: ClientBinding) {
    this.clientId = binding.clientId();
    open.add(binding);
  }

  async addPublication(options: PublicationOptions): Promise<NativePublication> {
    const streamId = streamIdOf(options.streamId);
    const binding = await settled(async () =>
      this.binding.addPublication(options.channel, streamId, options.exclusive),
    );
    return new Publication(binding, this);
  }

  async addSubscription(options: SubscriptionOptions): Promise<NativeSubscription> {
    const streamId = streamIdOf(options.streamId);
    const { onResponses, onEnd } = options;
    const binding = await settled(async () =>
      this.binding.addSubscription(
        options.channel,
        streamId,
        options.slowPolicy,
        integer('disconnectAfterMs', options.disconnectAfterMs, 0, kMaxTimeoutMs),
        integer('maxBatchBytes', options.maxBatchBytes, 1, kMaxBatchBytes),
        (bytes, bounds) => guarded(() => onResponses(responsesOf(bytes, bounds))),
        (reason) => guarded(() => onEnd(reason)),
      ),
    );
    return new Subscription(binding, streamId, this);
  }

  counters(): CounterSnapshot[] {
    return sync(() => this.binding.counters());
  }

  errors(): ErrorObservation[] {
    return sync(() => this.binding.errors());
  }

  losses(): LossEntry[] {
    return sync(() => this.binding.losses());
  }

  driver(): DriverInfo {
    return sync(() => this.binding.driver());
  }

  async close(): Promise<void> {
    await settled(() => this.binding.close());
    open.delete(this.binding);
  }
}

async function connectTo(addon: Addon, options: ClientOptions, timeoutMs: number): Promise<NativeClient> {
  const driverTimeoutMs = integer(
    'driverTimeoutMs',
    options.driverTimeoutMs ?? kDefaultDriverTimeoutMs,
    1,
    kMaxTimeoutMs,
  );
  const deadline = performance.now() + timeoutOf(timeoutMs);
  for (;;) {
    try {
      return new Client(
        new addon.Client(options.directory, driverTimeoutMs, (reason) =>
          guarded(() => options.onDriverLost(reason)),
        ),
      );
    } catch (error) {
      const left = deadline - performance.now();
      if ((error as { code?: string }).code !== 'DRIVER_UNAVAILABLE' || left <= 0) {
        throw typed(error);
      }
      await new Promise((done) => setTimeout(done, Math.min(kConnectRetryMs, left)));
    }
  }
}

function makeNative(addon: Addon): Native {
  return {
    connect: (options, timeoutMs = kDefaultConnectTimeoutMs) => connectTo(addon, options, timeoutMs),
    readCounters: (directory) => sync(() => addon.readCounters(directory)),
    readErrors: (directory) => sync(() => addon.readErrors(directory)),
    readLosses: (directory) => sync(() => addon.readLosses(directory)),
    readDriver: (directory) => sync(() => addon.readDriver(directory)),
  };
}

export const native: Native = makeNative(loadAddon());
