// SPDX-License-Identifier: Apache-2.0
// Documentation of every key, rendered from the schema: for --help and for the user guide.
import type { KeyMeta } from './fields';
import { configSchema, environmentName, flagName, kConfigKeys, type ConfigKey } from './schema';

export interface KeyDocumentation extends KeyMeta {
  readonly key: ConfigKey;
  readonly environment: string;
  readonly flag: string;
}

export function documentedKeys(): readonly KeyDocumentation[] {
  return kConfigKeys.map((key) => ({
    ...(configSchema.shape[key].meta() as unknown as KeyMeta),
    key,
    environment: environmentName(key),
    flag: flagName(key),
  }));
}

function wrap(words: string, width: number, indent: string): string {
  const lines: string[] = [];
  let line = '';
  for (const word of words.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else {
      line = line === '' ? word : `${line} ${word}`;
    }
  }
  lines.push(line);
  return lines.map((each) => indent + each).join('\n');
}

/** Plain text for a terminal: flag, environment name, meaning, what is allowed, default. */
export function renderConfigHelp(width = 100): string {
  const head = wrap(
    'Each setting comes from the configuration file (--config FILE or OUTRIGGER_CONFIG; YAML or JSON, camelCase keys), ' +
      'then the environment, then flags; the last one wins.',
    width,
    '',
  );
  const entries = documentedKeys().map((key) =>
    [
      `  ${key.flag} <${key.unit.split(' ')[0]}>   file: ${key.key}   env: ${key.environment}`,
      wrap(key.meaning, width - 6, '      '),
      wrap(`Allowed: ${key.allowed}. Default: ${key.defaultText}.`, width - 6, '      '),
    ].join('\n'),
  );
  return `${head}\n\n${entries.join('\n\n')}\n`;
}

/** A Markdown table for docs/. */
export function renderConfigTable(): string {
  const escape = (cell: string): string => cell.replace(/\|/g, '\\|');
  const rows = documentedKeys().map((key) =>
    [
      `\`${key.key}\``,
      `\`${key.flag}\``,
      `\`${key.environment}\``,
      escape(key.meaning),
      escape(key.unit),
      escape(key.allowed),
      `\`${key.defaultText}\``,
    ].join(' | '),
  );
  return (
    [
      '| key | flag | environment | meaning | unit | allowed | default |',
      '|---|---|---|---|---|---|---|',
      ...rows.map((row) => `| ${row} |`),
    ].join('\n') + '\n'
  );
}
