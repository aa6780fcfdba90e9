// SPDX-License-Identifier: Apache-2.0
// Requests: what is tried again, what is not, what an error says, and that connections are kept.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { plainAuth } from '../testing/test_cluster';
import { ApiClient } from './api_client';
import type { ApiError } from './api_error';
import type { ClusterAuth } from './auth';
import type { Refusal, Throttling } from './throttling';
import { watchEvents } from './watch_stream';

type Handler = (request: IncomingMessage, response: ServerResponse, count: number) => void;

describe('ApiClient', () => {
  let server: Server;
  let auth: ClusterAuth;
  let client: ApiClient;
  let handler: Handler;
  let count: number;
  let connections: number;
  let observed: string[];
  let token: string;
  let refreshed: string;
  let throttled: (Refusal | 'answered')[];
  let onRefusal: () => void;

  beforeEach(async () => {
    count = 0;
    connections = 0;
    observed = [];
    throttled = [];
    onRefusal = () => undefined;
    token = 'first';
    refreshed = 'second';
    server = createServer((request, response) => {
      request.resume();
      request.once('end', () => handler(request, response, ++count));
    });
    server.on('connection', () => connections++);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    auth = {
      ...plainAuth(`http://127.0.0.1:${(server.address() as AddressInfo).port}`),
      credentials: () => Promise.resolve({ headers: { authorization: `Bearer ${token}` }, tls: {} }),
      refresh: () => (token = refreshed),
    };
    client = new ApiClient({
      auth,
      userAgent: 'outrigger-test',
      timeoutMs: 200,
      observe: (method, status) => observed.push(`${method} ${status}`),
      throttling: {
        refused: (refusal: Refusal) => {
          throttled.push(refusal);
          onRefusal();
        },
        answered: () => throttled.push('answered'),
      } as unknown as Throttling,
    });
  });

  afterEach(async () => {
    client.close();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });

  const answer = (response: ServerResponse, status: number, body: object, headers = {}): void => {
    response.writeHead(status, { 'content-type': 'application/json', ...headers });
    response.end(JSON.stringify(body));
  };
  const pods = { group: '', version: 'v1', plural: 'pods' };
  const get = (): Promise<unknown> => client.call((objects) => objects.listClusterCustomObject(pods));
  const watch = (): Promise<AsyncIterable<Uint8Array>> =>
    client.stream((objects) => objects.listClusterCustomObject({ ...pods, watch: true }), 50);
  const failure = (promise: Promise<unknown>): Promise<ApiError> =>
    promise.then(
      () => {
        throw new Error('it worked');
      },
      (error: unknown) => error as ApiError,
    );

  it('keeps its connections', async () => {
    handler = (_, response) => answer(response, 200, {});
    for (let i = 0; i < 20; i++) await get();
    expect(count).toBe(20);
    // A second one is made when a request comes before the end of the answer before it was seen.
    expect(connections).toBeLessThanOrEqual(2);
  });

  it('has a rate apart for work that must not wait, over the same connections', async () => {
    handler = (_, response) => answer(response, 200, {});
    const slow = new ApiClient({ auth, userAgent: 'outrigger-test', perSecond: 0.001, burst: 1 });
    const [first, second] = [slow.withOwnRate(), slow.withOwnRate()];
    const list = (of: ApiClient, signal?: AbortSignal): Promise<unknown> =>
      of.call((objects) => objects.listClusterCustomObject(pods), signal === undefined ? {} : { signal });
    // Each has a token; the next comes in a quarter of an hour.
    for (const each of [slow, first, second]) {
      await list(each);
    }
    // Not three: see above.
    expect(connections).toBeLessThanOrEqual(2);
    const abort = new AbortController();
    const waiting = failure(list(first, abort.signal));
    abort.abort();
    await waiting;
    expect(count).toBe(3);
    slow.close();
    const third = await failure(list(slow.withOwnRate()));
    expect(third.message).toContain('the client is closed');
  });

  it('hands objects on as they came: fields that no model knows, times as text, the rest of a list', async () => {
    const page = {
      apiVersion: 'v1',
      kind: 'PodList',
      metadata: { resourceVersion: '7', continue: 'next', fromTheFuture: 1 },
      items: [
        {
          apiVersion: 'v1',
          kind: 'Pod',
          metadata: { name: 'a', creationTimestamp: '2026-01-01T00:00:00Z', fromTheFuture: { deep: [null] } },
          spec: { fromTheFuture: true, renewTime: '2026-01-01T00:00:00.123456Z' },
        },
      ],
    };
    let sent = '';
    handler = (_, response) => answer(response, 200, page);
    expect(await get()).toEqual(page);
    const [pod] = page.items;
    server.prependListener('request', (request: IncomingMessage) => {
      request.on('data', (chunk: Buffer) => (sent += chunk.toString()));
    });
    await client.call((objects) => objects.createClusterCustomObject({ ...pods, body: pod }));
    expect(JSON.parse(sent)).toEqual(pod);
  });

  it('waits for Retry-After when the server is busy, and then goes on', async () => {
    handler = (_, response, n) =>
      n < 3 ? answer(response, 429, {}, { 'retry-after': '0' }) : answer(response, 200, { n });
    expect(await get()).toEqual({ n: 3 });
    expect(observed).toEqual(['GET 429', 'GET 429', 'GET 200']);
  });

  it('asks a busy server once where its caller would rather do something else meanwhile', async () => {
    handler = (_, response) => answer(response, 429, {}, { 'retry-after': '0' });
    expect(
      await failure(
        client.call((objects) => objects.createClusterCustomObject({ ...pods, body: {} }), { busyTries: 1 }),
      ),
    ).toMatchObject({ status: 429, retryAfterMs: 0 });
    expect(count).toBe(1);
  });

  it('tells of each refusal with the time to wait and what decided it, also of watches, and of each answer', async () => {
    handler = (_, response, n) =>
      n === 1
        ? answer(
            response,
            429,
            {},
            {
              'retry-after': '0',
              'x-kubernetes-pf-flowschema-uid': 'f',
              'x-kubernetes-pf-prioritylevel-uid': 'p',
            },
          )
        : n === 2
          ? answer(response, 404, {})
          : answer(response, 429, {}, { 'retry-after': '7' });
    expect(await failure(get())).toMatchObject({ status: 404 });
    expect(await failure(watch())).toMatchObject({ retryAfterMs: 7000 });
    expect(throttled).toEqual([
      { request: 'GET /api/v1/pods', retryAfterMs: 0, flowSchema: 'f', priorityLevel: 'p' },
      'answered',
      { request: 'WATCH /api/v1/pods', retryAfterMs: 7000, flowSchema: undefined, priorityLevel: undefined },
    ]);
  });

  it('reads a Retry-After that is a date, and none that is neither', async () => {
    const soon = new Date(Date.now() + 40_000).toUTCString();
    handler = (_, response, n) => answer(response, 503, {}, { 'retry-after': n === 1 ? soon : 'soon' });
    const { retryAfterMs = 0 } = await failure(get());
    expect(retryAfterMs).toBeGreaterThan(0); // a date has whole seconds, and this machine may stall
    expect(retryAfterMs).toBeLessThanOrEqual(40_000);
    expect((await failure(get())).retryAfterMs).toBeUndefined();
  });

  it.each([
    ['that is more than a timer takes', '99999999999', {}],
    ['that is no finite number', '9'.repeat(400), {}],
    ['that is a date in an hour', new Date(Date.now() + 3_600_000).toUTCString(), {}],
    ['in its body', undefined, { details: { retryAfterSeconds: 1e12 } }],
  ])('takes a minute for a Retry-After %s', async (_, header, body) => {
    handler = (__, response) =>
      answer(response, 429, body, header === undefined ? {} : { 'retry-after': header });
    expect((await failure(get())).retryAfterMs).toBe(60_000);
    expect(throttled).toMatchObject([{ retryAfterMs: 60_000 }]);
    expect(count).toBe(1);
  });

  it.each([
    ['a date that is over', 'Thu, 01 Jan 1970 00:00:00 GMT', {}, 0],
    ['a wait before now in its body', undefined, { details: { retryAfterSeconds: -5 } }, 0],
    ['no number in its body', undefined, { details: { retryAfterSeconds: 'soon' } }, undefined],
  ])('bears %s', async (_, header, body, expected) => {
    handler = (__, response) =>
      answer(response, 503, body, header === undefined ? {} : { 'retry-after': header });
    expect((await failure(get())).retryAfterMs).toBe(expected);
  });

  it('stops waiting for a busy server when its caller no longer wants it, and says that it was busy', async () => {
    const abort = new AbortController();
    handler = (_, response) => answer(response, 429, {}, { 'retry-after': '4' });
    onRefusal = () => abort.abort();
    expect(await failure(client.request({ method: 'GET', path: '/x', signal: abort.signal }))).toMatchObject({
      status: 429,
    });
    expect(count).toBe(1);
  });

  it('leaves a long Retry-After to its caller', async () => {
    handler = (_, response) => answer(response, 429, { message: 'too many' }, { 'retry-after': '60' });
    expect(await failure(get())).toMatchObject({ status: 429, retryAfterMs: 60_000 });
    expect(count).toBe(1);
  });

  it('reads its credentials anew after 401, once', async () => {
    handler = (request, response) =>
      request.headers.authorization === 'Bearer second'
        ? answer(response, 200, { ok: true })
        : answer(response, 401, {});
    expect(await get()).toEqual({ ok: true });
    refreshed = 'third';
    token = 'stale';
    expect(await failure(get())).toMatchObject({ status: 401 });
    expect(count).toBe(4);
  });

  it('does not try again what may have been done', async () => {
    handler = (_, response) => response.destroy();
    expect(
      await failure(client.call((objects) => objects.createClusterCustomObject({ ...pods, body: {} }))),
    ).toMatchObject({
      status: 0,
      message: expect.stringMatching(/^POST \/api\/v1\/pods: /),
    });
    expect([count, observed]).toEqual([1, ['POST 0']]);
  });

  it('says what the server said', async () => {
    handler = (_, response) =>
      answer(response, 409, { reason: 'Conflict', message: 'the object has been modified' });
    expect(await failure(get())).toMatchObject({
      status: 409,
      reason: 'Conflict',
      message: 'GET /api/v1/pods: 409 Conflict: the object has been modified',
    });
    handler = (_, response) => response.writeHead(502).end('<html>Bad Gateway</html>');
    expect((await failure(get())).message).toBe('GET /api/v1/pods: 502 <html>Bad Gateway</html>');
  });

  it('gives up on a server that does not answer, or stops within an answer', async () => {
    handler = () => undefined;
    expect((await failure(get())).message).toMatch(/no answer within 200 ms/);
    handler = (_, response) => response.writeHead(200, { 'content-length': 100 }).write('{');
    expect((await failure(get())).message).toMatch(/200 ms|aborted/);
    expect(observed).toEqual(['GET 0', 'GET 0']);
  });

  it('ends a watch on which nothing comes', async () => {
    handler = (_, response) => response.writeHead(200).write('\n');
    const body = await watch();
    const read = async (): Promise<void> => {
      for await (const _ of watchEvents(body)) expect(_).toBe('nothing');
    };
    expect((await failure(read())).message).toMatch(/nothing came for 50 ms/);
  });

  it('refuses a watch with the reason of the server', async () => {
    handler = (_, response) =>
      answer(response, 410, { reason: 'Expired', message: 'too old resource version' });
    expect(await failure(watch())).toMatchObject({
      status: 410,
      reason: 'Expired',
    });
  });

  it.each([202, 204])('takes no watch from status %d', async (status) => {
    handler = (_, response) => response.writeHead(status).end();
    expect(await failure(watch())).toMatchObject({ status });
  });

  it('ends when its caller no longer wants it', async () => {
    handler = () => abort.abort();
    const abort = new AbortController();
    expect(
      await failure(
        client.call((objects) => objects.listClusterCustomObject(pods), { signal: abort.signal }),
      ),
    ).toMatchObject({ status: 0 });
    expect(count).toBe(1);
  });

  it.each([301, 302, 307, 308])(
    'follows no redirect (%d), and says where it would have led',
    async (status) => {
      let strangers = 0;
      const other = createServer((_, response) => {
        strangers++;
        answer(response, 201, {});
      });
      await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
      try {
        const origin = `http://127.0.0.1:${(other.address() as AddressInfo).port}`;
        handler = (_, response) =>
          answer(response, status, {}, { location: `${origin}/api/v1/pods?token=x` });
        const create = () =>
          client.call((objects) => objects.createClusterCustomObject({ ...pods, body: { secret: 'x' } }));
        const read = () => client.request({ method: 'GET', path: '/x' });
        for (const request of [create, get, read, watch]) {
          const { status: seen, message } = await failure(request());
          expect([seen, message]).toEqual([
            status,
            expect.stringContaining(
              `redirected (${status}) to ${origin}, which is not followed; set the server`,
            ),
          ]);
        }
      } finally {
        other.closeAllConnections();
        await new Promise((resolve) => other.close(resolve));
      }
      expect([count, strangers]).toEqual([4, 0]);
    },
  );

  it('asks nothing more once it is closed', async () => {
    handler = (_, response) => answer(response, 200, {});
    await get();
    client.close();
    expect((await failure(get())).message).toContain('the client is closed');
    expect((await failure(watch())).message).toContain('the client is closed');
    expect(count).toBe(1);
  });
});
