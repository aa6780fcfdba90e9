// SPDX-License-Identifier: Apache-2.0
// The kit's counts as Prometheus metrics.
import { Counter, Gauge, Histogram, Registry, type MetricConfiguration } from 'prom-client';
import type { KitMetrics, ReflectorState } from '../kit/metrics';
import { kOperatorCatalogue, type OperatorMetric } from './catalogue';

/** From a fast local API server to a time-out. */
const kBuckets = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

export class OperatorMetrics implements KitMetrics {
  readonly registry = new Registry();
  readonly events: KitMetrics['events'];
  readonly leader: KitMetrics['leader'];
  readonly throttle: KitMetrics['throttle'];
  readonly request: KitMetrics['request'];
  readonly expiredMembers: (members: number) => void;
  readonly refusedAuthority: (namespaces: number) => void;
  private readonly reflectors: { resource: string; state: () => ReflectorState; objects: () => number }[] =
    [];
  private readonly watch: Record<'lists' | 'events' | 'duplicates' | 'restarts', Counter>;
  private readonly queues: { depth: Gauge; reconciles: Counter; seconds: Histogram };

  constructor(version: string) {
    const { counter, gauge, histogram } = this.makers();
    const all = kOperatorCatalogue;
    gauge(all.build).set({ version, node: process.version }, 1);
    const requests = counter(all.requests);
    const requestSeconds = histogram(all.requestSeconds);
    this.request = (method, status, seconds) => {
      requests.inc({ method, status: String(status) });
      requestSeconds.observe({ method }, seconds);
    };
    let isThrottled = (): boolean => false;
    new Gauge({
      name: all.throttled.name,
      help: all.throttled.help,
      registers: [this.registry],
      collect() {
        this.set(isThrottled() ? 1 : 0);
      },
    });
    const retryAfter = counter(all.retryAfter);
    this.throttle = {
      throttled: (is) => (isThrottled = is),
      askedToWait: (seconds) => retryAfter.inc(seconds),
    };
    this.collected(all.synced, ({ state }) => (state().hasSynced ? 1 : 0));
    this.collected(all.eventAge, ({ state }) => state().lastEventAgeSeconds);
    this.collected(all.objects, ({ objects }) => objects());
    this.watch = {
      lists: counter(all.lists),
      events: counter(all.events),
      duplicates: counter(all.duplicates),
      restarts: counter(all.restarts),
    };
    this.queues = {
      depth: gauge(all.queueDepth),
      reconciles: counter(all.reconciles),
      seconds: histogram(all.reconcileSeconds),
    };
    const recorded = counter(all.recordedEvents);
    const dropped = counter(all.droppedEvents);
    this.events = { recorded: (type) => recorded.inc({ type }), dropped: () => dropped.inc() };
    const expired = counter(all.expiredMembers);
    this.expiredMembers = (members) => expired.inc(members);
    const refusing = gauge(all.refusedAuthority);
    refusing.set(0);
    this.refusedAuthority = (namespaces) => refusing.set(namespaces);
    const leader = gauge(all.leader);
    const changes = counter(all.leaderChanges);
    this.leader = {
      leading: (leads) => leader.set(leads ? 1 : 0),
      changed: (change) => changes.inc({ change }),
    };
    leader.set(0);
  }

  reflector(
    resource: string,
    state: () => ReflectorState,
    objects: () => number,
  ): ReturnType<KitMetrics['reflector']> {
    this.reflectors.push({ resource, state, objects });
    const { lists, events, duplicates, restarts } = this.watch;
    return {
      listed: () => lists.inc({ resource }),
      event: (type) => events.inc({ resource, type }),
      duplicate: () => duplicates.inc({ resource }),
      restarted: (reason) => restarts.inc({ resource, reason }),
    };
  }

  queue(controller: string): ReturnType<KitMetrics['queue']> {
    const { depth, reconciles, seconds } = this.queues;
    return {
      depth: (keys) => depth.set({ controller }, keys),
      reconciled: (result, took) => {
        reconciles.inc({ controller, result });
        seconds.observe({ controller }, took);
      },
    };
  }

  private makers() {
    const options = (metric: OperatorMetric): MetricConfiguration<string> => ({
      name: metric.name,
      help: metric.help,
      labelNames: metric.labels,
      registers: [this.registry],
    });
    return {
      counter: (metric: OperatorMetric) => new Counter(options(metric)),
      gauge: (metric: OperatorMetric) => new Gauge(options(metric)),
      histogram: (metric: OperatorMetric) => new Histogram({ ...options(metric), buckets: kBuckets }),
    };
  }

  /** A gauge of each resource that is read when it is asked for. */
  private collected(
    metric: OperatorMetric,
    value: (of: OperatorMetrics['reflectors'][number]) => number,
  ): void {
    const { reflectors } = this;
    new Gauge({
      name: metric.name,
      help: metric.help,
      labelNames: metric.labels,
      registers: [this.registry],
      collect() {
        for (const each of reflectors) {
          this.set({ resource: each.resource }, value(each));
        }
      },
    });
  }
}
