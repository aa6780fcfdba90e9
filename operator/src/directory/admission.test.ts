// SPDX-License-Identifier: Apache-2.0
// Streams that come by the thousand, while the API server refuses to review their tokens, or says nothing at all.
import pino from 'pino';
import { RpcCode, RpcError } from '../../../sidecar/src/grpc/rpc_error';
import { until } from '../../../sidecar/src/testing/until';
import { ApiError } from '../kit/api_error';
import { Directory, kDirectoryDefaults } from './directory';
import type { DirectorySession } from './session';
import { FakeCluster, tokenOf } from './testing';

const kFlood = 2000;
/** More than this many reviews are never under way. */
const kAtOnce = 20;

function busy(retryAfterMs?: number): ApiError {
  return new ApiError(429, 'TooManyRequests', 'POST /x: 429 TooManyRequests', retryAfterMs);
}

describe('a flood of streams', () => {
  let now: number;
  let cluster: FakeCluster;
  let directory: Directory;
  const stream = { send: () => true, end: () => undefined };

  beforeEach(() => {
    now = 1_800_000_000_000;
    cluster = new FakeCluster();
    directory = new Directory(
      cluster,
      { ...kDirectoryDefaults, replica: 'a' },
      pino({ level: 'silent' }),
      () => now,
    );
  });
  afterEach(() => directory.close());

  const token = (pod: string): string => tokenOf(pod, 'shop', 'default', now + 3_600_000);
  const admit = (pod: string, signal = new AbortController().signal): Promise<DirectorySession> =>
    directory.admit(token(pod), stream, signal);
  const flood = (
    podOf: (i: number) => string,
    here: readonly AbortController[] = [],
  ): Promise<DirectorySession>[] =>
    Array.from({ length: kFlood }, (_, i) => admit(podOf(i), here[i]?.signal));
  const controllers = (length: number): AbortController[] =>
    Array.from({ length }, () => new AbortController());
  const distinct = (i: number): string => `p${i}`;
  const same = (): string => 'p';

  /** How many were refused, by code and reason. */
  async function refusals(streams: readonly Promise<DirectorySession>[]): Promise<Record<string, number>> {
    const counts: Record<string, number> = {};
    for (const each of await Promise.allSettled(streams)) {
      const { code, details } = each.status === 'rejected' ? (each.reason as RpcError) : {};
      const outcome = details === undefined ? 'admitted' : `${RpcCode[code as RpcCode]} ${details.reason}`;
      counts[outcome] = (counts[outcome] ?? 0) + 1;
    }
    return counts;
  }

  async function refusal(attempt: Promise<unknown>): Promise<RpcError> {
    const error: unknown = await attempt.catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(RpcError);
    return error as RpcError;
  }

  it('with distinct tokens asks an API server that throttles for those under way, and no more until it may', async () => {
    cluster.away = true;
    cluster.failure = busy(30_000);
    expect(await refusals(flood(distinct))).toEqual({ 'UNAVAILABLE API_SERVER_THROTTLES': kFlood });
    expect(cluster.reviews).toHaveLength(kAtOnce);
    now += 29_000;
    expect(await refusals(flood(distinct))).toEqual({ 'UNAVAILABLE API_SERVER_THROTTLES': kFlood });
    expect(cluster.reviews).toHaveLength(kAtOnce);
    expect(directory.stats).toMatchObject({
      streams: 0,
      admissions: 0,
      tokenReviews: kAtOnce,
      tokensRefused: { API_SERVER_THROTTLES: 2 * kFlood },
    });
    cluster.away = false;
    now += 1000;
    expect(await refusals(flood(distinct))).toEqual({ admitted: kFlood });
    expect(directory.stats).toMatchObject({ streams: kFlood, admissions: 0 });
  });

  it('with one token asks once, whatever the answer', async () => {
    cluster.away = true;
    cluster.failure = busy(5000);
    expect(await refusals(flood(same))).toEqual({ 'UNAVAILABLE API_SERVER_THROTTLES': kFlood });
    expect(cluster.reviews).toHaveLength(1);
    cluster.away = false;
    now += 5000;
    expect(await refusals(flood(same))).toEqual({ admitted: kFlood });
    expect(cluster.reviews).toHaveLength(2);
  });

  it('is told when to come again, by what is left of the time that the API server asked for', async () => {
    cluster.away = true;
    cluster.failure = busy(7000);
    await refusal(admit('a'));
    now += 4500;
    const { message, details } = await refusal(admit('b'));
    expect(details).toEqual({ reason: 'API_SERVER_THROTTLES', retryAfterMs: 2500 });
    expect(message).toMatch(/the API server throttles the directory .*429 TooManyRequests.*retry in 3 s/);
    now += 2500;
    cluster.failure = busy();
    expect((await refusal(admit('c'))).details.retryAfterMs).toBe(1000);
  });

  it('waits for the longest of the times that were asked for meanwhile', async () => {
    cluster.away = true;
    const streams = [4000, 30_000, 1000].map((each, i) => {
      cluster.failure = busy(each);
      return admit(`p${i}`);
    });
    await refusals(streams);
    expect(cluster.reviews).toHaveLength(3);
    expect((await refusal(admit('late'))).details.retryAfterMs).toBe(30_000);
  });

  it('is not kept out for hours by a clock that was set back', async () => {
    cluster.away = true;
    cluster.failure = busy(7000);
    await refusal(admit('a'));
    cluster.away = false;
    now -= 3_600_000;
    await expect(admit('a')).resolves.toBeDefined();
  });

  it('goes on with the others where one token alone can not be reviewed', async () => {
    cluster.away = true;
    cluster.failure = new ApiError(500, 'InternalError', 'POST /x: 500 InternalError', 9000);
    expect((await refusal(admit('a'))).details).toEqual({ reason: 'API_SERVER_UNAVAILABLE' });
    cluster.away = false;
    await expect(admit('b')).resolves.toBeDefined();
  });

  it.each([
    ['distinct tokens', distinct, kAtOnce],
    ['one token', same, 1],
  ])('with %s holds no review once all have left', async (_, podOf, underWay) => {
    cluster.hangs = true;
    const here = controllers(kFlood);
    const streams = flood(podOf, here);
    await until('reviews hang', () => cluster.hanging === underWay);
    expect(directory.stats).toMatchObject({ admissions: kFlood, tokenReviews: underWay });
    here.forEach((each) => each.abort());
    expect(await refusals(streams)).toEqual({ 'CANCELLED CANCELLED': kFlood });
    await until('no review hangs', () => cluster.hanging === 0);
    expect(cluster.reviews).toHaveLength(underWay);
    expect(directory.stats).toMatchObject({ admissions: 0, tokensRefused: { CANCELLED: kFlood } });
    cluster.hangs = false;
    await expect(admit('p')).resolves.toBeDefined();
  });

  it('keeps the review of one token for whoever still waits, and lets it go with the last', async () => {
    cluster.hangs = true;
    const [first, last] = [new AbortController(), new AbortController()];
    const streams = [admit('p', first.signal), admit('p', last.signal)];
    await until('the review hangs', () => cluster.hanging === 1);
    first.abort();
    expect((await refusal(streams[0] as Promise<unknown>)).code).toBe(RpcCode.CANCELLED);
    expect(cluster.hanging).toBe(1);
    last.abort();
    await refusal(streams[1] as Promise<unknown>);
    await until('no review hangs', () => cluster.hanging === 0);
    // Who comes while it is let go has a review of its own.
    cluster.hangs = false;
    await expect(admit('p')).resolves.toBeDefined();
    expect(cluster.reviews).toHaveLength(2);
  });

  it('that waits behind others is told when those find nobody who answers', async () => {
    cluster.hangs = true;
    const here = controllers(kAtOnce - 1);
    const before = here.map(({ signal }, i) => admit(`q${i}`, signal));
    await until('reviews hang', () => cluster.hanging === kAtOnce - 1);
    cluster.hangs = false;
    cluster.away = true;
    expect(await refusals(flood(distinct))).toEqual({ 'UNAVAILABLE API_SERVER_UNAVAILABLE': kFlood });
    expect(cluster.reviews).toHaveLength(kAtOnce);
    here.forEach((each) => each.abort());
    await refusals(before);
  });

  it('is bounded together with the streams that are open, while its tokens are checked', async () => {
    const few = new Directory(
      cluster,
      { ...kDirectoryDefaults, replica: 'b', maxStreams: 3 },
      pino({ level: 'silent' }),
      () => now,
    );
    const here = new AbortController();
    const open = await few.admit(token('open'), stream, here.signal);
    cluster.hangs = true;
    const checked = [1, 2].map((i) => few.admit(token(`p${i}`), stream, here.signal));
    const { code, message, details } = await refusal(few.admit(token('p3'), stream, here.signal));
    expect([code, details.reason]).toEqual([RpcCode.RESOURCE_EXHAUSTED, 'TOO_MANY_STREAMS']);
    expect(message).toContain('3 streams are open or have their tokens checked');
    expect(few.stats).toMatchObject({ streams: 1, admissions: 2, rejectedStreams: 1 });
    here.abort();
    await refusals(checked);
    few.left(open);
    cluster.hangs = false;
    await few.admit(token('p4'), stream, new AbortController().signal);
    await few.close();
  });

  it('is believed its addresses without a question while the API server throttles those', async () => {
    const asked: string[] = [];
    const podAddresses = cluster.podAddresses.bind(cluster);
    cluster.podAddresses = (identity) => {
      asked.push(identity.pod);
      return podAddresses(identity);
    };
    const answers: object[] = [];
    const join = async (pod: string, address: string): Promise<void> => {
      const to = {
        send: (response: object) => answers.push(response) > 0,
        end: (error: RpcError) => void answers.push(error),
      };
      const session = await directory.admit(token(pod), to, new AbortController().signal);
      const endpoints = [{ network: 'pod', address, port: 40_200, mtu: 0 }];
      session.onRequest({ request: 'hello', hello: { instanceId: 'i', endpoints, version: 't' } });
    };
    for (const each of ['a', 'b', 'c']) {
      cluster.addresses.set(each, ['10.0.0.1']);
      await admit(each); // its token is known from now on
    }
    cluster.away = true;
    cluster.failure = busy(5000);
    await join('a', '10.0.0.1');
    await until('it is welcome', () => answers.length === 1);
    await join('b', '10.0.0.1');
    await until('it is welcome', () => answers.length === 2);
    expect(asked).toEqual(['a']);
    now += 5000;
    cluster.away = false;
    await join('c', '10.0.0.2');
    await until('it is not', () => answers.length === 3);
    expect(asked).toEqual(['a', 'c']);
    expect(
      answers.map((each) => (each instanceof RpcError ? each.details.reason : Object.keys(each)[0])),
    ).toEqual(['welcome', 'welcome', 'FOREIGN_ENDPOINT']);
  });

  it('is told that the replica ends, and holds no review of it', async () => {
    cluster.hangs = true;
    const streams = flood(distinct);
    await until('reviews hang', () => cluster.hanging === kAtOnce);
    await directory.close();
    expect(await refusals(streams)).toEqual({ 'UNAVAILABLE DRAINING': kFlood });
    await until('no review hangs', () => cluster.hanging === 0);
    expect(directory.stats).toMatchObject({
      streams: 0,
      admissions: 0,
      rejectedStreams: kFlood,
      tokensRefused: {},
    });
  });
});
