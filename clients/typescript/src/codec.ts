// SPDX-License-Identifier: Apache-2.0
// The messages of outrigger.v1.MessagingService, written and read by hand: payloads are copied once into a batch and read as views of the
// answer; no object a message is made besides the view. Not when or why they are sent.
import type { RefusedStatus } from './errors';
import { ByteReader, ByteWriter, varintLength, writeVarint } from './wire';

/** A topic of the sidecar by name, or an Aeron channel where the sidecar allows it. */
export type Target = { readonly topic: string } | { readonly channel: string; readonly streamId: number };

export const kBackPressure = { fail: 1, wait: 2, drop: 3 } as const;
export type BackPressure = keyof typeof kBackPressure;

export const kSlowPolicies = { block: 1, disconnectAfter: 2, skip: 3 } as const;
export type SlowPolicy = keyof typeof kSlowPolicies;

const kStatuses: readonly (RefusedStatus | 'ACCEPTED' | undefined)[] = [
  undefined,
  'ACCEPTED',
  'BACK_PRESSURED',
  'NOT_CONNECTED',
  'CLOSED',
  'MAX_POSITION_EXCEEDED',
  'MESSAGE_TOO_LONG',
];
const kImageEnds = ['UNSPECIFIED', 'END_OF_STREAM', 'TIMED_OUT', 'DRIVER_LOST', 'REVOKED'] as const;
const kGapReasons = ['UNSPECIFIED', 'SKIPPED', 'REJOINED', 'UNRELIABLE_LOSS'] as const;

/** CONNECTION_LOST is this library's: the connection to the sidecar broke. */
export type ImageEnd = (typeof kImageEnds)[number] | 'CONNECTION_LOST';
export type GapReason = (typeof kGapReasons)[number];

export interface PublisherInfo {
  readonly sessionId: number;
  readonly streamId: number;
  /** Longest message, bytes. */
  readonly maxMessageBytes: number;
  /** Longest message that travels unfragmented, bytes. */
  readonly maxPayloadBytes: number;
}

export interface PublishResult {
  readonly kind: 'result';
  readonly sequence: number;
  readonly accepted: number;
  readonly status: RefusedStatus | 'ACCEPTED';
  readonly position: bigint;
  readonly dropped: number;
}

export type PublishAnswer =
  | PublishResult
  | { readonly kind: 'opened'; readonly info: PublisherInfo }
  | { readonly kind: 'connected'; readonly connected: boolean }
  | { readonly kind: 'reopened'; readonly info: PublisherInfo }
  | { readonly kind: 'other' };

export interface MessageBatch {
  readonly kind: 'batch';
  /** Session of the publisher. */
  readonly sessionId: number;
  readonly streamId: number;
  /** Stream position after the last message, bytes. */
  readonly position: bigint;
  /** In order. Views of one buffer: copy what must outlive the batch by long. */
  readonly messages: readonly Buffer[];
}

export interface ImageAvailable {
  readonly kind: 'imageAvailable';
  readonly sessionId: number;
  readonly joinPosition: bigint;
  /** Address of the publisher, or "aeron:ipc". */
  readonly source: string;
}

export interface ImageUnavailable {
  readonly kind: 'imageUnavailable';
  readonly sessionId: number;
  /** Position after the last message delivered. */
  readonly position: bigint;
  readonly reason: ImageEnd;
}

export interface Gap {
  readonly kind: 'gap';
  readonly sessionId: number;
  readonly fromPosition: bigint;
  /** Equal to fromPosition when unknown. */
  readonly toPosition: bigint;
  /** 0 when they could not be counted. */
  readonly messages: number;
  readonly reason: GapReason;
}

export interface Lagging {
  readonly kind: 'lagging';
  /** Messages have waited for credit this long. */
  readonly milliseconds: number;
}

export type SubscribeAnswer =
  | MessageBatch
  | ImageAvailable
  | ImageUnavailable
  | Gap
  | Lagging
  | { readonly kind: 'opened'; readonly streamId: number }
  | { readonly kind: 'other' };

function encodeTarget(target: Target): Buffer {
  return 'topic' in target
    ? new ByteWriter().text(1, target.topic).finish()
    : new ByteWriter()
        .bytes(2, new ByteWriter().text(1, target.channel).varint(2, target.streamId).finish())
        .finish();
}

export interface PublishOpen {
  readonly target: Target;
  readonly backPressure: BackPressure;
  readonly waitTimeoutMs: number;
  readonly exclusive: boolean;
}

export function encodePublishOpen(open: PublishOpen): Buffer {
  const body = new ByteWriter()
    .bytes(1, encodeTarget(open.target))
    .varint(2, kBackPressure[open.backPressure])
    .varint(3, open.waitTimeoutMs)
    .varint(4, open.exclusive ? 1 : 0)
    .finish();
  return new ByteWriter().bytes(1, body).finish();
}

function creditBody(messages: number, bytes: number): Buffer {
  return new ByteWriter().varint(1, messages).varint(2, bytes).finish();
}

export interface SubscribeOpen {
  readonly target: Target;
  readonly slowPolicy: SlowPolicy;
  readonly disconnectAfterMs: number;
  readonly creditMessages: number;
  readonly creditBytes: number;
  /** 0: the sidecar's default. */
  readonly maxBatchBytes: number;
}

export function encodeSubscribeOpen(open: SubscribeOpen): Buffer {
  const body = new ByteWriter()
    .bytes(1, encodeTarget(open.target))
    .varint(2, kSlowPolicies[open.slowPolicy])
    .varint(3, open.disconnectAfterMs)
    .bytes(4, creditBody(open.creditMessages, open.creditBytes))
    .varint(5, open.maxBatchBytes)
    .finish();
  return new ByteWriter().bytes(1, body).finish();
}

export function encodeCredit(messages: number, bytes: number): Buffer {
  return new ByteWriter().bytes(2, creditBody(messages, bytes)).finish();
}

const kHead = 16; // tag and length of the batch (1 + 5), tag and value of its sequence (1 + 8), rounded up

/** One PublishRequest in the making. Its buffer can be used again after reset(). */
export class BatchWriter {
  private buffer: Buffer;
  private end = kHead;
  count = 0;

  constructor(capacityBytes: number) {
    this.buffer = Buffer.allocUnsafeSlow(kHead + capacityBytes);
  }

  /** Bytes of messages so far, with their framing. */
  get bytes(): number {
    return this.end - kHead;
  }

  /** Bytes that a message of this length takes in a batch. */
  static cost(length: number): number {
    return 1 + varintLength(length) + length;
  }

  fits(length: number): boolean {
    return this.end + BatchWriter.cost(length) <= this.buffer.length;
  }

  append(payload: Uint8Array): void {
    const { buffer } = this;
    buffer[this.end] = 0x12;
    const at = writeVarint(buffer, this.end + 1, payload.length);
    buffer.set(payload, at);
    this.end = at + payload.length;
    this.count++;
  }

  /** The encoded request; valid until reset(). */
  finish(sequence: number): Buffer {
    const sequenceLength = sequence === 0 ? 0 : 1 + varintLength(sequence);
    const bodyLength = this.bytes + sequenceLength;
    const start = kHead - sequenceLength - varintLength(bodyLength) - 1;
    this.buffer[start] = 0x12;
    const at = writeVarint(this.buffer, start + 1, bodyLength);
    if (sequence !== 0) {
      this.buffer[at] = 0x08;
      writeVarint(this.buffer, at + 1, sequence);
    }
    return this.buffer.subarray(start, this.end);
  }

  reset(): void {
    this.end = kHead;
    this.count = 0;
  }
}

function readInfo(body: Buffer): PublisherInfo {
  const reader = new ByteReader(body);
  const info = { sessionId: 0, streamId: 0, maxMessageBytes: 0, maxPayloadBytes: 0 };
  while (!reader.done) {
    const tag = reader.uint();
    switch (tag) {
      case 0x08:
        info.sessionId = reader.int32();
        break;
      case 0x10:
        info.streamId = reader.int32();
        break;
      case 0x18:
        info.maxMessageBytes = reader.uint();
        break;
      case 0x20:
        info.maxPayloadBytes = reader.uint();
        break;
      default:
        reader.skip(tag);
    }
  }
  return info;
}

function readResult(body: Buffer): PublishResult {
  const reader = new ByteReader(body);
  let sequence = 0;
  let accepted = 0;
  let status = 0;
  let position = 0n;
  let dropped = 0;
  while (!reader.done) {
    const tag = reader.uint();
    switch (tag) {
      case 0x08:
        sequence = reader.uint();
        break;
      case 0x10:
        accepted = reader.uint();
        break;
      case 0x18:
        status = reader.uint();
        break;
      case 0x20:
        position = reader.int64();
        break;
      case 0x28:
        dropped = reader.uint();
        break;
      default:
        reader.skip(tag);
    }
  }
  const name = kStatuses[status];
  if (name === undefined) {
    throw new RangeError(`publish status ${status} is not known to this version of the library`);
  }
  return { kind: 'result', sequence, accepted, status: name, position, dropped };
}

/** The member of a oneof message: field number and body, or the value of a varint member. */
function member(message: Buffer): { field: number; body: Buffer; value: number } | undefined {
  const reader = new ByteReader(message);
  let found: { field: number; body: Buffer; value: number } | undefined;
  while (!reader.done) {
    const tag = reader.uint();
    if ((tag & 7) === 2) {
      found = { field: tag >>> 3, body: reader.bytes(), value: 0 };
    } else if ((tag & 7) === 0) {
      found = { field: tag >>> 3, body: message, value: reader.uint() };
    } else {
      reader.skip(tag);
    }
  }
  return found;
}

/** Throws RangeError on bytes that are no PublishResponse. */
export function decodePublishAnswer(answer: Buffer): PublishAnswer {
  const found = member(answer);
  switch (found?.field) {
    case 1:
      return { kind: 'opened', info: readInfo(found.body) };
    case 2:
      return readResult(found.body);
    case 3: {
      const event = member(found.body);
      if (event?.field === 1) {
        return { kind: 'connected', connected: event.value !== 0 };
      }
      return event?.field === 2 ? { kind: 'reopened', info: readInfo(event.body) } : { kind: 'other' };
    }
    default:
      return { kind: 'other' };
  }
}

function readBatch(body: Buffer): MessageBatch {
  const reader = new ByteReader(body);
  const messages: Buffer[] = [];
  let sessionId = 0;
  let streamId = 0;
  let position = 0n;
  while (!reader.done) {
    const tag = reader.uint();
    switch (tag) {
      case 0x22:
        messages.push(reader.bytes());
        break;
      case 0x08:
        sessionId = reader.int32();
        break;
      case 0x10:
        streamId = reader.int32();
        break;
      case 0x18:
        position = reader.int64();
        break;
      default:
        reader.skip(tag);
    }
  }
  return { kind: 'batch', sessionId, streamId, position, messages };
}

function readEvent(body: Buffer): SubscribeAnswer {
  const event = member(body);
  if (event === undefined) {
    return { kind: 'other' };
  }
  if (event.field === 4) {
    return { kind: 'lagging', milliseconds: event.value };
  }
  const reader = new ByteReader(event.body);
  const numbers = [0n, 0n, 0n, 0n, 0n, 0n];
  let text = '';
  while (!reader.done) {
    const tag = reader.uint();
    const field = tag >>> 3;
    if ((tag & 7) === 0 && field < numbers.length) {
      numbers[field] = reader.int64();
    } else if (event.field === 1 && tag === 0x1a) {
      text = reader.text();
    } else {
      reader.skip(tag);
    }
  }
  const at = (field: number): bigint => numbers[field] as bigint;
  const sessionId = Number(BigInt.asIntN(32, at(1)));
  switch (event.field) {
    case 1:
      return { kind: 'imageAvailable', sessionId, joinPosition: at(2), source: text };
    case 2:
      return {
        kind: 'imageUnavailable',
        sessionId,
        position: at(2),
        reason: kImageEnds[Number(at(3))] ?? 'UNSPECIFIED',
      };
    case 3:
      return {
        kind: 'gap',
        sessionId,
        fromPosition: at(2),
        toPosition: at(3),
        messages: Number(at(4)),
        reason: kGapReasons[Number(at(5))] ?? 'UNSPECIFIED',
      };
    default:
      return { kind: 'other' };
  }
}

/** Throws RangeError on bytes that are no SubscribeResponse. */
export function decodeSubscribeAnswer(answer: Buffer): SubscribeAnswer {
  const found = member(answer);
  switch (found?.field) {
    case 1: {
      const reader = new ByteReader(found.body);
      const hasStreamId = !reader.done && reader.uint() === 0x08; // its only field
      return { kind: 'opened', streamId: hasStreamId ? reader.int32() : 0 };
    }
    case 2:
      return readBatch(found.body);
    case 3:
      return readEvent(found.body);
    default:
      return { kind: 'other' };
  }
}
