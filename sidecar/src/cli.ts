// SPDX-License-Identifier: Apache-2.0
// Entry of the command: arguments in, exit status out.
import { runCli } from './cli/program';

runCli(process.argv.slice(2)).then(
  (status) => {
    process.exitCode = status;
    // What still holds the event loop by now (a half-open connection) must not hold the process.
    setTimeout(() => process.exit(status), 500).unref();
  },
  (error: unknown) => {
    process.stderr.write(`outrigger: ${(error as Error).stack}\n`);
    process.exit(70);
  },
);
