// SPDX-License-Identifier: Apache-2.0
// The sidecar as a process: settings, logs, signals, exit status. The command line and main.ts call it with the native client.
import pino, { type Logger } from 'pino';
import { renderConfigHelp } from './config/docs';
import { ConfigError, loadConfig } from './config/load';
import type { Config } from './config/schema';
import type { Native } from './native/types';
import { startSidecar, type Sidecar } from './server';

/** Exit statuses: as sysexits.h names them, so that a supervisor can tell what a restart would not mend. */
export const kExitOk = 0;
export const kExitConfig = 78;
export const kExitUnavailable = 69;

/** Processes that live and end with this one: a driver before it, an app after it. */
export interface Companions {
  /** Before the sidecar starts. Rejects with a sentence when that can't be. */
  before(config: Config, log: Logger): Promise<void>;
  /** The sidecar serves. The promise, if any, resolves with an exit status when it is time to end. */
  serving(sidecar: Sidecar, config: Config): Promise<number> | undefined;
  /** Before the sidecar drains: what uses it ends first. */
  beforeDrain(): Promise<void>;
  /** After the sidecar has ended. */
  after(): Promise<void>;
}

const kAlone: Companions = {
  before: () => Promise.resolve(),
  serving: () => undefined,
  beforeDrain: () => Promise.resolve(),
  after: () => Promise.resolve(),
};

export interface RunOptions {
  readonly companions?: Companions;
  /** File descriptor of the log: standard error when standard output is somebody else's. Default 1. */
  readonly logTo?: 1 | 2;
  /** Text before the settings in --help. */
  readonly help?: string;
}

const kHelp =
  'Usage: outrigger run [settings]\n\nServes gRPC beside a running driver until SIGTERM or SIGINT.';

function processLog(level: string, dest: 1 | 2): Logger {
  return pino(
    { level, base: { pid: process.pid }, timestamp: pino.stdTimeFunctions.isoTime },
    pino.destination({ dest, sync: true }),
  );
}

/** Resolves with the exit status when `over` does, or at SIGTERM or SIGINT; drains in both cases. */
async function runUntilOver(
  sidecar: Sidecar,
  over: Promise<number> | undefined,
  companions: Companions,
  log: Logger,
): Promise<number> {
  let status = kExitOk;
  let signals = 0;
  const drain = async (): Promise<void> => {
    await companions.beforeDrain();
    await sidecar.drain();
  };
  const onSignal = (signal: NodeJS.Signals): void => {
    if (++signals > 1) {
      log.warn({ signal }, 'second signal: exit at once');
      process.exit(128 + (signal === 'SIGINT' ? 2 : 15));
    }
    log.info({ signal }, 'signal');
    void drain();
  };
  process.on('SIGTERM', onSignal);
  process.on('SIGINT', onSignal);
  void over?.then((ended) => {
    status = ended;
    void drain();
  });
  await sidecar.ended;
  process.off('SIGTERM', onSignal);
  process.off('SIGINT', onSignal);
  return status;
}

/**
 * Runs until it is drained; resolves to the exit status. A second signal exits the process at once. The native client is loaded late, so that
 * help and bad settings are answered without it.
 */
export async function runSidecarProcess(
  argv: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
  loadNative: () => Native | Promise<Native>,
  options: RunOptions = {},
): Promise<number> {
  if (argv.includes('--help') || argv.includes('-h')) {
    process.stdout.write(`${options.help ?? kHelp}\n\n${renderConfigHelp()}`);
    return kExitOk;
  }
  let config;
  try {
    config = loadConfig({ argv, env });
  } catch (error) {
    if (!(error instanceof ConfigError)) {
      throw error;
    }
    error.problems.forEach((problem) => process.stderr.write(`outrigger: ${problem}\n`));
    return kExitConfig;
  }
  const log = processLog(config.logLevel, options.logTo ?? 1);
  const companions = options.companions ?? kAlone;
  let sidecar;
  try {
    await companions.before(config, log);
    sidecar = await startSidecar(config, { native: await loadNative(), log });
  } catch (error) {
    await companions.after();
    log.fatal({ err: error }, 'the sidecar could not start');
    process.stderr.write(`outrigger: ${(error as Error).message}\n`);
    return kExitUnavailable;
  }
  const status = await runUntilOver(sidecar, companions.serving(sidecar, config), companions, log);
  await companions.after();
  return status;
}
