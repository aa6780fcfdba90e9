// SPDX-License-Identifier: Apache-2.0
// Kubernetes events (events.k8s.io/v1): one for each transition, repeats of the same counted in a series instead of written again.
// An event is news, not state: what can't be written after a few tries is dropped and counted.
import { microTimeText, type Clock } from '../base/clock';
import type { KubeObject, ObjectMeta } from '../api';
import { isNotFound } from './api_error';
import type { Log } from './informer';
import type { EventMetrics } from './metrics';
import { ResourceClient, type Resource } from './resource';
import type { ApiClient } from './api_client';

export interface KubeEvent extends KubeObject {
  readonly eventTime: string;
  readonly reportingController: string;
  readonly reportingInstance: string;
  readonly action: string;
  readonly reason: string;
  readonly type: 'Normal' | 'Warning';
  readonly note: string;
  readonly regarding: {
    readonly apiVersion: string;
    readonly kind: string;
    readonly namespace?: string;
    readonly name: string;
    readonly uid?: string;
  };
  readonly series?: { readonly count: number; readonly lastObservedTime: string };
}

export const kEvents: Resource<KubeEvent> = {
  group: 'events.k8s.io',
  version: 'v1',
  kind: 'Event',
  plural: 'events',
  namespaced: true,
};

export interface News {
  readonly type: 'Normal' | 'Warning';
  /** One word, as of the condition. */
  readonly reason: string;
  /** What was being done, one word. */
  readonly action: string;
  readonly note: string;
}

/** Equal news within this time are one series. client-go's value. */
const kSeriesMs = 360_000;
/** Series that are remembered; the oldest is forgotten first. */
const kMaxSeries = 1000;
/** Events on their way; more are dropped, since an API server that is behind gets no better by more. */
const kMaxPending = 100;
/** The limit of note in events.k8s.io/v1, bytes. */
const kLongestNote = 1024;

interface Series {
  readonly namespace: string;
  readonly name: string;
  count: number;
  lastMs: number;
}

export interface EventRecorderOptions {
  readonly api: ApiClient;
  /** Such as outrigger.dev/operator. */
  readonly controller: string;
  /** This replica. */
  readonly instance: string;
  readonly clock: Clock;
  readonly metrics: EventMetrics;
  readonly log: Log;
}

export class EventRecorder {
  private readonly client: ResourceClient<KubeEvent>;
  private readonly series = new Map<string, Series>();
  private readonly abort = new AbortController();
  private pending = 0;
  private tail: Promise<void> = Promise.resolve();
  private serial = 0;

  constructor(private readonly options: EventRecorderOptions) {
    this.client = new ResourceClient(options.api, kEvents);
  }

  /** Never waits and never throws. */
  record(object: KubeObject, resource: Resource<never>, news: News): void {
    if (this.pending >= kMaxPending || this.abort.signal.aborted) {
      this.options.metrics.dropped();
      return;
    }
    this.pending++;
    this.tail = this.tail
      .then(() => this.write(object.metadata, resource, news))
      .then(() => this.options.metrics.recorded(news.type))
      .catch((error: unknown) => {
        this.options.metrics.dropped();
        this.options.log.warn({ reason: news.reason, error: (error as Error).message }, 'event not written');
      })
      .finally(() => this.pending--);
  }

  /** Resolves when all that was recorded is written or dropped. */
  flushed(): Promise<void> {
    return this.tail;
  }

  /** Gives up what is not written within the time. */
  async stop(graceMs: number): Promise<void> {
    const timer = setTimeout(() => this.abort.abort(), graceMs);
    await this.tail;
    clearTimeout(timer);
    this.abort.abort();
  }

  private async write(metadata: ObjectMeta, resource: Resource<never>, news: News): Promise<void> {
    const now = this.options.clock.wallMs();
    const key = [
      metadata.uid,
      metadata.namespace,
      metadata.name,
      news.type,
      news.reason,
      news.action,
      news.note,
    ].join('\0');
    const known = this.series.get(key);
    if (known !== undefined && now - known.lastMs < kSeriesMs) {
      known.count++;
      known.lastMs = now;
      try {
        const series = { count: known.count, lastObservedTime: microTimeText(now) };
        await this.client.mergePatch(known, { series }, this.abort.signal);
        return;
      } catch (error) {
        if (!isNotFound(error)) {
          throw error;
        }
        // Events live an hour by default: this one is gone, so it is written anew.
      }
    }
    const event = this.eventOf(metadata, resource, news, now);
    await this.client.create(event, this.abort.signal);
    this.remember(key, event, now);
  }

  private remember(key: string, { metadata }: KubeEvent, now: number): void {
    this.series.delete(key);
    this.series.set(key, {
      namespace: metadata.namespace ?? '',
      name: metadata.name ?? '',
      count: 1,
      lastMs: now,
    });
    for (const oldest of this.series.keys()) {
      if (this.series.size <= kMaxSeries) {
        break;
      }
      this.series.delete(oldest);
    }
  }

  private eventOf(metadata: ObjectMeta, resource: Resource<never>, news: News, now: number): KubeEvent {
    const { group, version, kind } = resource;
    const name = metadata.name ?? '';
    // Events about cluster-wide objects live in "default".
    const namespace = metadata.namespace ?? 'default';
    return {
      metadata: {
        namespace,
        name: `${name.slice(0, 200)}.${now.toString(16)}${(this.serial++ & 0xffff).toString(16).padStart(4, '0')}`,
      },
      eventTime: microTimeText(now),
      reportingController: this.options.controller,
      reportingInstance: this.options.instance.slice(0, 128), // the limit of the field
      type: news.type,
      reason: news.reason,
      action: news.action,
      note: cut(news.note),
      regarding: {
        apiVersion: group === '' ? version : `${group}/${version}`,
        kind,
        ...(metadata.namespace === undefined ? {} : { namespace: metadata.namespace }),
        name,
        ...(metadata.uid === undefined ? {} : { uid: metadata.uid }),
      },
    };
  }
}

/** At most kLongestNote bytes, with an ellipsis where something is missing. */
function cut(note: string): string {
  if (Buffer.byteLength(note) <= kLongestNote) {
    return note;
  }
  const ellipsis = '…';
  const kept = Buffer.from(note).subarray(0, kLongestNote - Buffer.byteLength(ellipsis));
  // What is left of a character that was cut through decodes as U+FFFD.
  return kept.toString('utf8').replace(/\uFFFD+$/, '') + ellipsis;
}
