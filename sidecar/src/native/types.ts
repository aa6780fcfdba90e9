// SPDX-License-Identifier: Apache-2.0
// The typed facade of the native addon (contract): what the sidecar knows of the driver. Only index.ts beside this file imports the addon.
// No call or callback here happens per message: batches are encoded and decoded in C++.

/** Why a native call failed. `code` is stable; `message` names the thing, the value and the fix. */
export class NativeError extends Error {
  constructor(
    readonly code: NativeErrorCode,
    message: string,
    /** Aeron error code of the driver's answer, when it answered. */
    readonly driverErrorCode?: number,
  ) {
    super(message);
    this.name = 'NativeError';
  }
}

export type NativeErrorCode =
  /** No driver in the directory, or it stopped answering. Retry after it is back. */
  | 'DRIVER_UNAVAILABLE'
  /** The driver refused the request (driverErrorCode says how). */
  | 'DRIVER_REFUSED'
  /** An argument is out of range. */
  | 'INVALID_ARGUMENT'
  /** The object was closed. */
  | 'CLOSED'
  /** The driver did not answer in time. */
  | 'TIMEOUT';

/** Status of an offered batch; the names of outrigger.v1.PublishStatus without their prefix. */
export type OfferStatus =
  'ACCEPTED' | 'BACK_PRESSURED' | 'NOT_CONNECTED' | 'CLOSED' | 'MAX_POSITION_EXCEEDED' | 'MESSAGE_TOO_LONG';

export interface OfferResult {
  readonly status: OfferStatus;
  /** Leading messages accepted, counted from `startIndex`. */
  readonly accepted: number;
  /** Messages in the batch from `startIndex` on. */
  readonly total: number;
  /** Position after the last accepted message; 0n when none. */
  readonly position: bigint;
  /** Sequence number that stands in the batch. */
  readonly sequence: bigint;
  /** Payload bytes of the accepted messages. */
  readonly bytes: number;
}

export interface PublicationOptions {
  readonly channel: string;
  readonly streamId: number;
  readonly exclusive: boolean;
}

export interface NativePublication {
  readonly sessionId: number;
  readonly streamId: number;
  readonly maxMessageBytes: number;
  readonly maxPayloadBytes: number;
  readonly isConnected: boolean;
  readonly isClosed: boolean;
  /** Current and limit position. */
  position(): { position: bigint; limit: bigint };
  /**
   * Offers the messages of one encoded outrigger.v1.PublishRequest that holds a batch, from `startIndex` on, until one does not fit.
   * Throws NativeError INVALID_ARGUMENT when the bytes are no such request.
   */
  offerBatch(request: Uint8Array, startIndex?: number): OfferResult;
  /** As offerBatch, but waits in the native thread for room or a connection until the deadline; resolves as offerBatch answers. */
  offerBatchWait(request: Uint8Array, startIndex: number, timeoutMs: number): Promise<OfferResult>;
  /** Manual multi-destination publications. Resolves to the destination's registration id. */
  addDestination(uri: string): Promise<bigint>;
  removeDestination(uri: string): Promise<void>;
  /** Everything offered so far has left for the network (or was consumed, IPC); false at the timeout. */
  drained(timeoutMs: number): Promise<boolean>;
  close(): Promise<void>;
}

export type SlowPolicy = 'BLOCK' | 'DISCONNECT_AFTER' | 'SKIP';

export interface SubscriptionOptions {
  readonly channel: string;
  readonly streamId: number;
  readonly slowPolicy: SlowPolicy;
  readonly disconnectAfterMs: number;
  readonly maxBatchBytes: number;
  /**
   * Encoded outrigger.v1.SubscribeResponse messages (batches and events, in order), ready to be written to the stream. Called once a burst.
   * The buffers belong to the callee.
   */
  readonly onResponses: (responses: readonly Buffer[]) => void;
  /** The subscription ended by itself: slow subscriber under DISCONNECT_AFTER, or the driver was lost. Called at most once. */
  readonly onEnd: (reason: 'SLOW' | 'DRIVER_LOST' | 'CLOSED') => void;
}

export interface NativeSubscription {
  readonly streamId: number;
  /** Adds credit; may be called before anything arrives. */
  addCredit(messages: number, bytes: number): void;
  /** Figures since open, for metrics: messages and bytes delivered, messages skipped, images now. */
  stats(): { messages: bigint; bytes: bigint; skipped: bigint; gaps: bigint; images: number };
  close(): Promise<void>;
}

export interface CounterSnapshot {
  readonly id: number;
  readonly typeId: number;
  readonly value: bigint;
  readonly registrationId: bigint;
  readonly ownerId: bigint;
  readonly label: string;
  /** Raw key, 112 bytes. */
  readonly key: Buffer;
}

export interface ErrorObservation {
  readonly count: number;
  readonly firstMs: number;
  readonly lastMs: number;
  readonly text: string;
}

export interface LossEntry {
  readonly observations: bigint;
  readonly bytesLost: bigint;
  readonly firstMs: number;
  readonly lastMs: number;
  readonly sessionId: number;
  readonly streamId: number;
  readonly channel: string;
  readonly source: string;
}

export interface DriverInfo {
  readonly pid: number;
  readonly startMs: number;
  /** Milliseconds since the driver's last heartbeat. */
  readonly heartbeatAgeMs: number;
}

export interface ClientOptions {
  /** Directory of the driver (AERON_DIR). */
  readonly directory: string;
  /** Milliseconds without a heartbeat after which the driver counts as lost. Default 10000. */
  readonly driverTimeoutMs?: number;
  /** The driver died or was restarted, or it timed this client out. All publications and subscriptions are closed. Called at most once. */
  readonly onDriverLost: (reason: string) => void;
}

export interface NativeClient {
  readonly clientId: bigint;
  addPublication(options: PublicationOptions): Promise<NativePublication>;
  addSubscription(options: SubscriptionOptions): Promise<NativeSubscription>;
  counters(): CounterSnapshot[];
  errors(): ErrorObservation[];
  losses(): LossEntry[];
  driver(): DriverInfo;
  close(): Promise<void>;
}

/** Attach-only reading of a driver directory, for stat, errors, loss and metrics when no client is wanted. */
export interface NativeTools {
  readCounters(directory: string): CounterSnapshot[];
  readErrors(directory: string): ErrorObservation[];
  readLosses(directory: string): LossEntry[];
  readDriver(directory: string): DriverInfo;
}

export interface Native extends NativeTools {
  /** Connects to a running driver. Rejects with DRIVER_UNAVAILABLE when none is there within `timeoutMs` (default 5000). */
  connect(options: ClientOptions, timeoutMs?: number): Promise<NativeClient>;
}
