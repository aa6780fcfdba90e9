// SPDX-License-Identifier: Apache-2.0
// `outrigger explain`: what each network backend could do here, what the driver of a directory really runs with, and, with --sidecar, what the
// sidecar beside it has open. The driver's program probes; nothing is started.
import { execFileSync } from 'node:child_process';
import { z } from 'zod';
import { readBackendNote, type BackendNote } from '../driver/backend';
import { CliError, kExit } from './exit';
import { nativeProgram } from './installation';
import { factsOf, notBetterLines, threadsLine } from './note_lines';
import { json, time, type Out } from './output';
import { askSidecar, type SidecarAnswer } from './sidecar_answer';
import type { DirectoryOptions } from './tools';
import { topicLines } from './topic_lines';

export interface ExplainOptions extends DirectoryOptions {
  /** Ask the sidecar too. */
  readonly sidecar?: boolean;
  readonly address: string;
}

const explanationSchema = z.object({
  wouldUse: z.string(),
  order: z.array(z.string()),
  backends: z.array(
    z.object({
      name: z.string(),
      availability: z.enum(['available', 'degraded', 'impossible', 'not built']),
      causes: z.array(z.object({ what: z.string(), cause: z.string(), fix: z.string() })),
      facts: z.record(z.string(), z.string()),
    }),
  ),
  preloads: z.array(
    z.object({
      name: z.string(),
      availability: z.enum(['active', 'not loaded']),
      cause: z.string(),
      fix: z.string(),
    }),
  ),
});
export type Explanation = z.infer<typeof explanationSchema>;

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** The note of a driver that lives. */
function runningDriver(directory: string): BackendNote | undefined {
  const note = readBackendNote(directory);
  return note !== undefined && isAlive(note.pid) ? note : undefined;
}

/** Asks the driver's program, with the settings of the driver that runs where the environment has none. */
function probe(settings: Readonly<Record<string, string>>): Explanation {
  let text: string;
  try {
    text = execFileSync(nativeProgram('outrigger-driver'), ['--explain', '--json'], {
      encoding: 'utf8',
      env: { ...settings, ...process.env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  } catch (error) {
    const { status, stdout, stderr } = error as { status?: number; stdout?: string; stderr?: string };
    if (status !== 1 || stdout === undefined || stdout === '') {
      throw status === 78
        ? new CliError(kExit.config, `the driver's configuration: ${(stderr ?? '').trim()}`)
        : error;
    }
    text = stdout; // none of the configured ones opens
  }
  return explanationSchema.parse(JSON.parse(text));
}

export function driverLines(directory: string, note: Omit<BackendNote, 'settings'>): string[] {
  const lines = [
    `driver ${note.pid} in ${directory} runs ${note.backend} since ${time(note.sinceMs)}`,
    `  with        ${factsOf(note.facts)}`,
    threadsLine(note.threads),
  ];
  if (note.reason !== '') {
    lines.push(`  less        ${note.reason}`);
  }
  lines.push(...notBetterLines(note.notBetter));
  note.changes.forEach(({ atMs, from, to, reason }) =>
    lines.push(`  changed     ${time(atMs)} from ${from} to ${to}: ${reason}`),
  );
  return lines;
}

function probeLines(explanation: Explanation, running: string | undefined): string[] {
  const lines: string[] = [];
  const row = (name: string, state: string, text: string): void => {
    lines.push(`${name.padEnd(10)}${state.padEnd(12)}${text}`.trimEnd());
  };
  const indent = ' '.repeat(22);
  for (const { name, availability, causes, facts } of explanation.backends) {
    row(name, name === running ? 'in use' : availability, factsOf(facts));
    for (const { what, cause, fix } of causes) {
      lines.push(`${indent}${what}: ${cause}`, ...(fix === '' ? [] : [`${indent}  fix: ${fix}`]));
    }
  }
  lines.push('', 'By preload, as run modes of socket and mmsg:');
  for (const { name, availability, cause, fix } of explanation.preloads) {
    row(name, availability, cause);
    if (fix !== '') {
      lines.push(`${indent}  fix: ${fix}`);
    }
  }
  lines.push(
    '',
    `OUTRIGGER_BACKENDS=${explanation.order.join(',')}: ` +
      (explanation.wouldUse === ''
        ? 'none of them opens here, a driver would not start'
        : `a driver that starts now would use ${explanation.wouldUse}`),
  );
  return lines;
}

function sidecarLines({ error, topics }: SidecarAnswer): string[] {
  if (error !== '') {
    return [`the sidecar: ${error}`];
  }
  return topics.length === 0 ? ['no app has a topic open'] : topics.flatMap((each) => topicLines(each));
}

/** Status 1: no configured backend can be had. */
export async function explain(options: ExplainOptions, out: Out): Promise<number> {
  const driver = runningDriver(options.dir);
  const explanation = probe(driver?.settings ?? {});
  const sidecar = options.sidecar === true ? await askSidecar(options.address) : undefined;
  if (options.json === true) {
    const answer = { directory: options.dir, driver: driver ?? null, ...explanation };
    out.line(json(sidecar === undefined ? answer : { ...answer, sidecar }));
  } else {
    const head =
      driver === undefined ? [`no driver runs in ${options.dir}`] : driverLines(options.dir, driver);
    const tail = sidecar === undefined ? [] : ['', ...sidecarLines(sidecar)];
    out.line([...head, '', ...probeLines(explanation, driver?.backend), ...tail].join('\n'));
  }
  return explanation.wouldUse === '' && driver === undefined ? kExit.failed : kExit.ok;
}
