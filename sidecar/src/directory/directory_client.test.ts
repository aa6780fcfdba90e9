// SPDX-License-Identifier: Apache-2.0
// What comes from the directory after the goodbye changes nothing, by the client alone and over the real transport.
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
import { TopicStore } from '../topics/topic_store';
import { DirectoryClient } from './directory_client';
import type { JoinResponse } from './messages';
import { TopicCache } from './topic_cache';
import { directoryTransport, kDirectoryProto, type DirectoryHandlers } from './transport';

const kWelcome: JoinResponse = {
  response: 'welcome',
  welcome: { namespace: 'shop', pod: 'till-1', node: 'node1', leaseMs: 30_000, heartbeatMs: 10_000 },
};

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
      new TopicCache('', () => undefined),
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
      new TopicCache('', () => undefined),
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
