// SPDX-License-Identifier: Apache-2.0
// The hand-written encodings against those of a generated codec.
import { join } from 'node:path';
import { parse, Root } from 'protobufjs';
import type { OfferResult } from '../native/types';
import {
  gap,
  imageUnavailable,
  publishResult,
  readBatchHeader,
  readPublishRequest,
  readSubscribeRequest,
  summarizeResponse,
} from './codec';
import { kMessagingProto, protoRoot } from './proto_files';
import { encodeStatus, invalidArgument, retryAfterMsIn, RpcCode, RpcError } from './rpc_error';

/** What is used here of google/rpc/status.proto and google/rpc/error_details.proto. */
const rpc = parse(
  `
  syntax = "proto3";
  package google.rpc;
  message Any { string type_url = 1; bytes value = 2; }
  message Status { int32 code = 1; string message = 2; repeated Any details = 3; }
  message Duration { int64 seconds = 1; int32 nanos = 2; }
  message RetryInfo { Duration retry_delay = 1; }
`,
  { keepCase: false },
).root;

const root = new Root();
root.resolvePath = (_origin, target) => join(protoRoot(), target);
root.loadSync(kMessagingProto);
const type = (name: string) => root.lookupType(`outrigger.v1.${name}`);
const encode = (name: string, value: object): Buffer =>
  Buffer.from(type(name).encode(type(name).fromObject(value)).finish());
const decode = (name: string, bytes: Buffer) =>
  type(name).toObject(type(name).decode(bytes), {
    longs: String,
    enums: String,
    defaults: true,
    oneofs: true,
  });

function resultOf(more: Partial<OfferResult>): OfferResult {
  return { status: 'ACCEPTED', accepted: 0, total: 0, position: 0n, sequence: 0n, bytes: 0, ...more };
}

describe('codec', () => {
  it.each([0n, 1n, 127n, 128n, 4294967295n, 4294967296n, 9223372036854775807n, 18446744073709551615n])(
    'writes results with sequence %s',
    (sequence) => {
      const position = sequence > 9223372036854775807n ? 9223372036854775807n : sequence;
      const bytes = publishResult(
        resultOf({ sequence, position, status: 'BACK_PRESSURED' }),
        4294967295,
        300,
      );
      expect(decode('PublishResponse', bytes)['result']).toEqual({
        sequence: `${sequence}`,
        position: `${position}`,
        accepted: 4294967295,
        dropped: 300,
        status: 'PUBLISH_STATUS_BACK_PRESSURED',
      });
    },
  );

  it('tells requests apart, also when unknown fields come first', () => {
    const batch = encode('PublishRequest', {
      batch: { sequence: 5, messages: [Buffer.from('a'), Buffer.from('')] },
    });
    const unknown = Buffer.from([0x7a, 0x02, 0x01, 0x02]);
    expect(readPublishRequest(batch)).toEqual({ kind: 'batch' });
    expect(readPublishRequest(Buffer.concat([unknown, batch]))).toEqual({ kind: 'batch' });
    expect(readBatchHeader(batch)).toEqual({ sequence: 5n, messages: 2 });
    const open = encode('PublishRequest', { open: { target: { topic: 't' }, exclusive: true } });
    expect(readPublishRequest(Buffer.concat([unknown, open]))).toMatchObject({
      kind: 'open',
      open: { target: { topic: 't' }, exclusive: true, waitTimeoutMs: 0 },
    });
  });

  it('calls hostile bytes malformed and never throws', () => {
    let seed = 7;
    const random = (): number => (seed = (seed * 1103515245 + 12345) & 0x7fffffff) & 0xff;
    for (let round = 0; round < 3000; round++) {
      const bytes = Buffer.from(Array.from({ length: random() % 24 }, random));
      expect(['open', 'batch', 'malformed']).toContain(readPublishRequest(bytes).kind);
      expect(['open', 'credit', 'malformed']).toContain(readSubscribeRequest(bytes).kind);
    }
    expect(readPublishRequest(Buffer.alloc(0)).kind).toBe('malformed');
    expect(readSubscribeRequest(Buffer.from([0x0a, 0x7f])).kind).toBe('malformed');
  });

  it('reads where an image stands from batches and events', () => {
    const batch = encode('SubscribeResponse', {
      batch: { sessionId: -5, streamId: 1, position: '8589934592', messages: [Buffer.alloc(300)] },
    });
    expect(summarizeResponse(batch)).toEqual({ kind: 'batch', sessionId: -5, position: 8589934592n });
    const available = encode('SubscribeResponse', {
      event: { imageAvailable: { sessionId: 3, joinPosition: 64, source: 'a' } },
    });
    expect(summarizeResponse(available)).toEqual({
      kind: 'available',
      sessionId: 3,
      joinPosition: 64n,
      source: 'a',
    });
    expect(summarizeResponse(imageUnavailable(3, 96n, 3))).toEqual({
      kind: 'unavailable',
      sessionId: 3,
      position: 96n,
    });
    expect(summarizeResponse(gap(3, 0n, 96n, 2))).toEqual({ kind: 'other' });
  });

  it('encodes google.rpc.Status with its details', () => {
    const text = encodeStatus(invalidArgument('open.target', 'is missing')).toString('latin1');
    for (const part of [
      'type.googleapis.com/google.rpc.ErrorInfo',
      'type.googleapis.com/google.rpc.BadRequest',
      'INVALID_REQUEST',
      'open.target',
    ]) {
      expect(text).toContain(part);
    }
  });

  it('encodes the time to wait as google.rpc.RetryInfo, and reads it', () => {
    const delayIn = (status: Buffer): unknown => {
      const { details } = rpc.lookupType('google.rpc.Status').decode(status) as unknown as {
        details: { typeUrl: string; value: Buffer }[];
      };
      const info = details.find((each) => each.typeUrl === 'type.googleapis.com/google.rpc.RetryInfo');
      const type = rpc.lookupType('google.rpc.RetryInfo');
      return info === undefined ? undefined : type.toObject(type.decode(info.value), { longs: Number });
    };
    const busy = (retryAfterMs?: number): Buffer =>
      encodeStatus(
        new RpcError(RpcCode.UNAVAILABLE, 'busy', {
          reason: 'BUSY',
          ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
        }),
      );
    expect(delayIn(busy(61_250))).toEqual({ retryDelay: { seconds: 61, nanos: 250_000_000 } });
    for (const retryAfterMs of [0, 1, 999, 1000, 61_250, 2 ** 40]) {
      expect(retryAfterMsIn(busy(retryAfterMs))).toBe(retryAfterMs);
    }
    expect(delayIn(busy())).toBeUndefined();
    expect(retryAfterMsIn(busy())).toBeUndefined();
  });

  it('reads no time to wait from what is none', () => {
    const type = rpc.lookupType('google.rpc.RetryInfo');
    const status = (value: Uint8Array): Uint8Array =>
      rpc
        .lookupType('google.rpc.Status')
        .encode({ details: [{ typeUrl: 'type.googleapis.com/google.rpc.RetryInfo', value }] })
        .finish();
    const delay = (retryDelay: object): Uint8Array => status(type.encode({ retryDelay }).finish());
    expect(retryAfterMsIn(delay({ seconds: 2 }))).toBe(2000);
    for (const none of [delay({ seconds: -2 }), status(new Uint8Array()), status(Buffer.from('x'))]) {
      expect(retryAfterMsIn(none)).toBeUndefined();
    }
    for (const broken of ['', 'no message', '\x1a\xff\xff\xff\xff\xff', '\x1a\x02\x0a']) {
      expect(retryAfterMsIn(Buffer.from(broken, 'latin1'))).toBeUndefined();
    }
  });
});
