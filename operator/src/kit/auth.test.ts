// SPDX-License-Identifier: Apache-2.0
// Kubeconfigs against a real TLS server: what each kind of credential puts on a request, and files that change.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer as createProxy, type IncomingMessage } from 'node:http';
import { createServer, type Server } from 'node:https';
import { connect, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TLSSocket } from 'node:tls';
import { fingerprintOf, issueServing, makeAuthority, type KeyPair } from '../ca/certificates';
import { ApiClient } from './api_client';
import { defaultAuth } from './auth';

const kName = 'api.test';

function issue(authority: KeyPair): Promise<KeyPair> {
  return issueServing(authority, [kName], { nowMs: Date.now(), lifeMs: 3_600_000 });
}

describe('a kubeconfig', () => {
  let folder: string;
  let authority: KeyPair;
  let pair: KeyPair;
  let server: Server;
  let url: string;
  let client: ApiClient | undefined;
  let connections: number;
  let seen: { authorization: string | undefined; certificate: string | undefined };
  /** Tokens that the server takes; undefined: all. */
  let taken: string | undefined;

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'outrigger-kubeconfig-'));
    authority = await makeAuthority({ nowMs: Date.now(), lifeMs: 3_600_000 });
    pair = await issue(authority);
    connections = 0;
    taken = undefined;
    const answer = (request: IncomingMessage): number => {
      const peer = (request.socket as TLSSocket).getPeerX509Certificate();
      seen = {
        authorization: request.headers.authorization,
        certificate: peer === undefined ? undefined : fingerprintOf(peer.toString()),
      };
      return taken === undefined || seen.authorization === `Bearer ${taken}` ? 200 : 401;
    };
    server = createServer(
      { key: pair.key, cert: pair.certificate, requestCert: true, rejectUnauthorized: false },
      (request, response) => {
        response.writeHead(answer(request), { 'content-type': 'application/json' });
        response.end('{"items":[]}');
      },
    );
    server.on('secureConnection', () => connections++);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
    write('ca.crt', authority.certificate);
  });

  afterEach(async () => {
    client?.close();
    client = undefined;
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    rmSync(folder, { recursive: true });
  });

  function write(name: string, text: string): string {
    const path = join(folder, name);
    writeFileSync(path, text);
    return path;
  }

  /** A client of a kubeconfig with these fields of cluster and user. */
  async function open(user: object, cluster: object = { 'certificate-authority': 'ca.crt' }): Promise<void> {
    const path = write(
      'config',
      JSON.stringify({
        clusters: [{ name: 'c', cluster: { server: url, 'tls-server-name': kName, ...cluster } }],
        users: [{ name: 'u', user }],
        contexts: [{ name: 'x', context: { cluster: 'c', user: 'u', namespace: 'shop' } }],
        'current-context': 'x',
      }),
    );
    const auth = await defaultAuth((config) => config.loadFromFile(path));
    client = new ApiClient({ auth, userAgent: 'outrigger-test', timeoutMs: 10_000 });
  }

  const list = (): Promise<unknown> | undefined => client?.request({ method: 'GET', path: '/api/v1/pods' });

  it('has a token', async () => {
    await open({ token: 'secret' });
    await list();
    expect(seen).toEqual({ authorization: 'Bearer secret', certificate: undefined });
  });

  it('has a certificate, which goes with every connection', async () => {
    const own = await issue(authority);
    await open({
      'client-certificate-data': Buffer.from(own.certificate).toString('base64'),
      'client-key-data': Buffer.from(own.key).toString('base64'),
    });
    for (let i = 0; i < 10; i++) await list();
    expect(seen).toEqual({ authorization: undefined, certificate: fingerprintOf(own.certificate) });
    expect(connections).toBeLessThanOrEqual(2);
  });

  it('names a program that gives the token', async () => {
    const credential = { apiVersion: 'client.authentication.k8s.io/v1', status: { token: 'from-program' } };
    const args = ['-e', `process.stdout.write(${JSON.stringify(JSON.stringify(credential))})`];
    await open({ exec: { command: process.execPath, args } });
    await list();
    expect(seen.authorization).toBe('Bearer from-program');
  });

  it('is believed only as far as its authority goes', async () => {
    const other = await makeAuthority({ nowMs: Date.now(), lifeMs: 3_600_000 });
    write('other.crt', other.certificate);
    await open({ token: 'secret' }, { 'certificate-authority': 'other.crt' });
    await expect(list()).rejects.toThrow(/^GET \/api\/v1\/pods: .*certificate/);
    client?.close();
    await open({ token: 'secret' }, { 'insecure-skip-tls-verify': true });
    await expect(list()).resolves.toEqual({ items: [] });
  });

  it('is read anew: an authority that changed for the next request, a token after 401', async () => {
    const token = write('token', 'first');
    taken = 'first';
    await open({ 'auth-provider': { name: 'tokenFile', config: { tokenFile: token } } });
    await list();
    const next = await makeAuthority({ nowMs: Date.now(), lifeMs: 3_600_000 });
    const served = await issue(next);
    server.setSecureContext({ key: served.key, cert: served.certificate });
    write('ca.crt', next.certificate);
    await list();
    write('token', 'second');
    taken = 'second';
    await list();
    expect(seen.authorization).toBe('Bearer second');
  });

  it('names a proxy, through which all goes', async () => {
    const asked: (string | undefined)[] = [];
    const proxy = createProxy();
    proxy.on('connect', (request: IncomingMessage, socket: TLSSocket) => {
      asked.push(request.url);
      const upstream = connect((server.address() as AddressInfo).port, '127.0.0.1', () => {
        socket.write('HTTP/1.1 200 Connection Established\r\n\r\n');
        upstream.pipe(socket).pipe(upstream);
      });
      upstream.on('error', () => socket.destroy());
      socket.on('error', () => upstream.destroy());
    });
    await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
    try {
      const address = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`;
      await open({ token: 'secret' }, { 'certificate-authority': 'ca.crt', 'proxy-url': address });
      await list();
      expect(seen.authorization).toBe('Bearer secret');
      expect(asked[0]).toBe(new URL(url).host);
    } finally {
      client?.close();
      proxy.closeAllConnections();
      proxy.close();
    }
  });
});
