// SPDX-License-Identifier: Apache-2.0
// Entry of the operator process: settings from arguments and environment, the cluster from kubeconfig or pod, exit status to whoever started it.
import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import pino from 'pino';
import { ConfigError } from '../../sidecar/src/config/load';
import { installedVersion } from './base/version';
import { operatorComponents } from './components';
import { loadOperatorConfig, renderOperatorHelp } from './config/load';
import type { OperatorConfig } from './config/schema';
import { ApiClient } from './kit/api_client';
import { defaultAuth } from './kit/auth';
import { runOperator } from './process/operator';
import { unregister } from './webhook/unregister';

const kBadConfig = 78; // EX_CONFIG

async function main(argv: readonly string[]): Promise<number> {
  const uninstall = argv.includes('--uninstall');
  if (argv.includes('--help')) {
    process.stdout.write(renderOperatorHelp());
    return 0;
  }
  let config: OperatorConfig;
  try {
    config = loadOperatorConfig(
      argv.filter((each) => each !== '--uninstall'),
      process.env,
    );
  } catch (error) {
    if (!(error instanceof ConfigError)) {
      throw error;
    }
    process.stderr.write(`outrigger-operator: ${error.message}\n`);
    return kBadConfig;
  }
  const log = pino({ level: config.logLevel, name: 'outrigger-operator' });
  if (uninstall) {
    const api = new ApiClient({ auth: await defaultAuth(), userAgent: 'outrigger-uninstall' });
    await unregister(api).finally(() => api.close());
    log.info('the injector is registered no more');
    return 0;
  }
  const stop = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.once(signal, () => {
      log.info({ signal }, 'stopping');
      stop.abort();
      setTimeout(() => {
        log.error({ stopTimeoutMs: config.stopTimeout }, 'the stop took too long: exiting as it is');
        process.exit(1);
      }, config.stopTimeout).unref();
    });
  }
  const instance = hostname();
  return runOperator({
    config,
    auth: await defaultAuth(),
    log,
    version: installedVersion(),
    instance,
    identity: `${instance}_${randomBytes(6).toString('hex')}`,
    components: operatorComponents,
    signal: stop.signal,
  });
}

main(process.argv.slice(2)).then(
  (status) => {
    process.exitCode = status;
    // What still holds the event loop by now (a connection that doesn't close) must not hold the process.
    setTimeout(() => process.exit(status), 500).unref();
  },
  (error: unknown) => {
    process.stderr.write(`outrigger-operator: ${(error as Error).message}\n`);
    process.exit(70); // EX_SOFTWARE
  },
);
