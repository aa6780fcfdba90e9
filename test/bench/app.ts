// SPDX-License-Identifier: Apache-2.0
// App to app: an application publishes through the sidecar of host A, another one subscribes through that of host B; against applications on a NATS
// server, which stands on host B. Applications in Go and in TypeScript, the peer with its own Go client.
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Outcome, type Values, compare } from './compare';
import { type Build, Fleet, ours } from './contenders';
import type { Window } from './engine';
import type { Hosts } from './hosts';
import type { Plan } from './plan';
import { type JsonLine, type Measured, runIn, sleep, start } from './shell';

const kNatsPort = 24222;
const kTopicPort = 24300;
const kTopics = 256;
const kFirstStream = 7000;
const kStartMs = 20_000;
// Batches of about 64 KiB: what the client libraries form under load.
const kBatchBytes = 64 * 1024;

type Language = 'go' | 'typescript';

interface Way {
  language: Language;
  // Messages a call.
  batch: number;
}

function goProgram(root: string): string {
  const source = join(root, 'test/bench/go');
  const program = join(root, 'build/bench/app');
  runIn(source, join(root, 'node_modules/.bin/buf'), 'generate'); // its plugins are tools of the module there
  runIn(source, 'go', 'build', '-o', program, '.');
  return program;
}

function valuesOf(who: string, line: JsonLine): Values {
  const { messages, seconds, lost, outOfOrder, corrupt, cpuSeconds } = line as Record<string, number> & {
    cpuSeconds: Record<string, number>;
  };
  if (lost !== 0 || outOfOrder !== 0 || corrupt !== 0) {
    throw new Error(`${who}: payload check failed: lost=${lost} outOfOrder=${outOfOrder} corrupt=${corrupt}`);
  }
  if (!messages || !seconds) throw new Error(`${who}: no message arrived in the window`);
  const cpu = Object.values(cpuSeconds).reduce((sum, value) => sum + value, 0);
  return { throughput: messages / seconds, cpuSecondsPerMillion: (cpu / messages) * 1e6 };
}

// The sidecars of both hosts on a pair of drivers, with one topic that goes from A to B.
class Sidecars {
  readonly a: Measured;
  readonly b: Measured;

  constructor(
    hosts: Hosts,
    build: Build,
    directories: { a: string; b: string },
    readonly folder: string,
  ) {
    const endpoint = `${hosts.b.address}:${kTopicPort}`;
    const topics = join(folder, 'topics.yaml');
    // A topic a run: what a run leaves in flight can then never be taken for the next one's.
    const entries = Array.from(
      { length: kTopics },
      (_, i) => `  - { name: bench-${i}, streamId: ${kFirstStream + i}, subscribers: ["${endpoint}"] }`,
    );
    writeFileSync(topics, `topics:\n${entries.join('\n')}\n`);
    const launch = (side: 'a' | 'b'): Measured =>
      start(
        {
          name: `sidecar ${side}`,
          namespace: hosts[side].namespace,
          env: {
            AERON_DIR: directories[side],
            OUTRIGGER_GRPC_SOCKET: this.socket(side),
            OUTRIGGER_HTTP_LISTEN: '127.0.0.1:9464',
            OUTRIGGER_TOPICS_FILE: topics,
            OUTRIGGER_LOG_LEVEL: 'warn',
            ...(side === 'b' ? { OUTRIGGER_ENDPOINTS: endpoint } : {}),
          },
        },
        process.execPath,
        join(build.root, 'build/ts/sidecar/src/main.js'),
      );
    this.a = launch('a');
    this.b = launch('b');
  }

  socket(side: 'a' | 'b'): string {
    return join(this.folder, `${side}.sock`);
  }
  async ready(): Promise<void> {
    const deadline = Date.now() + kStartMs;
    for (const side of ['a', 'b'] as const) {
      while (!existsSync(this.socket(side))) {
        if (this[side].isOver || Date.now() > deadline)
          throw new Error(`sidecar ${side} did not start: ${this[side].errors}`);
        await sleep(50);
      }
    }
  }
  async stop(): Promise<void> {
    await Promise.all([this.a.stop(), this.b.stop()]);
  }
}

export async function appSuite(
  hosts: Hosts,
  build: Build,
  plan: NonNullable<Plan['app']>,
  tag: string,
  log: (text: string) => void,
): Promise<Outcome> {
  const program = goProgram(build.root);
  const folder = mkdtempSync(join(tmpdir(), `outrigger-bench-${tag}-`));
  const fleet = new Fleet(hosts, build, tag);
  const total: Outcome = { cases: [], failures: [] };
  let sidecars: Sidecars | undefined;
  let nats: Measured | undefined;
  try {
    const pair = await fleet.activate(ours('mmsg'));
    sidecars = new Sidecars(hosts, build, { a: pair.a.directory, b: pair.b.directory }, folder);
    await sidecars.ready();
    const natsAddress = `${hosts.b.address}:${kNatsPort}`;
    nats = start(
      { name: 'nats server', namespace: hosts.b.namespace },
      program,
      'nats-server',
      '-address',
      natsAddress,
    );
    await nats.next(kStartMs);
    const shared = {
      driverA: pair.a.process.pid,
      driverB: pair.b.process.pid,
      sidecarA: sidecars.a.pid,
      sidecarB: sidecars.b.pid,
    };
    const socketOf = (side: 'a' | 'b'): string => `unix:${(sidecars as Sidecars).socket(side)}`;

    let topic = 0;
    const outrigger = (way: Way, size: number) => (): Promise<Values> => {
      const run: Run = {
        system: 'outrigger',
        topic: `bench-${topic++ % kTopics}`,
        size,
        batch: way.batch,
        window: plan.window,
      };
      const app = (side: 'a' | 'b', role: 'pub' | 'sub', cpu: string): Measured => {
        const options = { name: `${way.language} ${role}`, namespace: hosts[side].namespace };
        const script = join(build.root, 'build/ts/test/bench/apps/messaging_app.js');
        return way.language === 'go'
          ? start(options, program, ...goArguments(role, socketOf(side), run, cpu))
          : start(options, process.execPath, script, ...typescriptArguments(role, socketOf(side), run, cpu));
      };
      return exchange(app, shared, plan.window, log);
    };
    const peer = (size: number) => (): Promise<Values> => {
      const run: Run = { system: 'nats', topic: `bench-${topic++}`, size, batch: 1, window: plan.window };
      const app = (side: 'a' | 'b', role: 'pub' | 'sub', cpu: string): Measured =>
        start(
          { name: `nats ${role}`, namespace: hosts[side].namespace },
          program,
          ...goArguments(role, natsAddress, run, cpu),
        );
      return exchange(app, { server: (nats as Measured).pid }, plan.window, log);
    };

    for (const size of plan.sizes) {
      const batched = Math.max(1, Math.floor(kBatchBytes / size));
      const ways: (Way & { suite: string })[] = plan.languages.flatMap((language) => [
        { language, batch: batched, suite: `app-${language}-batched` },
        ...(plan.single ? [{ language, batch: 1, suite: `app-${language}-one-a-call` }] : []),
      ]);
      const outcome = await compare(
        {
          path: 'app',
          mtu: 1500,
          sizeBytes: size,
          lossPercent: 0,
          rounds: plan.rounds,
          ours: ways.map((way) => ({
            name: way.suite,
            suite: way.suite,
            backend: 'mmsg',
            measure: outrigger(way, size),
          })),
          peers: [
            {
              name: 'nats',
              peer: 'nats',
              peerTuning: 'nats.go Publish, no pending limits',
              measure: peer(size),
            },
          ],
        },
        log,
      );
      total.cases.push(...outcome.cases);
      total.failures.push(...outcome.failures);
    }
  } catch (error) {
    total.failures.push(`app: ${error instanceof Error ? error.message : String(error)}`);
    log(`FAILED ${total.failures.at(-1) ?? ''}`);
  } finally {
    await sidecars?.stop();
    await nats?.stop();
    await fleet.close();
    rmSync(folder, { recursive: true, force: true });
  }
  return total;
}

interface Run {
  system: 'outrigger' | 'nats';
  topic: string;
  size: number;
  batch: number;
  window: Window;
}

function goArguments(role: string, address: string, run: Run, cpu: string): string[] {
  return [
    role,
    ...['-system', run.system, '-address', address, '-topic', run.topic],
    ...['-size', `${run.size}`, '-batch', `${run.batch}`],
    ...['-in-flight', run.batch === 1 ? '1024' : '32'],
    ...['-warmup', `${run.window.warmupMs}ms`, '-measure', `${run.window.measureMs}ms`, '-cpu', cpu],
  ];
}

function typescriptArguments(role: string, address: string, run: Run, cpu: string): string[] {
  return [
    role,
    ...['--address', address, '--topic', run.topic, '--size', `${run.size}`, '--batch', `${run.batch}`],
    ...['--warmup-ms', `${run.window.warmupMs}`, '--measure-ms', `${run.window.measureMs}`, '--cpu', cpu],
  ];
}

// The subscriber is there before the first message, so that this is number 0; its window is the measurement.
async function exchange(
  app: (side: 'a' | 'b', role: 'pub' | 'sub', cpu: string) => Measured,
  shared: Record<string, number>,
  window: Window,
  log: (text: string) => void,
): Promise<Values> {
  const publisher = app('a', 'pub', '');
  let subscriber: Measured | undefined;
  try {
    await publisher.next(kStartMs);
    const cpu = Object.entries({ ...shared, publisher: publisher.pid, subscriber: 'self' }).map(
      ([name, pid]) => `${name}=${pid}`,
    );
    subscriber = app('b', 'sub', cpu.join(','));
    await subscriber.next(kStartMs);
    publisher.tell('go');
    const patienceMs = window.warmupMs + window.measureMs + kStartMs;
    const line = await Promise.race([
      subscriber.next(patienceMs),
      publisher.exit(patienceMs).then(() => {
        throw new Error(`${publisher.name} ended early: ${publisher.errors}`);
      }),
    ]);
    const values = valuesOf(subscriber.name, line);
    const used = Object.entries(line['cpuSeconds'] as Record<string, number>);
    log(
      `${subscriber.name}: CPU seconds ${used.map(([name, seconds]) => `${name} ${seconds.toFixed(2)}`).join(', ')}`,
    );
    return values;
  } finally {
    // The subscriber is gone when it has measured, so a publisher that waits for its last messages to leave would wait in vain.
    publisher.signal('SIGKILL');
    await publisher.stop();
    await subscriber?.stop();
  }
}
