// SPDX-License-Identifier: Apache-2.0
// What an API server answers when it does not do what was asked (metav1.Status), as an exception.

export class ApiError extends Error {
  constructor(
    /** HTTP status; 0 when no answer came. */
    readonly status: number,
    /** metav1.StatusReason, such as Conflict or Expired; empty when there was none. */
    readonly reason: string,
    message: string,
    /** What the server asks to wait before the next try; at most kLongestAskedMs where it comes from an answer. */
    readonly retryAfterMs?: number,
  ) {
    super(message);
    this.name = 'ApiError';
  }
}

export function isStatus(error: unknown, status: number): error is ApiError {
  return error instanceof ApiError && error.status === status;
}

export const isNotFound = (error: unknown): boolean => isStatus(error, 404);
/** Another write came first, or (on create) the object is there already. */
export const isConflict = (error: unknown): boolean => isStatus(error, 409);
/** The resource version is older than the server's history. */
export const isGone = (error: unknown): boolean => isStatus(error, 410);

/** How long the server asked to wait before the next try; 0 when it did not. */
export function askedToWaitMs(error: unknown): number {
  return error instanceof ApiError ? (error.retryAfterMs ?? 0) : 0;
}

/** Longest wait that is taken from an answer: a proxy's page of maintenance, or a clock that is wrong, must not stop a lease or a watch for hours. */
export const kLongestAskedMs = 60_000;

/** Retry-After as seconds or as a date (RFC 9110, section 10.2.3), in milliseconds from now. */
function retryAfterMsOf(header: string | undefined): number | undefined {
  if (header === undefined) {
    return undefined;
  }
  const ms = /^\d+$/.test(header) ? Number(header) * 1000 : Date.parse(header) - Date.now();
  return Number.isNaN(ms) ? undefined : ms;
}

/** retryAfterSeconds of a metav1.Status, in milliseconds. */
function retryAfterMsIn(seconds: unknown): number | undefined {
  return typeof seconds === 'number' ? seconds * 1000 : undefined;
}

function bounded(ms: number | undefined): number | undefined {
  return ms === undefined ? undefined : Math.min(kLongestAskedMs, Math.max(0, ms));
}

/** Reads a metav1.Status, or whatever came instead of it. */
export function apiError(what: string, status: number, body: string, retryAfter?: string): ApiError {
  let reason = '';
  let message = body.trim().slice(0, 300);
  let retryAfterMs = retryAfterMsOf(retryAfter);
  try {
    const parsed = JSON.parse(body) as {
      reason?: string;
      message?: string;
      details?: { retryAfterSeconds?: unknown };
    };
    reason = parsed.reason ?? '';
    message = parsed.message ?? message;
    retryAfterMs ??= retryAfterMsIn(parsed.details?.retryAfterSeconds);
  } catch {
    // A proxy's page, or half an answer: its text is all there is.
  }
  return new ApiError(
    status,
    reason,
    `${what}: ${status} ${reason === '' ? '' : `${reason}: `}${message}`,
    bounded(retryAfterMs),
  );
}
