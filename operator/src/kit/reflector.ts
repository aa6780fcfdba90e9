// SPDX-License-Identifier: Apache-2.0
// Keeps a store like the API server: lists page by page, then watches from there, for ever. Every way in which that can fail ends in another try.
import { backoffMs } from '../base/backoff';
import { sleep, type Clock, type Random } from '../base/clock';
import type { KubeObject } from '../api';
import { ApiError, askedToWaitMs, isGone } from './api_error';
import type { ReflectorMetrics } from './metrics';
import type { ResourceClient, Selection } from './resource';
import type { Store } from './store';
import { watchEvents } from './watch_stream';

export interface ReflectorTimes {
  /** Objects a page. client-go's default. */
  readonly pageSize: number;
  /** The server ends a watch after this long, plus up to as much again: so that not all clients come back at once. */
  readonly watchSeconds: number;
  /** Bookmarks come about every minute: a watch silent for longer hangs. */
  readonly silenceMs: number;
  /** A full list even while all goes well, since nothing else finds an event that a broken server or proxy swallowed. */
  readonly relistMs: number;
  readonly backoff: { readonly baseMs: number; readonly maxMs: number };
}

export const kReflectorTimes: ReflectorTimes = {
  pageSize: 500,
  watchSeconds: 300,
  silenceMs: 150_000,
  relistMs: 1_800_000,
  backoff: { baseMs: 800, maxMs: 30_000 }, // client-go's
};

export interface ReflectorOptions<T extends KubeObject> {
  readonly client: ResourceClient<T>;
  readonly store: Store<T, string>;
  readonly selection: Selection;
  readonly metrics: ReflectorMetrics;
  readonly clock: Clock;
  readonly random: Random;
  readonly times: ReflectorTimes;
  /** Something went wrong and is tried again; for the log. */
  readonly onTrouble: (message: string) => void;
}

export class Reflector<T extends KubeObject> {
  /** Resolves once the store holds a complete list. */
  readonly synced: Promise<void>;
  private resolveSynced: () => void = () => undefined;
  private hasList = false;
  private version: string | undefined;
  private failures = 0;
  private listedMs = 0;
  private heardMs: number;
  private trouble: string | undefined;

  constructor(private readonly options: ReflectorOptions<T>) {
    this.synced = new Promise((resolve) => (this.resolveSynced = resolve));
    this.heardMs = options.clock.monotonicMs();
  }

  get hasSynced(): boolean {
    return this.hasList;
  }

  /** What the last try failed of; undefined while all goes well. */
  get problem(): string | undefined {
    return this.trouble;
  }

  /** Since the server was last heard of: a list, an event or a bookmark. */
  get lastEventAgeSeconds(): number {
    return (this.options.clock.monotonicMs() - this.heardMs) / 1000;
  }

  /** Runs until the signal is aborted. */
  async run(signal: AbortSignal): Promise<void> {
    let mustList = true;
    while (!signal.aborted) {
      try {
        if (mustList) {
          await this.list(signal);
          mustList = false; // from here on a watch that breaks is resumed
        }
        mustList = (await this.watch(signal)) === 'relist';
        if (mustList) {
          this.options.metrics.restarted('relist');
        }
      } catch (error) {
        if (isAborted(signal)) {
          return;
        }
        mustList ||= isGone(error);
        await this.recover(error, signal);
      }
    }
  }

  private async recover(error: unknown, signal: AbortSignal): Promise<void> {
    const { metrics, backoff, random } = { ...this.options, ...this.options.times };
    const gone = isGone(error);
    metrics.restarted(
      gone ? 'gone' : error instanceof ApiError && error.status !== 0 ? `http-${error.status}` : 'broken',
    );
    this.trouble = (error as Error).message;
    this.options.onTrouble(this.trouble);
    await sleep(Math.max(askedToWaitMs(error), backoffMs(backoff, this.failures, random)), signal);
    this.failures++;
  }

  private heard(): void {
    this.heardMs = this.options.clock.monotonicMs();
    this.failures = 0;
    this.trouble = undefined;
  }

  private async list(signal: AbortSignal): Promise<void> {
    const { client, selection, store, metrics, times } = this.options;
    const objects: T[] = [];
    let limit = times.pageSize;
    let next: string | undefined;
    let version: string | undefined;
    do {
      try {
        const page = await client.list(
          selection,
          next === undefined ? { limit } : { limit, continue: next },
          signal,
        );
        objects.push(...page.items);
        version = page.metadata.resourceVersion;
        next = page.metadata.continue === '' ? undefined : page.metadata.continue;
      } catch (error) {
        if (!isGone(error) || next === undefined) {
          throw error;
        }
        // The pages' version fell out of the history before the last one came: one page of everything then.
        metrics.restarted('continue-expired');
        objects.length = 0;
        limit = 0;
        next = undefined;
      }
    } while (next !== undefined);
    store.replace(objects, version);
    this.version = version;
    this.listedMs = this.options.clock.monotonicMs();
    this.heard();
    metrics.listed(objects.length);
    if (!this.hasList) {
      this.hasList = true;
      this.resolveSynced();
    }
  }

  /** Watches from the last version on. 'again': the watch ended as it should. 'relist': it is time for a full list. */
  private async watch(signal: AbortSignal): Promise<'again' | 'relist'> {
    const { client, selection, store, metrics, times, clock, random } = this.options;
    const startedMs = clock.monotonicMs();
    const relistAtMs = this.listedMs + times.relistMs * (0.75 + 0.5 * random());
    const restMs = relistAtMs - startedMs;
    if (restMs <= 0) {
      return 'relist';
    }
    const seconds = Math.ceil(Math.min(times.watchSeconds * (1 + random()), restMs / 1000));
    const body = await client.watch(
      selection,
      { resourceVersion: this.version, timeoutSeconds: seconds },
      times.silenceMs,
      signal,
    );
    let events = 0;
    for await (const event of watchEvents<T>(body)) {
      events++;
      this.take(event, store);
      metrics.event(event.type);
      this.heard();
    }
    if (clock.monotonicMs() >= relistAtMs) {
      return 'relist';
    }
    if (events === 0 && clock.monotonicMs() - startedMs < 1000) {
      throw new Error('the watch ended at once, without an event');
    }
    metrics.restarted('ended');
    return 'again';
  }

  private take(event: { readonly type: string; readonly object: KubeObject }, store: Store<T, string>): void {
    const version = event.object.metadata.resourceVersion;
    if (event.type === 'BOOKMARK') {
      store.advance(version);
    } else if (!store.observe(event.type as 'ADDED' | 'MODIFIED' | 'DELETED', event.object as T)) {
      this.options.metrics.duplicate();
      return; // older than what was seen: its version must not take the watch back
    }
    this.version = version ?? this.version;
  }
}

function isAborted(signal: AbortSignal): boolean {
  return signal.aborted;
}
