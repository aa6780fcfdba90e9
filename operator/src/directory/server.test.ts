// SPDX-License-Identifier: Apache-2.0
// The directory on the wire: TLS with certificates of the operator's own CA, replaced while it serves; tokens in the call's metadata.
import { Client, credentials, Metadata, status } from '@grpc/grpc-js';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pino from 'pino';
import type { JoinResponse } from '../../../sidecar/src/directory/messages';
import { directoryTransport, type DirectoryStream } from '../../../sidecar/src/directory/transport';
import { until } from '../../../sidecar/src/testing/until';
import { issueServing, makeAuthority, type KeyPair } from '../ca/certificates';
import { ApiError } from '../kit/api_error';
import { Directory, kDirectoryDefaults } from './directory';
import { CertificateSource, DirectoryServer, kDirectoryService, type ServingCertificate } from './server';
import { FakeCluster, tokenOf, topicResource } from './testing';

const kLife = { nowMs: Date.now(), lifeMs: 3_600_000 };
const log = pino({ level: 'silent' });

let folder: string;
let cluster: FakeCluster;
let source: CertificateSource;
let server: DirectoryServer;
let port: number;
const streams: DirectoryStream[] = [];

async function served(authority: KeyPair): Promise<ServingCertificate> {
  const { certificate, key } = await issueServing(authority, ['localhost'], kLife);
  return { certificate: Buffer.from(certificate), privateKey: Buffer.from(key) };
}

type Answer =
  | JoinResponse
  | { readonly code: number; readonly message: string; readonly retryAfterMs?: number | undefined };

/** A sidecar's stream with these files: what it was answered, in order, the end included. */
class Sidecar {
  private readonly answers: Answer[] = [];
  private readonly stream: DirectoryStream;

  constructor(bundle: string, token: string, hello: object = {}) {
    const [caFile, tokenFile] = [join(folder, 'ca.crt'), join(folder, 'token')];
    writeFileSync(caFile, bundle);
    writeFileSync(tokenFile, token);
    const take = (answer: Answer): void => void this.answers.push(answer);
    this.stream = directoryTransport({ address: `localhost:${port}`, caFile, tokenFile })({
      onResponse: take,
      onEnd: (code, message, retryAfterMs) => take({ code, message, retryAfterMs }),
    });
    streams.push(this.stream);
    this.stream.send({ hello: { instanceId: 'i', endpoints: [], version: 't', ...hello } });
  }

  send(request: object): void {
    this.stream.send(request);
  }

  close(): void {
    this.stream.close();
  }

  async next(): Promise<Answer> {
    await until('the directory answers', () => this.answers.length > 0);
    return this.answers.shift() as Answer;
  }
}

function firstAnswer(bundle: string, token: string, hello: object = {}): Promise<Answer> {
  return new Sidecar(bundle, token, hello).next();
}

describe('the directory on the wire', () => {
  let old: KeyPair;

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'outrigger-directory-'));
    cluster = new FakeCluster();
    old = await makeAuthority(kLife);
    source = new CertificateSource(await served(old));
    const directory = new Directory(cluster, { ...kDirectoryDefaults, replica: 'a', maxStreams: 2 }, log);
    directory.topicSet(topicResource('orders'));
    server = new DirectoryServer(directory, source, log);
    port = await server.start('localhost:0');
  });
  afterEach(async () => {
    streams.splice(0).forEach((each) => each.close());
    await server.stop(100);
    rmSync(folder, { recursive: true, force: true });
  });

  it('welcomes a pod by its token', async () => {
    expect(await firstAnswer(old.certificate, tokenOf('till-1'))).toMatchObject({
      welcome: { namespace: 'shop', pod: 'till-1', leaseMs: kDirectoryDefaults.leaseMs },
    });
  });

  it('shows a new certificate to new connections, while those that are open stay', async () => {
    const lasting = new Sidecar(old.certificate, tokenOf('till-1'));
    expect(await lasting.next()).toHaveProperty('welcome');
    const next = await makeAuthority(kLife);
    source.update(await served(next));
    expect(await firstAnswer(old.certificate, tokenOf('till-2'))).toMatchObject({ code: status.UNAVAILABLE });
    expect(await firstAnswer(next.certificate, tokenOf('till-2'))).toHaveProperty('welcome');
    lasting.send({ register: { topic: 'orders', role: 'ROLE_PUBLISHER' } });
    expect(await lasting.next()).toMatchObject({ topic: { topic: 'orders', streamId: 1001 } });
  });

  it('hears what a sidecar says last before it closes', async () => {
    const publisher = new Sidecar(old.certificate, tokenOf('p'));
    await publisher.next();
    publisher.send({ register: { topic: 'orders', role: 'ROLE_PUBLISHER' } });
    await publisher.next();
    const subscriber = new Sidecar(old.certificate, tokenOf('s'));
    await subscriber.next();
    subscriber.send({ register: { topic: 'orders', role: 'ROLE_SUBSCRIBER' } });
    const members = async (): Promise<number> => {
      for (;;) {
        const answer = await publisher.next();
        if ('topic' in answer) return answer.topic.subscribers.length;
      }
    };
    const untilThereAre = async (wanted: number): Promise<void> => {
      while ((await members()) !== wanted) continue;
    };
    await untilThereAre(1);
    // A lease is longer than this test may take.
    subscriber.send({ unregister: { topic: 'orders', role: 'ROLE_SUBSCRIBER' } });
    subscriber.close();
    await untilThereAre(0);
  });

  it.each([
    ['no usable token', '', status.UNAUTHENTICATED],
    [
      'a token that has expired',
      tokenOf('till-1', 'shop', 'default', Date.now() - 1000),
      status.UNAUTHENTICATED,
    ],
  ])('refuses %s', async (_, token, code) => {
    expect(await firstAnswer(old.certificate, token)).toMatchObject({ code });
  });

  it('says that it can not tell while the API server is away', async () => {
    cluster.away = true;
    expect(await firstAnswer(old.certificate, tokenOf('stranger'))).toMatchObject({
      code: status.UNAVAILABLE,
    });
  });

  it('hands on how long a busy API server wants to be left alone', async () => {
    cluster.away = true;
    cluster.failure = new ApiError(429, 'TooManyRequests', 'POST /x: 429 TooManyRequests', 40_500);
    const answer = await firstAnswer(old.certificate, tokenOf('stranger'));
    expect(answer).toMatchObject({
      code: status.UNAVAILABLE,
      message: expect.stringContaining('retry in 41 s'),
      retryAfterMs: 40_500,
    });
  });

  it('lets go of the review of a sidecar that closes, or is gone without a word', async () => {
    cluster.hangs = true;
    const sidecar = new Sidecar(old.certificate, tokenOf('till-1'));
    await until('its token is reviewed', () => cluster.hanging === 1);
    sidecar.close();
    await until('its token is reviewed no more', () => cluster.hanging === 0);

    const ca = credentials.createSsl(Buffer.from(old.certificate));
    const client = new Client(`localhost:${port}`, ca);
    try {
      const metadata = new Metadata();
      metadata.set('authorization', `Bearer ${tokenOf('till-2')}`);
      const bytes = (value: Buffer): Buffer => value;
      const call = client.makeBidiStreamRequest(`/${kDirectoryService}/Join`, bytes, bytes, metadata);
      call.on('error', () => undefined);
      await until('its token is reviewed', () => cluster.hanging === 1);
      call.cancel();
      await until('its token is reviewed no more', () => cluster.hanging === 0);
    } finally {
      client.close();
    }
  });

  it.each([
    ['an instance without a name', { instanceId: '' }, 'hello.instance_id'],
    [
      'a port of nothing',
      { endpoints: [{ network: 'pod', address: '10.0.0.1', port: 0, mtu: 0 }] },
      'hello.endpoints[0].port',
    ],
    [
      'a name for an address',
      { endpoints: [{ network: 'pod', address: 'host', port: 1, mtu: 0 }] },
      'hello.endpoints[0].address',
    ],
  ])('refuses %s and names the field', async (_, hello, field) => {
    const answer = await firstAnswer(old.certificate, tokenOf('till-1'), hello);
    expect(answer).toMatchObject({ code: status.INVALID_ARGUMENT, message: expect.stringContaining(field) });
  });

  it('takes so many streams and no more', async () => {
    await firstAnswer(old.certificate, tokenOf('a'));
    await firstAnswer(old.certificate, tokenOf('b'));
    expect(await firstAnswer(old.certificate, tokenOf('c'))).toMatchObject({
      code: status.RESOURCE_EXHAUSTED,
    });
  });
});
