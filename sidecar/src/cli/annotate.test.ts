// SPDX-License-Identifier: Apache-2.0
// The command around operator/src/annotate: files and standard input in, manifests out, notes beside them, exit statuses.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { annotateFiles, type AnnotateOptions } from './annotate';
import type { Out } from './output';

const kPod = 'apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {}\n';
const kService = 'apiVersion: v1\nkind: Service\nmetadata: {name: s}\n';

let folder: string;
let lines: string[];
let notes: string;
const out: Out = { isTty: false, line: (text) => lines.push(text), frame: (text) => lines.push(text) };

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'outrigger-annotate-'));
  lines = [];
  notes = '';
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function run(files: readonly string[], options: AnnotateOptions, input = ''): Promise<number> {
  const streams = {
    input: Readable.from([input]),
    notes: { write: (text: string) => void (notes += text) },
  };
  return annotateFiles(files, options, out, streams);
}

function file(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

describe('outrigger annotate', () => {
  it('reads standard input, writes manifests, and notes what changed', async () => {
    expect(await run([], { set: ['profile=fast', 'outrigger.dev/cores=1'] }, `${kPod}---\n${kService}`)).toBe(
      0,
    );
    expect(lines.join('\n')).toBe(
      `${kPod.replace('{name: p}', '{name: p, labels: { outrigger.dev/inject: "true" }, annotations: { outrigger.dev/profile: "fast", outrigger.dev/cores: "1" }}')}---\n${kService.trimEnd()}`,
    );
    expect(notes.split('\n')).toEqual([
      'Pod p: changed: label outrigger.dev/inject: "true", annotation outrigger.dev/profile: "fast", annotation outrigger.dev/cores: "1"',
      'Service s: untouched: it makes no pods',
      '',
    ]);
  });

  it('puts several files into one stream of documents, or into one List', async () => {
    const files = [file('a.yaml', kPod), file('b.yaml', `---\n${kPod}`), file('c.yaml', kService.trimEnd())];
    expect(await run(files, {})).toBe(0);
    expect(lines.join('\n').match(/^---$/gm)).toHaveLength(2);
    lines = [];
    expect(await run(files, { json: true })).toBe(0);
    expect(JSON.parse(lines.join('\n'))).toMatchObject({
      kind: 'List',
      items: [
        { kind: 'Pod', metadata: { labels: { 'outrigger.dev/inject': 'true' } } },
        { kind: 'Pod' },
        { kind: 'Service' },
      ],
    });
  });

  it('writes nothing when one of several files is bad, and names the file', async () => {
    const bad = file(
      'bad.yaml',
      kPod.replace('{name: p}', '{name: p, annotations: {outrigger.dev/scrap: "true"}}'),
    );
    await expect(run([file('a.yaml', kPod), bad], {})).rejects.toMatchObject({
      status: 1,
      message: `${bad}: Pod p: annotation outrigger.dev/scrap: unknown; did you mean outrigger.dev/scrape?`,
    });
    expect(lines).toEqual([]);
  });

  it.each([
    [{ set: ['profil=x'] }, 'annotation outrigger.dev/profil: unknown; did you mean outrigger.dev/profile?'],
    [
      { set: ['mtu=100'] },
      'annotation outrigger.dev/mtu: "100" is not allowed; allowed: a multiple of 32 from 64 to 65504',
    ],
    [{ set: ['inject=true'] }, 'is a label, not an annotation'],
    [{ set: ['profile'] }, 'allowed: key=value'],
    [{ set: ['cores=1', 'outrigger.dev/cores=2'] }, 'stands twice'],
    [{ set: ['cores=1'], remove: true }, 'does not go with --set'],
  ])('refuses %j as wrong usage before it reads anything', async (options, message) => {
    await expect(run(['/nonexistent'], options)).rejects.toMatchObject({
      status: 64,
      message: expect.stringContaining(message) as string,
    });
  });

  it('ends with status 1 where nothing makes pods', async () => {
    expect(await run([], {}, kService)).toBe(1);
    expect(lines.join('\n')).toBe(kService.trimEnd());
    expect(notes).toContain('nothing here makes pods');
  });
});
