// SPDX-License-Identifier: Apache-2.0
// The life of an operator process: caches, then what every replica does, then leadership and what a leader does; and all of it backwards at the end.
// Who loses the lease stops what a leader does and goes on as any replica: its caches are filled, and an API server that is too busy for a renewal would
// not fill those of a new process, so that pods would be refused.
// What the parts are is not known here.
import { HttpServer } from '../../../sidecar/src/metrics/http_server';
import { kSystemClock, sleep } from '../base/clock';
import { cacheList, makeCaches, type Caches } from '../caches';
import type { OperatorConfig } from '../config/schema';
import { ApiClient } from '../kit/api_client';
import type { ClusterAuth } from '../kit/auth';
import { EventRecorder } from '../kit/events';
import type { KitContext, Log } from '../kit/informer';
import { LeaderElection } from '../kit/leader_election';
import { Throttling } from '../kit/throttling';
import { OperatorMetrics } from '../metrics/operator_metrics';
import type { Component, Components } from './component';

/** What components are made of. */
export interface OperatorContext {
  readonly config: OperatorConfig;
  readonly kit: KitContext;
  readonly caches: Caches;
  readonly events: EventRecorder;
  readonly metrics: OperatorMetrics;
  readonly namespace: string;
  /** Name of this replica: its pod's. */
  readonly instance: string;
}

export interface OperatorOptions {
  readonly config: OperatorConfig;
  readonly auth: ClusterAuth;
  readonly log: Log;
  readonly version: string;
  /** Name of this replica, such as that of its pod. */
  readonly instance: string;
  /** Tells this process apart from an earlier one of the same name. */
  readonly identity: string;
  readonly components: (context: OperatorContext) => Components;
  /** Aborted: stop. */
  readonly signal: AbortSignal;
  /** Told when /metrics, /livez and /readyz are served, with their address; for tests. */
  readonly onListening?: (address: string) => void;
}

/** Exit status when parts of a leader that lost its lease did not stop: no error of configuration, and who restarts it should do so at once. */
export const kLostLeadership = 75; // EX_TEMPFAIL

/**
 * Runs until the signal is aborted (0), or leadership is lost and what a leader does can't be stopped (kLostLeadership). Throws when a part can't
 * start. Once it has ended without the signal, parts may still be there, but the API server hears nothing of them.
 */
export async function runOperator(options: OperatorOptions): Promise<number> {
  const { config, auth, log, instance, signal } = options;
  const metrics = new OperatorMetrics(options.version);
  const api = new ApiClient({
    auth,
    userAgent: `outrigger-operator/${options.version}`,
    perSecond: config.requestsPerSecond,
    burst: 2 * config.requestsPerSecond,
    observe: metrics.request,
    throttling: new Throttling(kSystemClock, metrics.throttle, log),
  });
  const kit: KitContext = { api, metrics, log };
  const caches = makeCaches(kit);
  const events = new EventRecorder({
    api,
    controller: 'outrigger.dev/operator',
    instance,
    clock: kSystemClock,
    metrics: metrics.events,
    log,
  });
  const context: OperatorContext = {
    config,
    kit,
    caches,
    events,
    metrics,
    namespace: auth.namespace,
    instance,
  };
  const { always, leading } = options.components(context);

  const http = new HttpServer({
    metrics: () => metrics.registry.metrics(),
    metricsType: metrics.registry.contentType,
    notReady: () => [...unsynced(caches), ...always.flatMap((each) => each.notReady?.() ?? [])],
  });
  if (config.httpListen !== '') {
    await http.listen(config.httpListen);
    options.onListening?.(http.address);
  }
  const started: Component[] = [];
  try {
    cacheList(caches).forEach(({ informer }) => informer.start());
    await startAll(always, started, log, signal);
    const status = await lead(context, options, leading, started);
    if (status === kLostLeadership) {
      // What does not stop writes nothing more, however long the rest takes to end.
      api.close();
    }
    return status;
  } finally {
    // Who was told to stop is watched by who told it.
    if (!(await within(signal.aborted ? Infinity : config.stopTimeout, stopAll(started, log)))) {
      log.error({ stopTimeoutMs: config.stopTimeout }, 'the stop took too long: exiting as it is');
    }
    await events.stop(1000);
    await Promise.all(cacheList(caches).map(({ informer }) => informer.stop()));
    if (config.httpListen !== '') {
      await http.close();
    }
    api.close();
    log.info({ instance }, 'stopped');
  }
}

async function lead(
  { config, kit, metrics, namespace }: OperatorContext,
  { identity, log, signal }: OperatorOptions,
  leading: readonly Component[],
  started: Component[],
): Promise<number> {
  if (!config.leaderElection || leading.length === 0) {
    await startAll(leading, started, log, signal);
    await aborted(signal);
    return 0;
  }
  const election = new LeaderElection({
    api: kit.api,
    namespace: config.leaseNamespace === '' ? namespace : config.leaseNamespace,
    name: config.leaseName,
    identity,
    times: {
      leaseMs: config.leaseDuration,
      renewDeadlineMs: config.renewDeadline,
      retryMs: config.retryPeriod,
    },
    clock: kSystemClock,
    random: Math.random,
    metrics: metrics.leader,
    log,
  });
  while (await election.acquire(signal)) {
    const ending = await leadOnce(election, identity, leading, log, signal);
    if (ending !== 'lost') {
      return ending === 'stopped' ? 0 : kLostLeadership;
    }
  }
  return 0;
}

/**
 * From the gain of the lease to its end. 'lost': the parts of the leader have stopped; 'stuck': not all of them. Throws when a part can't start: then
 * the lease is given back too, as the process ends.
 */
async function leadOnce(
  election: LeaderElection,
  identity: string,
  leading: readonly Component[],
  log: Log,
  signal: AbortSignal,
): Promise<'stopped' | 'lost' | 'stuck'> {
  const ours: Component[] = [];
  // The lease is given back only when the parts of the leader have stopped: another must not begin before.
  const release = new AbortController();
  const held = election.hold(release.signal);
  const over = new AbortController();
  const ends = AbortSignal.any([signal, over.signal]);
  const begun = startAll(leading, ours, log, ends);
  const giveBack = async (): Promise<void> => {
    release.abort();
    await held;
  };
  try {
    const ending = await Promise.race([
      held,
      aborted(ends).then(() => 'stop' as const),
      begun.then(() => held),
    ]);
    if (ending !== 'lost') {
      await begun;
      await stopAll(ours, log);
      await giveBack();
      return 'stopped';
    }
    over.abort();
    const stopMs = stopTimeMs(election);
    const stopped = begun.then(() => abortAll(ours));
    if (await within(stopMs, stopped)) {
      log.warn(
        { identity },
        'leadership is lost: the parts of the leader have stopped, and this replica waits for the lease like any other',
      );
      return 'lost';
    }
    const parts = ours.map(({ name }) => name);
    log.error(
      { identity, parts, stopMs },
      'leadership is lost, and not all parts of the leader have stopped: this process ends, so that nothing is written twice',
    );
    return 'stuck';
  } catch (error) {
    over.abort();
    if (await within(stopTimeMs(election), abortAll(ours))) {
      await giveBack();
    }
    throw error;
  }
}

/** Where another leads already, or may, since this machine stood still: long enough to abort what is under way. */
const kShortestStopMs = 500;

/** How long the parts of the leader may take to stop: what is left of the lease. */
function stopTimeMs({ restMs }: LeaderElection): number {
  return Math.max(restMs, kShortestStopMs);
}

/** All at once, with what is under way: whoever leads next may do it already. */
async function abortAll(components: readonly Component[]): Promise<void> {
  await Promise.all(components.map((each) => each.stop(0)));
}

/** Whether it is done in this time. */
async function within(milliseconds: number, work: Promise<void>): Promise<boolean> {
  const over = new AbortController();
  try {
    return await Promise.race([work.then(() => true), sleep(milliseconds, over.signal).then(() => false)]);
  } finally {
    over.abort();
  }
}

function unsynced(caches: Caches): string[] {
  return cacheList(caches).flatMap(({ name, informer }) =>
    informer.hasSynced
      ? []
      : [`${name} are not read yet${informer.problem === undefined ? '' : `: ${informer.problem}`}`],
  );
}

async function startAll(
  components: readonly Component[],
  started: Component[],
  log: Log,
  signal: AbortSignal,
): Promise<void> {
  for (const component of components) {
    started.push(component);
    // A start may wait for an API server that is away: a stop must not.
    await Promise.race([component.start(), aborted(signal)]);
    if (signal.aborted) {
      return;
    }
    log.info({ component: component.name }, 'started');
  }
}

async function stopAll(started: Component[], log: Log): Promise<void> {
  for (const component of started.splice(0).reverse()) {
    await component.stop();
    log.info({ component: component.name }, 'stopped');
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return signal.aborted
    ? Promise.resolve()
    : new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}
