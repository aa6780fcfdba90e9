// SPDX-License-Identifier: Apache-2.0
// Streams of a driver, put together from its position counters (types and key layout as in Aeron's registry). No terminal here.
import type { CounterSnapshot } from '../native/types';

const kPublisherLimit = 1;
const kSenderPosition = 2;
const kReceiverHighWater = 3;
const kSubscriberPosition = 4;
const kReceiverPosition = 5;
const kPublisherPosition = 12;

const kStreamTypes = new Set([
  kPublisherLimit,
  kSenderPosition,
  kReceiverHighWater,
  kSubscriberPosition,
  kReceiverPosition,
  kPublisherPosition,
]);

export interface StreamRow {
  readonly streamId: number;
  readonly sessionId: number;
  readonly channel: string;
  /** Where the publisher stands; undefined when it is not on this driver. */
  published: bigint | undefined;
  sent: bigint | undefined;
  limit: bigint | undefined;
  received: bigint | undefined;
  /** Bytes received beyond the first gap. */
  ahead: bigint | undefined;
  /** The slowest subscriber. */
  consumed: bigint | undefined;
  subscribers: number;
}

function smaller(a: bigint | undefined, b: bigint): bigint {
  return a === undefined || b < a ? b : a;
}

function larger(a: bigint | undefined, b: bigint): bigint {
  return a === undefined || b > a ? b : a;
}

/** Key of a stream counter: int64 registration, int32 session, int32 stream, int32 length, channel (cut where the key ends). */
function identityOf(key: Buffer): { sessionId: number; streamId: number; channel: string } {
  const length = Math.min(Math.max(key.readInt32LE(16), 0), key.length - 20);
  return {
    sessionId: key.readInt32LE(8),
    streamId: key.readInt32LE(12),
    channel: key.toString('utf8', 20, 20 + length),
  };
}

export function streamTable(counters: readonly CounterSnapshot[]): StreamRow[] {
  const rows = new Map<string, StreamRow>();
  const ahead = new Map<StreamRow, bigint>();
  for (const { typeId, key, value } of counters) {
    if (!kStreamTypes.has(typeId) || key.length < 20) {
      continue;
    }
    const identity = identityOf(key);
    // A subscriber's counter has the channel of its subscription, which may be written differently: session and stream name the stream.
    const id = `${identity.streamId} ${identity.sessionId}`;
    let row = rows.get(id);
    if (row === undefined) {
      row = {
        ...identity,
        published: undefined,
        sent: undefined,
        limit: undefined,
        received: undefined,
        ahead: undefined,
        consumed: undefined,
        subscribers: 0,
      };
      rows.set(id, row);
    }
    switch (typeId) {
      case kPublisherLimit:
        row.limit = larger(row.limit, value);
        break;
      case kSenderPosition:
        row.sent = larger(row.sent, value);
        break;
      case kPublisherPosition:
        row.published = larger(row.published, value);
        break;
      case kReceiverPosition:
        row.received = larger(row.received, value);
        break;
      case kReceiverHighWater:
        ahead.set(row, larger(ahead.get(row), value));
        break;
      default:
        row.consumed = smaller(row.consumed, value);
        row.subscribers++;
    }
  }
  for (const [row, highWater] of ahead) {
    row.ahead = row.received !== undefined && highWater > row.received ? highWater - row.received : 0n;
  }
  return [...rows.values()].sort((a, b) => a.streamId - b.streamId || a.sessionId - b.sessionId);
}

/** The position that says most about progress: what left, else what came, else what was consumed. */
export function progressOf(row: StreamRow): bigint {
  return row.sent ?? row.received ?? row.consumed ?? row.published ?? 0n;
}
