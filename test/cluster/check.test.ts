// SPDX-License-Identifier: Apache-2.0
// `outrigger check` as a platform engineer runs it.
import { join } from 'node:path';
import { command } from './kubectl';

const kCommand = join(__dirname, '../../bin/outrigger');

interface Report {
  readonly ok: boolean;
  readonly checks: readonly { readonly id: string; readonly outcome: string; readonly message: string }[];
}

describe('outrigger check', () => {
  it('finds a fresh cluster ready for an installation', async () => {
    const { ok, stdout, stderr } = await command(kCommand, ['check', '--pre']);
    expect({ ok, stderr }).toEqual({ ok: true, stderr: '' });
    expect(stdout).toContain('√ Kubernetes is 1.34 or newer');
    expect(stdout).toContain('√ you may create customresourcedefinitions');
  });

  it('names the pod that is not there, with a hint', async () => {
    const { ok, stdout } = await command(kCommand, ['check', '--pod', 'default/nobody', '--json']);
    expect(ok).toBe(false);
    const report = JSON.parse(stdout) as Report;
    expect(report.checks[0]).toMatchObject({ id: 'pod-exists', outcome: 'failed' });
    expect(report.checks.slice(1).every(({ outcome }) => outcome === 'skipped')).toBe(true);
  });
});
