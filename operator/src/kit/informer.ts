// SPDX-License-Identifier: Apache-2.0
// A store and the reflector that fills it, started and stopped as one.
import { kSystemClock, type Clock, type Random } from '../base/clock';
import type { KubeObject } from '../api';
import type { ApiClient } from './api_client';
import type { KitMetrics } from './metrics';
import { kReflectorTimes, Reflector, type ReflectorTimes } from './reflector';
import { ResourceClient, type Resource, type Selection } from './resource';
import { Store, type Indexer } from './store';

/** What informers and controllers of a process share. */
export interface KitContext {
  readonly api: ApiClient;
  readonly metrics: KitMetrics;
  readonly log: Log;
  readonly clock?: Clock;
  readonly random?: Random;
  readonly reflectorTimes?: Partial<ReflectorTimes>;
  /** Between tries of a key that fails. */
  readonly queueBackoff?: { readonly baseMs: number; readonly maxMs: number };
}

/** As much of a pino logger as the kit uses. */
export interface Log {
  readonly debug: (fields: object, message: string) => void;
  readonly info: (fields: object, message: string) => void;
  readonly warn: (fields: object, message: string) => void;
  readonly error: (fields: object, message: string) => void;
}

export class Informer<T extends KubeObject, I extends string = never> {
  readonly store: Store<T, I>;
  readonly client: ResourceClient<T>;
  readonly synced: Promise<void>;
  private readonly reflector: Reflector<T>;
  private readonly abort = new AbortController();
  private running: Promise<void> | undefined;

  constructor(
    context: KitContext,
    resource: Resource<T>,
    indexers: Readonly<Record<I, Indexer<T>>>,
    selection: Selection = {},
  ) {
    this.store = new Store(indexers);
    this.client = new ResourceClient(context.api, resource);
    const name = resource.plural;
    this.reflector = new Reflector({
      client: this.client,
      store: this.store,
      selection,
      metrics: context.metrics.reflector(
        name,
        () => this.reflector,
        () => this.store.size,
      ),
      clock: context.clock ?? kSystemClock,
      random: context.random ?? Math.random,
      times: { ...kReflectorTimes, ...context.reflectorTimes },
      onTrouble: (problem) => context.log.warn({ resource: name, problem }, 'watch begins anew'),
    });
    this.synced = this.reflector.synced;
  }

  get hasSynced(): boolean {
    return this.reflector.hasSynced;
  }

  /** Why the cache may be stale; undefined when it is not. */
  get problem(): string | undefined {
    return this.reflector.problem;
  }

  start(): void {
    this.running ??= this.reflector.run(this.abort.signal);
  }

  async stop(): Promise<void> {
    this.abort.abort();
    await this.running;
  }
}
