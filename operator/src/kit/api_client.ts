// SPDX-License-Identifier: Apache-2.0
// Requests to the API server. @kubernetes/client-node makes and sends them: its calls for objects of any kind (CustomObjectsApi, with
// server-side apply), its kubeconfig (auth.ts). Added here: a client-side rate, what is tried again and when, limits of time and length,
// connections that are kept, and the opening of watches. What a resource is called is not known here.
//
// Of client-node 2.0.1, this is not used, since it harms:
// - Its typed APIs (CoreV1Api and its like) and KubernetesObjectApi pass objects through the models of one release: a field that is newer is
//   lost, so that a controller which writes back what it read removes it. KubernetesObjectApi also loses metadata.continue of lists of
//   custom resources, knows no subresource, and asks the discovery API before its first request of a kind.
// - Its Watch asks for no bookmarks by itself, skips lines that are no JSON, and can't tell a 410 within the stream from an end.
// - KubeConfig.applySecurityAuthentication makes a new pool of connections, with a TLS handshake, for each request.
// - Its HTTP library (fetch of undici, as here) follows redirects: a body with a token or a key would go wherever an answer says.
import {
  createConfiguration,
  CustomObjectsApi,
  RequestContext,
  ResponseContext,
  wrapHttpLibrary,
  type Configuration,
} from '@kubernetes/client-node';
import { fetch, type RequestInit } from 'undici';
import { kSystemClock, sleep, type Clock } from '../base/clock';
import { TokenBucket } from '../base/token_bucket';
import { jsonAnswer, piecesOf, troubleOf, wholeAnswer } from './api_answer';
import { apiError, ApiError, isStatus } from './api_error';
import type { ClusterAuth } from './auth';
import { Connections, type Lease } from './connections';
import type { Throttling } from './throttling';

/** One request, by client-node's calls for objects of any kind. The core group is the group ''. */
export type ObjectsCall = (objects: CustomObjectsApi) => Promise<unknown>;

/** One request by its path, for what isn't about objects, or knows only a path. */
export interface ApiRequest extends CallOptions {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  readonly path: string;
  readonly query?: Readonly<Record<string, string | number | boolean | undefined>>;
  readonly body?: unknown;
}

export interface CallOptions {
  readonly signal?: AbortSignal;
  /** Of the body; without it, what client-node takes. */
  readonly contentType?: string;
  /** Tries while the server is too busy (429); 1 for who would rather do something else meanwhile. */
  readonly busyTries?: number;
}

export interface ApiClientOptions {
  readonly auth: ClusterAuth;
  readonly userAgent: string;
  /** Longest time without a byte, of a request that is no watch. */
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

/** Tries of a request that the server was too busy for, unless its caller says how many. Longer waits are for who retries the whole work. */
const kBusyTries = 3;
/** Of an answer 429 that does not say it. */
const kBusyMs = 1000;
/** Longest Retry-After that is waited for in place. */
const kLongestWaitMs = 5000;

const kNever = new AbortController().signal;

const kHttp = wrapHttpLibrary({ send: exchanged });

/** Takes the answer when its headers have come, and gives what client-node reads as its body. Throws ApiError. */
type TakeAnswer = (response: ResponseContext, what: string) => Promise<string>;

type Send = (configuration: Configuration) => Promise<unknown>;

interface Exchange extends CallOptions {
  readonly signal: AbortSignal;
  /** For metrics; without it, the method of HTTP. */
  readonly verb?: string;
  readonly silenceMs: number;
  readonly take: TakeAnswer;
  readonly lease: Lease;
}

export class ApiClient {
  private readonly bucket: TokenBucket;
  private readonly clock: Clock;
  private readonly connections: Connections;

  constructor(
    private readonly options: ApiClientOptions,
    connections?: Connections,
  ) {
    this.clock = options.clock ?? kSystemClock;
    this.bucket = new TokenBucket(options.perSecond ?? 50, options.burst ?? 100, this.clock);
    this.connections = connections ?? new Connections(this.timeoutMs);
  }

  /** For work that must not wait for other work: over the same connections, which end with either client, at a rate of its own that is as high. */
  withOwnRate(): ApiClient {
    return new ApiClient(this.options, this.connections);
  }

  /** The answer's JSON. Throws ApiError. */
  call<T>(call: ObjectsCall, options: CallOptions = {}): Promise<T> {
    return this.answer<T>((configuration) => call(new CustomObjectsApi(configuration)), options);
  }

  /** The same, by a path. */
  request<T>(request: ApiRequest): Promise<T> {
    return this.answer<T>((configuration) => requestAt(configuration, request), request);
  }

  private async answer<T>(
    send: Send,
    { signal = kNever, busyTries = kBusyTries, ...options }: CallOptions,
  ): Promise<T> {
    let refreshed = false;
    for (let tries = 1; ; tries++) {
      const lease = this.connections.lease();
      try {
        const exchange = { ...options, signal, silenceMs: this.timeoutMs, take: wholeAnswer, lease };
        return (await this.once(send, exchange).finally(lease.end)) as T;
      } catch (error) {
        if (isStatus(error, 401) && !refreshed) {
          refreshed = true;
          this.options.auth.refresh();
          continue;
        }
        // 429 says that nothing was done, so that every method may be tried again (RFC 6585, section 4).
        const waitMs = isStatus(error, 429) ? (error.retryAfterMs ?? kBusyMs) : Infinity;
        if (tries >= busyTries || waitMs > kLongestWaitMs) {
          throw error;
        }
        await sleep(waitMs, signal);
        if (signal.aborted) {
          throw error;
        }
      }
    }
  }

  /**
   * The answer's body as it comes, of a list with `watch: true`; to be iterated at once, and closed by the end of the iteration.
   * Throws ApiError unless the status is 200. The body ends with an error when `silenceMs` pass without a byte.
   */
  async stream(
    call: ObjectsCall,
    silenceMs: number,
    { signal = kNever }: Pick<CallOptions, 'signal'> = {},
  ): Promise<AsyncIterable<Uint8Array>> {
    for (let refreshed = false; ; refreshed = true) {
      let body: ReadableStream<Uint8Array> | null = null;
      const take: TakeAnswer = async (response, what) => {
        if (response.httpStatusCode !== 200) {
          const text = await wholeAnswer(response, what);
          throw apiError(what, response.httpStatusCode, text === '' ? 'no watch' : text);
        }
        body = response.body.stream();
        return '{}';
      };
      const lease = this.connections.lease();
      try {
        const send: Send = (configuration) => call(new CustomObjectsApi(configuration));
        await this.once(send, { signal, verb: 'WATCH', silenceMs, take, lease });
        return piecesOf(body, silenceMs, lease.end);
      } catch (error) {
        lease.end();
        if (!isStatus(error, 401) || refreshed) {
          throw error;
        }
        this.options.auth.refresh();
      }
    }
  }

  /** Closes the connections, with what runs over them. Whoever asks afterwards gets an error: a connection made then would never be closed. */
  close(): void {
    this.connections.destroy();
  }

  private get timeoutMs(): number {
    return this.options.timeoutMs ?? 30_000;
  }

  /** Tells of an answer that is no success. */
  private failed(
    request: string,
    { status, retryAfterMs = kBusyMs }: ApiError,
    { headers }: ResponseContext,
  ): void {
    if (status === 429) {
      this.options.throttling?.refused({
        request,
        retryAfterMs,
        flowSchema: headers['x-kubernetes-pf-flowschema-uid'],
        priorityLevel: headers['x-kubernetes-pf-prioritylevel-uid'],
      });
    } else {
      this.options.throttling?.answered();
    }
  }

  private async once(send: Send, exchange: Exchange): Promise<unknown> {
    const { signal, silenceMs } = exchange;
    const started = this.clock.monotonicMs();
    let verb = exchange.verb ?? '';
    let what = '';
    let status = 0;
    const configuration = createConfiguration({
      httpApi: kHttp,
      baseServer: {
        makeRequestContext: (endpoint, method) => {
          const path = pathOf(endpoint);
          verb ||= method;
          what = `${verb} ${path}`;
          return new RequestContext(this.options.auth.server + path, method);
        },
      },
      authMethods: {
        default: {
          getName: () => 'the credentials of this moment',
          applySecurityAuthentication: async (request) => {
            await this.bucket.take(signal);
            await this.secure(request, exchange);
          },
        },
      },
      promiseMiddleware: [
        {
          pre: (request) => {
            request.setHeaderParam('User-Agent', this.options.userAgent);
            if (exchange.contentType !== undefined) {
              request.setHeaderParam('Content-Type', exchange.contentType);
            }
            if (signal !== kNever) {
              request.setSignal(signal);
            }
            return Promise.resolve(request);
          },
          post: async (response) => {
            try {
              const text = await exchange.take(response, what);
              status = response.httpStatusCode;
              this.options.throttling?.answered();
              return jsonAnswer(response, text);
            } catch (error) {
              if (error instanceof ApiError) {
                status = error.status;
                this.failed(what, error, response);
              }
              throw error;
            }
          },
        },
      ],
    });
    try {
      return await send(configuration);
    } catch (error) {
      throw error instanceof ApiError
        ? error
        : new ApiError(0, '', `${what}: ${troubleOf(error, silenceMs)}`);
    } finally {
      this.options.observe?.(verb, status, (this.clock.monotonicMs() - started) / 1000);
    }
  }

  private async secure(request: RequestContext, { silenceMs, lease }: Exchange): Promise<void> {
    const read = this.connections.beginRead();
    const credentials = await this.options.auth.credentials();
    if (this.connections.closed) {
      throw new Error('the client is closed');
    }
    for (const [name, value] of Object.entries(credentials.headers)) {
      request.setHeaderParam(name, value);
    }
    const limits = { headersTimeout: silenceMs, bodyTimeout: silenceMs };
    request.setDispatcher(
      lease
        .from(credentials, read)
        .compose((dispatch) => (options, handler) => dispatch({ ...options, ...limits }, handler)),
    );
  }
}

/** As client-node sends a request, but a redirect is an answer like any other: credentials and bodies go to the server of the kubeconfig alone. */
async function exchanged(request: RequestContext): Promise<ResponseContext> {
  const options = {
    method: request.getHttpMethod(),
    body: request.getBody(),
    headers: request.getHeaders(),
    signal: request.getSignal(),
    dispatcher: request.getDispatcher(),
    redirect: 'manual',
  };
  const answer = await fetch(request.getUrl(), options as RequestInit);
  return new ResponseContext(answer.status, Object.fromEntries(answer.headers), {
    text: () => answer.text(),
    binary: async () => Buffer.from(await answer.arrayBuffer()),
    stream: () => answer.body as ReadableStream<Uint8Array> | null,
  });
}

/** client-node's calls for any object know groups only, and the core group has a root of its own. */
function pathOf(endpoint: string): string {
  return endpoint.replace(/^\/apis\/\//, '/api/');
}

/** What client-node's own calls do with a request that they made. */
async function requestAt(configuration: Configuration, request: ApiRequest): Promise<unknown> {
  const { baseServer, authMethods, middleware, httpApi } = configuration;
  const context = baseServer.makeRequestContext(request.path, request.method);
  for (const [name, value] of Object.entries(request.query ?? {})) {
    if (value !== undefined) {
      context.setQueryParam(name, String(value));
    }
  }
  context.setHeaderParam('Accept', 'application/json');
  if (request.body !== undefined) {
    context.setHeaderParam('Content-Type', 'application/json');
    context.setBody(JSON.stringify(request.body));
  }
  await authMethods.default?.applySecurityAuthentication(context);
  for (const each of middleware) {
    await each.pre(context).toPromise();
  }
  let response = await httpApi.send(context).toPromise();
  for (const each of middleware) {
    response = await each.post(response).toPromise();
  }
  return JSON.parse(await response.body.text()) as unknown;
}
