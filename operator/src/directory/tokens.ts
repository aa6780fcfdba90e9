// SPDX-License-Identifier: Apache-2.0
// From a bearer token to a pod, by TokenReview. A token that was reviewed once is believed until it expires: a sidecar that restarts while the
// API server is away must get back in.
import { createHash } from 'node:crypto';
import { RpcCode, RpcError } from '../../../sidecar/src/grpc/rpc_error';
import { Reviews } from './reviews';
import type { PodIdentity } from './types';

/** What the API server says of a token (authentication.k8s.io/v1 TokenReview status). */
export interface TokenReviewStatus {
  readonly authenticated?: boolean | undefined;
  readonly error?: string | undefined;
  readonly audiences?: readonly string[] | undefined;
  readonly user?:
    | {
        readonly username?: string | undefined;
        readonly extra?: Readonly<Record<string, readonly string[]>> | undefined;
      }
    | undefined;
}

/** Asks the API server, once; rejects when it can't be asked, with ApiError where it answered, or when `signal` is aborted. */
export type ReviewToken = (
  token: string,
  audience: string,
  signal: AbortSignal,
) => Promise<TokenReviewStatus>;

const kUser = /^system:serviceaccount:([^:]+):([^:]+)$/;
const kPodName = 'authentication.kubernetes.io/pod-name';
const kPodUid = 'authentication.kubernetes.io/pod-uid';
const kNodeName = 'authentication.kubernetes.io/node-name';
/** Longest that a review is believed: a pod that was deleted keeps its token's signature. */
const kMaxBeliefMs = 3_600_000;
const kMaxCached = 20_000;
const kMaxTokenLength = 16_384;

function unauthenticated(message: string, reason: string): RpcError {
  return new RpcError(RpcCode.UNAUTHENTICATED, message, { reason });
}

/** Expiry of a JWT, milliseconds; undefined when it can't be read. Not a proof of anything: the API server has checked the signature. */
function expiryMs(token: string): number | undefined {
  try {
    const claims = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()) as {
      exp?: unknown;
    };
    return typeof claims.exp === 'number' ? claims.exp * 1000 : undefined;
  } catch {
    return undefined;
  }
}

export function identityOf(status: TokenReviewStatus, audience: string): PodIdentity {
  if (status.authenticated !== true) {
    throw unauthenticated(
      `the token is not accepted: ${status.error ?? 'the API server does not know it'}; mount a projected token of audience "${audience}"`,
      'TOKEN_REFUSED',
    );
  }
  if (!(status.audiences ?? []).includes(audience)) {
    throw unauthenticated(
      `the token is for ${(status.audiences ?? []).map((each) => `"${each}"`).join(', ') || 'no audience'}; mount a projected token of audience "${audience}"`,
      'WRONG_AUDIENCE',
    );
  }
  const user = kUser.exec(status.user?.username ?? '');
  const extra = status.user?.extra ?? {};
  const pod = extra[kPodName]?.[0];
  const podUid = extra[kPodUid]?.[0];
  if (user === null || pod === undefined || podUid === undefined) {
    throw unauthenticated(
      `the token is of "${status.user?.username ?? ''}", not of a pod; mount a projected token, which is bound to its pod`,
      'NOT_A_POD',
    );
  }
  return {
    namespace: user[1] as string,
    serviceAccount: user[2] as string,
    pod,
    podUid,
    node: extra[kNodeName]?.[0] ?? '',
  };
}

export class Tokens {
  private readonly cache = new Map<string, { readonly identity: PodIdentity; readonly untilMs: number }>();
  private readonly reviews: Reviews;

  constructor(
    review: ReviewToken,
    private readonly audience: string,
    private readonly now: () => number,
  ) {
    this.reviews = new Reviews(review, audience, now);
  }

  /** Reviews that the API server was asked for. */
  get reviewed(): number {
    return this.reviews.count;
  }

  /** Whoever still waits for a review is told that. */
  close(error: RpcError): void {
    this.reviews.close(error);
  }

  /**
   * Identity of a token; rejects with RpcError: UNAUTHENTICATED; UNAVAILABLE while the API server does not answer or wants to be left alone;
   * CANCELLED when `signal` is aborted.
   */
  async identify(token: string | undefined, signal: AbortSignal): Promise<PodIdentity> {
    if (token === undefined || token === '' || token.length > kMaxTokenLength) {
      throw unauthenticated(
        `no usable token came with the call; send "authorization: Bearer <token>" with a projected token of audience "${this.audience}"`,
        'NO_TOKEN',
      );
    }
    const now = this.now();
    const expires = expiryMs(token);
    if (expires !== undefined && expires <= now) {
      throw unauthenticated(
        'the token has expired; read the file of the projected volume again, the kubelet renews it',
        'TOKEN_EXPIRED',
      );
    }
    const key = createHash('sha256').update(token).digest('base64');
    const cached = this.cache.get(key);
    if (cached !== undefined && cached.untilMs > now) {
      return cached.identity;
    }
    const identity = identityOf(await this.reviews.of(key, token, signal), this.audience);
    this.remember(key, { identity, untilMs: Math.min(expires ?? now, now + kMaxBeliefMs) });
    return identity;
  }

  private remember(key: string, entry: { identity: PodIdentity; untilMs: number }): void {
    if (this.cache.size >= kMaxCached) {
      const oldest = this.cache.keys().next().value;
      if (oldest !== undefined) {
        this.cache.delete(oldest);
      }
    }
    this.cache.set(key, entry);
  }
}
