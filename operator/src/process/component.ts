// SPDX-License-Identifier: Apache-2.0
// A part of the operator's process that is started and stopped: controllers, the webhook, the directory.

export interface Component {
  readonly name: string;
  /** Resolves when it works. */
  readonly start: () => Promise<void>;
  /** Resolves when it has ended, in bounded time. */
  readonly stop: () => Promise<void>;
  /** Why it can't serve; empty when it can. Of parts that only a leader runs it is not asked. */
  readonly notReady?: () => readonly string[];
}

export interface Components {
  /** In every replica. */
  readonly always: readonly Component[];
  /** In the leader alone. */
  readonly leading: readonly Component[];
}
