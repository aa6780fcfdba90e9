// SPDX-License-Identifier: Apache-2.0
// Runs suites one after the other and adds them up: `node scripts/test-runner/main.mts [SUITE...]`, by default all but those that want to be named.
// The last line is "N passed, N failed"; the exit status is 0 only when nothing failed, every suite ran a test and nothing was left
// behind. Logs and results stay in build/test-results.
import { chmodSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { endAll } from './exec.mts';
import { Leftovers } from './leftovers.mts';
import { failed, skipped, type Outcome } from './results.mts';
import { suites, tail, type Context, type Suite } from './suites.mts';

const kRoot = process.cwd();
const kDetailLines = 60;
/** A run of all suites is over by then (TEST_MINUTES), so that who waits for it gets an answer. */
const kMinutes = 70;

interface Report {
  readonly name: string;
  readonly outcomes: readonly Outcome[];
  readonly buildSeconds: number;
  readonly testSeconds: number;
}

function minutesLeft(): number {
  return Number(process.env.TEST_MINUTES ?? kMinutes) - performance.now() / 60_000;
}

async function runSuite(suite: Suite, temporary: string): Promise<Report> {
  const results = join(kRoot, 'build/test-results', suite.name);
  rmSync(results, { recursive: true, force: true });
  mkdirSync(results, { recursive: true });
  const leftovers = new Leftovers(temporary);
  // Node's tools keep compiled code, by default among the temporary files.
  const caches = { NODE_COMPILE_CACHE: join(kRoot, 'build/node-cache') };
  const env = { ...leftovers.env, ...caches, TMPDIR: temporary };
  const context: Context = { root: kRoot, results, env, minutesLeft };

  const begin = performance.now();
  const buildProblem = await suite.build?.(context);
  const built = performance.now();
  let outcomes: Outcome[];
  if (typeof buildProblem === 'string') {
    outcomes = [failed('build', buildProblem)];
  } else if (buildProblem !== undefined) {
    outcomes = [skipped('suite', buildProblem.unavailable)];
  } else {
    outcomes = await suite.test(context);
    if (!outcomes.some((outcome) => outcome.status !== 'skipped')) {
      outcomes.push(failed('suite', 'ran no test'));
    }
  }
  const testSeconds = (performance.now() - built) / 1000;
  for (const left of await leftovers.find()) outcomes.push(failed('nothing left behind', left));
  leftovers.clear();
  return { name: suite.name, outcomes, buildSeconds: (built - begin) / 1000, testSeconds };
}

function count(report: Report, status: Outcome['status']): number {
  return report.outcomes.filter((outcome) => outcome.status === status).length;
}

function line(cells: readonly string[]): string {
  const [name = '', ...numbers] = cells;
  return `${name.padEnd(12)}${numbers.map((cell) => cell.padStart(10)).join('')}`;
}

function row(report: Report): string {
  const counts = (['passed', 'failed', 'skipped'] as const).map((status) => String(count(report, status)));
  return line([report.name, ...counts, report.buildSeconds.toFixed(1), report.testSeconds.toFixed(1)]);
}

function explain(report: Report): void {
  for (const outcome of report.outcomes) {
    if (outcome.status === 'failed') {
      const detail = tail(outcome.detail ?? '', kDetailLines).replaceAll(/^/gm, '    ');
      console.log(`\nFAILED ${report.name}: ${outcome.name}\n${detail}`);
    }
  }
}

/** Why tests were skipped, so that a machine that can't run them does not pass for one that did. */
function explainSkipped(reports: readonly Report[]): void {
  const reasons = new Map<string, number>();
  for (const report of reports) {
    for (const outcome of report.outcomes.filter((each) => each.status === 'skipped')) {
      const reason = `${report.name}: ${(outcome.detail ?? '').split('\n').at(-1) ?? ''}`;
      reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
    }
  }
  for (const [reason, times] of reasons) console.log(`skipped ${String(times)} in ${reason}`);
}

async function main(names: readonly string[]): Promise<number> {
  const unknown = names.filter((name) => !suites.some((suite) => suite.name === name));
  if (unknown.length > 0) {
    console.error(
      `no suite ${unknown.join(', ')}: there are ${suites.map((suite) => suite.name).join(', ')}`,
    );
    return 2;
  }
  const chosen = suites.filter((suite) =>
    names.length === 0 ? suite.named !== true : names.includes(suite.name),
  );
  const temporary = mkdtempSync(join(tmpdir(), 'outrigger-test-'));
  chmodSync(temporary, 0o1777); // as /tmp: some tests run programs as other users
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      void endAll().then(() => {
        rmSync(temporary, { recursive: true, force: true });
        process.exit(130);
      });
    });
  }

  console.log(line(['suite', 'passed', 'failed', 'skipped', 'build s', 'test s']));
  const reports: Report[] = [];
  const left: string[] = [];
  for (const suite of chosen) {
    const minutes = minutesLeft();
    const needed = names.length === 0 ? ((await suite.minutes?.()) ?? 0) : 0;
    if (needed > minutes) {
      left.push(
        `not run: ${suite.name}, which may take ${String(needed)} minutes of the ${minutes.toFixed(0)} that are left; run it alone with \`scripts/test ${suite.name}\``,
      );
      continue;
    }
    const report = await runSuite(suite, temporary);
    console.log(row(report));
    reports.push(report);
  }
  rmSync(temporary, { recursive: true, force: true });

  for (const report of reports) explain(report);
  const sum = (status: Outcome['status']): number =>
    reports.reduce((total, report) => total + count(report, status), 0);
  console.log('');
  explainSkipped(reports);
  for (const each of left) console.log(each);
  console.log(`${String(sum('passed'))} passed, ${String(sum('failed'))} failed`);
  return sum('failed') === 0 ? 0 : 1;
}

process.exitCode = await main(process.argv.slice(2));
