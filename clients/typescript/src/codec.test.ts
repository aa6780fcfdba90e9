// SPDX-License-Identifier: Apache-2.0
// The hand-written codec against protobufjs over the .proto itself.
import { join } from 'node:path';
import { Root } from 'protobufjs';
import {
  BatchWriter,
  decodePublishAnswer,
  decodeSubscribeAnswer,
  encodeCredit,
  encodePublishOpen,
  encodeSubscribeOpen,
} from './codec';
import { UnknownTopicError } from './errors';
import { errorOf, readStatusDetails } from './status_details';
import {
  invalidArgument,
  encodeStatus,
  RpcCode,
  RpcError as ServerError,
} from '../../../sidecar/src/grpc/rpc_error';

const root = new Root();
root.resolvePath = (_origin, target) => join(__dirname, '../../../proto', target);
root.loadSync('outrigger/v1/messaging.proto');

function decode(name: string, bytes: Buffer): object {
  const type = root.lookupType(`outrigger.v1.${name}`);
  return type.toObject(type.decode(bytes), { longs: String, bytes: Buffer, enums: String });
}

function encode(name: string, value: object): Buffer {
  const type = root.lookupType(`outrigger.v1.${name}`);
  return Buffer.from(type.encode(type.fromObject(value)).finish());
}

describe('requests', () => {
  it('open a publisher and a subscriber as the .proto says', () => {
    expect(
      decode(
        'PublishRequest',
        encodePublishOpen({
          target: { channel: 'aeron:ipc', streamId: -7 },
          backPressure: 'drop',
          waitTimeoutMs: 300,
          exclusive: true,
        }),
      ),
    ).toEqual({
      open: {
        target: { channel: { uri: 'aeron:ipc', streamId: -7 } },
        backPressure: 'BACK_PRESSURE_POLICY_DROP',
        waitTimeoutMs: 300,
        exclusive: true,
      },
    });
    expect(
      decode(
        'SubscribeRequest',
        encodeSubscribeOpen({
          target: { topic: 'Überquotes' },
          slowPolicy: 'disconnectAfter',
          disconnectAfterMs: 1,
          creditMessages: 4_000_000_000,
          creditBytes: 2 ** 45,
          maxBatchBytes: 0,
        }),
      ),
    ).toEqual({
      open: {
        target: { topic: 'Überquotes' },
        slowPolicy: 'SLOW_SUBSCRIBER_POLICY_DISCONNECT_AFTER',
        disconnectAfterMs: 1,
        initialCredit: { messages: 4_000_000_000, bytes: `${2 ** 45}` },
        maxBatchBytes: 0,
      },
    });
    expect(decode('SubscribeRequest', encodeCredit(3, 2 ** 33))).toEqual({
      credit: { messages: 3, bytes: `${2 ** 33}` },
    });
  });

  it.each([0, 1, 127, 128, 2 ** 31, 2 ** 40])('carry batches of any size with sequence %d', (sequence) => {
    const writer = new BatchWriter(40_000);
    const messages = [0, 1, 127, 128, 300, 16_384].map((length, i) => Buffer.alloc(length, i + 1));
    messages.forEach((message) => writer.append(message));
    const expected =
      sequence === 0 ? { batch: { messages } } : { batch: { sequence: `${sequence}`, messages } };
    expect(decode('PublishRequest', writer.finish(sequence))).toEqual(expected);
    expect(writer.bytes).toBe(
      messages.map((each) => BatchWriter.cost(each.length)).reduce((a, b) => a + b, 0),
    );
    writer.reset();
    writer.append(Buffer.from('again'));
    expect(decode('PublishRequest', writer.finish(9))).toEqual({
      batch: { sequence: '9', messages: [Buffer.from('again')] },
    });
  });

  it('fill a batch to its last byte and no further', () => {
    const writer = new BatchWriter(10);
    expect(writer.fits(8)).toBe(true);
    expect(writer.fits(9)).toBe(false);
    writer.append(Buffer.alloc(8));
    expect(writer.fits(0)).toBe(false);
  });
});

describe('answers', () => {
  const info = { sessionId: -5, streamId: 7, maxMessageBytes: 1 << 21, maxPayloadBytes: 1376 };

  it('of a publisher are read', () => {
    expect(decodePublishAnswer(encode('PublishResponse', { opened: info }))).toEqual({
      kind: 'opened',
      info,
    });
    expect(decodePublishAnswer(encode('PublishResponse', { event: { reopened: info } }))).toEqual({
      kind: 'reopened',
      info,
    });
    expect(decodePublishAnswer(encode('PublishResponse', { event: { connected: false } }))).toEqual({
      kind: 'connected',
      connected: false,
    });
    expect(
      decodePublishAnswer(
        encode('PublishResponse', {
          result: { sequence: 300, accepted: 2, status: 2, position: '9007199254740993', dropped: 1 },
        }),
      ),
    ).toEqual({
      kind: 'result',
      sequence: 300,
      accepted: 2,
      status: 'BACK_PRESSURED',
      position: 9007199254740993n,
      dropped: 1,
    });
  });

  it('of a subscriber are read, payloads as views', () => {
    const messages = [Buffer.from('a'), Buffer.alloc(0), Buffer.alloc(300, 7)];
    const bytes = encode('SubscribeResponse', {
      batch: { sessionId: -1, streamId: -2, position: '123456789012', messages },
    });
    const batch = decodeSubscribeAnswer(bytes);
    expect(batch).toEqual({ kind: 'batch', sessionId: -1, streamId: -2, position: 123456789012n, messages });
    expect(batch.kind === 'batch' && batch.messages[2]?.buffer).toBe(bytes.buffer);
    expect(decodeSubscribeAnswer(encode('SubscribeResponse', { opened: { streamId: -9 } }))).toEqual({
      kind: 'opened',
      streamId: -9,
    });
    const event = (value: object): unknown =>
      decodeSubscribeAnswer(encode('SubscribeResponse', { event: value }));
    expect(event({ imageAvailable: { sessionId: -3, joinPosition: '64', source: '10.0.0.1:9' } })).toEqual({
      kind: 'imageAvailable',
      sessionId: -3,
      joinPosition: 64n,
      source: '10.0.0.1:9',
    });
    expect(event({ imageUnavailable: { sessionId: 3, position: '96', reason: 3 } })).toEqual({
      kind: 'imageUnavailable',
      sessionId: 3,
      position: 96n,
      reason: 'DRIVER_LOST',
    });
    expect(
      event({ gap: { sessionId: 3, fromPosition: '32', toPosition: '96', messages: 4, reason: 1 } }),
    ).toEqual({
      kind: 'gap',
      sessionId: 3,
      fromPosition: 32n,
      toPosition: 96n,
      messages: 4,
      reason: 'SKIPPED',
    });
    expect(event({ laggingMs: 250 })).toEqual({ kind: 'lagging', milliseconds: 250 });
  });

  it('that are cut short anywhere are an error or another message, never out of bounds', () => {
    const bytes = encode('SubscribeResponse', {
      batch: { sessionId: 1, streamId: 2, position: '3', messages: [Buffer.alloc(40, 1)] },
    });
    for (let length = 1; length < bytes.length; length++) {
      expect(() => decodeSubscribeAnswer(bytes.subarray(0, length))).toThrow(RangeError);
    }
  });
});

describe('errors', () => {
  it('have their google.rpc details', () => {
    const sent = invalidArgument('open.target', 'is missing');
    expect(readStatusDetails(encodeStatus(sent))).toEqual({
      reason: 'INVALID_REQUEST',
      metadata: {},
      violations: [{ field: 'open.target', description: 'is missing' }],
    });
    const unknown = new ServerError(RpcCode.NOT_FOUND, 'topic "qoutes" does not exist', {
      reason: 'UNKNOWN_TOPIC',
      metadata: { topic: 'qoutes', nearest: 'quotes' },
    });
    const error = errorOf({ code: 5, message: unknown.message, details: encodeStatus(unknown) });
    expect(error).toBeInstanceOf(UnknownTopicError);
    expect(error).toMatchObject({
      name: 'UnknownTopicError',
      reason: 'UNKNOWN_TOPIC',
      metadata: { topic: 'qoutes', nearest: 'quotes' },
      retryable: false,
    });
  });

  it('without details are those of the connection, and details that are garbage harm nothing', () => {
    expect(errorOf({ code: 13, message: 'RST_STREAM', details: undefined })).toMatchObject({
      name: 'UnavailableError',
      retryable: true,
    });
    expect(errorOf({ code: 3, message: 'no', details: Buffer.from([0x1a, 200, 1]) })).toMatchObject({
      name: 'InvalidRequestError',
      reason: 'INVALID_ARGUMENT',
    });
  });
});
