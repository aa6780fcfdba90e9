// SPDX-License-Identifier: Apache-2.0
// Errors of an RPC: standard code, sentence, google.rpc details, and their encoding as google.rpc.Status; from one that came, what is read here. No
// grpc-js types here.
import { Reader, Writer } from 'protobufjs/minimal';

/** The standard codes that this server uses (google.rpc.Code). */
export enum RpcCode {
  OK = 0,
  CANCELLED = 1,
  UNKNOWN = 2,
  INVALID_ARGUMENT = 3,
  DEADLINE_EXCEEDED = 4,
  NOT_FOUND = 5,
  PERMISSION_DENIED = 7,
  RESOURCE_EXHAUSTED = 8,
  FAILED_PRECONDITION = 9,
  ABORTED = 10,
  UNIMPLEMENTED = 12,
  INTERNAL = 13,
  UNAVAILABLE = 14,
  UNAUTHENTICATED = 16,
}

export interface FieldViolation {
  readonly field: string;
  readonly description: string;
}

export interface RpcErrorDetails {
  /** UPPER_SNAKE_CASE, stable: what a program switches on. */
  readonly reason: string;
  readonly metadata?: Readonly<Record<string, string>>;
  readonly violations?: readonly FieldViolation[];
  /** Milliseconds after which it is worth to try again, where that is known. */
  readonly retryAfterMs?: number;
}

export const kErrorDomain = 'outrigger.dev';

/** How an RPC ends when it does not end well. */
export class RpcError extends Error {
  constructor(
    readonly code: RpcCode,
    message: string,
    readonly details: RpcErrorDetails,
  ) {
    super(message);
    this.name = 'RpcError';
  }
}

export function invalidArgument(field: string, description: string): RpcError {
  return new RpcError(RpcCode.INVALID_ARGUMENT, `${field}: ${description}`, {
    reason: 'INVALID_REQUEST',
    violations: [{ field, description }],
  });
}

const kTypes = 'type.googleapis.com/google.rpc.';

function any(writer: Writer, type: string, body: Uint8Array): void {
  writer.uint32(0x1a).fork(); // Status.details
  writer
    .uint32(0x0a)
    .string(kTypes + type)
    .uint32(0x12)
    .bytes(body);
  writer.ldelim();
}

/** google.rpc.Status with ErrorInfo and, where it has them, bad fields (BadRequest) and the time to wait (RetryInfo): what `grpc-status-details-bin` carries. */
export function encodeStatus(error: RpcError): Buffer {
  const writer = Writer.create();
  writer.uint32(0x08).int32(error.code).uint32(0x12).string(error.message);

  const info = Writer.create();
  info.uint32(0x0a).string(error.details.reason).uint32(0x12).string(kErrorDomain);
  for (const [key, value] of Object.entries(error.details.metadata ?? {})) {
    info.uint32(0x1a).fork().uint32(0x0a).string(key).uint32(0x12).string(value).ldelim();
  }
  any(writer, 'ErrorInfo', info.finish());

  const violations = error.details.violations ?? [];
  if (violations.length > 0) {
    const request = Writer.create();
    for (const { field, description } of violations) {
      request.uint32(0x0a).fork().uint32(0x0a).string(field).uint32(0x12).string(description).ldelim();
    }
    any(writer, 'BadRequest', request.finish());
  }

  const { retryAfterMs } = error.details;
  if (retryAfterMs !== undefined) {
    const whole = Math.ceil(retryAfterMs);
    const [seconds, nanos] = [Math.floor(whole / 1000), (whole % 1000) * 1e6];
    const retry = Writer.create();
    retry.uint32(0x0a).fork().uint32(0x08).int64(seconds).uint32(0x10).int32(nanos).ldelim(); // Duration
    any(writer, 'RetryInfo', retry.finish());
  }
  return Buffer.from(writer.finish());
}

/** Milliseconds. */
function durationIn(bytes: Uint8Array): number {
  const reader = Reader.create(bytes);
  let milliseconds = 0;
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    if (tag === 0x08) {
      milliseconds += Number(reader.int64()) * 1000;
    } else if (tag === 0x10) {
      milliseconds += reader.int32() / 1e6;
    } else {
      reader.skipType(tag & 7);
    }
  }
  return milliseconds;
}

/** The bytes of a message's field of that tag, each time that it is there. */
function* fieldsOf(bytes: Uint8Array, wanted: number): Generator<Uint8Array> {
  const reader = Reader.create(bytes);
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    if (tag === wanted) {
      yield reader.bytes();
    } else {
      reader.skipType(tag & 7);
    }
  }
}

/** The time to wait that a google.rpc.Status (`grpc-status-details-bin`) tells, in milliseconds; undefined where it tells none or is none. */
export function retryAfterMsIn(status: Uint8Array): number | undefined {
  try {
    for (const detail of fieldsOf(status, 0x1a)) {
      const [type] = fieldsOf(detail, 0x0a);
      if (type !== undefined && Buffer.from(type).toString() === `${kTypes}RetryInfo`) {
        const [info] = fieldsOf(detail, 0x12);
        const [delay] = fieldsOf(info ?? new Uint8Array(), 0x0a);
        const milliseconds = delay === undefined ? NaN : durationIn(delay);
        return milliseconds >= 0 ? milliseconds : undefined;
      }
    }
  } catch {
    // Not what it is called: the status goes without.
  }
  return undefined;
}
