// SPDX-License-Identifier: Apache-2.0
// Requests to the API server: pooled connections, time limits, client-side rate, Retry-After, fresh credentials after 401. JSON in, JSON out.
// What a resource is called and what a watch means is not known here.
import {
  Agent as HttpAgent,
  request as httpRequest,
  type ClientRequest,
  type IncomingMessage,
} from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { kSystemClock, sleep, type Clock } from '../base/clock';
import { TokenBucket } from '../base/token_bucket';
import { apiError, ApiError, isStatus } from './api_error';
import type { ClusterAuth, TlsOptions } from './auth';
import type { Throttling } from './throttling';

export interface ApiRequest {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  readonly path: string;
  readonly query?: Readonly<Record<string, string | number | boolean | undefined>>;
  readonly body?: unknown;
  readonly contentType?: string;
  readonly signal?: AbortSignal;
}

export interface ApiClientOptions {
  readonly auth: ClusterAuth;
  readonly userAgent: string;
  /** Of a request that is no watch. */
  readonly timeoutMs?: number;
  /** Requests a second and at once. client-go's controllers have 20 and 30; these serve several controllers. */
  readonly perSecond?: number;
  readonly burst?: number;
  readonly clock?: Clock;
  /** Called for each answer (status 0: none came), for metrics. */
  readonly observe?: (method: string, status: number, seconds: number) => void;
  /** Told when the server is too busy, and when it answers. */
  readonly throttling?: Throttling;
}

/** Tries of a request that the server was too busy for. Longer waits are for who retries the whole work. */
const kBusyTries = 3;
/** Of an answer 429 that does not say it. */
const kBusyMs = 1000;
/** Longest Retry-After that is waited for in place. */
const kLongestWaitMs = 5000;
/** An object is at most 1.5 MiB in etcd; a page of a list has up to 500. */
const kLongestAnswer = 256 * 1024 * 1024;

const kNever = new AbortController().signal;

export class ApiClient {
  private readonly bucket: TokenBucket;
  private readonly clock: Clock;
  private agent: HttpAgent | undefined;
  private agentTls: TlsOptions = {};

  constructor(private readonly options: ApiClientOptions) {
    this.clock = options.clock ?? kSystemClock;
    this.bucket = new TokenBucket(options.perSecond ?? 50, options.burst ?? 100, this.clock);
  }

  /** The answer's JSON. Throws ApiError. */
  async request<T>(request: ApiRequest): Promise<T> {
    const signal = request.signal ?? kNever;
    let refreshed = false;
    for (let tries = 1; ; tries++) {
      try {
        return await this.once<T>(request, signal);
      } catch (error) {
        if (isStatus(error, 401) && !refreshed) {
          refreshed = true;
          this.options.auth.refresh();
          continue;
        }
        // 429 says that nothing was done, so that every method may be tried again (RFC 6585, section 4).
        const waitMs = isStatus(error, 429) ? (error.retryAfterMs ?? kBusyMs) : Infinity;
        if (tries >= kBusyTries || waitMs > kLongestWaitMs) {
          throw error;
        }
        await sleep(waitMs, signal);
        if (signal.aborted) {
          throw error;
        }
      }
    }
  }

  /** The answer's body as it comes, for a watch. Throws ApiError unless the status is 200. The body ends with an error when `silenceMs` pass without a byte. */
  async stream(request: ApiRequest, silenceMs: number): Promise<IncomingMessage> {
    const signal = request.signal ?? kNever;
    for (let refreshed = false; ; refreshed = true) {
      const started = this.clock.monotonicMs();
      const response = await this.send(request, signal, silenceMs);
      const status = response.statusCode ?? 0;
      this.observe('WATCH', status, started);
      if (status === 200) {
        this.options.throttling?.answered();
        response.setTimeout(silenceMs, () => response.destroy(new Error(`nothing came for ${silenceMs} ms`)));
        return response;
      }
      const body = await bodyOf(response, this.timeoutMs);
      const error = this.failure(`WATCH ${request.path}`, response, body);
      if (status !== 401 || refreshed) {
        throw error;
      }
      this.options.auth.refresh();
    }
  }

  /** Closes idle connections. */
  close(): void {
    this.agent?.destroy();
  }

  private get timeoutMs(): number {
    return this.options.timeoutMs ?? 30_000;
  }

  private observe(method: string, status: number, startedMs: number): void {
    this.options.observe?.(method, status, (this.clock.monotonicMs() - startedMs) / 1000);
  }

  private failure(request: string, { statusCode = 0, headers }: IncomingMessage, body: string): ApiError {
    const error = apiError(request, statusCode, body, headers['retry-after']);
    if (statusCode === 429) {
      this.options.throttling?.refused({
        request,
        retryAfterMs: error.retryAfterMs ?? kBusyMs,
        flowSchema: textOf(headers['x-kubernetes-pf-flowschema-uid']),
        priorityLevel: textOf(headers['x-kubernetes-pf-prioritylevel-uid']),
      });
    } else {
      this.options.throttling?.answered();
    }
    return error;
  }

  private async once<T>(request: ApiRequest, signal: AbortSignal): Promise<T> {
    const started = this.clock.monotonicMs();
    let status = 0;
    try {
      const response = await this.send(request, signal, this.timeoutMs);
      const body = await bodyOf(response, this.timeoutMs);
      status = response.statusCode ?? 0;
      if (status < 200 || status > 299) {
        throw this.failure(`${request.method} ${request.path}`, response, body);
      }
      this.options.throttling?.answered();
      return JSON.parse(body) as T;
    } catch (error) {
      throw error instanceof ApiError
        ? error
        : new ApiError(0, '', `${request.method} ${request.path}: ${(error as Error).message}`);
    } finally {
      this.observe(request.method, status, started);
    }
  }

  /** Headers of the answer have come when this resolves. */
  private async send(request: ApiRequest, signal: AbortSignal, timeoutMs: number): Promise<IncomingMessage> {
    await this.bucket.take(signal);
    const { auth } = this.options;
    const { headers, tls } = await auth.credentials();
    const url = new URL(auth.server + request.path);
    for (const [name, value] of Object.entries(request.query ?? {})) {
      if (value !== undefined) {
        url.searchParams.set(name, String(value));
      }
    }
    const body = request.body === undefined ? undefined : JSON.stringify(request.body);
    const options = {
      method: request.method,
      agent: this.agentFor(url, tls),
      signal,
      headers: {
        ...headers,
        accept: 'application/json',
        'user-agent': this.options.userAgent,
        ...(body === undefined
          ? {}
          : {
              'content-type': request.contentType ?? 'application/json',
              'content-length': Buffer.byteLength(body),
            }),
      },
    };
    return new Promise((resolve, reject) => {
      const sent: ClientRequest =
        url.protocol === 'https:'
          ? httpsRequest(url, { ...options, ...tls }, resolve)
          : httpRequest(url, options, resolve);
      sent.setTimeout(timeoutMs, () => sent.destroy(new Error(`no answer within ${timeoutMs} ms`)));
      sent.once('error', (error: Error) => {
        reject(new ApiError(0, '', `${request.method} ${request.path}: ${error.message}`));
      });
      sent.end(body);
    });
  }

  /** One pool of connections, made anew when certificates change. */
  private agentFor(url: URL, tls: TlsOptions): HttpAgent {
    const same = JSON.stringify(this.agentTls) === JSON.stringify(tls);
    if (this.agent === undefined || !same) {
      this.agent?.destroy();
      this.agentTls = tls;
      // 30 s keeps connections alive over load balancers that forget idle ones after 60 s.
      const keep = { keepAlive: true, keepAliveMsecs: 30_000, maxFreeSockets: 16 };
      this.agent = url.protocol === 'https:' ? new HttpsAgent({ ...keep, ...tls }) : new HttpAgent(keep);
    }
    return this.agent;
  }
}

function textOf(header: string | string[] | undefined): string | undefined {
  return typeof header === 'string' ? header : header?.[0];
}

async function bodyOf(response: IncomingMessage, timeoutMs: number): Promise<string> {
  response.setTimeout(timeoutMs, () => response.destroy(new Error(`the answer stopped for ${timeoutMs} ms`)));
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    chunks.push(chunk);
    length += chunk.length;
    if (length > kLongestAnswer) {
      response.destroy();
      throw new Error(`the answer is longer than ${kLongestAnswer} bytes`);
    }
  }
  return Buffer.concat(chunks).toString('utf8');
}
