// SPDX-License-Identifier: Apache-2.0
// The bytes of a watch as events: one JSON document a line. What an event does to a cache is the reflector's.
import { StringDecoder } from 'node:string_decoder';
import type { KubeObject } from '../api';
import { ApiError } from './api_error';

export type WatchEvent<T> =
  | { readonly type: 'ADDED' | 'MODIFIED' | 'DELETED'; readonly object: T }
  | { readonly type: 'BOOKMARK'; readonly object: KubeObject };

/** An object is at most 1.5 MiB in etcd and little more as JSON: what is longer is no event. */
const kLongestLine = 8 * 1024 * 1024;

interface RawEvent {
  readonly type?: string;
  readonly object?: KubeObject & {
    readonly code?: number;
    readonly reason?: string;
    readonly message?: string;
  };
}

function eventOf<T extends KubeObject>(line: string): WatchEvent<T> {
  let raw: RawEvent;
  try {
    raw = JSON.parse(line) as RawEvent;
  } catch {
    throw new Error(`a line of the watch is no JSON: ${line.slice(0, 80)}`);
  }
  switch (raw.type) {
    case 'ADDED':
    case 'MODIFIED':
    case 'DELETED':
    case 'BOOKMARK':
      if (typeof raw.object?.metadata !== 'object') {
        throw new Error(`an event of the watch has no object: ${line.slice(0, 80)}`);
      }
      return { type: raw.type, object: raw.object } as WatchEvent<T>;
    case 'ERROR':
      throw new ApiError(
        raw.object?.code ?? 500,
        raw.object?.reason ?? '',
        `watch: ${raw.object?.message ?? line.slice(0, 300)}`,
      );
    default:
      throw new Error(`the watch has an event of type ${JSON.stringify(raw.type)}`);
  }
}

/** Events of a body. Ends when the body ends between two lines; throws when it ends within one, holds what is no event, or says ERROR. */
export async function* watchEvents<T extends KubeObject>(
  body: AsyncIterable<Uint8Array>,
): AsyncGenerator<WatchEvent<T>> {
  const decoder = new StringDecoder('utf8');
  let rest = '';
  for await (const chunk of body) {
    const lines = (rest + decoder.write(chunk)).split('\n');
    rest = lines.pop() as string;
    for (const line of lines) {
      if (line.trim() !== '') {
        yield eventOf<T>(line);
      }
    }
    if (rest.length > kLongestLine) {
      throw new Error(`a line of the watch is longer than ${kLongestLine} characters`);
    }
  }
  if (rest.trim() !== '') {
    throw new Error(`the watch ended within a line: ${rest.slice(0, 80)}`);
  }
}
