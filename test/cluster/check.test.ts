// SPDX-License-Identifier: Apache-2.0
// `outrigger check` as a platform engineer runs it.
import { parseAllDocuments } from 'yaml';
import { kChartResources } from '../../operator/src/check/pre';
import { command, helm, kubectl } from './kubectl';
import { kChart, kOutrigger, kSystem } from './support/product';

interface Rendered {
  readonly apiVersion: string;
  readonly kind: string;
}

/** Group and resource of each kind that the API server has, by apiVersion and kind; those of no namespace marked. */
async function resourcesOfKinds(): Promise<ReadonlyMap<string, string>> {
  const table = await kubectl(['api-resources', '--no-headers']);
  return new Map(
    table
      .trimEnd()
      .split('\n')
      .map((line) => {
        const words = line.split(/\s+/);
        const [apiVersion = '', namespaced = '', kind = ''] = words.slice(-3);
        return [
          `${apiVersion} ${kind}`,
          named(apiVersion.split('/'), words[0] ?? '', namespaced === 'false'),
        ];
      }),
  );
}

function named(version: readonly string[], resource: string, wide: boolean): string {
  const group = version.length > 1 ? `.${version[0]}` : '';
  return `${resource}${group}${wide ? ' (of no namespace)' : ''}`;
}

interface Report {
  readonly ok: boolean;
  readonly checks: readonly { readonly id: string; readonly outcome: string; readonly message: string }[];
}

describe('outrigger check', () => {
  it('finds a fresh cluster ready for an installation', async () => {
    const { ok, stdout, stderr } = await command(kOutrigger, ['check', '--pre']);
    expect({ ok, stderr }).toEqual({ ok: true, stderr: '' });
    expect(stdout).toContain('√ Kubernetes is 1.34 or newer');
    expect(stdout).toContain('√ you may create customresourcedefinitions');
  });

  it('asks for everything that helm install makes, and for nothing else', async () => {
    const resources = await resourcesOfKinds();
    const text = await helm('template', 'outrigger', kChart, '--namespace', kSystem);
    const rendered = parseAllDocuments(text)
      .map((each) => each.toJS() as Rendered | null)
      .filter((each) => each !== null)
      .map(
        ({ apiVersion, kind }) => resources.get(`${apiVersion} ${kind}`) ?? `unknown: ${apiVersion} ${kind}`,
      );
    // Helm's own: the namespace, by --create-namespace, and the record of the release.
    const made = new Set([...rendered, 'namespaces (of no namespace)', 'secrets']);
    const asked = kChartResources.map(({ group, resource, wide = false }) =>
      named(group === '' ? ['v1'] : [group, 'v1'], resource, wide),
    );
    expect(asked.toSorted()).toEqual([...made].toSorted());
  });

  it('names the pod that is not there, with a hint', async () => {
    const { ok, stdout } = await command(kOutrigger, ['check', '--pod', 'default/nobody', '--json']);
    expect(ok).toBe(false);
    const report = JSON.parse(stdout) as Report;
    expect(report.checks[0]).toMatchObject({ id: 'pod-exists', outcome: 'failed' });
    expect(report.checks.slice(1).every(({ outcome }) => outcome === 'skipped')).toBe(true);
  });
});
