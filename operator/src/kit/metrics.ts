// SPDX-License-Identifier: Apache-2.0
// What the kit counts, as interfaces: each part sees only its own. The Prometheus side is in metrics/.

export interface ReflectorMetrics {
  readonly listed: (objects: number) => void;
  readonly event: (type: string) => void;
  /** An event that said nothing new. */
  readonly duplicate: () => void;
  /** Watch or list began anew, and why. */
  readonly restarted: (reason: string) => void;
}

export interface QueueMetrics {
  readonly depth: (keys: number) => void;
  readonly reconciled: (result: 'ok' | 'failed', seconds: number) => void;
}

export interface EventMetrics {
  readonly recorded: (type: 'Normal' | 'Warning') => void;
  readonly dropped: () => void;
}

export interface ThrottleMetrics {
  /** Where it is read at scrape time. */
  readonly throttled: (is: () => boolean) => void;
  readonly askedToWait: (seconds: number) => void;
}

export interface LeaderMetrics {
  readonly leading: (leads: boolean) => void;
  readonly changed: (what: 'acquired' | 'lost' | 'released') => void;
}

/** Where a reflector's state is read at scrape time. */
export interface ReflectorState {
  readonly hasSynced: boolean;
  readonly lastEventAgeSeconds: number;
}

export interface KitMetrics {
  readonly request: (method: string, status: number, seconds: number) => void;
  readonly reflector: (
    resource: string,
    state: () => ReflectorState,
    objects: () => number,
  ) => ReflectorMetrics;
  readonly queue: (controller: string) => QueueMetrics;
  readonly events: EventMetrics;
  readonly leader: LeaderMetrics;
  readonly throttle: ThrottleMetrics;
}
