// SPDX-License-Identifier: Apache-2.0
// `make bench`: runs the plan of BENCH (smoke, quick, full) and writes build/bench/results.json and the table in docs/benchmarks.md.
// Exit status 0 only when everything was measured and every payload was what it had to be.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { appSuite } from './app';
import type { BackendResults } from './backend_results';
import {
  LATENCY_CHART,
  THROUGHPUT_CHART,
  latencyChart,
  report,
  throughputChart,
  withReport,
} from './backend_report';
import { backendsSuite } from './backends';
import type { Build } from './contenders';
import { Hosts } from './hosts';
import { PLANS, type Plan } from './plan';
import { type Results, table, thisMachine, withTable } from './results';
import { raiseSessionWeight, run, stopAll } from './shell';
import { Suites } from './suites';

interface Options {
  root: string;
  mode: Plan['mode'];
  out: string;
  // Suites to run; all when empty.
  only: string[];
  // Also put the table into docs/benchmarks.md.
  document: boolean;
}

function optionsFrom(argv: string[]): Options {
  const value = (key: string, fallback: string): string => {
    const at = argv.indexOf(`--${key}`);
    return at < 0 ? fallback : (argv[at + 1] ?? fallback);
  };
  const root = resolve(value('root', process.cwd()));
  const mode = value('mode', process.env['BENCH'] ?? 'full');
  if (!(mode in PLANS)) throw new Error(`BENCH '${mode}' is none of ${Object.keys(PLANS).join(', ')}`);
  return {
    root,
    mode: mode as Plan['mode'],
    out: resolve(value('out', join(root, 'build/bench/results.json'))),
    only: value('only', '')
      .split(',')
      .filter((name) => name !== ''),
    document: value('document', mode === 'full' ? 'yes' : 'no') === 'yes',
  };
}

// First of the places where a build leaves it.
function find(root: string, what: string, ...candidates: string[]): string {
  const found = candidates.map((candidate) => join(root, candidate)).find((file) => existsSync(file));
  if (!found)
    throw new Error(`${what} is not built: none of ${candidates.join(', ')} exists; run 'make build'`);
  return found;
}

function buildAt(root: string, withJava: boolean): Build {
  const java = join(root, 'test/interop/java');
  const jar = join(java, 'target/interop-peer-1.jar');
  if (withJava && !existsSync(jar)) run('mvn', '-q', '-B', '-f', join(java, 'pom.xml'), 'package');
  return {
    root,
    driver: find(root, 'the driver', 'build/outrigger-driver', 'build/native/outrigger-driver'),
    benchPrograms: dirname(find(root, 'the benchmark programs', 'build/native/bench_send')),
    javaClasspath: `${jar}:${join(java, 'target/lib')}/*`,
  };
}

function backendsReport(results: Results, backends: BackendResults): string {
  const { machine } = results;
  return report(
    backends,
    `${machine.cores} × ${machine.cpu}, ${machine.memoryGb} GiB, Linux ${machine.kernel}; ${results.date}; mode \`${results.mode}\`.`,
  );
}

// The charts, beside the document or the results; returns the text that goes with them.
function writeBackends(results: Results, backends: BackendResults, folder: string): string {
  writeFileSync(join(folder, LATENCY_CHART), latencyChart(backends));
  writeFileSync(join(folder, THROUGHPUT_CHART), throughputChart(backends));
  return backendsReport(results, backends);
}

// What this run measured; what it left out stays as it was.
function writeDocument(file: string, results: Results): void {
  let document = readFileSync(file, 'utf8');
  if (results.cases.length > 0) document = withTable(document, results);
  if (results.backends) document = withReport(document, backendsReport(results, results.backends));
  writeFileSync(file, document);
}

async function main(): Promise<number> {
  const options = optionsFrom(process.argv.slice(2));
  const plan = PLANS[options.mode];
  const build = buildAt(
    options.root,
    options.only.length === 0 || options.only.some((suite) => suite !== 'backends'),
  );
  const startedAt = Date.now();
  const log = (text: string): void => {
    process.stdout.write(`${((Date.now() - startedAt) / 1000).toFixed(0).padStart(5)} s  ${text}\n`);
  };
  if (process.getuid?.() !== 0)
    throw new Error('make bench needs root: it makes network namespaces and attaches an XDP program');
  raiseSessionWeight();
  const tag = `b${process.pid}`;
  const hosts = Hosts.open(tag, 1500);
  const suites = new Suites(hosts, build, plan, tag, log);
  let interrupted = false;
  let backends: BackendResults | undefined;
  const finish = async (): Promise<void> => {
    await stopAll();
    hosts.close();
    // Interrupted, nobody else removes what a stock driver leaves.
    for (const name of readdirSync('/dev/shm').filter((each) => each.startsWith(`outrigger-bench-${tag}-`))) {
      rmSync(join('/dev/shm', name), { recursive: true, force: true });
    }
  };
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      interrupted = true;
      void finish().then(() => process.exit(130));
    });
  }
  const isInterrupted = (): boolean => interrupted;
  const wanted = (suite: string): boolean =>
    !isInterrupted() && (options.only.length === 0 || options.only.includes(suite));
  try {
    if (wanted('throughput')) await suites.throughputSuites();
    if (wanted('rtt')) await suites.roundTripSuite();
    if (wanted('loss'))
      await suites.lossSuite(find(options.root, 'the loss program', 'build/bpf/loss.bpf.o'));
    if (wanted('idle')) await suites.idleSuite();
    if (wanted('app') && plan.app) {
      const outcome = await appSuite(hosts, build, plan.app, tag, log);
      suites.outcome.cases.push(...outcome.cases);
      suites.outcome.failures.push(...outcome.failures);
    }
    if (wanted('backends')) {
      const outcome = await backendsSuite(hosts, build.benchPrograms, plan.backends, tag, {
        log,
        isInterrupted,
      });
      backends = outcome.results;
      suites.outcome.failures.push(...outcome.failures);
    }
  } finally {
    await finish();
  }
  if (isInterrupted()) return 130;
  const results: Results = {
    machine: thisMachine(),
    date: new Date(startedAt).toISOString(),
    mode: plan.mode,
    seconds: (Date.now() - startedAt) / 1000,
    ...suites.outcome,
    ...(backends ? { backends } : {}),
  };
  mkdirSync(dirname(options.out), { recursive: true });
  writeFileSync(options.out, `${JSON.stringify(results, null, 2)}\n`);
  const documents = options.document ? join(options.root, 'docs') : dirname(options.out);
  if (results.cases.length > 0) process.stdout.write(`\n${table(results)}\n`);
  if (backends) process.stdout.write(`\n${writeBackends(results, backends, documents)}\n`);
  process.stdout.write(`\nresults in ${options.out}\n`);
  if (options.document) writeDocument(join(documents, 'benchmarks.md'), results);
  return results.failures.length === 0 ? 0 : 1;
}

main().then(
  (status) => process.exit(status),
  (error: unknown) => {
    process.stderr.write(`bench: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exit(1);
  },
);
