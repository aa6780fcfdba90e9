// SPDX-License-Identifier: Apache-2.0
// The Dockerfile against `make image`, which reads its configuration from there and makes the file system itself: nothing may stand in the
// Dockerfile that only a container engine would do. No engine runs here.
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { kArguments, kEntrypoint, kSidecarId } from '../../operator/src/webhook/layout';

const kRoot = resolve(__dirname, '../..');

interface Stage {
  readonly name: string;
  readonly base: string;
  readonly instructions: readonly { readonly word: string; readonly rest: string }[];
}

function stages(text: string): Stage[] {
  const lines = text
    .split('\n')
    .filter((line) => !line.startsWith('#'))
    .join('\n')
    .replaceAll(/\\\n\s*/g, ' ')
    .split('\n')
    .filter((line) => line.trim() !== '');
  const found: { name: string; base: string; instructions: { word: string; rest: string }[] }[] = [];
  for (const line of lines) {
    const [word = '', ...rest] = line.split(/\s+/);
    if (word === 'FROM') {
      found.push({ base: rest[0] ?? '', name: rest[2] ?? '', instructions: [] });
    } else {
      found.at(-1)?.instructions.push({ word, rest: rest.join(' ') });
    }
  }
  return found;
}

const kText = readFileSync(join(kRoot, 'Dockerfile'), 'utf8');
const kStages = stages(kText);

function stage(name: string): Stage {
  const found = kStages.find((each) => each.name === name);
  if (found === undefined) {
    throw new Error(`no stage ${name}`);
  }
  return found;
}

function last({ instructions }: Stage, word: string): string {
  return instructions.findLast((each) => each.word === word)?.rest ?? '';
}

describe('the Dockerfile', () => {
  it('ends with the image that docker build makes without a target, and has the one with DPDK beside it', () => {
    expect(kStages.map(({ name, base }) => [name, base])).toEqual([
      ['tools', '${BUILD_IMAGE}'],
      ['build', 'tools'],
      ['tools-dpdk', 'tools'],
      ['build-dpdk', 'tools-dpdk'],
      ['run', '${RUN_IMAGE}'],
      ['dpdk', 'run'],
      ['outrigger', 'run'],
    ]);
    expect(kText).toMatch(/^ARG RUN_IMAGE=scratch$/m);
  });

  it.each([
    ['outrigger', 'build', 'make image-root', '/src/build/image/outrigger-root/ /'],
    ['dpdk', 'build-dpdk', 'make image-root IMAGE_VARIANT=dpdk', '/src/build/image/outrigger-dpdk-root/ /'],
  ])('fills %s with what make image packs, and with nothing else', (name, from, made, copied) => {
    expect(last(stage(from), 'RUN')).toBe(made);
    expect(stage(name).instructions).toEqual([{ word: 'COPY', rest: `--from=${from} ${copied}` }]);
  });

  it('says of how it is run only what make image reads too, and what injection says', () => {
    const run = stage('run');
    const read = ['ARG', 'LABEL', 'ENV', 'USER', 'WORKDIR', 'STOPSIGNAL', 'ENTRYPOINT', 'CMD'];
    expect(run.instructions.filter(({ word }) => !read.includes(word))).toEqual([]);
    expect(last(run, 'USER')).toBe(`${kSidecarId}:${kSidecarId}`);
    expect(JSON.parse(last(run, 'ENTRYPOINT'))).toEqual(kEntrypoint);
    expect(JSON.parse(last(run, 'CMD'))).toEqual(kArguments);
    expect(
      [...last(run, 'LABEL').matchAll(/org\.opencontainers\.image\.(\w+)=/g)].map((each) => each[1]),
    ).toEqual(['title', 'description', 'licenses', 'version', 'revision']);
  });

  it('gives no file a capability or another owner, and fetches nothing but by its set-up', () => {
    expect(kText).not.toMatch(/setcap|--chown|--chmod|--privileged|--security|\bsudo\b/);
    const words = new Set(kStages.flatMap(({ instructions }) => instructions.map(({ word }) => word)));
    expect(words).not.toContain('ADD');
    expect(kText).not.toMatch(/\b(curl|wget)\b/);
  });
});
