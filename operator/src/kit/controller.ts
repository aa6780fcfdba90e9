// SPDX-License-Identifier: Apache-2.0
// A controller: informers in, keys through a queue, one function that makes things as they should be. Which things is not known here.
import { kSystemClock } from '../base/clock';
import type { KubeObject } from '../api';
import type { Informer, KitContext } from './informer';
import type { Permission } from './permissions';
import type { Change } from './store';
import { WorkQueue, type Again } from './work_queue';

/** Which keys a change of an object concerns. */
export interface Source {
  readonly synced: Promise<void>;
  readonly connect: (add: (key: string) => void) => void;
}

export function source<T extends KubeObject, I extends string>(
  informer: Informer<T, I>,
  keysOf: (change: Change<T>) => readonly string[],
): Source {
  return {
    synced: informer.synced,
    connect: (add) => informer.store.onChange((change) => keysOf(change).forEach(add)),
  };
}

export interface ControllerDefinition {
  readonly name: string;
  readonly permissions: readonly Permission[];
  readonly sources: readonly Source[];
  /** Keys to look at when the controller starts, when all sources are synced. */
  readonly initialKeys: () => readonly string[];
  readonly reconcile: (key: string, signal: AbortSignal) => Promise<Again | undefined>;
  /** Keys worked on at a time. */
  readonly concurrency?: number;
}

/** How long work that has begun may take when the controller stops. */
const kStopGraceMs = 5000;

export class Controller {
  readonly queue: WorkQueue;
  private active = false;

  constructor(
    context: KitContext,
    private readonly definition: ControllerDefinition,
  ) {
    const { name } = definition;
    this.queue = new WorkQueue({
      process: definition.reconcile,
      concurrency: definition.concurrency ?? 4,
      metrics: context.metrics.queue(name),
      clock: context.clock ?? kSystemClock,
      random: context.random ?? Math.random,
      ...(context.queueBackoff === undefined ? {} : { backoff: context.queueBackoff }),
      onFailure: (key, error, failures) =>
        context.log.warn(
          { controller: name, key, failures, error: error.message },
          'reconcile failed, will be tried again',
        ),
    });
    for (const each of definition.sources) {
      each.connect((key) => {
        if (this.active) {
          this.queue.add(key);
        }
      });
    }
  }

  get name(): string {
    return this.definition.name;
  }

  /** Begins when all sources are synced. */
  async start(): Promise<void> {
    await Promise.all(this.definition.sources.map(({ synced }) => synced));
    this.active = true;
    this.definition.initialKeys().forEach((key) => this.queue.add(key));
    this.queue.start();
  }

  async stop(): Promise<void> {
    this.active = false;
    await this.queue.stop(kStopGraceMs);
  }
}
