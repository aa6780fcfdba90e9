// SPDX-License-Identifier: Apache-2.0
// Bodies of answers, whole or as they come, and what went wrong when there is none. Which request they belong to is api_client.ts.
import { ResponseContext, SelfDecodingBody } from '@kubernetes/client-node';
import { apiError, ApiError } from './api_error';

/** An object is at most 1.5 MiB in etcd; a page of a list has up to 500. */
const kLongestAnswer = 256 * 1024 * 1024;

/** Throws ApiError unless the status is 2xx. */
export async function wholeAnswer(response: ResponseContext, what: string): Promise<string> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of response.body.stream() ?? []) {
    chunks.push(chunk);
    length += chunk.length;
    if (length > kLongestAnswer) {
      throw new Error(`the answer is longer than ${kLongestAnswer} bytes`);
    }
  }
  const text = Buffer.concat(chunks).toString('utf8');
  const { httpStatusCode: status, headers } = response;
  const location = headers['location'];
  if (status >= 300 && status <= 399 && location !== undefined) {
    throw new ApiError(
      status,
      '',
      `${what}: redirected (${status}) to ${originOf(location)}, which is not followed; set the server of the kubeconfig to that address, if it is the API server's`,
    );
  }
  if (status < 200 || status > 299) {
    throw apiError(what, status, text, headers['retry-after']);
  }
  return text;
}

/** Without path and query, which may have secrets. */
function originOf(location: string): string {
  return URL.parse(location)?.origin ?? 'another path of it';
}

/** For client-node, which reads no body that isn't called JSON. One that is none for all that is an error of JSON.parse there. */
export function jsonAnswer({ httpStatusCode, headers }: ResponseContext, text: string): ResponseContext {
  return new ResponseContext(
    httpStatusCode,
    { ...headers, 'content-type': 'application/json' },
    new SelfDecodingBody(Promise.resolve(Buffer.from(text))),
  );
}

/** The body as it comes. The end of the iteration closes the connection, and then `ended` is told. */
export async function* piecesOf(
  body: ReadableStream<Uint8Array> | null,
  silenceMs: number,
  ended: () => void,
): AsyncGenerator<Uint8Array, void, undefined> {
  try {
    yield* body ?? [];
  } catch (error) {
    throw new Error(troubleOf(error, silenceMs));
  } finally {
    ended();
  }
}

/** What undici says, deep in `cause`, of a connection that failed. */
export function troubleOf(error: unknown, silenceMs: number): string {
  let { message, code, cause } = error as { message?: string; code?: unknown; cause?: unknown };
  while (typeof cause === 'object' && cause !== null) {
    ({ message, code, cause } = cause as { message?: string; code?: unknown; cause?: unknown });
  }
  switch (code) {
    case 'UND_ERR_HEADERS_TIMEOUT':
      return `no answer within ${silenceMs} ms`;
    case 'UND_ERR_BODY_TIMEOUT':
      return `nothing came for ${silenceMs} ms`;
    default:
      return message === undefined || message === '' ? String(code ?? error) : message;
  }
}
