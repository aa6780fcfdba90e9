// SPDX-License-Identifier: Apache-2.0
import { RpcCode, RpcError } from '../../../sidecar/src/grpc/rpc_error';
import { ApiError } from '../kit/api_error';
import { FakeCluster, tokenOf } from './testing';
import { identityOf, Tokens } from './tokens';

async function refusal(promise: Promise<unknown>): Promise<RpcError> {
  const error: unknown = await promise.catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(RpcError);
  return error as RpcError;
}

describe('a token', () => {
  const cluster = new FakeCluster();
  let now = Date.now();
  let tokens: Tokens;
  const identify = (token: string | undefined) => tokens.identify(token, new AbortController().signal);

  beforeEach(() => {
    cluster.away = false;
    cluster.reviews.length = 0;
    now = Date.now();
    tokens = new Tokens(cluster.reviewToken, 'outrigger-directory', () => now);
  });

  it('gives the pod that it is bound to', async () => {
    expect(await identify(tokenOf('till-1', 'shop', 'till'))).toEqual({
      namespace: 'shop',
      serviceAccount: 'till',
      pod: 'till-1',
      podUid: 'uid-till-1',
      node: 'node1',
    });
  });

  it('is reviewed once, and believed until it expires while the API server is away', async () => {
    const token = tokenOf('till-2', 'shop', 'till', now + 600_000);
    await identify(token);
    cluster.away = true;
    now += 599_000;
    await expect(identify(token)).resolves.toMatchObject({ pod: 'till-2' });
    expect(cluster.reviews).toHaveLength(1);
    now += 2000;
    expect(await refusal(identify(token))).toMatchObject({
      code: RpcCode.UNAUTHENTICATED,
      details: { reason: 'TOKEN_EXPIRED' },
    });
  });

  it('that nobody reviewed is no reason to believe anyone while the API server is away', async () => {
    cluster.away = true;
    expect(await refusal(identify(tokenOf('stranger')))).toMatchObject({ code: RpcCode.UNAVAILABLE });
  });

  it('that can not be checked since the API server throttles is told so, and when to come again', async () => {
    cluster.away = true;
    cluster.failure = new ApiError(429, 'TooManyRequests', 'POST /x: 429 TooManyRequests', 7000);
    const { code, message, details } = await refusal(identify(tokenOf('stranger')));
    expect({ code, details }).toEqual({
      code: RpcCode.UNAVAILABLE,
      details: { reason: 'API_SERVER_THROTTLES', retryAfterMs: 7000 },
    });
    expect(message).toMatch(/the API server throttles the directory .*429 TooManyRequests.*retry in 7 s/);
  });

  it.each([[undefined], [''], ['x'.repeat(20_000)]])('must be there and of sane length', async (token) => {
    expect(await refusal(identify(token))).toMatchObject({ details: { reason: 'NO_TOKEN' } });
    expect(cluster.reviews).toHaveLength(0);
  });

  it('of another audience, of a user, or refused is named with the fix', () => {
    const user = { username: 'system:serviceaccount:shop:till', extra: {} };
    const check = (status: Parameters<typeof identityOf>[0]): string => {
      try {
        identityOf(status, 'outrigger-directory');
      } catch (error) {
        return (error as RpcError).details.reason;
      }
      return 'accepted';
    };
    expect(check({ authenticated: false, error: 'expired' })).toBe('TOKEN_REFUSED');
    expect(check({ authenticated: true, audiences: ['api'], user })).toBe('WRONG_AUDIENCE');
    expect(check({ authenticated: true, audiences: ['outrigger-directory'], user })).toBe('NOT_A_POD');
    expect(
      check({
        authenticated: true,
        audiences: ['outrigger-directory'],
        user: { username: 'kubernetes-admin' },
      }),
    ).toBe('NOT_A_POD');
  });
});
