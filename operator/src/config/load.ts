// SPDX-License-Identifier: Apache-2.0
// Reads the operator's settings: environment, then flags. Reports every problem at once, each with its source and its fix.
import { nearest } from '../../../sidecar/src/base/nearest';
import type { KeyMeta } from '../../../sidecar/src/config/fields';
import { ConfigError } from '../../../sidecar/src/config/load';
import { flagName } from '../../../sidecar/src/config/schema';
import { formatDuration } from '../../../sidecar/src/config/units';
import {
  kOperatorConfigKeys,
  operatorConfigSchema,
  type OperatorConfig,
  type OperatorConfigKey,
} from './schema';

const kPrefix = 'OUTRIGGER_OPERATOR_';

/** leaseName → OUTRIGGER_OPERATOR_LEASE_NAME */
export function operatorEnvironmentName(key: string): string {
  return `${kPrefix}${key.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`;
}

export function operatorKeyMeta(key: OperatorConfigKey): KeyMeta {
  return operatorConfigSchema.shape[key].meta() as unknown as KeyMeta;
}

interface Setting {
  readonly value: string;
  readonly where: string;
}

type DurationKey = 'leaseDuration' | 'renewDeadline' | 'retryPeriod' | 'servingLife' | 'authorityLife';
type Settings = Map<OperatorConfigKey, Setting>;

function readEnvironment(
  env: Readonly<Record<string, string | undefined>>,
  settings: Settings,
  problems: string[],
): void {
  const byName = new Map(kOperatorConfigKeys.map((key) => [operatorEnvironmentName(key), key]));
  for (const [name, value] of Object.entries(env)) {
    const key = byName.get(name);
    if (value === undefined || !name.startsWith(kPrefix)) {
      continue;
    }
    if (key === undefined) {
      problems.push(
        `${name} in the environment: unknown; did you mean ${nearest(name, [...byName.keys()])}?`,
      );
    } else {
      settings.set(key, { value, where: `${name} in the environment` });
    }
  }
}

function readFlags(argv: readonly string[], settings: Settings, problems: string[]): void {
  const byName = new Map(kOperatorConfigKeys.map((key) => [flagName(key), key]));
  for (let i = 0; i < argv.length; i++) {
    const [name = '', ...rest] = (argv[i] as string).split('=');
    const key = byName.get(name);
    if (key === undefined) {
      problems.push(
        name.startsWith('--')
          ? `flag ${name}: unknown; did you mean ${nearest(name, [...byName.keys()])}?`
          : `argument ${JSON.stringify(name)}: not expected; settings are flags such as --log-level debug`,
      );
      continue;
    }
    const isSwitch = operatorKeyMeta(key).unit === 'boolean';
    const following = argv[i + 1];
    let value = rest.length > 0 ? rest.join('=') : undefined;
    if (value === undefined && following !== undefined && !following.startsWith('--')) {
      value = following;
      i++;
    }
    value ??= isSwitch ? 'true' : undefined;
    if (value === undefined) {
      problems.push(`flag ${name}: has no value; write ${name} <value> or ${name}=<value>`);
    } else {
      settings.set(key, { value, where: `flag ${name}` });
    }
  }
}

/** The settings, or ConfigError with every problem. */
export function loadOperatorConfig(
  argv: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): OperatorConfig {
  const settings: Settings = new Map();
  const problems: string[] = [];
  readEnvironment(env, settings, problems);
  readFlags(argv, settings, problems);
  const result = operatorConfigSchema.safeParse(
    Object.fromEntries([...settings].map(([key, { value }]) => [key, value])),
  );
  for (const issue of result.error?.issues ?? []) {
    const key = issue.path[0] as OperatorConfigKey;
    const { value, where } = settings.get(key) ?? { value: '', where: key };
    problems.push(`${where}: ${JSON.stringify(value)} ${issue.message}`);
  }
  const config = result.data;
  const shown = (key: DurationKey): string =>
    `${key} (flag ${flagName(key)}) ${formatDuration(config?.[key] ?? 0)}`;
  if (
    config !== undefined &&
    !(config.leaseDuration > config.renewDeadline && config.renewDeadline > config.retryPeriod)
  ) {
    problems.push(
      `${shown('leaseDuration')}, ${shown('renewDeadline')}, ${shown('retryPeriod')}: each must be longer than the next, or two replicas could lead at once`,
    );
  }
  if (config !== undefined && config.webhookListen !== '' && config.sidecarImage === '') {
    problems.push(
      `${settings.get('webhookListen')?.where ?? 'webhookListen'}: the webhook needs sidecarImage; set ${flagName('sidecarImage')} or ${operatorEnvironmentName('sidecarImage')} to the image of this operator`,
    );
  }
  if (config !== undefined && config.servingLife > config.authorityLife) {
    problems.push(
      `${shown('servingLife')} is longer than ${shown('authorityLife')}: a certificate ends with its CA; shorten the first, ${operatorKeyMeta('servingLife').allowed}, or prolong the second, ${operatorKeyMeta('authorityLife').allowed}`,
    );
  }
  if (config === undefined || problems.length > 0) {
    throw new ConfigError(problems);
  }
  return config;
}

/** Plain text for --help. */
export function renderOperatorHelp(): string {
  const entries = kOperatorConfigKeys.map((key) => {
    const { meaning, unit, allowed, defaultText } = operatorKeyMeta(key);
    return `  ${flagName(key)} <${unit.split(' ')[0]}>   env: ${operatorEnvironmentName(key)}\n      ${meaning}\n      Allowed: ${allowed}. Default: ${defaultText}.`;
  });
  return `outrigger-operator: controllers, injection and topic directory of Outrigger.\nEach setting comes from the environment, then from flags; the last one wins.\nThe cluster is that of KUBECONFIG, of ~/.kube/config, or the one that this pod runs in.\n\n${entries.join('\n\n')}\n`;
}
