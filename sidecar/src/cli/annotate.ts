// SPDX-License-Identifier: Apache-2.0
// `annotate`: manifests from files or standard input, through operator/src/annotate, to standard output. What changed is said on standard error.
import { readFileSync } from 'node:fs';
import { text as textOf } from 'node:stream/consumers';
import {
  annotate,
  annotationProblems,
  readSetting,
  type Change,
} from '../../../operator/src/annotate/annotate';
import { CliError, kExit, usage } from './exit';
import { json, type Out } from './output';

export interface AnnotateOptions {
  /** key=value, in the order they were given. */
  readonly set?: readonly string[];
  readonly remove?: boolean;
  readonly json?: boolean;
}

export interface AnnotateStreams {
  readonly input: NodeJS.ReadableStream;
  readonly notes: { write(text: string): unknown };
}

function settingsOf(options: AnnotateOptions): Record<string, string> {
  const given = options.set ?? [];
  if (options.remove === true && given.length > 0) {
    throw usage('--remove takes everything of ours away; it does not go with --set');
  }
  const set: Record<string, string> = {};
  for (const text of given) {
    const setting = readSetting(text);
    if (setting === undefined) {
      throw usage(`--set ${text}: allowed: key=value, for example --set profile=market-data`);
    }
    if (setting.name in set) {
      throw usage(`--set ${setting.name} stands twice; each may stand once`);
    }
    set[setting.name] = setting.value;
  }
  const problems = annotationProblems(set);
  if (problems.length > 0) {
    throw usage(problems.join('; '));
  }
  return set;
}

async function read(file: string, input: NodeJS.ReadableStream): Promise<string> {
  if (file === '-') {
    return textOf(input);
  }
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw usage(`${file} can't be read: ${(error as Error).message}`);
  }
}

function noteOf({ object, outcome, notes }: Change): string {
  return `${object}: ${outcome}${notes.length === 0 ? '' : `: ${notes.join(', ')}`}`;
}

/** Between the texts of two files, unless one of them says where a document ends. */
function joined(texts: readonly string[]): string {
  return texts
    .map((each) => (each === '' || each.endsWith('\n') ? each : `${each}\n`))
    .reduce((all, each) => (all === '' || /^(---|%)/.test(each) ? all + each : `${all}---\n${each}`), '');
}

/** Status 1: something can't be annotated, and nothing is written; or there is nothing that makes pods. */
export async function annotateFiles(
  files: readonly string[],
  options: AnnotateOptions,
  out: Out,
  streams: AnnotateStreams = { input: process.stdin, notes: process.stderr },
): Promise<number> {
  const request = { set: settingsOf(options), remove: options.remove === true };
  const problems: string[] = [];
  const texts: string[] = [];
  const objects: unknown[] = [];
  const changes: Change[] = [];
  for (const file of files.length === 0 ? ['-'] : files) {
    const result = annotate(await read(file, streams.input), request, file === '-' ? 'standard input' : file);
    if ('problems' in result) {
      problems.push(...result.problems);
      continue;
    }
    texts.push(result.text);
    objects.push(...result.objects);
    changes.push(...result.changes);
  }
  if (problems.length > 0) {
    throw new CliError(kExit.failed, problems.join('\noutrigger: '));
  }
  if (options.json === true) {
    out.line(json({ apiVersion: 'v1', kind: 'List', items: objects }, 2));
  } else {
    out.line(joined(texts).replace(/\n$/, ''));
  }
  changes.forEach((each) => streams.notes.write(`${noteOf(each)}\n`));
  if (changes.every(({ outcome }) => outcome === 'untouched')) {
    streams.notes.write(
      'outrigger: nothing here makes pods: no Pod, Deployment, StatefulSet, DaemonSet, Job or CronJob\n',
    );
    return kExit.failed;
  }
  return kExit.ok;
}
