// SPDX-License-Identifier: Apache-2.0
// The budget of an image: what is over it is refused with the size and the budget, and `make image` with it. Node runs the module itself, as the
// build does, since jest knows no ES modules.
import { spawnSync } from 'node:child_process';
import { join, resolve } from 'node:path';

const kRoot = resolve(__dirname, '../..');
const kMiB = 1024 ** 2;

interface Checked {
  readonly budget: { readonly compressed: number; readonly unpacked: number };
  readonly said: string;
}

/** What comes of an image that differs from its budget by so many bytes. */
function check(variant: string, compressedBy: number, unpackedBy: number): Checked {
  const program = `
    import { checkBudget, kBudgetMiB } from './scripts/image/budget.mts';
    const budget = kBudgetMiB['${variant}'];
    let said = '';
    try {
      checkBudget('${variant}', budget.compressed * ${kMiB} + ${compressedBy}, budget.unpacked * ${kMiB} + ${unpackedBy});
    } catch (error) {
      said = error.message;
    }
    console.log(JSON.stringify({ budget, said }));`;
  const { status, stdout, stderr } = spawnSync(
    join(kRoot, 'node_modules/.bin/node'),
    ['--input-type=module', '--eval', program],
    { cwd: kRoot, encoding: 'utf8' },
  );
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  return JSON.parse(stdout) as Checked;
}

describe.each(['default', 'dpdk'])('the budget of the image, variant %s', (variant) => {
  it('has room up to its last byte', () => {
    expect(check(variant, 0, 0).said).toBe('');
  });

  it('refuses an archive that is too large, with its size and what it may be', () => {
    const { budget, said } = check(variant, 1.5 * kMiB, 0);
    expect(said).toContain(
      `over its budget: ${budget.compressed + 1}.5 compressed of ${budget.compressed} MiB;`,
    );
    expect(said).not.toContain('unpacked');
  });

  it('refuses a file system that is too large, and says both where both are', () => {
    const { budget, said } = check(variant, 1, 2 * kMiB);
    expect(said).toContain(
      `${budget.compressed}.0 compressed of ${budget.compressed}, ${budget.unpacked + 2}.0 unpacked of ${budget.unpacked} MiB`,
    );
    expect(said).toContain('raise it in scripts/image/budget.mts with a reason');
  });
});
