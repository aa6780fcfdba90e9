// SPDX-License-Identifier: Apache-2.0
// Fills the catalogue at scrape time from counters and totals. Nothing here runs for a message.
import { Counter, Gauge, Registry } from 'prom-client';
import type { DirectoryClient } from '../directory/directory_client';
import { backendOf } from '../driver/backend';
import type { DriverLink } from '../driver/driver_link';
import type { MessagingService } from '../messaging/messaging_service';
import type { DriverPolicy } from '../policy/driver_policy';
import type { CounterSnapshot } from '../native/types';
import type { TopicStore } from '../topics/topic_store';
import {
  kCatalogue,
  kNetworkCounterLabel,
  kNetworkCounterType,
  kOwnCounters,
  kOwnCounterType,
  kSystemCounters,
  type MetricEntry,
} from './catalogue';
import { MonotonicSums } from './monotonic';
import { kChannelLabel, type TopicTotals } from './topic_totals';

export interface MetricsDependencies {
  readonly version: string;
  readonly startedMs: number;
  readonly link: DriverLink;
  readonly topics: TopicStore;
  /** undefined: no cluster. */
  readonly directory?: DirectoryClient | undefined;
  /** undefined: no policyFile. */
  readonly policy?: DriverPolicy | undefined;
  readonly messaging: MessagingService;
  readonly totals: TopicTotals;
  readonly isDraining: () => boolean;
}

type Labels = Readonly<Record<string, string>>;

const kSystemType = 0;
const kSenderPositionType = 2;
const kSubscriberPositionType = 4;

/** Topics that share a stream id can't be told apart by it. */
const kSeveralTopics = '(several)';

/**
 * Topic of a stream counter, by the stream id in its key: {int64 registration, int32 session, int32 stream, …}. Never the session or a stream id
 * of a client's own choice: what clients can make at will must not make series.
 */
function topicOf(counter: CounterSnapshot, topics: ReadonlyMap<number, string>): string {
  return counter.key.length >= 16
    ? (topics.get(counter.key.readInt32LE(12)) ?? kChannelLabel)
    : kChannelLabel;
}

/** Where a subscriber position began: the label ends with "@<position>". */
function joinPositionOf(label: string): number {
  return Number(/@(\d+)\s*$/.exec(label)?.[1] ?? 0);
}

export class Metrics {
  private readonly registry = new Registry();
  private readonly counters = new Map<string, Counter>();
  private readonly gauges = new Map<string, Gauge>();
  private readonly driverSums = new MonotonicSums();
  private readonly sentSums = new MonotonicSums();
  private readonly consumedSums = new MonotonicSums();
  private readonly networkSums = new MonotonicSums();
  private readonly written = new Map<string, number>();
  private driverEpoch = '';

  constructor(private readonly deps: MetricsDependencies) {
    for (const each of [
      ...Object.values(kCatalogue),
      ...kSystemCounters.values(),
      ...kOwnCounters.values(),
    ]) {
      const options = {
        name: each.name,
        help: `${each.help} Unit: ${each.unit}.`,
        labelNames: [...each.labels],
        registers: [this.registry],
      };
      if (each.type === 'counter') {
        this.counters.set(each.name, new Counter(options));
      } else {
        this.gauges.set(each.name, new Gauge(options));
      }
    }
  }

  get contentType(): string {
    return this.registry.contentType;
  }

  /** The text of /metrics. */
  async render(): Promise<string> {
    this.collectSidecar();
    this.collectDriver();
    return this.registry.metrics();
  }

  private set(entry: MetricEntry, value: number, labels: Labels = {}): void {
    if (entry.type === 'gauge') {
      this.gauges.get(entry.name)?.set(labels, value);
      return;
    }
    // prom-client counters only grow by inc; the value stands elsewhere, so the difference is added.
    const counter = this.counters.get(entry.name) as Counter;
    const key = `${entry.name} ${JSON.stringify(labels)}`;
    const before = this.written.get(key) ?? 0;
    counter.inc(labels, Math.max(value - before, 0));
    this.written.set(key, Math.max(value, before));
  }

  private collectSidecar(): void {
    const { deps } = this;
    this.set(kCatalogue.build, 1, { version: deps.version, node: process.version });
    this.set(kCatalogue.start, deps.startedMs / 1000);
    this.set(kCatalogue.draining, deps.isDraining() ? 1 : 0);
    this.set(kCatalogue.driverUp, deps.link.state === 'up' ? 1 : 0);
    this.set(kCatalogue.driverConnects, deps.link.stats.connects);
    this.set(kCatalogue.driverLosses, deps.link.stats.losses);
    this.set(kCatalogue.topicsLoaded, deps.topics.stats.loads);
    this.set(kCatalogue.topicsFailed, deps.topics.stats.failures);
    this.set(kCatalogue.topicsStale, deps.topics.error === undefined ? 0 : 1);
    if (deps.directory !== undefined) {
      const { connected, losses, registrations } = deps.directory.stats;
      this.set(kCatalogue.directoryUp, connected ? 1 : 0);
      this.set(kCatalogue.directoryLosses, losses);
      this.set(kCatalogue.directoryRegistrations, registrations);
    }
    if (deps.policy !== undefined) {
      const { writes, failures } = deps.policy.stats;
      this.set(kCatalogue.policyWrites, writes);
      this.set(kCatalogue.policyFailures, failures);
    }
    this.set(kCatalogue.topics, deps.topics.list().length);
    deps.topics.list().forEach((topic) => deps.totals.of(topic.name)); // series stand at 0 before the first message
    this.set(kCatalogue.rejected, deps.messaging.rejected);
    for (const [topic, totals] of deps.totals.entries()) {
      const labels = { topic };
      this.set(kCatalogue.streams, totals.publishStreams, { topic, kind: 'publish' });
      this.set(kCatalogue.streams, totals.subscribeStreams, { topic, kind: 'subscribe' });
      this.set(kCatalogue.published, totals.publishedMessages, labels);
      this.set(kCatalogue.publishedBytes, totals.publishedBytes, labels);
      this.set(kCatalogue.refused, totals.publishRefusedMessages, labels);
      this.set(kCatalogue.dropped, totals.publishDroppedMessages, labels);
      this.set(kCatalogue.delivered, totals.deliveredMessages, labels);
      this.set(kCatalogue.deliveredBytes, totals.deliveredBytes, labels);
      this.set(kCatalogue.skipped, totals.skippedMessages, labels);
      this.set(kCatalogue.gaps, totals.gaps, labels);
      this.set(kCatalogue.slow, totals.slowDisconnects, labels);
    }
  }

  private collectDriver(): void {
    let counters: readonly CounterSnapshot[] = [];
    const backend = this.gauges.get(kCatalogue.backendInfo.name);
    backend?.reset();
    try {
      const client = this.deps.link.client;
      if (client !== undefined) {
        const driver = client.driver();
        this.driverEpoch = `${driver.pid} ${driver.startMs}`;
        this.set(kCatalogue.driverHeartbeatAge, driver.heartbeatAgeMs / 1000);
        counters = client.counters();
        const { name, mode, interface: device } = backendOf(counters);
        this.set(kCatalogue.backendInfo, 1, { backend: name || 'unknown', mode, interface: device });
      }
    } catch {
      counters = []; // it went away this moment: driver_up says so at the next scrape
    }

    const topics = this.topicsByStreamId();
    const system: [string, string, number][] = [];
    const sent: [string, string, number][] = [];
    const consumed: [string, string, number][] = [];
    const network: [string, string, number][] = [];
    for (const counter of counters) {
      const source = `${this.driverEpoch} ${counter.typeId} ${counter.id} ${counter.registrationId}`;
      const value = Number(counter.value);
      const entry = this.driverEntry(counter);
      if (entry !== undefined) {
        system.push([source, entry.name, value]);
      } else if (counter.typeId === kNetworkCounterType && counter.label.startsWith(kNetworkCounterLabel)) {
        network.push([source, counter.label.slice(kNetworkCounterLabel.length), value]);
      } else if (counter.typeId === kSenderPositionType) {
        sent.push([source, topicOf(counter, topics), value]);
      } else if (counter.typeId === kSubscriberPositionType) {
        consumed.push([source, topicOf(counter, topics), Math.max(value - joinPositionOf(counter.label), 0)]);
      }
    }
    const byName = new Map(
      [...kSystemCounters.values(), ...kOwnCounters.values()].map((each) => [each.name, each]),
    );
    for (const [name, value] of this.driverSums.update(system)) {
      this.set(byName.get(name) as MetricEntry, value);
    }
    for (const [topic, value] of this.sentSums.update(sent)) {
      this.set(kCatalogue.sentBytes, value, { topic });
    }
    for (const [reason, value] of this.networkSums.update(network)) {
      this.set(kCatalogue.network, value, { reason });
    }
    for (const [topic, value] of this.consumedSums.update(consumed)) {
      this.set(kCatalogue.consumedBytes, value, { topic });
    }
  }

  private topicsByStreamId(): ReadonlyMap<number, string> {
    const names = new Map<number, string>();
    for (const { streamId, name } of this.deps.topics.list()) {
      names.set(streamId, names.has(streamId) ? kSeveralTopics : name);
    }
    return names;
  }

  private driverEntry(counter: CounterSnapshot): MetricEntry | undefined {
    const key = counter.key.length >= 4 ? counter.key.readInt32LE(0) : -1;
    if (counter.typeId === kSystemType) {
      return kSystemCounters.get(counter.id);
    }
    return counter.typeId === kOwnCounterType ? kOwnCounters.get(key) : undefined;
  }
}
