// SPDX-License-Identifier: Apache-2.0
// State of the standard health protocol: which service serves now, and who watches. Not how the state comes about.
import { RpcCode, RpcError } from './rpc_error';

export type ServingStatus = 'SERVING' | 'NOT_SERVING' | 'SERVICE_UNKNOWN';

type Watcher = (status: ServingStatus) => void;

export class HealthState {
  private readonly statuses = new Map<string, ServingStatus>();
  private readonly watchers = new Map<string, Set<Watcher>>();

  constructor(services: readonly string[]) {
    services.forEach((service) => this.statuses.set(service, 'NOT_SERVING'));
  }

  set(service: string, status: ServingStatus): void {
    if (this.statuses.get(service) !== status) {
      this.statuses.set(service, status);
      this.watchers.get(service)?.forEach((watcher) => watcher(status));
    }
  }

  check(service: string): ServingStatus {
    const status = this.statuses.get(service);
    if (status === undefined) {
      throw new RpcError(
        RpcCode.NOT_FOUND,
        `service "${service}" is not served here; known: ${[...this.statuses.keys()].map((each) => `"${each}"`).join(', ')}`,
        {
          reason: 'UNKNOWN_SERVICE',
        },
      );
    }
    return status;
  }

  /** Tells the status now and at each change; returns how to stop. */
  watch(service: string, watcher: Watcher): () => void {
    const set = this.watchers.get(service) ?? new Set();
    this.watchers.set(service, set);
    set.add(watcher);
    watcher(this.statuses.get(service) ?? 'SERVICE_UNKNOWN');
    return () => {
      set.delete(watcher);
      if (set.size === 0) {
        this.watchers.delete(service);
      }
    };
  }
}
