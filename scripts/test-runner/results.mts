// SPDX-License-Identifier: Apache-2.0
// What a suite answers, and the readers of the formats that test programs write: GoogleTest's JSON, ctest's JUnit, jest's JSON.
// A file that is missing or says nothing is a failure: a program that crashed writes none.
import { existsSync, readFileSync } from 'node:fs';

export interface Outcome {
  readonly name: string;
  readonly status: 'passed' | 'failed' | 'skipped';
  /** What to show of a failure; why it was skipped. */
  readonly detail?: string;
  /** Of a jest test that failed: the file it stands in, to run it again. */
  readonly file?: string;
}

export function passed(name: string): Outcome {
  return { name, status: 'passed' };
}

export function failed(name: string, detail: string): Outcome {
  return { name, status: 'failed', detail };
}

export function skipped(name: string, detail: string): Outcome {
  return { name, status: 'skipped', detail };
}

interface GoogleTestFile {
  readonly testsuites: readonly {
    readonly name: string;
    readonly testsuite: readonly {
      readonly name: string;
      readonly status: string;
      readonly result: string;
      readonly failures?: readonly { readonly failure: string }[];
      readonly skipped?: readonly { readonly message: string }[];
    }[];
  }[];
}

/** Why tests were skipped, by name: GoogleTest 1.12 prints it and does not write it. */
function skipReasons(output: string): ReadonlyMap<string, string> {
  const found = output.matchAll(/: Skipped\n([\s\S]*?)\n+\[ {2}SKIPPED \] (\S+)/g);
  return new Map([...found].map(([, reason = '', name = '']) => [name, reason.trim()]));
}

/** The outcomes of one program; undefined when it wrote no complete file. @param output what it printed. */
export function readGoogleTest(path: string, program: string, output = ''): Outcome[] | undefined {
  const file = readJson<GoogleTestFile>(path);
  const reasons = skipReasons(output);
  return file?.testsuites.flatMap((suite) =>
    suite.testsuite
      .filter((test) => test.status === 'RUN')
      .map((test): Outcome => {
        const name = `${program}: ${suite.name}.${test.name}`;
        if (test.failures !== undefined && test.failures.length > 0) {
          return failed(name, test.failures.map((each) => each.failure).join('\n'));
        }
        if (test.result === 'SKIPPED') {
          const reason = test.skipped?.[0]?.message ?? reasons.get(`${suite.name}.${test.name}`);
          return skipped(name, reason ?? 'no reason given');
        }
        return passed(name);
      }),
  );
}

/** The programs that ctest ran: whether each ended well, and what it printed. */
export function readCtest(path: string): { name: string; ok: boolean; output: string }[] {
  if (!existsSync(path)) return [];
  const xml = readFileSync(path, 'utf8');
  return [...xml.matchAll(/<testcase name="([^"]*)"[^>]* status="([^"]*)">([\s\S]*?)<\/testcase>/g)].map(
    ([, name = '', status = '', body = '']) => ({
      name,
      ok: status === 'run',
      output: unescapeXml(/<system-out>([\s\S]*?)<\/system-out>/.exec(body)?.[1] ?? ''),
    }),
  );
}

interface JestFile {
  readonly testResults: readonly {
    readonly name: string;
    readonly status: string;
    readonly message: string;
    readonly assertionResults: readonly {
      readonly fullName: string;
      readonly status: string;
      readonly failureMessages: readonly string[];
    }[];
  }[];
}

/** The outcomes of a jest run; undefined when it wrote no file. */
export function readJest(path: string, root: string): Outcome[] | undefined {
  const file = readJson<JestFile>(path);
  return file?.testResults.flatMap((program): Outcome[] => {
    const where = program.name.replace(`${root}/`, '');
    const outcomes = program.assertionResults.map((test): Outcome => {
      const name = `${where}: ${test.fullName}`;
      if (test.status === 'passed') return passed(name);
      if (test.status === 'failed')
        return { ...failed(name, test.failureMessages.join('\n')), file: program.name };
      return skipped(name, test.status);
    });
    // A file that does not compile, or whose hooks threw outside of any test.
    const blamed = outcomes.some((outcome) => outcome.status === 'failed');
    if (program.status === 'failed' && !blamed) {
      outcomes.push({ ...failed(where, program.message), file: program.name });
    }
    if (outcomes.length === 0) outcomes.push(failed(where, 'holds no test'));
    return outcomes;
  });
}

function readJson<T>(path: string): T | undefined {
  if (!existsSync(path)) return undefined;
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as T;
  } catch {
    return undefined;
  }
}

function unescapeXml(text: string): string {
  const names: Record<string, string> = { lt: '<', gt: '>', quot: '"', apos: "'", amp: '&' };
  return text.replace(/&(lt|gt|quot|apos|amp);/g, (_, name: string) => names[name] ?? '');
}
