// SPDX-License-Identifier: Apache-2.0
// What an API server answers when it does not do what was asked (metav1.Status), as an exception.

export class ApiError extends Error {
  constructor(
    /** HTTP status; 0 when no answer came. */
    readonly status: number,
    /** metav1.StatusReason, such as Conflict or Expired; empty when there was none. */
    readonly reason: string,
    message: string,
    /** What the server asks to wait before the next try. */
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

/** Retry-After as seconds or as a date (RFC 9110, section 10.2.3), in milliseconds from now. */
function retryAfterMsOf(header: string | undefined): number | undefined {
  if (header === undefined || /^\d+$/.test(header)) {
    return header === undefined ? undefined : Number(header) * 1000;
  }
  const atMs = Date.parse(header);
  return Number.isNaN(atMs) ? undefined : Math.max(0, atMs - Date.now());
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
      details?: { retryAfterSeconds?: number };
    };
    reason = parsed.reason ?? '';
    message = parsed.message ?? message;
    retryAfterMs ??=
      parsed.details?.retryAfterSeconds === undefined ? undefined : parsed.details.retryAfterSeconds * 1000;
  } catch {
    // A proxy's page, or half an answer: its text is all there is.
  }
  return new ApiError(
    status,
    reason,
    `${what}: ${status} ${reason === '' ? '' : `${reason}: `}${message}`,
    retryAfterMs,
  );
}
