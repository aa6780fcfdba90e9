// SPDX-License-Identifier: Apache-2.0
// Every error that this library throws or rejects with. Each has a class to catch by, a stable `reason`, and says whether trying again can help.

/** google.rpc.Code, as far as a sidecar uses it. */
export const RpcCode = {
  OK: 0,
  CANCELLED: 1,
  UNKNOWN: 2,
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8,
  FAILED_PRECONDITION: 9,
  ABORTED: 10,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  UNAUTHENTICATED: 16,
} as const;

export interface FieldViolation {
  readonly field: string;
  readonly description: string;
}

export interface ErrorDetails {
  /** UPPER_SNAKE_CASE, stable: what a program switches on. */
  readonly reason: string;
  readonly metadata?: Readonly<Record<string, string>>;
  readonly violations?: readonly FieldViolation[];
}

/** The base of all of them. */
export class OutriggerError extends Error {
  readonly reason: string;
  readonly metadata: Readonly<Record<string, string>>;

  constructor(
    message: string,
    details: ErrorDetails,
    /** The same call may succeed later, unchanged. */
    readonly retryable: boolean,
  ) {
    super(message);
    this.name = new.target.name;
    this.reason = details.reason;
    this.metadata = details.metadata ?? {};
  }
}

/** The sidecar ended a stream with this status, or the connection to it broke (UNAVAILABLE). */
export class RpcError extends OutriggerError {
  readonly violations: readonly FieldViolation[];

  constructor(
    readonly code: number,
    message: string,
    details: ErrorDetails,
    retryable = false,
  ) {
    super(message, details, retryable);
    this.violations = details.violations ?? [];
  }
}

/** A field of the request is wrong; `violations` names it. */
export class InvalidRequestError extends RpcError {}
/** The sidecar knows no such topic, or it was removed. `metadata.nearest` may name the one that was meant. */
export class UnknownTopicError extends RpcError {}
/** The sidecar does not allow it, for example explicit channels. */
export class PermissionDeniedError extends RpcError {}
/** The sidecar is not set up for it, for example a subscription without an endpoint. */
export class FailedPreconditionError extends RpcError {}
/** No room: streams, memory or descriptors. */
export class ResourceExhaustedError extends RpcError {}
/** The subscription stayed without credit for longer than its policy allows. */
export class SlowSubscriberError extends RpcError {}
/** Something took longer than its limit in the sidecar, for example the flush at the end. */
export class DeadlineExceededError extends RpcError {}
/** The sidecar, or the driver behind it, is away or shutting down. */
export class UnavailableError extends RpcError {}
/** A fault in the sidecar, or an answer that this version of the library can't read. */
export class InternalError extends RpcError {}

/** How a message was refused; the names of outrigger.v1.PublishStatus. */
export type RefusedStatus =
  'BACK_PRESSURED' | 'NOT_CONNECTED' | 'CLOSED' | 'MAX_POSITION_EXCEEDED' | 'MESSAGE_TOO_LONG';

/** A message, or the rest of several, was not taken by the transport. It was not sent. */
export class PublishError extends OutriggerError {
  constructor(
    readonly status: RefusedStatus | 'BUFFER_FULL',
    message: string,
    /** Of the messages of this call, how many were accepted before. */
    readonly accepted: number,
    retryable: boolean,
  ) {
    super(message, { reason: status }, retryable);
  }
}

/** The flow-control window, the term buffer or the memory volume is full. */
export class BackPressuredError extends PublishError {}
/** No subscriber is connected. */
export class NotConnectedError extends PublishError {}
/** The driver is away; the publisher goes on by itself when it is back. */
export class PublicationClosedError extends PublishError {}
/** The stream used up its positions; the publisher opens a new one by itself. */
export class MaxPositionExceededError extends PublishError {}
/** The message is longer than `maxMessageBytes`. */
export class MessageTooLongError extends PublishError {}
/** More than `maxBufferedBytes` wait in this process already (back pressure policy "fail"). */
export class BufferFullError extends PublishError {}

/** The connection broke after the message was sent and before its result came: it may or may not have been published. */
export class OutcomeUnknownError extends OutriggerError {
  constructor(cause: OutriggerError) {
    super(
      `the connection broke before the result came, the message may or may not have been published: ${cause.message}`,
      { reason: 'OUTCOME_UNKNOWN' },
      true,
    );
    this.cause = cause;
  }
}

/** The publisher, subscription or client was closed by this program. */
export class ClosedError extends OutriggerError {
  constructor(what: string) {
    super(`the ${what} is closed`, { reason: 'CLIENT_CLOSED' }, false);
  }
}

export function publishError(
  status: RefusedStatus,
  accepted: number,
  maxMessageBytes: number | undefined,
): PublishError {
  switch (status) {
    case 'BACK_PRESSURED':
      return new BackPressuredError(
        status,
        'the window of the stream is full; send more slowly, or use back pressure policy "wait"',
        accepted,
        true,
      );
    case 'NOT_CONNECTED':
      return new NotConnectedError(
        status,
        'no subscriber is connected; wait for one with whenConnected(), or use back pressure policy "wait"',
        accepted,
        true,
      );
    case 'CLOSED':
      return new PublicationClosedError(
        status,
        'the driver is away; the publisher re-opens when it is back',
        accepted,
        true,
      );
    case 'MAX_POSITION_EXCEEDED':
      return new MaxPositionExceededError(
        status,
        'the stream has used up its positions; the publisher opens a new one',
        accepted,
        true,
      );
    case 'MESSAGE_TOO_LONG':
      return new MessageTooLongError(
        status,
        `the message is longer than the maximum${maxMessageBytes === undefined ? '' : ` of ${maxMessageBytes} bytes`}; send it in parts, or raise the topic's termLength (the maximum is an eighth of it)`,
        accepted,
        false,
      );
  }
}
