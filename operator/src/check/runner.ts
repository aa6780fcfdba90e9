// SPDX-License-Identifier: Apache-2.0
// Checks as sentences: each is true or not, and says what to do when it is not. Which checks there are is in the files beside this.

export type Outcome = 'passed' | 'warning' | 'failed' | 'skipped';

export interface Check {
  /** Short and stable: what a hint links to and what JSON carries. */
  readonly id: string;
  /** A sentence that is true when all is well. */
  readonly sentence: string;
  /** What to do when it is not, beyond what the failure itself says. */
  readonly hint: string;
  /** Without it, later checks of the section mean nothing: they are skipped. */
  readonly required?: boolean;
  /** Throws CheckFailure, CheckWarning or CheckSkip; anything else that is thrown counts as a failure too. */
  readonly run: () => Promise<void>;
}

export interface Section {
  readonly title: string;
  readonly checks: readonly Check[];
}

export interface CheckResult {
  readonly section: string;
  readonly id: string;
  readonly sentence: string;
  readonly outcome: Outcome;
  /** Why not; empty when it passed. */
  readonly message: string;
  readonly hint: string;
}

/** The sentence is not true. */
export class CheckFailure extends Error {}
/** The sentence is true, but should not be relied on for long. */
export class CheckWarning extends Error {}
/** The sentence says nothing here. */
export class CheckSkip extends Error {}

export interface RunOptions {
  /** A failed check is tried again until then, for what is still starting. Milliseconds since 1970. */
  readonly deadlineMs: number;
  readonly now?: () => number;
  readonly pause?: (ms: number) => Promise<void>;
  /** Called with each result as it comes. */
  readonly report?: (result: CheckResult) => void;
}

const kRetryMs = 1000;

async function once(check: Check): Promise<{ outcome: Outcome; message: string }> {
  try {
    await check.run();
    return { outcome: 'passed', message: '' };
  } catch (error) {
    const { message } = error as Error;
    if (error instanceof CheckSkip) {
      return { outcome: 'skipped', message };
    }
    return { outcome: error instanceof CheckWarning ? 'warning' : 'failed', message };
  }
}

/** Runs all sections in order. */
export async function runChecks(
  sections: readonly Section[],
  options: RunOptions,
): Promise<readonly CheckResult[]> {
  const now = options.now ?? Date.now;
  const pause = options.pause ?? ((ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms)));
  const results: CheckResult[] = [];
  for (const { title, checks } of sections) {
    let missing: Check | undefined;
    for (const check of checks) {
      let result: { outcome: Outcome; message: string };
      if (missing !== undefined) {
        result = { outcome: 'skipped', message: `needs: ${missing.sentence}` };
      } else {
        result = await once(check);
        while (result.outcome === 'failed' && now() + kRetryMs <= options.deadlineMs) {
          await pause(kRetryMs);
          result = await once(check);
        }
      }
      if (result.outcome === 'failed' && check.required === true) {
        missing = check;
      }
      const full: CheckResult = {
        section: title,
        id: check.id,
        sentence: check.sentence,
        ...result,
        hint: result.outcome === 'failed' || result.outcome === 'warning' ? check.hint : '',
      };
      results.push(full);
      options.report?.(full);
    }
  }
  return results;
}

const kMarks: Readonly<Record<Outcome, string>> = { passed: '√', warning: '‼', failed: '×', skipped: '-' };

/** Lines for people, one result after the other; a title where a section begins. */
export function checkPrinter(write: (line: string) => void): (result: CheckResult) => void {
  let section = '';
  return (result) => {
    if (result.section !== section) {
      if (section !== '') {
        write('');
      }
      section = result.section;
      write(section);
      write('-'.repeat(section.length));
    }
    write(`${kMarks[result.outcome]} ${result.sentence}`);
    if (result.message !== '') {
      write(`    ${result.message}`);
    }
    if (result.hint !== '') {
      write(`    hint: ${result.hint}`);
    }
  };
}

export function verdict(results: readonly CheckResult[]): { readonly ok: boolean; readonly line: string } {
  const count = (outcome: Outcome): number => results.filter((each) => each.outcome === outcome).length;
  const failed = count('failed');
  const warnings = count('warning');
  const line =
    failed > 0
      ? `${failed} of ${results.length} checks failed`
      : `all ${count('passed')} checks passed${warnings > 0 ? `, ${warnings} with a warning` : ''}`;
  return { ok: failed === 0, line };
}
