// SPDX-License-Identifier: Apache-2.0
// A part of the operator's process that is started and stopped: controllers, the webhook, the directory.

export interface Component {
  readonly name: string;
  /** Resolves when it works. Of parts that only a leader runs, it may come again after a stop. */
  readonly start: () => Promise<void>;
  /** Resolves when it has ended, in bounded time. @param graceMs how long what has begun may take; else what the part finds right */
  readonly stop: (graceMs?: number) => Promise<void>;
  /** Why it can't serve; empty when it can. Of parts that only a leader runs it is not asked. */
  readonly notReady?: () => readonly string[];
}

export interface Components {
  /** In every replica. */
  readonly always: readonly Component[];
  /** In the leader alone, each time that this replica begins to lead. */
  readonly leading: readonly Component[];
}
