// SPDX-License-Identifier: Apache-2.0
// The checks of suite `lint`: each is one command, or one function that lists problems.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

export type LintCheck =
  | { readonly name: string; readonly command: readonly string[] }
  | { readonly name: string; readonly problems: () => string[] };

export function lintChecks(root: string): LintCheck[] {
  const files = sourceFiles(root);
  const ofType = (...endings: string[]): string[] =>
    files.filter((file) => endings.some((ending) => file.endsWith(ending)));
  return [
    {
      name: 'license lines',
      problems: () =>
        licenseProblems(root, ofType('.cc', '.h', '.c', '.ts', '.mts', '.java', '.go', '.py', '.proto')),
    },
    {
      name: 'clang-format',
      command: ['clang-format-14', '--dry-run', '-Werror', ...ofType('.cc', '.h', '.c')],
    },
    { name: 'buf lint', command: ['buf', 'lint', 'proto'] },
    { name: 'prettier', command: ['prettier', '--check', ...ofType('.ts', '.mts', '.mjs')] },
    { name: 'types of scripts', command: ['tsc', '-p', 'scripts'] },
    { name: 'eslint', command: ['eslint', '--max-warnings', '0', '.'] },
  ];
}

/** What git tracks or would track: neither build products nor dependencies. */
function sourceFiles(root: string): string[] {
  const names = execFileSync('git', ['-C', root, 'ls-files', '-co', '--exclude-standard'], {
    encoding: 'utf8',
  });
  return names.split('\n').filter((name) => name !== '');
}

function licenseProblems(root: string, files: readonly string[]): string[] {
  return files
    .filter((file) => !firstLines(join(root, file)).includes('SPDX-License-Identifier: Apache-2.0'))
    .map((file) => `${file}: its first line must be "SPDX-License-Identifier: Apache-2.0", as a comment`);
}

function firstLines(path: string): string {
  return readFileSync(path, 'utf8').split('\n', 2).join('\n');
}
