// SPDX-License-Identifier: Apache-2.0
// TokenReviews on their way: one for all who come with the same token, few at a time, none that nobody waits for any more, and none while the API
// server wants to be left alone. Who a token makes is tokens.ts.
import { isStatus, ApiError } from '../kit/api_error';
import { RpcCode, RpcError } from '../../../sidecar/src/grpc/rpc_error';
import { Throttle } from './throttle';
import type { ReviewToken, TokenReviewStatus } from './tokens';

/**
 * At once. A directory that starts anew is asked by all its sidecars: what waits here waits in order and can leave, which
 * it could not in the API client's bucket, and a first 429 finds few requests that came too late to be held back. An answer takes milliseconds.
 */
const kAtOnce = 20;

interface Waiter {
  resolve(status: TokenReviewStatus): void;
  reject(error: RpcError): void;
}

interface Review {
  readonly key: string;
  readonly token: string;
  /** Aborted when the last one who waits has left. */
  readonly abandoned: AbortController;
  readonly waiters: Set<Waiter>;
}

function unchecked(error: Error, retryAfterMs: number): RpcError {
  const throttles = isStatus(error, 429);
  const why = throttles ? 'the API server throttles the directory' : 'the API server does not answer';
  const when = retryAfterMs > 0 ? ` in ${Math.ceil(retryAfterMs / 1000)} s` : '';
  return new RpcError(
    RpcCode.UNAVAILABLE,
    `the token can't be checked: ${why} (${error.message}); retry${when}`,
    {
      reason: throttles ? 'API_SERVER_THROTTLES' : 'API_SERVER_UNAVAILABLE',
      ...(retryAfterMs > 0 ? { retryAfterMs } : {}),
    },
  );
}

function left(): RpcError {
  return new RpcError(RpcCode.CANCELLED, 'the stream ended before its token was checked', {
    reason: 'CANCELLED',
  });
}

/** It would be the same for every token: no answer came at all. */
function isAway(error: Error): boolean {
  return !(error instanceof ApiError) || error.status === 0;
}

export class Reviews {
  /** Those under way and those that wait, by the hash of their token. */
  private readonly reviews = new Map<string, Review>();
  private readonly waiting = new Set<Review>();
  private underWay = 0;
  private asked = 0;
  private readonly throttle: Throttle;

  constructor(
    private readonly ask: ReviewToken,
    private readonly audience: string,
    now: () => number,
  ) {
    this.throttle = new Throttle(now);
  }

  /** Reviews that the API server was asked for. */
  get count(): number {
    return this.asked;
  }

  /** What the API server says of a token. Rejects with RpcError: UNAVAILABLE, with the time to wait where it is known; CANCELLED when `signal` is aborted. */
  of(key: string, token: string, signal: AbortSignal): Promise<TokenReviewStatus> {
    if (signal.aborted) {
      return Promise.reject(left());
    }
    let review = this.reviews.get(key);
    if (review === undefined) {
      const refusal = this.refusal();
      if (refusal !== undefined) {
        return Promise.reject(refusal);
      }
      review = { key, token, abandoned: new AbortController(), waiters: new Set() };
      this.reviews.set(key, review);
      this.waiting.add(review);
    }
    const answer = this.answerOf(review, signal);
    this.askNext();
    return answer;
  }

  /** Ends all of them with that error. */
  close(error: RpcError): void {
    for (const review of [...this.reviews.values()]) {
      this.settle(review, (waiter) => waiter.reject(error));
      review.abandoned.abort();
    }
  }

  private answerOf(review: Review, signal: AbortSignal): Promise<TokenReviewStatus> {
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        review.waiters.delete(waiter);
        reject(left());
        if (review.waiters.size === 0) {
          this.forget(review);
          review.abandoned.abort();
        }
      };
      const waiter: Waiter = {
        resolve: (status) => {
          signal.removeEventListener('abort', leave);
          resolve(status);
        },
        reject: (error) => {
          signal.removeEventListener('abort', leave);
          reject(error);
        },
      };
      review.waiters.add(waiter);
      signal.addEventListener('abort', leave, { once: true });
    });
  }

  private refusal(): RpcError | undefined {
    const { error, restMs } = this.throttle;
    return error === undefined ? undefined : unchecked(error, restMs);
  }

  private askNext(): void {
    for (const review of this.waiting) {
      if (this.underWay >= kAtOnce) {
        return;
      }
      this.waiting.delete(review);
      void this.send(review);
    }
  }

  private async send(review: Review): Promise<void> {
    this.underWay++;
    this.asked++;
    try {
      const status = await this.ask(review.token, this.audience, review.abandoned.signal);
      this.settle(review, (waiter) => waiter.resolve(status));
    } catch (error) {
      if (!review.abandoned.signal.aborted) {
        this.failed(review, error as Error);
      }
    } finally {
      this.underWay--;
      this.askNext();
    }
  }

  /** What kept this one from being checked keeps those that wait from it, too. */
  private failed(review: Review, error: Error): void {
    this.throttle.take(error);
    const throttles = isStatus(error, 429);
    const refusal = (throttles ? this.refusal() : undefined) ?? unchecked(error, 0);
    const all = throttles || isAway(error) ? [review, ...this.waiting] : [review];
    for (const each of all) {
      this.settle(each, (waiter) => waiter.reject(refusal));
    }
  }

  private settle(review: Review, tell: (waiter: Waiter) => void): void {
    this.forget(review);
    const waiters = [...review.waiters];
    review.waiters.clear();
    waiters.forEach(tell);
  }

  private forget(review: Review): void {
    this.waiting.delete(review);
    if (this.reviews.get(review.key) === review) {
      this.reviews.delete(review.key);
    }
  }
}
