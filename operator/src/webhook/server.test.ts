// SPDX-License-Identifier: Apache-2.0
// The webhook over HTTPS: what a well-meaning and what a broken client get, and that the one does not disturb the other.
import { Agent, request, type RequestOptions } from 'node:https';
import type { IncomingMessage } from 'node:http';
import { connect as connectPlain } from 'node:net';
import { connect } from 'node:tls';
import { issueServing, makeAuthority, serviceNames, type KeyPair } from '../ca/certificates';
import { kMaxBodyBytes, startWebhook, type WebhookEvent, type WebhookServer } from './server';
import { applied, decoded, kSettings, reviewText } from './testing';

const kNames = serviceNames('outrigger-webhook', 'outrigger-system');
const kPod = {
  metadata: { name: 'quotes', labels: { 'outrigger.dev/inject': 'true' } },
  spec: { containers: [{ name: 'app' }] },
};

let authority: KeyPair;
let server: WebhookServer;
let events: WebhookEvent[];

beforeAll(async () => {
  authority = await makeAuthority({ nowMs: Date.now(), lifeMs: 3_600_000 });
});

async function newPair(): Promise<KeyPair> {
  return issueServing(authority, kNames, { nowMs: Date.now(), lifeMs: 3_600_000 });
}

beforeEach(async () => {
  events = [];
  server = await startWebhook(
    {
      keyPair: await newPair(),
      settings: () => kSettings,
      profiles: (namespace) => {
        if (namespace === 'faulty') {
          throw new Error('a fault of the cache');
        }
        return [];
      },
      onEvent: (event) => events.push(event),
      bodyTimeoutMs: 300,
      drainMs: 100,
    },
    { port: 0, host: '127.0.0.1' },
  );
});
afterEach(() => server.close());

interface Reply {
  readonly status: number;
  readonly body: Record<string, unknown>;
}

/** Sends as the API server does; `write` may send the body otherwise. */
function post(
  body: string,
  options: RequestOptions = {},
  write?: (send: (text: string) => void) => void,
): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const sent = request(
      {
        host: '127.0.0.1',
        port: server.port,
        path: '/inject?timeout=10s',
        method: 'POST',
        servername: kNames[0],
        ca: authority.certificate,
        agent: false,
        headers: { 'content-type': 'application/json' },
        ...options,
      },
      (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
        response.once('end', () => {
          sent.destroy();
          resolve({
            status: response.statusCode ?? 0,
            body: (text.startsWith('{') ? JSON.parse(text) : { text }) as Record<string, unknown>,
          });
        });
      },
    );
    sent.once('error', reject);
    if (write === undefined) {
      sent.end(body);
    } else {
      write((text) => void sent.write(text));
    }
  });
}

async function injectsStill(): Promise<void> {
  const { status, body } = await post(reviewText(kPod));
  expect(status).toBe(200);
  expect(decoded(body)).toMatchObject({ uid: 'request-1', allowed: true });
  expect(applied(kPod, decoded(body).patch)).toMatchObject({
    spec: { initContainers: [{ name: 'outrigger' }] },
  });
}

describe('the webhook', () => {
  test('answers a review with a patch, and says so', async () => {
    await injectsStill();
    expect(events).toMatchObject([{ outcome: 'injected', pod: 'shop/quotes' }]);
    expect(events[0]?.seconds).toBeGreaterThan(0);
  });

  test.each(['application/json', 'application/json; charset=utf-8', 'Application/JSON'])(
    'takes the content type %s',
    async (type) => {
      expect((await post(reviewText(kPod), { headers: { 'content-type': type } })).status).toBe(200);
    },
  );

  test.each(['text/plain', 'application/yaml', ''])('refuses the content type %j', async (type) => {
    const { status, body } = await post(reviewText(kPod), {
      headers: type === '' ? {} : { 'content-type': type },
    });
    expect(status).toBe(415);
    expect(body).toMatchObject({ kind: 'Status', reason: 'UnsupportedMediaType' });
    expect(body['message']).toContain('application/json');
  });

  test.each([
    ['declared', {}],
    ['of chunks', { headers: { 'content-type': 'application/json', 'transfer-encoding': 'chunked' } }],
  ])('refuses a body of 3 MB %s with 413 and a reason, and serves the next', async (_, options) => {
    const pod = { ...kPod, metadata: { ...kPod.metadata, annotations: { note: 'x'.repeat(3_000_000) } } };
    const { status, body } = await post(reviewText(pod), options).catch((error: NodeJS.ErrnoException) => {
      throw new Error(`no answer: ${error.message}`);
    });
    expect(status).toBe(413);
    expect(body).toMatchObject({ kind: 'Status', reason: 'RequestEntityTooLarge' });
    expect(body['message']).toContain(`${kMaxBodyBytes}`);
    expect(events).toMatchObject([{ outcome: 'too_large' }]);
    await injectsStill();
  });

  test('takes the largest pod that etcd would', async () => {
    const pod = { ...kPod, metadata: { ...kPod.metadata, annotations: { note: 'x'.repeat(1_500_000) } } };
    expect((await post(reviewText(pod))).status).toBe(200);
  });

  test.each(['{', '', '[]', '{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}'])(
    'refuses the malformed review %j with a reason',
    async (text) => {
      const { status, body } = await post(text);
      expect(status).toBe(400);
      expect(body).toMatchObject({ kind: 'Status', message: expect.stringMatching(/^the body is /) });
      expect(events).toMatchObject([{ outcome: 'malformed' }]);
    },
  );

  test('does not wait for a client that sends half a body, and serves others meanwhile', async () => {
    const slow = post('', {}, (send) => send('{"apiVersion":'));
    await injectsStill();
    const { status, body } = await slow;
    expect(status).toBe(408);
    expect(body).toMatchObject({ reason: 'Timeout', message: expect.stringContaining('14 bytes did') });
  });

  test('bears a client that breaks off, or speaks no TLS', async () => {
    const halfway = connect({ host: '127.0.0.1', port: server.port, rejectUnauthorized: false });
    await new Promise((resolve) => halfway.once('secureConnect', resolve));
    halfway.write(
      'POST /inject HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{',
    );
    halfway.destroy();
    const stranger = connectPlain(server.port, '127.0.0.1');
    stranger.on('error', () => undefined);
    stranger.write('GET / HTTP/1.1\r\n\r\n');
    await new Promise((resolve) => stranger.once('close', resolve));
    await injectsStill();
  });

  test('loses no request that comes while it closes, and ends each connection with an answer', async () => {
    const lasting = await startWebhook(
      { keyPair: await newPair(), settings: () => kSettings, profiles: () => [], drainMs: 60_000 },
      { port: 0, host: '127.0.0.1' },
    );
    // One connection each, as API servers keep them.
    const agents = [1, 2].map(() => new Agent({ keepAlive: true, maxSockets: 1, rejectUnauthorized: false }));
    const ask = (agent: Agent): Promise<{ headers: IncomingMessage['headers']; reused: boolean }> =>
      new Promise((resolve, reject) => {
        const headers = { 'content-type': 'application/json' };
        const to = { port: lasting.port, host: '127.0.0.1', path: '/inject', method: 'POST', headers, agent };
        const sent = request(to, (response) => {
          expect(response.statusCode).toBe(200);
          response
            .resume()
            .once('end', () => resolve({ headers: response.headers, reused: sent.reusedSocket }));
        });
        sent.once('error', reject);
        sent.end(reviewText(kPod));
      });
    for (const agent of agents) {
      const { headers } = await ask(agent);
      // An API server closes an idle one after 90 s: first.
      expect(headers).toMatchObject({ connection: 'keep-alive', 'keep-alive': 'timeout=120' });
    }
    const closed = lasting.close();
    for (const agent of agents) {
      expect(await ask(agent)).toMatchObject({ reused: true, headers: { connection: 'close' } });
    }
    await closed; // at once: nothing is open any more
    agents.forEach((agent) => agent.destroy());
  });

  test('says where it is and how', async () => {
    expect(await post('', { path: '/mutate' })).toMatchObject({
      status: 404,
      body: { message: expect.stringContaining('/inject') },
    });
    expect(await post('', { method: 'PUT' })).toMatchObject({ status: 405 });
    expect(await post('', { path: '/healthz', method: 'GET' })).toMatchObject({ status: 200 });
  });

  test('a fault of ours is an error with its reason, not a crash', async () => {
    const { status, body } = await post(reviewText(kPod, 'u', { namespace: 'faulty' }));
    expect(status).toBe(500);
    expect(body).toMatchObject({ kind: 'Status', message: expect.stringContaining('a fault of the cache') });
    await injectsStill();
  });

  test('shows a new certificate to new connections, while an open one goes on', async () => {
    const shown = (): Promise<string> =>
      new Promise((resolve, reject) => {
        const socket = connect(
          {
            host: '127.0.0.1',
            port: server.port,
            ca: authority.certificate,
            servername: kNames[0],
          },
          () => {
            resolve(socket.getPeerCertificate().fingerprint256);
            socket.destroy();
          },
        );
        socket.once('error', reject);
      });
    const before = await shown();
    const open = post('', {}, (send) => {
      send(reviewText(kPod).slice(0, 100));
      void newPair().then((pair) => {
        server.setKeyPair(pair);
        send(reviewText(kPod).slice(100));
      });
    });
    // Its body has no end: it is answered with the time-out, over the connection that began under the old certificate.
    expect((await open).status).toBe(408);
    expect(await shown()).not.toBe(before);
    await injectsStill();
  });

  test('a pair that does not belong together is refused, and the one before stays', async () => {
    const [one, two] = [await newPair(), await newPair()];
    expect(() => server.setKeyPair({ certificate: one.certificate, key: two.key })).toThrow();
    await injectsStill();
  });

  test('a client that trusts another CA is not served', async () => {
    const other = await makeAuthority({ nowMs: Date.now(), lifeMs: 3_600_000 });
    await expect(post(reviewText(kPod), { ca: other.certificate })).rejects.toThrow(/certificate/);
    await expect(post(reviewText(kPod), { servername: 'elsewhere.svc' })).rejects.toThrow(/altname/i);
  });

  test('says which port is taken', async () => {
    const again = startWebhook(
      { keyPair: await newPair(), settings: () => kSettings, profiles: () => [] },
      { port: server.port, host: '127.0.0.1' },
    );
    await expect(again).rejects.toThrow(`the webhook can't listen on port ${server.port}`);
  });
});
