// SPDX-License-Identifier: Apache-2.0
// Entry of the sidecar process: settings from arguments and environment, exit status to whoever started it.
import { join } from 'node:path';
import type { Native } from './native/types';
import { runSidecarProcess } from './run';

function loadNative(): Native {
  // eslint-disable-next-line @typescript-eslint/no-require-imports -- at this moment only, after the settings are known to be good
  return (require(join(__dirname, 'native', 'index')) as { native: Native }).native;
}

runSidecarProcess(process.argv.slice(2), process.env, loadNative).then(
  (status) => {
    process.exitCode = status;
    // What still holds the event loop by now (a client's half-open connection) must not hold the process.
    setTimeout(() => process.exit(status), 500).unref();
  },
  (error: unknown) => {
    process.stderr.write(`outrigger: ${(error as Error).stack}\n`);
    process.exit(70);
  },
);
