// SPDX-License-Identifier: Apache-2.0
// The suites, fast ones first, and how each is built, run and read.
import { existsSync, globSync, mkdirSync, rmSync } from 'node:fs';
import { cpus } from 'node:os';
import { basename, join } from 'node:path';
import { run, type RunResult } from './exec.mts';
import { lintChecks } from './lint.mts';
import { failed, passed, readCtest, readGoogleTest, readJest, type Outcome } from './results.mts';

export interface Context {
  readonly root: string;
  /** Folder for results and logs of this suite. */
  readonly results: string;
  readonly env: Readonly<Record<string, string>>;
  /** Until the whole run should be over. */
  readonly minutesLeft: () => number;
}

/** Why this machine can't run a suite, and what helps: it is skipped, and the run says so. */
export interface Unavailable {
  readonly unavailable: string;
}

export interface Suite {
  readonly name: string;
  /** Makes what `test` runs. Answers what went wrong, or undefined. */
  readonly build?: (context: Context) => Promise<string | Unavailable | undefined>;
  readonly test: (context: Context) => Promise<Outcome[]>;
  /**
   * What it may take at the very most, on two cores, with what this machine has of others' software already built. A run of all suites
   * that has less time left leaves it out, and says so.
   */
  readonly minutes?: () => Promise<number>;
  /** Runs when it is named, not with all others. */
  readonly named?: boolean;
}

const kBuildTimeoutSeconds = 1800;
const kTestTimeoutSeconds = 900;
/** Failures in more files than this are no accident of a busy machine. */
const kSecondTries = 3;
const kCores = String(cpus().length);

export const suites: readonly Suite[] = [
  { name: 'build', test: buildAll },
  { name: 'lint', test: lint },
  // All, since the end-to-end tests use the programs of native/bench too.
  nativeSuite('native', [], { targets: ['all'] }),
  jestSuite('jest-unit', 'unit'),
  jestSuite('jest-e2e', 'e2e'),
  // Takes a third of what it may take: after the sanitizers a slow machine without caches would leave it out.
  { name: 'lab', build: buildLab, test: lab, minutes: () => Promise.resolve(18) },
  nativeSuite('asan', ['-DOUTRIGGER_SANITIZE=address'], {
    env: {
      // A device's or a stream's memory is megabytes, and freed memory that is kept costs as many fresh pages: half of the time at 256 MB.
      ASAN_OPTIONS: 'detect_stack_use_after_return=1 quarantine_size_mb=16',
      UBSAN_OPTIONS: 'print_stacktrace=1',
    },
  }),
  nativeSuite('tsan', ['-DOUTRIGGER_SANITIZE=thread'], {
    env: { TSAN_OPTIONS: 'halt_on_error=1 second_deadlock_stack=1' },
    // ThreadSanitizer's fixed shadow mapping does not fit every random layout of a process.
    prefix: ['setarch', '-R'],
    targets: ['tests-with-threads'],
    selection: ['--label-exclude', '^one-thread$'],
  }),
  { name: 'dpdk-next', build: buildDpdkNext, test: dpdkNext, minutes: () => Promise.resolve(6) },
  { name: 'fuzz', build: buildFuzzers, test: fuzz },
  { name: 'cluster', build: buildCluster, test: cluster, minutes: clusterMinutes },
  // Compiles all of it twice more in a container the first time, and is about nothing but the Dockerfile.
  { name: 'dockerfile', build: buildDockerfile, test: dockerfile, named: true },
];

async function step(
  context: Context,
  name: string,
  command: readonly string[],
  timeoutSeconds: number,
  env = {},
): Promise<RunResult> {
  return run(command, {
    logPath: join(context.results, `${name}.log`),
    timeoutSeconds,
    env: { ...context.env, ...env },
  });
}

/** undefined when ok, else how it ended and the end of what it printed. */
function complaint(result: RunResult): string | undefined {
  return result.ok ? undefined : `${result.ending}\n${tail(result.output(), 60)}`;
}

function outcome(name: string, result: RunResult): Outcome {
  const text = complaint(result);
  return text === undefined ? passed(name) : failed(name, text);
}

export function tail(text: string, lines: number): string {
  return text.trimEnd().split('\n').slice(-lines).join('\n');
}

async function buildAll(context: Context): Promise<Outcome[]> {
  const outcomes: Outcome[] = [];
  for (const target of ['native', 'ts', 'bpf']) {
    outcomes.push(
      outcome(`make ${target}`, await step(context, target, ['make', target], kBuildTimeoutSeconds)),
    );
  }
  if (outcomes.every((each) => each.status === 'passed')) {
    for (const [name, script] of [
      ['docs are what the programs say', 'docs'],
      ['CRDs and their docs are what operator/src/api says', 'crds'],
      ['roles, rules, dashboards and schema of the chart are what operator/src says', 'chart'],
    ] as const) {
      const command = ['node', `scripts/${script}.mts`, '--check'];
      outcomes.push(outcome(name, await step(context, script, command, kTestTimeoutSeconds)));
    }
  }
  return outcomes;
}

async function lint(context: Context): Promise<Outcome[]> {
  const outcomes: Outcome[] = [];
  for (const check of lintChecks(context.root)) {
    if ('problems' in check) {
      const problems = check.problems();
      outcomes.push(problems.length === 0 ? passed(check.name) : failed(check.name, problems.join('\n')));
    } else {
      outcomes.push(outcome(check.name, await step(context, check.name, check.command, kTestTimeoutSeconds)));
    }
  }
  return outcomes;
}

interface NativeOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly prefix?: readonly string[];
  /** Which tests ctest leaves out. */
  readonly selection?: readonly string[];
  /** What ninja builds. */
  readonly targets?: readonly string[];
}

function nativeSuite(name: string, cmakeOptions: readonly string[], options: NativeOptions): Suite {
  const folder = join('build', name);
  return {
    name,
    build: (context) => buildNative(context, folder, options.targets ?? ['tests'], cmakeOptions),
    test: async (context) => {
      const first = await runCtest(context, 'ctest', folder, options, options.selection ?? []);
      const unsteady = first.filter(({ outcomes }) => outcomes.some((each) => each.status === 'failed'));
      // Real time-outs on a machine that may stall; but what a sanitizer found, or a crash, is there, whether or not it shows again.
      const final = unsteady.some(
        ({ output, outcomes }) =>
          /Sanitizer|runtime error:/.test(output) || outcomes.some((each) => each.name === kCrashed),
      );
      if (final || unsteady.length === 0 || unsteady.length > kSecondTries) {
        return first.flatMap(({ outcomes }) => outcomes);
      }
      const again = unsteady.map((each) => each.name);
      const second = new Map(
        (
          await runCtest(context, 'ctest-again', folder, options, ['--tests-regex', `^(${again.join('|')})$`])
        ).map((each) => [each.name, each]),
      );
      return first.flatMap(({ name: program, outcomes }) => {
        const now = second.get(program)?.outcomes ?? [];
        if (now.some((each) => each.status === 'failed')) return outcomes;
        return outcomes.map((each) => {
          // Skipped is not passed.
          const again = now.find((one) => one.name === each.name && one.status === 'passed');
          if (each.status !== 'failed' || again === undefined) return each;
          sayUnstable(name, each);
          return again;
        });
      });
    },
  };
}

/** Name of the outcome of a program that did not end by itself, or not well after its last test. */
const kCrashed = 'the program itself';

/** What failed and then passed is named, not hidden. */
function sayUnstable(suite: string, { name, detail }: Outcome): void {
  const lines = (detail ?? '').split('\n').slice(0, 6).join('\n');
  console.log(`UNSTABLE ${suite}: ${name} failed, then passed on a second try\n${lines}`);
}

interface ProgramRun {
  readonly name: string;
  readonly output: string;
  readonly outcomes: readonly Outcome[];
}

/** Every test program of a build that `selection` leaves in, once. */
async function runCtest(
  context: Context,
  log: string,
  folder: string,
  options: NativeOptions,
  selection: readonly string[],
): Promise<ProgramRun[]> {
  const programs = join(context.results, `${log}-programs`);
  const junit = join(context.results, `${log}.xml`);
  rmSync(programs, { recursive: true, force: true });
  mkdirSync(programs, { recursive: true });
  const command = [
    ...(options.prefix ?? []),
    ...['ctest', '--test-dir', folder, '--output-junit', junit, '--no-tests=error', '-j', kCores],
    // Reasons of skipped tests stand in what passing programs print.
    ...['--test-output-size-passed', '1000000', '--test-output-size-failed', '1000000'],
    ...selection,
  ];
  const result = await step(context, log, command, kTestTimeoutSeconds, {
    ...options.env,
    GTEST_OUTPUT: `json:${programs}/`,
  });
  const runs = readCtest(junit).map(({ name, ok, output }): ProgramRun => {
    const tests = readGoogleTest(join(programs, `test_${name}.json`), name, output);
    const outcomes =
      tests === undefined
        ? [failed(kCrashed, `${name} crashed or never ended\n${tail(output, 60)}`)]
        : tests.length === 0
          ? [failed(name, 'ran no test')]
          : // A sanitizer's report at the very end, after all tests passed.
            ok || tests.some((test) => test.status === 'failed')
            ? tests
            : [...tests, failed(kCrashed, `${name} ended badly\n${tail(output, 60)}`)];
    return { name, output, outcomes };
  });
  const blamed = runs.some(({ outcomes }) => outcomes.some((each) => each.status === 'failed'));
  return result.ok || blamed
    ? runs
    : [...runs, { name: 'ctest', output: '', outcomes: [failed('ctest', complaint(result) ?? '')] }];
}

async function buildNative(
  context: Context,
  folder: string,
  targets: readonly string[],
  cmakeOptions: readonly string[],
  env = {},
): Promise<string | undefined> {
  const configure = ['cmake', '-G', 'Ninja', '-S', 'native', '-B', folder, ...cmakeOptions];
  const configured = await step(context, 'cmake', configure, kBuildTimeoutSeconds, env);
  if (!configured.ok) return complaint(configured);
  return complaint(await step(context, 'ninja', ['ninja', '-C', folder, ...targets], kBuildTimeoutSeconds));
}

function jestSuite(name: string, project: string): Suite {
  return {
    name,
    test: async (context) => {
      const first = await runJest(context, project, 'jest', []);
      return withSecondTry(context, name, first, (files) =>
        runJest(context, project, 'jest-again', ['--runTestsByPath', ...files]),
      );
    },
  };
}

/** What came of the tests of a Jest project, once the files of those that failed, if they are few, were run again. */
async function withSecondTry(
  context: Context,
  suite: string,
  first: readonly Outcome[],
  runAgain: (files: readonly string[]) => Promise<Outcome[]>,
): Promise<Outcome[]> {
  const again = new Set(
    first.flatMap((each) => (each.status === 'failed' && each.file !== undefined ? [each.file] : [])),
  );
  if (again.size === 0 || again.size > kSecondTries) return [...first];
  // Real time-outs, and processes, on a machine that may stall: what fails once and then passes is named, not hidden.
  const second = await runAgain([...again]);
  const passedNow = new Set(second.filter((each) => each.status === 'passed').map((each) => each.name));
  // A failure of a whole file, as of its hooks, is over when all of the file passed.
  for (const file of again) {
    const where = file.replace(`${context.root}/`, '');
    const mine = second.filter((each) => each.name.startsWith(where));
    if (mine.length > 0 && mine.every((each) => each.status !== 'failed')) passedNow.add(where);
  }
  return first.map((each) => {
    if (each.status !== 'failed' || !passedNow.has(each.name)) return each;
    sayUnstable(suite, each);
    return passed(each.name);
  });
}

async function runJest(
  context: Context,
  project: string,
  log: string,
  more: readonly string[],
  env = {},
): Promise<Outcome[]> {
  const report = join(context.results, `${log}.json`);
  rmSync(report, { force: true });
  const command = [
    ...['jest', '--selectProjects', project, '--json', '--outputFile', report, '--ci'],
    // End-to-end tests use whole machines' worth of namespaces and processes: one after the other. What a
    // test forgot to close must not hold the run for ever; what it left behind is found all the same.
    ...(project === 'e2e' ? ['--runInBand', '--forceExit'] : []),
    ...more,
  ];
  const result = await step(context, log, command, 2 * kTestTimeoutSeconds, env);
  const outcomes = readJest(report, context.root);
  if (outcomes === undefined) return [failed('jest', `wrote no results: ${complaint(result) ?? 'no tests'}`)];
  const blamed = outcomes.some((each) => each.status === 'failed');
  return result.ok || blamed ? outcomes : [...outcomes, failed('jest', complaint(result) ?? '')];
}

/** Of all boots together. Emulated, and on whatever cores there are: it ends what hangs. */
const kLabSeconds = 840;
/** As scripts/setup and test/lab/image/prepare exit where the parts of the VM can't be had (EX_UNAVAILABLE). */
const kUnavailable = 'exit status 69';

async function buildLab(context: Context): Promise<string | Unavailable | undefined> {
  const setup = await step(context, 'setup', ['scripts/setup', 'build', 'test'], kBuildTimeoutSeconds);
  if (!setup.ok) return complaint(setup);
  const unpackers = await step(context, 'setup-lab', ['scripts/setup', 'build', 'lab'], kBuildTimeoutSeconds);
  if (unpackers.ending === kUnavailable) return { unavailable: tail(unpackers.output(), 1) };
  if (!unpackers.ok) return complaint(unpackers);
  const image = await step(context, 'image', ['test/lab/image/prepare'], kBuildTimeoutSeconds);
  if (image.ending === kUnavailable) return { unavailable: tail(image.output(), 1) };
  if (!image.ok) return complaint(image);
  // The peer of the exchanges, the DatagramIo suite for verbs, the stack's tests for VLANs, and real Aeron.
  const built = await buildNative(
    context,
    'build/native',
    ['product', 'bench_interop_peer', 'test_io', 'test_stack'],
    [],
  );
  return built ?? complaint(await step(context, 'aeron', ['test/lab/aeron'], kBuildTimeoutSeconds));
}

/** All checks in one boot; groups of those that failed in a second one, if they are few. */
async function lab(context: Context): Promise<Outcome[]> {
  const main = join(context.root, 'test/lab/checks/main.py');
  const listed = await step(context, 'list', ['python3', '-B', main, '--list'], kTestTimeoutSeconds);
  if (!listed.ok) return [failed('lab', complaint(listed) ?? '')];
  const names = listed.output().trim().split('\n');
  const end = performance.now() + kLabSeconds * 1000;
  const first = await bootLab(context, 'boot', names, [], end);
  const unsteady = first.filter((each) => each.status === 'failed');
  if (unsteady.length === 0 || unsteady.length > kSecondTries) return first;
  // Checks of a group build on each other, so all of it.
  const groups = [...new Set(unsteady.map(({ name }) => `${name.split(':')[0] ?? name}:`))];
  const second = new Map(
    (await bootLab(context, 'boot-again', names, groups, end)).map((each) => [each.name, each]),
  );
  return first.map((each) => {
    const now = second.get(each.name);
    if (each.status !== 'failed' || now?.status !== 'passed') return each;
    sayUnstable('lab', each);
    return now;
  });
}

/** The checks of `groups` (all when there are none) in one boot that ends before `end`. One that the VM did not get to has failed. */
async function bootLab(
  context: Context,
  log: string,
  names: readonly string[],
  groups: readonly string[],
  end: number,
): Promise<Outcome[]> {
  const seconds = Math.floor((end - performance.now()) / 1000);
  const guest = join(context.results, `guest-${log}`);
  const checks = ['python3', '-B', join(context.root, 'test/lab/checks/main.py'), ...groups];
  const command = ['test/lab/boot', '-t', String(Math.max(seconds, 1)), '-o', guest, ...checks];
  const result = await step(context, log, command, seconds + 120);
  const lines = result.output().split('\n');
  return names.map((name) => {
    if (lines.includes(`ok ${name}`)) return passed(name);
    const prefix = `not ok ${name}: `;
    const said = lines.find((line) => line.startsWith(prefix));
    if (said !== undefined) return failed(name, said.slice(prefix.length).replaceAll(' | ', '\n'));
    return failed(name, `the VM did not get to it: ${complaint(result) ?? 'it ended early'}`);
  });
}

/** Cold, it compiles Kubernetes: about 11 minutes on two idle cores, kept outside the tree. */
const kClusterBuildTimeoutSeconds = 3600;
const kClusterBinaries = 'test/cluster/binaries/build';

/** Kubernetes is compiled once a machine. */
async function clusterMinutes(): Promise<number> {
  const { ok } = await run([kClusterBinaries, '--cached'], {
    logPath: '/dev/null',
    timeoutSeconds: kTestTimeoutSeconds,
  });
  return ok ? 14 : 24;
}

async function buildCluster(context: Context): Promise<string | undefined> {
  const setup = await step(
    context,
    'setup',
    ['scripts/setup', 'build', 'test', 'cluster'],
    kBuildTimeoutSeconds,
  );
  if (!setup.ok) return complaint(setup);
  // test/cluster/run puts it on both nodes.
  const image = await step(context, 'image', ['make', 'image'], kBuildTimeoutSeconds);
  if (!image.ok) return complaint(image);
  // Maven, PyPI and Go modules the first time; the cluster itself has no way out.
  const apps = await step(context, 'app-images', ['test/cluster/images/build'], kBuildTimeoutSeconds);
  if (!apps.ok) return complaint(apps);
  return complaint(await step(context, 'binaries', [kClusterBinaries], kClusterBuildTimeoutSeconds));
}

/**
 * In a second cluster, beside that of all others: the API server is taken away for five minutes, in which nothing else could be done, and the
 * time that is left until the others are through goes to the bad input.
 */
const kSecondCluster = ['test/cluster/faults_outage.test.ts', 'test/cluster/bad_input.test.ts'];

/** A new cluster and the longest file of them take less; a run that has fewer left goes without, and none goes on beyond what is left. */
const kClusterAgainMinutes = 10;

/** Tests inside real clusters, which are gone with the last. */
async function cluster(context: Context): Promise<Outcome[]> {
  const others = globSync('test/cluster/*.test.ts').filter((each) => !kSecondCluster.includes(each));
  const outcomes = await Promise.all([
    runInCluster(context, 'cluster', others),
    runInCluster(context, 'second-cluster', kSecondCluster),
  ]);
  return withSecondTry(context, 'cluster', outcomes.flat(), (files) => {
    const minutes = context.minutesLeft();
    if (minutes < kClusterAgainMinutes) return Promise.resolve([]);
    return runInCluster(context, 'cluster-again', files, minutes * 60);
  });
}

/** In one cluster for all of them. */
async function runInCluster(
  context: Context,
  name: string,
  files: readonly string[],
  timeoutSeconds = 2 * kTestTimeoutSeconds,
): Promise<Outcome[]> {
  const report = join(context.results, `${name}.json`);
  rmSync(report, { force: true });
  const jest = [
    ...['jest', '--selectProjects', 'cluster', '--ci', '--runInBand', '--forceExit'],
    ...['--json', '--outputFile', report, '--runTestsByPath', ...files],
  ];
  const result = await step(context, name, ['test/cluster/run', ...jest], timeoutSeconds, {
    CLUSTER_KEEP: join(context.results, `${name}-components`),
  });
  const outcomes = readJest(report, context.root);
  if (outcomes === undefined) return [failed(name, complaint(result) ?? 'jest wrote no results')];
  const blamed = outcomes.some((each) => each.status === 'failed');
  return result.ok || blamed ? outcomes : [...outcomes, failed(name, complaint(result) ?? '')];
}

/** Cold, it installs what the build needs in a container and compiles everything twice there. */
const kEngineBuildTimeoutSeconds = 3600;

async function buildDockerfile(context: Context): Promise<string | Unavailable | undefined> {
  const setup = await step(context, 'setup', ['scripts/setup', 'build', 'test'], kBuildTimeoutSeconds);
  if (!setup.ok) return complaint(setup);
  const engine = await step(
    context,
    'setup-engine',
    ['scripts/setup', 'build', 'engine'],
    kBuildTimeoutSeconds,
  );
  if (engine.ending === kUnavailable) return { unavailable: tail(engine.output(), 1) };
  if (!engine.ok) return complaint(engine);
  // What it is held against.
  const built = await step(context, 'make', ['make', 'build'], kBuildTimeoutSeconds);
  if (!built.ok) return complaint(built);
  const command = ['test/image/engine/build', engineImages(context)];
  const images = await step(context, 'engine', command, kEngineBuildTimeoutSeconds);
  return images.ending === kUnavailable ? { unavailable: tail(images.output(), 1) } : complaint(images);
}

function engineImages({ results }: Context): string {
  return join(results, 'images');
}

/** What a container engine makes of the Dockerfile is what `make image` makes, and runs. */
async function dockerfile(context: Context): Promise<Outcome[]> {
  const outcomes = await runJest(context, 'dockerfile', 'jest', [], {
    OUTRIGGER_ENGINE_IMAGES: engineImages(context),
  });
  rmSync(engineImages(context), { recursive: true, force: true });
  return outcomes;
}

const kDpdkNextFolder = 'build/dpdk-next';

/** The dpdk backend against the next release of DPDK, whose folder is the last line that its script prints. */
async function dpdkNextRoot(context: Context): Promise<RunResult & { readonly root: string }> {
  const result = await step(context, 'prepare', ['test/dpdk/prepare'], kTestTimeoutSeconds);
  return { ...result, root: result.output().trimEnd().split('\n').at(-1) ?? '' };
}

async function buildDpdkNext(context: Context): Promise<string | undefined> {
  const prepared = await dpdkNextRoot(context);
  if (!prepared.ok) return complaint(prepared);
  // Its libraries want a newer C library than the linker finds here.
  const link = ['MODULE', 'EXE'].map((kind) => `-DCMAKE_${kind}_LINKER_FLAGS=-Wl,--allow-shlib-undefined`);
  return buildNative(context, kDpdkNextFolder, ['test_dpdk', 'test_frame'], link, {
    PKG_CONFIG_LIBDIR: globSync(join(prepared.root, 'usr/lib/*/pkgconfig')).join(':'),
    PKG_CONFIG_SYSROOT_DIR: prepared.root,
  });
}

async function dpdkNext(context: Context): Promise<Outcome[]> {
  const { root } = await dpdkNextRoot(context);
  const outcomes: Outcome[] = [];
  for (const program of ['test_dpdk', 'test_frame']) {
    const report = join(context.results, `${program}.json`);
    rmSync(report, { force: true });
    const command = ['test/dpdk/run', root, join(kDpdkNextFolder, program), '--gtest_filter=*dpdk*:*Dpdk*'];
    const result = await step(context, program, command, kTestTimeoutSeconds, {
      GTEST_OUTPUT: `json:${report}`,
      OUTRIGGER_DPDK_LIBRARY: join(context.root, kDpdkNextFolder, 'outrigger-dpdk.so'),
    });
    const tests = readGoogleTest(report, program, result.output()) ?? [];
    outcomes.push(...tests);
    // A backend that does not load is skipped: here it is what is tested.
    const ran = tests.some((test) => test.status === 'passed');
    if (!ran || (!result.ok && tests.every((test) => test.status !== 'failed'))) {
      outcomes.push(failed(program, complaint(result) ?? `passed no test\n${tail(result.output(), 20)}`));
    }
  }
  return outcomes;
}

const kFuzzFolder = 'build/fuzz';

async function buildFuzzers(context: Context): Promise<string | undefined> {
  return buildNative(context, kFuzzFolder, ['fuzzers'], ['-DOUTRIGGER_FUZZ=ON'], {
    CC: 'clang',
    CXX: 'clang++',
  });
}

/** Each fuzzer for FUZZ_SECONDS, from its seeds in native/fuzz/corpus and from what earlier runs found. */
async function fuzz(context: Context): Promise<Outcome[]> {
  const seconds = process.env.FUZZ_SECONDS ?? '10';
  const outcomes: Outcome[] = [];
  for (const source of globSync('native/fuzz/*_fuzz.cc').toSorted()) {
    const name = basename(source, '.cc');
    const found = join('build/fuzz-corpus', name);
    mkdirSync(found, { recursive: true });
    const seeds = join('native/fuzz/corpus', name);
    const command = [
      join(kFuzzFolder, name),
      `-max_total_time=${seconds}`,
      '-timeout=10',
      '-print_final_stats=1',
      `-artifact_prefix=${context.results}/${name}-`,
      found,
      ...(existsSync(seeds) ? [seeds] : []),
    ];
    rmSync(join(context.results, `${name}.log`), { force: true });
    const result = await step(context, name, command, Number(seconds) + 120);
    const runs = /number_of_executed_units:\s*(\d+)/.exec(result.output())?.[1] ?? '0';
    outcomes.push(
      result.ok && runs === '0' ? failed(name, 'ran no input') : outcome(`${name} (${runs} inputs)`, result),
    );
  }
  return outcomes;
}
