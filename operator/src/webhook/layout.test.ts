// SPDX-License-Identifier: Apache-2.0
// Paths in the image stand in three places that can't import from each other: the Dockerfile, the chart, and layout.ts.
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { kArguments, kEntrypoint, kImagePaths, kSidecarId } from './layout';

const kRoot = join(__dirname, '../../..');

function instruction(word: string): string {
  const dockerfile = readFileSync(join(kRoot, 'Dockerfile'), 'utf8');
  return new RegExp(`^${word} (.*)$`, 'm').exec(dockerfile)?.[1] ?? '';
}

test('the Dockerfile starts what injection starts, as the same user', () => {
  expect(JSON.parse(instruction('ENTRYPOINT'))).toEqual(kEntrypoint);
  expect(JSON.parse(instruction('CMD'))).toEqual(kArguments);
  expect(instruction('USER')).toBe(`${kSidecarId}:${kSidecarId}`);
});

test('the chart runs only programs that are in the image', () => {
  const known: readonly string[] = Object.values(kImagePaths);
  const used = globSync(join(kRoot, 'charts/**/*.{yaml,tpl}')).flatMap((file) =>
    [...readFileSync(file, 'utf8').matchAll(/\/usr\/(?:bin|lib)\/[\w./-]+/g)].map(([path]) => path),
  );
  expect(used).toContain(kImagePaths.operator);
  expect(used.filter((path) => !known.includes(path))).toEqual([]);
});
