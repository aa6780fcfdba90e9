// SPDX-License-Identifier: Apache-2.0
// The webhook's HTTPS server: limits, time-outs and errors of HTTP. What an AdmissionReview is answered is review.ts; certificates come from ca/.
import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { hostToBind } from '../../../sidecar/src/base/any_address';
import { sleep } from '../base/clock';
import type { KeyPair } from '../ca/certificates';
import { kInjectPath } from './layout';
import { MalformedReview, review, type Outcome, type ReviewContext, type Reviewed } from './review';

/** etcd takes no object above 1.5 MiB, and a review of a CREATE holds one object and a little around it. */
export const kMaxBodyBytes = 2 * 1024 ** 2;
/** The configuration gives us 10 s; whoever needs longer to send a pod is answered before the API server gives up. */
const kBodyTimeoutMs = 8000;
const kHeadersTimeoutMs = 5000;
/** One connection an API server and HTTP/1.1 keep-alive: hundreds would be no API server. */
const kMaxConnections = 512;

/**
 * Longer than an API server keeps an idle connection (90 s, Go's http.Transport as client-go sets it up): who closes one first has the other's next
 * request run into it, and with this webhook's failurePolicy a pod is refused.
 */
const kKeepAliveMs = 120_000;
/** How long connections that are open may still bring requests when the server closes: each that does is told to come no more by its answer. */
const kDrainMs = 2000;

/** What happened to a request, for metrics and log. */
export interface WebhookEvent {
  /** An outcome of a review, or the status of what was no review. */
  readonly outcome: Outcome | 'malformed' | 'too_large' | 'too_slow' | 'bad_request';
  readonly pod?: string;
  readonly message?: string;
  readonly seconds: number;
}

export interface WebhookOptions extends ReviewContext {
  readonly keyPair: KeyPair;
  readonly onEvent?: (event: WebhookEvent) => void;
  /** For tests: shorter than the defaults. */
  readonly bodyTimeoutMs?: number;
  readonly drainMs?: number;
}

export interface WebhookServer {
  readonly port: number;
  /** New connections get the new certificate; those that are open stay. */
  setKeyPair(keyPair: KeyPair): void;
  /** Answers what comes over connections that are open, and ends each with its answer; then, or soon, all of it ends. */
  close(): Promise<void>;
}

class HttpProblem extends Error {
  constructor(
    readonly code: number,
    readonly reason: string,
    readonly outcome: WebhookEvent['outcome'],
    message: string,
  ) {
    super(message);
  }
}

/** How long the rest of a body is thrown away before the connection closes under it. */
const kLingerMs = 500;

/** A Status of Kubernetes: what the API server shows of an answer that is no review. */
function sendStatus(request: IncomingMessage, response: ServerResponse, problem: HttpProblem): void {
  const { code, reason, message } = problem;
  const body = JSON.stringify({ apiVersion: 'v1', kind: 'Status', status: 'Failure', code, reason, message });
  response.writeHead(code, {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(body),
    // The rest of a body that nobody reads would be taken for the next request.
    connection: 'close',
  });
  response.write(body);
  if (request.complete || request.destroyed) {
    response.end();
    return;
  }
  // To close with bytes unread resets the connection, and the client may lose the answer that is on its way.
  const timer = setTimeout(() => response.end(), kLingerMs);
  request.resume();
  request.once('close', () => {
    clearTimeout(timer);
    response.end();
  });
}

function checkHead(request: IncomingMessage): void {
  if (request.method !== 'POST') {
    const problem = `${request.method} ${kInjectPath}: only POST`;
    throw new HttpProblem(405, 'MethodNotAllowed', 'bad_request', problem);
  }
  const type = request.headers['content-type'] ?? '';
  if (type.split(';', 1)[0]?.trim().toLowerCase() !== 'application/json') {
    const problem = `content type ${JSON.stringify(type)}: must be application/json`;
    throw new HttpProblem(415, 'UnsupportedMediaType', 'bad_request', problem);
  }
  const length = Number(request.headers['content-length'] ?? 0);
  if (length > kMaxBodyBytes) {
    throw tooLarge(`${length} bytes`);
  }
}

function tooLarge(size: string): HttpProblem {
  return new HttpProblem(
    413,
    'RequestEntityTooLarge',
    'too_large',
    `the AdmissionReview has ${size}; at most ${kMaxBodyBytes} are taken: make the pod smaller (annotations, environment)`,
  );
}

function readBody(request: IncomingMessage, timeoutMs: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let length = 0;
    const timer = setTimeout(() => {
      const problem = `the body did not come within ${timeoutMs} ms; ${length} bytes did`;
      reject(new HttpProblem(408, 'Timeout', 'too_slow', problem));
    }, timeoutMs);
    const end = (action: () => void): void => {
      clearTimeout(timer);
      action();
    };
    request.on('data', (chunk: Buffer) => {
      length += chunk.length;
      if (length > kMaxBodyBytes) {
        end(() => reject(tooLarge(`more than ${kMaxBodyBytes} bytes`)));
      } else {
        chunks.push(chunk);
      }
    });
    request.once('end', () => end(() => resolve(Buffer.concat(chunks).toString('utf8'))));
    request.once('close', () =>
      end(() =>
        reject(new HttpProblem(400, 'BadRequest', 'bad_request', 'the connection closed within the body')),
      ),
    );
  });
}

async function answerReview(request: IncomingMessage, options: WebhookOptions): Promise<Reviewed> {
  checkHead(request);
  const body = await readBody(request, options.bodyTimeoutMs ?? kBodyTimeoutMs);
  try {
    return review(body, options);
  } catch (error) {
    if (error instanceof MalformedReview) {
      throw new HttpProblem(400, 'BadRequest', 'malformed', error.message);
    }
    throw error;
  }
}

async function handle(
  request: IncomingMessage,
  response: ServerResponse,
  options: WebhookOptions,
): Promise<void> {
  const startedAt = performance.now();
  const report = (outcome: WebhookEvent['outcome'], about: { pod?: string; message?: string }): void =>
    options.onEvent?.({ outcome, ...about, seconds: (performance.now() - startedAt) / 1000 });
  try {
    const { outcome, answer, pod, message } = await answerReview(request, options);
    response.writeHead(200, { 'content-type': 'application/json' });
    response.end(JSON.stringify(answer));
    report(outcome, message === undefined ? { pod } : { pod, message });
  } catch (error) {
    const problem =
      error instanceof HttpProblem
        ? error
        : new HttpProblem(
            500,
            'InternalError',
            'error',
            `a fault in the injector: ${(error as Error).message}`,
          );
    sendStatus(request, response, problem);
    report(problem.outcome, {
      message: error instanceof HttpProblem ? problem.message : `${(error as Error).stack}`,
    });
  }
}

function route(request: IncomingMessage, response: ServerResponse, options: WebhookOptions): void {
  const path = (request.url ?? '/').split('?', 1)[0];
  if (path === kInjectPath) {
    void handle(request, response, options);
  } else if (path === '/healthz' && request.method === 'GET') {
    response.writeHead(200, { 'content-type': 'text/plain' });
    response.end('ok\n');
  } else {
    const problem = `${path}: not here; ${kInjectPath} and /healthz are`;
    sendStatus(request, response, new HttpProblem(404, 'NotFound', 'bad_request', problem));
  }
}

function listen(server: Server, port: number, host: string | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error) =>
      reject(new Error(`the webhook can't listen on port ${port}: ${error.message}`, { cause: error })),
    );
    server.listen(port, host, resolve);
  });
}

/** Resolves when all of these have closed, or after so long. */
async function allGone(connections: ReadonlySet<Duplex>, milliseconds: number): Promise<void> {
  const over = new AbortController();
  const closed = [...connections].map((each) => once(each, 'close', { signal: over.signal }));
  await Promise.race([Promise.allSettled(closed), sleep(milliseconds, over.signal)]);
  over.abort();
}

/** Listens on all addresses unless told otherwise; port 0 takes a free one. */
export async function startWebhook(
  options: WebhookOptions,
  address: { readonly port: number; readonly host?: string },
): Promise<WebhookServer> {
  const tls = ({ certificate, key }: KeyPair) => ({ cert: certificate, key, minVersion: 'TLSv1.2' as const });
  let drains = false;
  const server = createServer(tls(options.keyPair), (request, response) => {
    if (drains) {
      response.setHeader('connection', 'close');
    }
    route(request, response, options);
  });
  server.keepAliveTimeout = kKeepAliveMs;
  server.maxConnections = kMaxConnections;
  server.headersTimeout = kHeadersTimeoutMs;
  // Longer than the body's own, which answers with a reason.
  server.requestTimeout = 2 * kBodyTimeoutMs;
  const connections = new Set<Duplex>();
  server.on('connection', (socket) => {
    connections.add(socket);
    socket.once('close', () => connections.delete(socket));
  });
  // What does not speak TLS, or breaks off, is its own problem.
  server.on('tlsClientError', () => undefined);
  const host = address.host === undefined ? undefined : await hostToBind(address.host);
  await listen(server, address.port, host);
  return {
    port: (server.address() as AddressInfo).port,
    setKeyPair: (keyPair) => server.setSecureContext(tls(keyPair)),
    close: async () => {
      drains = true;
      await allGone(connections, options.drainMs ?? kDrainMs);
      await new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeIdleConnections();
        // Answers take milliseconds; a client that still sends is not waited for longer than it could be.
        setTimeout(() => server.closeAllConnections(), options.bodyTimeoutMs ?? kBodyTimeoutMs).unref();
      });
    },
  };
}
