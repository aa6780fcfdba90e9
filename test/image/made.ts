// SPDX-License-Identifier: Apache-2.0
// What `make image` makes of the build of this tree.
import { execFileSync } from 'node:child_process';
import { mkdirSync, symlinkSync } from 'node:fs';
import { join, resolve } from 'node:path';

const kRoot = resolve(__dirname, '../..');

/** Kept between runs: what apt fetched is the same each time. */
const kDebs = join(kRoot, 'build/image/debs');

/** In a folder of its own, `to`, which it answers. */
export function makeImage(to: string, ...more: readonly string[]): string {
  mkdirSync(to);
  mkdirSync(kDebs, { recursive: true });
  symlinkSync(kDebs, join(to, 'debs'));
  const args = ['scripts/image/main.mts', '--folder', to, '--reference', 'localhost/outrigger:test', ...more];
  execFileSync(join(kRoot, 'node_modules/.bin/node'), args, { cwd: kRoot, encoding: 'utf8' });
  return to;
}
