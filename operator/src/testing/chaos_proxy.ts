// SPDX-License-Identifier: Apache-2.0
// What goes wrong between a client and an API server, by chance from a seed: a proxy that stands before any of them, fake or real.
import {
  createServer,
  request as httpRequest,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { ClusterAuth } from '../kit/auth';
import type { Random } from '../base/clock';

/** Chances from 0 to 1. */
export interface Faults {
  /** The connection is cut before the request reaches the server. */
  readonly cutBefore: number;
  /** It reaches the server, and the answer gets lost. */
  readonly cutAfter: number;
  readonly unauthorized: number;
  /** 429 with Retry-After. */
  readonly tooMany: number;
  readonly serverError: number;
  /** 410 instead of a watch or of a further page. */
  readonly gone: number;
  /** Of each event of a watch: */
  readonly duplicateEvent: number;
  readonly dropEvent: number;
  readonly slowEvent: number;
  /** The watch ends after an event; */
  readonly cutWatch: number;
  /** within an event: half a line; */
  readonly halfLine: number;
  /** with an ERROR event that says 410. */
  readonly errorEvent: number;
}

export const kCalm: Faults = {
  cutBefore: 0,
  cutAfter: 0,
  unauthorized: 0,
  tooMany: 0,
  serverError: 0,
  gone: 0,
  duplicateEvent: 0,
  dropEvent: 0,
  slowEvent: 0,
  cutWatch: 0,
  halfLine: 0,
  errorEvent: 0,
};

export const kStorm: Faults = {
  cutBefore: 0.05,
  cutAfter: 0.05,
  unauthorized: 0.05,
  tooMany: 0.03,
  serverError: 0.05,
  gone: 0.1,
  duplicateEvent: 0.15,
  dropEvent: 0.05,
  slowEvent: 0.1,
  cutWatch: 0.05,
  halfLine: 0.05,
  errorEvent: 0.03,
};

export class ChaosProxy {
  faults: Faults = kCalm;
  /** Of answers 429. */
  retryAfterSeconds = 1;
  /** How often each fault struck. */
  readonly struck = new Map<keyof Faults, number>();
  private readonly server: Server;

  constructor(
    private readonly upstream: ClusterAuth,
    private readonly random: Random,
  ) {
    this.server = createServer((request, response) => void this.handle(request, response));
  }

  get url(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  start(): Promise<void> {
    return new Promise((resolve) => this.server.listen(0, '127.0.0.1', resolve));
  }

  stop(): Promise<void> {
    return new Promise((resolve) => {
      this.server.close(() => resolve());
      this.server.closeAllConnections();
    });
  }

  /** Cuts every connection there is, watches too. */
  cutAll(): void {
    this.server.closeAllConnections();
  }

  private strikes(fault: keyof Faults): boolean {
    if (this.random() >= this.faults[fault]) {
      return false;
    }
    this.struck.set(fault, (this.struck.get(fault) ?? 0) + 1);
    return true;
  }

  private async handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', this.url);
    const isWatch = url.searchParams.get('watch') === 'true';
    const chunks: Buffer[] = [];
    try {
      for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
    } catch {
      return; // the client went away
    }
    const canBeGone = isWatch || url.searchParams.has('continue');
    if (this.strikes('cutBefore')) {
      response.destroy();
    } else if (this.strikes('unauthorized')) {
      refuse(response, 401, 'Unauthorized');
    } else if (this.strikes('tooMany')) {
      refuse(response, 429, 'TooManyRequests', { 'retry-after': String(this.retryAfterSeconds) });
    } else if (this.strikes('serverError')) {
      refuse(response, 500, 'InternalError');
    } else if (canBeGone && this.strikes('gone')) {
      refuse(response, 410, 'Expired');
    } else {
      await this.forward(request, Buffer.concat(chunks), response, isWatch);
    }
  }

  /** Never rejects: a connection that breaks on one side is broken on the other. */
  private async forward(
    request: IncomingMessage,
    body: Buffer,
    response: ServerResponse,
    isWatch: boolean,
  ): Promise<void> {
    try {
      await this.pass(request, body, response, isWatch);
    } catch {
      response.destroy();
    }
  }

  private async pass(
    request: IncomingMessage,
    body: Buffer,
    response: ServerResponse,
    isWatch: boolean,
  ): Promise<void> {
    const { headers, tls } = await this.upstream.credentials();
    const url = new URL(this.upstream.server + (request.url ?? '/'));
    const type = request.headers['content-type'];
    const options = {
      method: request.method,
      headers: {
        ...headers,
        accept: 'application/json',
        ...(type === undefined ? {} : { 'content-type': type }),
        ...(body.length === 0 ? {} : { 'content-length': body.length }),
      },
    };
    const answer = await new Promise<IncomingMessage>((resolve, reject) => {
      const sent =
        url.protocol === 'https:'
          ? httpsRequest(url, { ...options, ...tls }, resolve)
          : httpRequest(url, options, resolve);
      sent.once('error', reject);
      response.once('close', () => sent.destroy());
      sent.end(body);
    });
    if (!isWatch && this.strikes('cutAfter')) {
      answer.destroy();
      response.destroy();
      return;
    }
    response.writeHead(answer.statusCode ?? 500, {
      'content-type': answer.headers['content-type'] ?? 'application/json',
    });
    response.flushHeaders();
    if (isWatch && answer.statusCode === 200) {
      await this.relay(answer, response);
    } else {
      for await (const chunk of answer as AsyncIterable<Buffer>) response.write(chunk);
    }
    response.end();
  }

  /** Passes a watch on, line by line, with its share of trouble. */
  private async relay(answer: IncomingMessage, response: ServerResponse): Promise<void> {
    let rest = '';
    let last = '';
    for await (const chunk of answer as AsyncIterable<Buffer>) {
      const lines = (rest + chunk.toString('utf8')).split('\n'); // test objects are ASCII
      rest = lines.pop() as string;
      for (const line of lines) {
        if (this.strikes('dropEvent')) continue;
        if (this.strikes('slowEvent'))
          await new Promise((resolve) => setTimeout(resolve, 50 * this.random()));
        if (this.strikes('halfLine')) {
          response.write(line.slice(0, Math.floor(line.length * this.random())));
          return;
        }
        if (this.strikes('errorEvent')) {
          response.write(
            `${JSON.stringify({ type: 'ERROR', object: { code: 410, reason: 'Expired', message: 'too old resource version' } })}\n`,
          );
          return;
        }
        response.write(`${line}\n`);
        if (last !== '' && this.strikes('duplicateEvent'))
          response.write(`${this.random() < 0.5 ? line : last}\n`);
        last = line;
        if (this.strikes('cutWatch')) {
          response.destroy();
          return;
        }
      }
    }
  }
}

function refuse(
  response: ServerResponse,
  code: number,
  reason: string,
  headers: Record<string, string> = {},
): void {
  const body = JSON.stringify({
    kind: 'Status',
    apiVersion: 'v1',
    status: 'Failure',
    reason,
    code,
    message: `${reason} by chance`,
  });
  response.writeHead(code, { 'content-type': 'application/json', ...headers });
  response.end(body);
}
