// SPDX-License-Identifier: Apache-2.0
// What was granted holds while the directory is away, and nothing else does. What comes from the directory after the goodbye changes nothing, by
// the client alone and over the real transport.
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Server, ServerCredentials, type ServerDuplexStream, type ServiceDefinition } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import pino from 'pino';
import { issueServing, makeAuthority } from '../../../operator/src/ca/certificates';
import { protoRoot } from '../grpc/proto_files';
import { RpcCode } from '../grpc/rpc_error';
import { TopicStore } from '../topics/topic_store';
import { DirectoryClient } from './directory_client';
import {
  kRoleNames,
  type Endpoint,
  type JoinResponse,
  type Member,
  type Role,
  type TopicState,
} from './messages';
import { TopicCache } from './topic_cache';
import { directoryTransport, kDirectoryProto, type DirectoryHandlers } from './transport';

const kWelcome: JoinResponse = {
  response: 'welcome',
  welcome: { namespace: 'shop', pod: 'till-1', node: 'node1', leaseMs: 30_000, heartbeatMs: 10_000 },
};

/** A directory by hand: what the client sent, and what it is answered. */
class Script {
  readonly sent: { register?: { topic: string; role: string }; hello?: { instanceId: string } }[] = [];
  private handlers: DirectoryHandlers | undefined;
  away = false;

  readonly open = (handlers: DirectoryHandlers): { send(request: object): void; close(): void } => {
    if (this.away) {
      throw new Error('connect ECONNREFUSED');
    }
    this.handlers = handlers;
    return { send: (request) => void this.sent.push(request), close: () => undefined };
  };

  answer(response: JoinResponse): void {
    this.handlers?.onResponse(response);
  }

  /** The topic with the sidecar itself in these roles, as a directory says it. */
  grant(topic: string, ...roles: readonly Role[]): void {
    const instanceId = this.sent.find((each) => each.hello !== undefined)?.hello?.instanceId ?? '';
    const self = { instanceId, pod: 'shop/till-1', node: 'node1', endpoints: kOwn };
    this.answer({ response: 'topic', topic: stateOf(topic, self, roles) });
  }

  refuse(topic: string, role: Role, reason = 'NOT_ALLOWED'): void {
    this.answer({
      response: 'refusal',
      refusal: { topic, role: kRoleNames[role], reason, message: `no ${role}`, nearest: '' },
    });
  }

  lose(): void {
    this.away = true;
    this.handlers?.onEnd(14, 'cut');
  }
}

const kOwn: readonly Endpoint[] = [{ network: 'pod', address: '10.0.0.1', port: 40_123, mtu: 0 }];
const kOther: Member = {
  instanceId: 'other',
  pod: 'shop/other',
  node: 'node2',
  endpoints: [{ network: 'pod', address: '10.0.0.2', port: 40_123, mtu: 0 }],
};

function stateOf(topic: string, self: Member, roles: readonly Role[]): TopicState {
  const as = (role: Role): Member[] => (roles.includes(role) ? [kOther, self] : [kOther]);
  return {
    topic,
    streamId: 1001,
    flowControl: 'max',
    reliable: true,
    termLength: 0,
    mtu: 0,
    subscribers: as('subscriber'),
    publishers: as('publisher'),
  };
}

describe('while the directory is away', () => {
  const clients: DirectoryClient[] = [];
  let folder: string;
  let file: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'outrigger-directory-'));
    file = join(folder, 'directory.json');
  });
  afterEach(() => {
    clients.splice(0).forEach((each) => each.close());
    rmSync(folder, { recursive: true, force: true });
  });

  function clientOf(script: Script): DirectoryClient {
    const client = new DirectoryClient(
      script.open,
      new TopicStore(''),
      new TopicCache(file, kOwn, (message) => {
        throw new Error(message);
      }),
      { endpoints: kOwn, version: 't', answerTimeoutMs: 50, minRetryMs: 60_000, maxRetryMs: 60_000 },
      pino({ level: 'silent' }),
    );
    clients.push(client);
    client.start();
    script.answer(kWelcome);
    return client;
  }

  /** Both roles asked for, subscriber granted, publisher refused. */
  async function subscriberOnly(script: Script): Promise<DirectoryClient> {
    const client = clientOf(script);
    const subscribing = client.acquire('orders', 'subscriber');
    const publishing = client.acquire('orders', 'publisher');
    script.grant('orders', 'subscriber');
    script.refuse('orders', 'publisher');
    await subscribing;
    await expect(publishing).rejects.toMatchObject({ code: RpcCode.PERMISSION_DENIED });
    return client;
  }

  const rolesOf = (client: DirectoryClient): Role[] => client.grants().map(({ role }) => role);
  const kRefused = {
    code: RpcCode.UNAVAILABLE,
    details: { reason: 'DIRECTORY_UNAVAILABLE', metadata: { topic: 'orders' } },
    message: expect.stringMatching(
      /topic "orders" can't be opened as publisher: .* has let this pod be subscriber only; retry/,
    ) as string,
  };

  it('a role that was refused stays so, and does not reach what the driver is told', async () => {
    const script = new Script();
    const client = await subscriberOnly(script);
    script.lose();
    await client.acquire('orders', 'subscriber');
    await expect(client.acquire('orders', 'publisher')).rejects.toMatchObject(kRefused);
    expect(rolesOf(client)).toEqual(['subscriber']);
  });

  it('it stays so after a restart, from the file', async () => {
    const script = new Script();
    (await subscriberOnly(script)).close();
    script.away = true;
    const again = clientOf(script);
    await again.acquire('orders', 'subscriber');
    await expect(again.acquire('orders', 'publisher')).rejects.toMatchObject(kRefused);
    expect(rolesOf(again)).toEqual(['subscriber']);
  });

  it('a role that was taken back is refused, before and after a restart', async () => {
    const script = new Script();
    const client = clientOf(script);
    const opened = [client.acquire('orders', 'publisher'), client.acquire('orders', 'subscriber')];
    script.grant('orders', 'publisher', 'subscriber');
    await Promise.all(opened);
    script.refuse('orders', 'publisher');
    // The other role's answer follows the refusal, while the streams of the first are not closed yet.
    script.grant('orders', 'subscriber');
    expect(rolesOf(client)).toEqual(['subscriber']);
    client.release('orders', 'publisher');
    script.lose();
    await expect(client.acquire('orders', 'publisher')).rejects.toMatchObject(kRefused);
    client.close();
    await expect(clientOf(script).acquire('orders', 'publisher')).rejects.toMatchObject(kRefused);
  });

  it('a role that was granted and closed may be opened again', async () => {
    const script = new Script();
    const client = clientOf(script);
    const opened = client.acquire('orders', 'publisher');
    script.grant('orders', 'publisher');
    await opened;
    client.release('orders', 'publisher');
    script.lose();
    await client.acquire('orders', 'publisher');
    expect(rolesOf(client)).toEqual(['publisher']);
  });

  it('a role that nobody asked for while it was there is refused', async () => {
    const script = new Script();
    const client = clientOf(script);
    const opened = client.acquire('orders', 'subscriber');
    script.grant('orders', 'subscriber');
    await opened;
    script.lose();
    await expect(client.acquire('orders', 'publisher')).rejects.toMatchObject(kRefused);
  });

  it('an open that waits when it goes away gets no more than one that comes later', async () => {
    const script = new Script();
    const client = clientOf(script);
    const [subscribing, publishing] = [
      client.acquire('orders', 'subscriber'),
      client.acquire('orders', 'publisher'),
    ];
    script.grant('orders', 'subscriber');
    await subscribing;
    script.lose();
    await expect(publishing).rejects.toMatchObject(kRefused);
    expect(rolesOf(client)).toEqual(['subscriber']);
  });

  it('a file of an earlier version, without roles, grants those in which the members have this sidecar', async () => {
    const self = { instanceId: 'before', pod: 'shop/till-1', node: 'node1', endpoints: kOwn };
    writeFileSync(file, JSON.stringify({ topics: [stateOf('orders', self, ['subscriber'])] }));
    const script = new Script();
    script.away = true;
    const client = clientOf(script);
    await client.acquire('orders', 'subscriber');
    await expect(client.acquire('orders', 'publisher')).rejects.toMatchObject(kRefused);
  });
});

it('an open is not answered by what the directory says of the other role', async () => {
  const script = new Script();
  const client = new DirectoryClient(
    script.open,
    new TopicStore(''),
    new TopicCache('', [], () => undefined),
    { endpoints: kOwn, version: 't', answerTimeoutMs: 10_000 },
    pino({ level: 'silent' }),
  );
  client.start();
  script.answer(kWelcome);
  const subscribing = client.acquire('orders', 'subscriber');
  script.grant('orders', 'subscriber');
  await subscribing;
  const publishing = client.acquire('orders', 'publisher');
  script.grant('orders', 'subscriber');
  expect(client.grants().map(({ role }) => role)).toEqual(['subscriber']);
  script.refuse('orders', 'publisher');
  await expect(publishing).rejects.toMatchObject({ code: RpcCode.PERMISSION_DENIED });
  client.close();
});

describe('a directory client that said goodbye', () => {
  beforeEach(() => void jest.useFakeTimers());
  afterEach(() => void jest.useRealTimers());

  it('takes no welcome any more: no timer, no line in the log, no change', () => {
    const lines: string[] = [];
    const log = pino({ level: 'trace' }, { write: (line) => void lines.push(line) });
    let handlers: DirectoryHandlers | undefined;
    const sent: object[] = [];
    const client = new DirectoryClient(
      (given) => {
        handlers = given;
        return { send: (request) => void sent.push(request), close: () => undefined };
      },
      new TopicStore(''),
      new TopicCache('', [], () => undefined),
      { endpoints: [], version: 't', answerTimeoutMs: 1000 },
      log,
    );
    const events: unknown[] = [];
    client.on('connection', (reason) => events.push(reason));
    client.start();
    client.close();
    const before = sent.length;
    handlers?.onResponse(kWelcome);
    expect(handlers).toBeDefined();
    expect(client.connected).toBe(false);
    expect({ sent: sent.length, events, lines, timers: jest.getTimerCount() }).toEqual({
      sent: before,
      events: [],
      lines: [],
      timers: 0,
    });
  });
});

describe('a directory client that was refused', () => {
  beforeEach(() => void jest.useFakeTimers());
  afterEach(() => void jest.useRealTimers());

  /** How long it waits before it asks again, when it is told to wait so long. */
  function pauseAfter(retryAfterMs: number | undefined): number {
    const streams: DirectoryHandlers[] = [];
    const client = new DirectoryClient(
      (handlers) => {
        streams.push(handlers);
        return { send: () => undefined, close: () => undefined };
      },
      new TopicStore(''),
      new TopicCache('', [], () => undefined),
      { endpoints: [], version: 't', answerTimeoutMs: 1000, minRetryMs: 100, maxRetryMs: 100 },
      pino({ level: 'silent' }),
    );
    client.start();
    const begunMs = Date.now();
    streams[0]?.onEnd(14, 'busy', retryAfterMs);
    jest.advanceTimersToNextTimer();
    const pauseMs = Date.now() - begunMs;
    expect(streams).toHaveLength(2);
    client.close();
    return pauseMs;
  }

  it.each([
    ['soon where it is told nothing', undefined, 50, 100],
    ['after the time that it is told, and not with all others at once', 7000, 7050, 10_600],
    ['after a minute or so where it is told a longer time', 1e12, 60_050, 90_100],
  ])('comes again %s', (_, retryAfterMs, least, most) => {
    const pauses = Array.from({ length: 50 }, () => pauseAfter(retryAfterMs));
    expect(Math.min(...pauses)).toBeGreaterThanOrEqual(least);
    expect(Math.max(...pauses)).toBeLessThanOrEqual(most + 1);
    expect(new Set(pauses).size).toBeGreaterThan(5);
  });
});

describe('a stream to the directory that was closed', () => {
  const toEnd: (() => void)[] = [];
  afterEach(() => toEnd.splice(0).forEach((end) => end()));

  it('hands on nothing that comes later', async () => {
    const life = { nowMs: Date.now(), lifeMs: 3_600_000 };
    const authority = await makeAuthority(life);
    const { certificate, key } = await issueServing(authority, ['localhost'], life);
    const folder = mkdtempSync(join(tmpdir(), 'outrigger-transport-'));
    toEnd.push(() => rmSync(folder, { recursive: true, force: true }));
    const [caFile, tokenFile] = [join(folder, 'ca.crt'), join(folder, 'token')];
    writeFileSync(caFile, authority.certificate);
    writeFileSync(tokenFile, 'x');

    const definition = loadSync(kDirectoryProto, { includeDirs: [protoRoot()], oneofs: true });
    const server = new Server();
    toEnd.push(() => server.forceShutdown());
    let greeted: () => void = () => undefined;
    const hello = new Promise<void>((resolve) => (greeted = resolve));
    server.addService(definition['outrigger.v1.DirectoryService'] as ServiceDefinition, {
      Join: (call: ServerDuplexStream<object, object>) => {
        call.on('data', () => greeted());
        // As a directory whose answer was under way.
        call.on('end', () => {
          call.write(kWelcome);
          call.end();
        });
      },
    });
    const credentials = ServerCredentials.createSsl(null, [
      { cert_chain: Buffer.from(certificate), private_key: Buffer.from(key) },
    ]);
    const port = await new Promise<number>((resolve, reject) =>
      server.bindAsync('localhost:0', credentials, (error, bound) =>
        error === null ? resolve(bound) : reject(error),
      ),
    );
    // In between, so that the end of the connection is seen: the stream has read all by then.
    let left: () => void = () => undefined;
    const gone = new Promise<void>((resolve) => (left = resolve));
    const relay = createServer((socket) => {
      const onwards = connect(port, 'localhost');
      socket
        .on('error', () => undefined)
        .on('close', () => {
          onwards.destroy();
          left();
        });
      onwards.on('error', () => undefined).on('close', () => socket.destroy());
      socket.pipe(onwards).pipe(socket);
    });
    toEnd.push(() => relay.close());
    relay.listen(0, 'localhost');
    await once(relay, 'listening');

    const told: string[] = [];
    const address = `localhost:${(relay.address() as AddressInfo).port}`;
    const stream = directoryTransport({ address, caFile, tokenFile })({
      onResponse: () => told.push('response'),
      onEnd: () => told.push('end'),
    });
    stream.send({ hello: { instanceId: 'i', endpoints: [], version: 't' } });
    await hello;
    stream.close();
    await gone;
    expect(told).toEqual([]);
  });
});
