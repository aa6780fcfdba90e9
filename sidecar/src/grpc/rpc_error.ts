// SPDX-License-Identifier: Apache-2.0
// Errors of an RPC: standard code, sentence, google.rpc details, and their encoding as google.rpc.Status. No grpc-js types here.
import { Writer } from 'protobufjs/minimal';

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

function any(writer: Writer, type: string, body: Uint8Array): void {
  writer.uint32(0x1a).fork(); // Status.details
  writer.uint32(0x0a).string(`type.googleapis.com/${type}`).uint32(0x12).bytes(body);
  writer.ldelim();
}

/** google.rpc.Status with ErrorInfo and, for bad fields, BadRequest: what `grpc-status-details-bin` carries. */
export function encodeStatus(error: RpcError): Buffer {
  const writer = Writer.create();
  writer.uint32(0x08).int32(error.code).uint32(0x12).string(error.message);

  const info = Writer.create();
  info.uint32(0x0a).string(error.details.reason).uint32(0x12).string(kErrorDomain);
  for (const [key, value] of Object.entries(error.details.metadata ?? {})) {
    info.uint32(0x1a).fork().uint32(0x0a).string(key).uint32(0x12).string(value).ldelim();
  }
  any(writer, 'google.rpc.ErrorInfo', info.finish());

  const violations = error.details.violations ?? [];
  if (violations.length > 0) {
    const request = Writer.create();
    for (const { field, description } of violations) {
      request.uint32(0x0a).fork().uint32(0x0a).string(field).uint32(0x12).string(description).ldelim();
    }
    any(writer, 'google.rpc.BadRequest', request.finish());
  }
  return Buffer.from(writer.finish());
}
