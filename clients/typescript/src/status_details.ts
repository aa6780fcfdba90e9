// SPDX-License-Identifier: Apache-2.0
// From the status of a gRPC call (code, message, grpc-status-details-bin) to one of the classes in errors.ts.
import {
  DeadlineExceededError,
  FailedPreconditionError,
  InternalError,
  InvalidRequestError,
  PermissionDeniedError,
  ResourceExhaustedError,
  RpcCode,
  RpcError,
  SlowSubscriberError,
  UnavailableError,
  UnknownTopicError,
  type ErrorDetails,
  type FieldViolation,
} from './errors';
import { ByteReader } from './wire';

export interface CallStatus {
  readonly code: number;
  readonly message: string;
  /** Value of grpc-status-details-bin: an encoded google.rpc.Status. */
  readonly details: Buffer | undefined;
}

function fields(body: Buffer, read: (field: number, reader: ByteReader) => boolean): void {
  const reader = new ByteReader(body);
  while (!reader.done) {
    const tag = reader.uint();
    if ((tag & 7) !== 2 || !read(tag >>> 3, reader)) {
      reader.skip(tag);
    }
  }
}

interface MutableDetails {
  reason?: string;
  metadata: Record<string, string>;
  violations: FieldViolation[];
}

function readErrorInfo(body: Buffer, into: MutableDetails): void {
  fields(body, (field, reader) => {
    if (field === 1) {
      into.reason = reader.text();
      return true;
    }
    if (field !== 3) {
      return false;
    }
    const entry = { key: '', value: '' };
    fields(reader.bytes(), (part, inner) => {
      if (part !== 1 && part !== 2) {
        return false;
      }
      entry[part === 1 ? 'key' : 'value'] = inner.text();
      return true;
    });
    into.metadata[entry.key] = entry.value;
    return true;
  });
}

function readBadRequest(body: Buffer, into: MutableDetails): void {
  fields(body, (field, reader) => {
    if (field !== 1) {
      return false;
    }
    const violation = { field: '', description: '' };
    fields(reader.bytes(), (part, inner) => {
      if (part !== 1 && part !== 2) {
        return false;
      }
      violation[part === 1 ? 'field' : 'description'] = inner.text();
      return true;
    });
    into.violations.push(violation);
    return true;
  });
}

/** ErrorInfo and BadRequest of an encoded google.rpc.Status; other details are passed over, bytes that are none give nothing. */
export function readStatusDetails(status: Buffer): Partial<ErrorDetails> {
  const found: MutableDetails = { metadata: {}, violations: [] };
  try {
    fields(status, (field, reader) => {
      if (field !== 3) {
        return false;
      }
      let type = '';
      let body: Buffer = Buffer.alloc(0);
      fields(reader.bytes(), (part, inner) => {
        if (part === 1) {
          type = inner.text();
        } else if (part === 2) {
          body = inner.bytes();
        } else {
          return false;
        }
        return true;
      });
      if (type.endsWith('/google.rpc.ErrorInfo')) {
        readErrorInfo(body, found);
      } else if (type.endsWith('/google.rpc.BadRequest')) {
        readBadRequest(body, found);
      }
      return true;
    });
  } catch {
    return {}; // the code and the message still say what happened
  }
  return found;
}

function codeName(code: number): string {
  return Object.entries(RpcCode).find(([, value]) => value === code)?.[0] ?? `CODE_${code}`;
}

/** An error for a call that ended badly. Without details of the sidecar it was the connection, or something between. */
export function errorOf(status: CallStatus): RpcError {
  const found = status.details === undefined ? {} : readStatusDetails(status.details);
  const fromSidecar = found.reason !== undefined;
  const details: ErrorDetails = {
    reason: found.reason ?? codeName(status.code),
    metadata: found.metadata ?? {},
    violations: found.violations ?? [],
  };
  const { code, message } = status;
  switch (code) {
    case RpcCode.INVALID_ARGUMENT:
      return new InvalidRequestError(code, message, details);
    case RpcCode.NOT_FOUND:
      return new UnknownTopicError(code, message, details);
    case RpcCode.PERMISSION_DENIED:
    case RpcCode.UNAUTHENTICATED:
      return new PermissionDeniedError(code, message, details);
    case RpcCode.FAILED_PRECONDITION:
      return new FailedPreconditionError(code, message, details);
    case RpcCode.RESOURCE_EXHAUSTED:
      return new ResourceExhaustedError(code, message, details, details.reason === 'TOO_MANY_STREAMS');
    case RpcCode.DEADLINE_EXCEEDED:
      return details.reason === 'SLOW_SUBSCRIBER'
        ? new SlowSubscriberError(code, message, details)
        : new DeadlineExceededError(code, message, details);
    case RpcCode.UNAVAILABLE:
      return new UnavailableError(code, message, details, true);
    case RpcCode.CANCELLED:
    case RpcCode.UNKNOWN:
    case RpcCode.INTERNAL:
      // A broken HTTP/2 stream shows as one of these; the sidecar's own faults carry details.
      return fromSidecar
        ? new InternalError(code, message, details)
        : new UnavailableError(code, message, details, true);
    default:
      return new RpcError(code, message, details);
  }
}
