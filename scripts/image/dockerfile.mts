// SPDX-License-Identifier: Apache-2.0
// Reads of the Dockerfile what becomes the configuration of an image, so that `make image` and a container engine make the same: the last stage
// of that name, as far as our Dockerfile goes (one instruction a line or continued with \, arguments as ${NAME}).

export interface ImageConfig {
  readonly User: string;
  readonly WorkingDir: string;
  readonly Env: readonly string[];
  readonly Entrypoint: readonly string[];
  readonly Cmd: readonly string[];
  readonly Labels: Readonly<Record<string, string>>;
  readonly StopSignal?: string;
}

interface Instruction {
  readonly word: string;
  readonly rest: string;
}

function instructions(text: string): Instruction[] {
  const lines = text
    .split('\n')
    .filter((line) => !line.trimStart().startsWith('#'))
    .join('\n')
    .replaceAll(/\\\n\s*/g, ' ')
    .split('\n');
  return lines.flatMap((line) => {
    const match = /^(\w+)\s+(.*)$/.exec(line.trim());
    return match === null ? [] : [{ word: (match[1] ?? '').toUpperCase(), rest: match[2] ?? '' }];
  });
}

/** key="value" or key=value, several. */
function pairs(text: string): [string, string][] {
  return [...text.matchAll(/([\w.-]+)=(?:"([^"]*)"|(\S+))/g)].map(([, key = '', quoted, plain]) => [
    key,
    quoted ?? plain ?? '',
  ]);
}

function lines(stage: readonly Instruction[], word: string): string[] {
  return stage.filter((each) => each.word === word).map(({ rest }) => rest);
}

/** Instructions of a stage; those of the stage that it is built on come first. */
function stageOf(all: readonly Instruction[], name: string): Instruction[] {
  const from = all.findIndex(
    ({ word, rest }) => word === 'FROM' && new RegExp(`\\sAS ${name}$`, 'i').test(rest),
  );
  if (from < 0) throw new Error(`the Dockerfile has no stage ${name}`);
  const next = all.findIndex(({ word }, i) => i > from && word === 'FROM');
  const own = all.slice(from + 1, next < 0 ? undefined : next);
  const base = (all[from]?.rest ?? '').split(' ')[0] ?? '';
  const isStage = all.some(
    ({ word, rest }) => word === 'FROM' && rest.toLowerCase().endsWith(` as ${base.toLowerCase()}`),
  );
  return isStage ? [...stageOf(all, base), ...own] : own;
}

export function imageConfig(
  text: string,
  stageName: string,
  args: Readonly<Record<string, string>>,
): ImageConfig {
  const expanded = text.replaceAll(/\$\{(\w+)\}/g, (whole, name: string) => args[name] ?? whole);
  const stage = stageOf(instructions(expanded), stageName);
  const last = (word: string): string => lines(stage, word).at(-1) ?? '';
  const list = (word: string): string[] => JSON.parse(last(word) || '[]') as string[];
  const stopSignal = last('STOPSIGNAL');
  return {
    User: last('USER'),
    WorkingDir: last('WORKDIR'),
    Env: lines(stage, 'ENV').flatMap((line) => pairs(line).map(([key, value]) => `${key}=${value}`)),
    Entrypoint: list('ENTRYPOINT'),
    Cmd: list('CMD'),
    Labels: Object.fromEntries(lines(stage, 'LABEL').flatMap(pairs)),
    ...(stopSignal === '' ? {} : { StopSignal: stopSignal }),
  };
}
