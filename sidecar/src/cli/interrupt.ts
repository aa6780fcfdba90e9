// SPDX-License-Identifier: Apache-2.0
// Ctrl-C and SIGTERM as something to await. The second one ends the process at once.

export interface Interrupt {
  readonly signal: AbortSignal;
  /** Name of the signal that came. */
  readonly name: NodeJS.Signals | undefined;
  /** Resolves at the first signal. */
  readonly came: Promise<void>;
  stop(): void;
}

export function onInterrupt(): Interrupt {
  const controller = new AbortController();
  let name: NodeJS.Signals | undefined;
  let resolve: () => void = () => undefined;
  const came = new Promise<void>((done) => {
    resolve = done;
  });
  const handler = (signal: NodeJS.Signals): void => {
    if (name !== undefined) {
      process.exit(128 + (signal === 'SIGINT' ? 2 : 15));
    }
    name = signal;
    controller.abort();
    resolve();
  };
  process.on('SIGINT', handler);
  process.on('SIGTERM', handler);
  return {
    signal: controller.signal,
    get name() {
      return name;
    },
    came,
    stop: () => {
      process.off('SIGINT', handler);
      process.off('SIGTERM', handler);
    },
  };
}
