// SPDX-License-Identifier: Apache-2.0
// The table of all metrics for docs/metrics.md.
import { kCatalogue, kOwnCounters, kSystemCounters } from '../../../sidecar/src/metrics/catalogue';
import { kDirectoryMetrics } from '../directory/metrics';
import { kOperatorCatalogue } from '../metrics/catalogue';

interface Row {
  readonly name: string;
  readonly type: string;
  readonly unit?: string;
  readonly help: string;
  readonly labels: readonly string[];
}

function table(rows: readonly Row[]): string {
  return [
    '| metric | type | unit | labels | meaning |',
    '|---|---|---|---|---|',
    ...rows.map(
      ({ name, type, unit, labels, help }) =>
        `| \`${name}\` | ${type} | ${unit ?? ''} | ${labels.map((each) => `\`${each}\``).join(', ')} | ${help.replaceAll('|', '\\|')} |`,
    ),
  ].join('\n');
}

export function renderSidecarMetrics(): string {
  return table(Object.values(kCatalogue));
}

export function renderDriverMetrics(): string {
  return table([...kSystemCounters.values(), ...kOwnCounters.values()]);
}

export function renderOperatorMetrics(): string {
  return table([...Object.values(kOperatorCatalogue), ...Object.values(kDirectoryMetrics)]);
}
