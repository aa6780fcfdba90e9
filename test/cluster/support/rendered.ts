// SPDX-License-Identifier: Apache-2.0
// The objects of the chart as the real helm renders them with some values; no release is made.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseAllDocuments } from 'yaml';
import { helm } from '../kubectl';
import { kChart } from './product';

export interface Rendered {
  readonly kind: string;
  readonly metadata: { readonly name: string };
}

/** Namespace of the release that they are rendered for. */
export const kRenderedNamespace = 'system';

export async function rendered(values: object): Promise<readonly Rendered[]> {
  const folder = mkdtempSync(join(tmpdir(), 'outrigger-rendered-'));
  try {
    const file = join(folder, 'values.json');
    writeFileSync(file, JSON.stringify(values));
    const text = await helm(
      ...['template', 'outrigger', kChart, '--namespace', kRenderedNamespace, '--values', file],
    );
    return parseAllDocuments(text)
      .map((each) => each.toJS() as Rendered | null)
      .filter((each) => each !== null);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
