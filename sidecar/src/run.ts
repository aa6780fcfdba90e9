// SPDX-License-Identifier: Apache-2.0
// The sidecar as a process: settings, logs, signals, exit status. The command line and main.ts call it with the native client.
import pino, { type Logger } from 'pino';
import { renderConfigHelp } from './config/docs';
import { ConfigError, loadConfig } from './config/load';
import type { Native } from './native/types';
import { startSidecar } from './server';

/** Exit statuses: as sysexits.h names them, so that a supervisor can tell what a restart would not mend. */
export const kExitOk = 0;
export const kExitConfig = 78;
export const kExitUnavailable = 69;

function processLog(level: string): Logger {
  return pino(
    { level, base: { pid: process.pid }, timestamp: pino.stdTimeFunctions.isoTime },
    pino.destination({ dest: 1, sync: true }),
  );
}

/**
 * Runs until it is drained; resolves to the exit status. A second signal exits the process at once. The native client is loaded late, so that
 * help and bad settings are answered without it.
 */
export async function runSidecarProcess(
  argv: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
  loadNative: () => Native | Promise<Native>,
): Promise<number> {
  if (argv.includes('--help') || argv.includes('-h')) {
    process.stdout.write(
      `Usage: outrigger run [settings]\n\nServes gRPC beside a running driver until SIGTERM or SIGINT.\n\n${renderConfigHelp()}`,
    );
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
  const log = processLog(config.logLevel);
  let sidecar;
  try {
    sidecar = await startSidecar(config, { native: await loadNative(), log });
  } catch (error) {
    log.fatal({ err: error }, 'the sidecar could not start');
    process.stderr.write(`outrigger: ${(error as Error).message}\n`);
    return kExitUnavailable;
  }
  let signals = 0;
  const onSignal = (signal: NodeJS.Signals): void => {
    if (++signals > 1) {
      log.warn({ signal }, 'second signal: exit at once');
      process.exit(128 + (signal === 'SIGINT' ? 2 : 15));
    }
    log.info({ signal }, 'signal');
    void sidecar.drain();
  };
  process.on('SIGTERM', onSignal);
  process.on('SIGINT', onSignal);
  await sidecar.ended;
  process.off('SIGTERM', onSignal);
  process.off('SIGINT', onSignal);
  return kExitOk;
}
