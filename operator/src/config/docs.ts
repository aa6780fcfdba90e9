// SPDX-License-Identifier: Apache-2.0
// The generated parts of docs/operator.md: settings and roles.
import { kClusterRoles, kNamespaceRoles } from '../components';
import type { Permission } from '../kit/permissions';
import { operatorEnvironmentName, operatorKeyMeta } from './load';
import { kOperatorConfigKeys } from './schema';
import { flagName } from '../../../sidecar/src/config/schema';

function table(heads: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  return [line(heads), `|${'---|'.repeat(heads.length)}`, ...rows.map(line)].join('\n');
}

export function renderOperatorSettings(): string {
  return table(
    ['flag', 'environment', 'meaning', 'unit', 'allowed', 'default'],
    kOperatorConfigKeys.map((key) => {
      const { meaning, unit, allowed, defaultText } = operatorKeyMeta(key);
      return [
        `\`${flagName(key)}\``,
        `\`${operatorEnvironmentName(key)}\``,
        meaning,
        unit,
        allowed,
        `\`${defaultText}\``,
      ];
    }),
  );
}

function rowsOf(roles: Readonly<Record<string, readonly Permission[]>>, where: string): string[][] {
  return Object.entries(roles).flatMap(([role, permissions]) =>
    permissions.map(({ group, resource, verbs, names }) => [
      role,
      where,
      `\`${resource}${group === '' ? '' : `.${group}`}\`${names === undefined ? '' : ` (${names.join(', ')})`}`,
      verbs.join(', '),
    ]),
  );
}

export function renderOperatorRoles(): string {
  return table(
    ['role', 'where', 'resource', 'verbs'],
    [...rowsOf(kClusterRoles, 'cluster'), ...rowsOf(kNamespaceRoles, 'its own namespace')],
  );
}
