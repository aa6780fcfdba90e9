// SPDX-License-Identifier: Apache-2.0
// Credentials that change while many requests and watches are under way, against a real TLS server that tells by the name which it is asked for
// (SNI) whose connection it is.
import { createServer, type Server } from 'node:https';
import type { ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { until } from '../../../sidecar/src/testing/until';
import { issueServing, makeAuthority } from '../ca/certificates';
import { seeded } from '../testing/seeded';
import { plainAuth } from '../testing/test_cluster';
import { ApiClient } from './api_client';
import type { Credentials } from './auth';
import { watchEvents } from './watch_stream';

const kPods = { group: '', version: 'v1', plural: 'pods' };
const kEvent = '{"type":"ADDED","object":{"metadata":{"name":"a"}}}\n';

jest.setTimeout(60_000);

describe('credentials that change', () => {
  let server: Server;
  let client: ApiClient;
  let ca: string;
  let read: () => Promise<Credentials>;
  let requests: string[];
  const sockets = new Set<TLSSocket>();
  const watches: ServerResponse[] = [];

  const nameOf = ({ servername }: TLSSocket): string => String(servername).replace('.api.test', '');
  /** Credentials of a name: those of another need other connections. */
  const of = (name: string): Credentials => ({ headers: {}, tls: { ca, servername: `${name}.api.test` } });
  const open = (): string[] => [...sockets].map(nameOf).sort();

  beforeAll(async () => {
    const life = { nowMs: Date.now(), lifeMs: 3_600_000 };
    const authority = await makeAuthority(life);
    const pair = await issueServing(authority, ['*.api.test'], life);
    ca = authority.certificate;
    server = createServer({ key: pair.key, cert: pair.certificate }, (request, response) => {
      requests.push(nameOf(request.socket as TLSSocket));
      response.writeHead(200, { 'content-type': 'application/json' });
      if (request.url?.includes('watch=true') === true) {
        watches.push(response.on('close', () => watches.splice(watches.indexOf(response), 1)));
        response.write(kEvent);
      } else {
        response.end('{"items":[]}');
      }
    });
    server.on('secureConnection', (socket: TLSSocket) => {
      sockets.add(socket);
      socket.on('close', () => sockets.delete(socket)).on('error', () => undefined);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  });
  beforeEach(() => {
    requests = [];
    const auth = plainAuth(`https://127.0.0.1:${(server.address() as AddressInfo).port}`);
    client = new ApiClient({
      auth: { ...auth, credentials: () => read() },
      userAgent: 'outrigger-test',
      timeoutMs: 20_000,
      perSecond: 100_000,
    });
  });
  afterEach(async () => {
    client.close();
    await until('no connection is left', () => sockets.size === 0);
  });
  afterAll(() => new Promise((resolve) => server.close(resolve)));

  const get = (): Promise<unknown> => client.call((objects) => objects.listClusterCustomObject(kPods));

  /** A watch that has had its first event; the end of it, and how many events came until then. */
  async function watch(): Promise<{ readonly ended: Promise<number> }> {
    const body = await client.stream(
      (objects) => objects.listClusterCustomObject({ ...kPods, watch: true }),
      20_000,
    );
    const events = watchEvents(body);
    await events.next();
    const rest = async (): Promise<number> => {
      let count = 1;
      while ((await events.next()).done !== true) {
        count++;
      }
      return count;
    };
    return { ended: rest() };
  }

  it('break no request and no watch, and leave connections of the last ones alone', async () => {
    const random = seeded(7);
    let reads = 0;
    read = async () => {
      const now = of(`g${Math.floor(reads++ / 3)}`);
      // Files and plug-ins take their time, and answer in any order.
      for (let turns = Math.floor(random() * 4); turns > 0; turns--) {
        await new Promise((resolve) => setImmediate(resolve));
      }
      return now;
    };
    const before = await Promise.all([watch(), watch(), watch()]);
    const work = async (): Promise<void> => {
      for (let i = 0; i < 25; i++) await get();
    };
    await Promise.all(Array.from({ length: 8 }, work));
    expect(requests).toHaveLength(3 + 200);
    expect(new Set(requests).size).toBeGreaterThan(10);
    read = () => Promise.resolve(of('last'));
    await get();
    const after = await watch();
    watches.forEach((each) => each.write(kEvent));
    watches.forEach((each) => each.end());
    expect(await Promise.all([...before, after].map(({ ended }) => ended))).toEqual([2, 2, 2, 2]);
    await get();
    await until('old connections are closed', () => open().every((name) => name === 'last'));
    expect(open().length).toBeGreaterThan(0);
  });

  it('are those of the latest read, whichever comes first', async () => {
    const answers: ((credentials: Credentials) => void)[] = [];
    read = () => new Promise((resolve) => answers.push(resolve));
    const older = get();
    const newer = get();
    await until('both were asked for', () => answers.length === 2);
    answers[1]?.(of('new'));
    await newer;
    answers[0]?.(of('old'));
    await older;
    read = () => Promise.resolve(of('new'));
    await get();
    expect(requests).toEqual(['new', 'new', 'new']);
    expect(new Set(open())).toEqual(new Set(['new']));
  });

  it('take no connection from a request that was about to be sent', async () => {
    const names = ['a', 'b', 'c', 'd'];
    let reads = 0;
    // All in one turn: each request has its connections before any is sent.
    read = () => Promise.resolve(of(names[reads++] ?? 'd'));
    await Promise.all(names.map(get));
    expect([...requests].sort()).toEqual(names);
    await get();
    await until('old connections are closed', () => open().every((name) => name === 'd'));
  });

  it('leave watches that the end of the client ends, too', async () => {
    read = () => Promise.resolve(of('old'));
    const old = await watch();
    read = () => Promise.resolve(of('new'));
    const now = await watch();
    expect(open()).toEqual(['new', 'old']);
    const broken = Promise.allSettled([old.ended, now.ended]);
    client.close();
    for (const each of await broken) {
      // Not by its silence, much later.
      expect(each).toMatchObject({
        status: 'rejected',
        reason: { message: expect.not.stringContaining('nothing came') as string },
      });
    }
    await until('no watch is left', () => watches.length === 0);
  });
});
