// SPDX-License-Identifier: Apache-2.0
// The few messages of messaging.proto that JavaScript reads or writes itself: opens, credits, results, events. Batches pass through as bytes.
import { join } from 'node:path';
import { Reader, Root, type Type } from 'protobufjs';
import type { OfferResult } from '../native/types';
import { kMessagingProto, protoRoot } from './proto_files';

export interface TargetMessage {
  readonly topic?: string;
  readonly channel?: { readonly uri: string; readonly streamId: number };
}

export interface PublishOpenMessage {
  readonly target?: TargetMessage;
  readonly backPressure: number;
  readonly waitTimeoutMs: number;
  readonly exclusive: boolean;
}

export interface CreditMessage {
  readonly messages: number;
  readonly bytes: number;
}

export interface SubscribeOpenMessage {
  readonly target?: TargetMessage;
  readonly slowPolicy: number;
  readonly disconnectAfterMs: number;
  readonly initialCredit?: CreditMessage;
  readonly maxBatchBytes: number;
}

export interface PublishOpenedMessage {
  readonly sessionId: number;
  readonly streamId: number;
  readonly maxMessageBytes: number;
  readonly maxPayloadBytes: number;
}

/** Numbers of outrigger.v1.PublishStatus. */
export const kPublishStatus = {
  ACCEPTED: 1,
  BACK_PRESSURED: 2,
  NOT_CONNECTED: 3,
  CLOSED: 4,
  MAX_POSITION_EXCEEDED: 5,
  MESSAGE_TOO_LONG: 6,
} as const;

export const kImageEndDriverLost = 3;
export const kGapRejoined = 2;

const root = new Root();
root.resolvePath = (_origin, target) => join(protoRoot(), target);
root.loadSync(kMessagingProto);
const type = (name: string): Type => root.lookupType(`outrigger.v1.${name}`);
const PublishOpen = type('PublishOpen');
const PublishResponse = type('PublishResponse');
const SubscribeOpen = type('SubscribeOpen');
const Credit = type('Credit');
const SubscribeResponse = type('SubscribeResponse');
const SubscribeEvent = type('SubscribeEvent');

/** Field and body of the last known member of a oneof request; undefined when there is none. Throws on bytes that are no protobuf. */
function oneofMember(
  request: Buffer,
  fields: readonly number[],
): { field: number; body: Buffer } | undefined {
  const reader = Reader.create(request);
  let member: { field: number; body: Buffer } | undefined;
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    if ((tag & 7) === 2 && fields.includes(tag >>> 3)) {
      const length = reader.uint32();
      const start = reader.pos;
      if (start + length > reader.len) {
        throw new RangeError('truncated');
      }
      member = { field: tag >>> 3, body: request.subarray(start, start + length) };
      reader.pos = start + length;
    } else {
      reader.skipType(tag & 7);
    }
  }
  return member;
}

/** Scalars with their defaults; members that are absent stay so (protobufjs would give null). */
function decode<T>(message: Type, body: Buffer): T {
  const object = message.toObject(message.decode(body), { defaults: true, longs: Number });
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== null)) as T;
}

export type PublishRequestKind =
  | { readonly kind: 'open'; readonly open: PublishOpenMessage }
  | { readonly kind: 'batch' }
  | { readonly kind: 'malformed' };

export function readPublishRequest(request: Buffer): PublishRequestKind {
  // Nearly every request is a batch written by a generated encoder: its first byte is the tag, and C++ validates the rest.
  if (request.length > 0 && request[0] === 0x12) {
    return { kind: 'batch' };
  }
  try {
    const member = oneofMember(request, [1, 2]);
    if (member === undefined) {
      return { kind: 'malformed' };
    }
    return member.field === 2
      ? { kind: 'batch' }
      : { kind: 'open', open: decode<PublishOpenMessage>(PublishOpen, member.body) };
  } catch {
    return { kind: 'malformed' };
  }
}

export type SubscribeRequestKind =
  | { readonly kind: 'open'; readonly open: SubscribeOpenMessage }
  | { readonly kind: 'credit'; readonly credit: CreditMessage }
  | { readonly kind: 'malformed' };

export function readSubscribeRequest(request: Buffer): SubscribeRequestKind {
  try {
    const member = oneofMember(request, [1, 2]);
    if (member === undefined) {
      return { kind: 'malformed' };
    }
    return member.field === 1
      ? { kind: 'open', open: decode<SubscribeOpenMessage>(SubscribeOpen, member.body) }
      : { kind: 'credit', credit: decode<CreditMessage>(Credit, member.body) };
  } catch {
    return { kind: 'malformed' };
  }
}

function encode(message: Type, value: Record<string, unknown>): Buffer {
  return Buffer.from(message.encode(message.fromObject(value)).finish());
}

export function publishOpened(opened: PublishOpenedMessage): Buffer {
  return encode(PublishResponse, { opened });
}

export function publishReopened(reopened: PublishOpenedMessage): Buffer {
  return encode(PublishResponse, { event: { reopened } });
}

export function publishConnected(connected: boolean): Buffer {
  return encode(PublishResponse, { event: { connected } });
}

function varint(target: Buffer, at: number, value: bigint): number {
  let position = at;
  if (value >= 0n && value < 0x1_0000_0000n) {
    let rest = Number(value);
    while (rest > 127) {
      target[position++] = (rest & 127) | 128;
      rest = Math.floor(rest / 128);
    }
    target[position++] = rest;
    return position;
  }
  let rest = BigInt.asUintN(64, value);
  while (rest > 127n) {
    target[position++] = Number(rest & 127n) | 128;
    rest >>= 7n;
  }
  target[position++] = Number(rest);
  return position;
}

/** PublishResponse.result: one for each batch, hence by hand. */
export function publishResult(result: OfferResult, accepted: number, dropped: number): Buffer {
  const buffer = Buffer.allocUnsafe(48); // two tags and lengths, three 64-bit varints of 11 bytes with their tags, two small ones
  let at = 2;
  if (result.sequence !== 0n) {
    buffer[at++] = 0x08;
    at = varint(buffer, at, result.sequence);
  }
  if (accepted !== 0) {
    buffer[at++] = 0x10;
    at = varint(buffer, at, BigInt(accepted));
  }
  buffer[at++] = 0x18;
  buffer[at++] = kPublishStatus[result.status];
  if (result.position !== 0n) {
    buffer[at++] = 0x20;
    at = varint(buffer, at, result.position);
  }
  if (dropped !== 0) {
    buffer[at++] = 0x28;
    at = varint(buffer, at, BigInt(dropped));
  }
  buffer[0] = 0x12;
  buffer[1] = at - 2; // under 128: at most 46
  return buffer.subarray(0, at);
}

export function subscribeOpened(streamId: number): Buffer {
  return encode(SubscribeResponse, { opened: { streamId } });
}

export function imageUnavailable(sessionId: number, position: bigint, reason: number): Buffer {
  return encode(SubscribeResponse, {
    event: { imageUnavailable: { sessionId, position: position.toString(), reason } },
  });
}

export function gap(sessionId: number, from: bigint, to: bigint, reason: number): Buffer {
  return encode(SubscribeResponse, {
    event: { gap: { sessionId, fromPosition: from.toString(), toPosition: to.toString(), reason } },
  });
}

/** What of a response the sidecar must know: where each image stands. */
export type ResponseSummary =
  | { readonly kind: 'batch'; readonly sessionId: number; readonly position: bigint }
  | {
      readonly kind: 'available';
      readonly sessionId: number;
      readonly joinPosition: bigint;
      readonly source: string;
    }
  | { readonly kind: 'unavailable'; readonly sessionId: number; readonly position: bigint }
  | { readonly kind: 'other' };

const kOther: ResponseSummary = { kind: 'other' };

/** A Long prints its digits, which its type does not tell. */
function toBigInt(value: { toString(): string }): bigint {
  return BigInt(value.toString());
}

function int64At(reader: Reader): bigint {
  return toBigInt(reader.int64());
}

function summarizeBatch(response: Buffer): ResponseSummary {
  const reader = Reader.create(response);
  reader.uint32();
  reader.uint32();
  let sessionId = 0;
  let position = 0n;
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    if (tag === 0x08) {
      sessionId = reader.int32();
    } else if (tag === 0x18) {
      position = int64At(reader);
    } else if (tag === 0x22) {
      break; // the messages are last: field order is kept by the encoder in C++
    } else {
      reader.skipType(tag & 7);
    }
  }
  return { kind: 'batch', sessionId, position };
}

/** Cheap for batches (three numbers are read), full decoding for events. */
export function summarizeResponse(response: Buffer): ResponseSummary {
  if (response[0] === 0x12) {
    return summarizeBatch(response);
  }
  if (response[0] !== 0x1a) {
    return kOther;
  }
  const member = oneofMember(response, [3]);
  const event =
    member === undefined
      ? {}
      : SubscribeEvent.toObject(SubscribeEvent.decode(member.body), {
          longs: String,
          defaults: true,
          oneofs: true,
        });
  const body = event as {
    event?: string;
    imageAvailable?: { sessionId: number; joinPosition: string; source: string };
    imageUnavailable?: { sessionId: number; position: string };
  };
  if (body.event === 'imageAvailable' && body.imageAvailable !== undefined) {
    return {
      kind: 'available',
      sessionId: body.imageAvailable.sessionId,
      joinPosition: BigInt(body.imageAvailable.joinPosition),
      source: body.imageAvailable.source,
    };
  }
  if (body.event === 'imageUnavailable' && body.imageUnavailable !== undefined) {
    return {
      kind: 'unavailable',
      sessionId: body.imageUnavailable.sessionId,
      position: BigInt(body.imageUnavailable.position),
    };
  }
  return kOther;
}

/** Sequence and number of messages of a publish batch: for answers that the native side did not give. */
export function readBatchHeader(request: Buffer): { readonly sequence: bigint; readonly messages: number } {
  let sequence = 0n;
  let messages = 0;
  const member = oneofMember(request, [1, 2]);
  const reader = Reader.create(member?.body ?? Buffer.alloc(0));
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    if (tag === 0x08) {
      sequence = toBigInt(reader.uint64());
    } else {
      messages += tag === 0x12 ? 1 : 0;
      reader.skipType(tag & 7);
    }
  }
  return { sequence, messages };
}
