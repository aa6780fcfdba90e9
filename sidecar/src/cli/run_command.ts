// SPDX-License-Identifier: Apache-2.0
// `outrigger run`: the sidecar in this process; with --driver a driver as its child, with -- an app too. In a container outrigger-init does
// this instead, where neither may take the other along.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import type { Logger } from 'pino';
import type { Config } from '../config/schema';
import type { Native } from '../native/types';
import { runSidecarProcess, type Companions } from '../run';
import type { Sidecar } from '../server';
import { Child } from './child';
import { kExitHelp, usage } from './exit';
import { nativeProgram } from './installation';

const kHelp = `Usage: outrigger run [--driver] [settings] [-- app [arguments...]]

Serves gRPC beside a driver until SIGTERM or SIGINT; then publishers flush, streams end in order, and it exits.

  --driver          also run a driver in driverDirectory; it is configured by its environment (build/outrigger-driver --help), restarted when it
                    crashes, and ended after the sidecar
  --backends=LIST   the driver's network backends, best first: OUTRIGGER_BACKENDS in its environment; needs --driver
  -- app ...        also run an app, with OUTRIGGER_ADDRESS and AERON_DIR in its environment; its end ends the rest, its status is ours.
                    The log goes to standard error then

Examples:
  outrigger run --topics-file topics.yaml --endpoints 10.0.0.7:40123      beside a driver that runs already
  outrigger run --driver --grpc-socket /tmp/o.sock --allow-channels       a driver too
  outrigger run --driver --grpc-socket /tmp/o.sock -- node app.js         and an app
${kExitHelp}

Settings:`;

const kBackendsFlag = '--backends=';
const kFirstRestartMs = 100;
const kLongestRestartMs = 10_000;
const kStableMs = 10_000; // a driver that ran this long is restarted without delay again
const kDriverEndMs = 10_000;

/** A driver that is started again when it ends by itself. */
class Driver {
  private child: Child | undefined;
  private restartMs = kFirstRestartMs;
  private stopped = false;
  private timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly env: Readonly<Record<string, string>>,
    private readonly log: Logger,
    private readonly logTo: 1 | 2,
  ) {}

  start(): void {
    const startedAt = performance.now();
    const child = new Child({
      name: 'driver',
      command: nativeProgram('outrigger-driver'),
      env: this.env,
      onLine: (line) => void (this.logTo === 1 ? process.stdout : process.stderr).write(`${line}\n`),
    });
    this.child = child;
    void child.exited.then((status) => {
      if (this.stopped) {
        return;
      }
      if (performance.now() - startedAt > kStableMs) {
        this.restartMs = kFirstRestartMs;
      }
      this.log.error({ status, restartMs: this.restartMs }, 'the driver ended; it is started again');
      this.timer = setTimeout(() => this.start(), this.restartMs);
      this.restartMs = Math.min(this.restartMs * 2, kLongestRestartMs);
    });
  }

  async stop(): Promise<void> {
    this.stopped = true;
    clearTimeout(this.timer);
    await this.child?.stop(kDriverEndMs);
  }

  kill(): void {
    this.child?.kill();
  }
}

class App {
  private child: ChildProcess | undefined;
  private over: Promise<number> = Promise.resolve(0);
  private ended = false;

  constructor(private readonly command: readonly string[]) {}

  start(env: Readonly<Record<string, string>>): Promise<number> {
    const [command, ...args] = this.command as [string, ...string[]];
    const child = spawn(command, args, { stdio: 'inherit', env: { ...process.env, ...env } });
    this.child = child;
    this.over = new Promise((resolve) => {
      child.once('error', (error: NodeJS.ErrnoException) => {
        process.stderr.write(`outrigger: ${command}: ${error.message}\n`);
        resolve(error.code === 'ENOENT' ? 127 : 126); // as a shell says it
      });
      child.once('exit', (code, signal) =>
        resolve(code ?? 128 + (signal === 'SIGINT' ? 2 : signal === 'SIGKILL' ? 9 : 15)),
      );
    });
    void this.over.then(() => (this.ended = true));
    return this.over;
  }

  async stop(graceMs: number): Promise<void> {
    if (this.child === undefined || this.ended) {
      return;
    }
    this.child.kill('SIGTERM');
    const timer = setTimeout(() => this.child?.kill('SIGKILL'), graceMs);
    await this.over;
    clearTimeout(timer);
  }
}

function addressOf(sidecar: Sidecar): string {
  return sidecar.socket === undefined ? (sidecar.grpcAddress as string) : `unix:${sidecar.socket}`;
}

async function whenUp(sidecar: Sidecar): Promise<void> {
  if (sidecar.link.state !== 'up') {
    await once(sidecar.link, 'up');
  }
}

function companionsOf(
  driverEnv: Readonly<Record<string, string>> | undefined,
  command: readonly string[],
  logTo: 1 | 2,
): Companions {
  let driver: Driver | undefined;
  let drainTimeoutMs = 0;
  const app = command.length === 0 ? undefined : new App(command);
  const killDriver = (): void => driver?.kill();
  return {
    before: (config: Config, log: Logger) => {
      drainTimeoutMs = config.drainTimeout;
      if (driverEnv !== undefined) {
        const shared = { AERON_DIR: config.driverDirectory, OUTRIGGER_POLICY_FILE: config.policyFile };
        driver = new Driver({ ...driverEnv, ...shared }, log, logTo);
        process.once('exit', killDriver);
        driver.start();
      }
      return Promise.resolve();
    },
    serving: (sidecar, config) =>
      app === undefined
        ? undefined
        : whenUp(sidecar).then(() =>
            app.start({ OUTRIGGER_ADDRESS: addressOf(sidecar), AERON_DIR: config.driverDirectory }),
          ),
    beforeDrain: () => app?.stop(drainTimeoutMs) ?? Promise.resolve(),
    after: async () => {
      await driver?.stop();
      process.off('exit', killDriver);
    },
  };
}

export function run(
  argv: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
  loadNative: () => Native,
): Promise<number> {
  const dashes = argv.indexOf('--');
  const own = dashes < 0 ? argv : argv.slice(0, dashes);
  const command = dashes < 0 ? [] : argv.slice(dashes + 1);
  const settings = own.filter((each) => each !== '--driver' && !each.startsWith(kBackendsFlag));
  const backends = own.findLast((each) => each.startsWith(kBackendsFlag))?.slice(kBackendsFlag.length);
  const withDriver = own.includes('--driver');
  if (backends !== undefined && !withDriver) {
    throw usage(
      `${kBackendsFlag}${backends} is of a driver that this command starts: add --driver, or set OUTRIGGER_BACKENDS where the driver is started`,
    );
  }
  const logTo = command.length === 0 ? 1 : 2;
  const driverEnv = backends === undefined ? {} : { OUTRIGGER_BACKENDS: backends };
  return runSidecarProcess(settings, env, loadNative, {
    companions: companionsOf(withDriver ? driverEnv : undefined, command, logTo),
    logTo,
    help: kHelp,
  });
}
