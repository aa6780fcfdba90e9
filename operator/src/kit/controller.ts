// SPDX-License-Identifier: Apache-2.0
// A controller: informers in, keys through a queue, one function that makes things as they should be. Which things is not known here.
import { kSystemClock } from '../base/clock';
import type { KubeObject } from '../api';
import type { Informer, KitContext } from './informer';
import type { Permission } from './permissions';
import type { Change } from './store';
import { WorkQueue, type Again, type WorkQueueOptions } from './work_queue';

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
  /** Keys to look at when the controller starts, each time that it does, when all sources are synced. */
  readonly initialKeys: () => readonly string[];
  readonly reconcile: (key: string, signal: AbortSignal) => Promise<Again | undefined>;
  /** Keys worked on at a time. */
  readonly concurrency?: number;
}

/** How long work that has begun may take when the controller stops. */
const kStopGraceMs = 5000;

/** Can be started again when it has stopped: a leader may lose its lease and get it back. */
export class Controller {
  private readonly queueOptions: WorkQueueOptions;
  /** Of the time from a start to a stop. */
  private queue: WorkQueue | undefined;

  constructor(
    context: KitContext,
    private readonly definition: ControllerDefinition,
  ) {
    const { name } = definition;
    this.queueOptions = {
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
    };
    for (const each of definition.sources) {
      // Before all sources are synced too: those keys wait.
      each.connect((key) => this.queue?.add(key));
    }
  }

  get name(): string {
    return this.definition.name;
  }

  /** Begins when all sources are synced. */
  async start(): Promise<void> {
    const queue = new WorkQueue(this.queueOptions);
    this.queue = queue;
    await Promise.all(this.definition.sources.map(({ synced }) => synced));
    // It may have been stopped while it waited, and begun again.
    if (this.queue === queue) {
      this.definition.initialKeys().forEach((key) => queue.add(key));
      queue.start();
    }
  }

  /** Resolves when there is nothing to do for now. For tests. */
  async settled(): Promise<void> {
    await this.queue?.settled();
  }

  async stop(graceMs = kStopGraceMs): Promise<void> {
    const { queue } = this;
    this.queue = undefined;
    await queue?.stop(graceMs);
  }
}
