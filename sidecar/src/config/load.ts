// SPDX-License-Identifier: Apache-2.0
// Reads the configuration: file, then environment, then flags. Reports every problem at once, each with its source and its fix.
import { readFileSync } from 'node:fs';
import { parse as parseYaml } from 'yaml';
import { nearest } from '../base/nearest';
import type { KeyMeta } from './fields';
import { configSchema, environmentName, flagName, kConfigKeys, type Config, type ConfigKey } from './schema';

/** The configuration can't be used; `problems` has one sentence for each bad key. */
export class ConfigError extends Error {
  constructor(readonly problems: readonly string[]) {
    super(problems.length === 1 ? problems[0] : `${problems.length} problems:\n  ${problems.join('\n  ')}`);
    this.name = 'ConfigError';
  }
}

export interface ConfigSources {
  /** Arguments after the command's name. */
  readonly argv?: readonly string[];
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** For tests; reads a file as text. */
  readonly readFile?: (path: string) => string;
}

interface Setting {
  readonly value: unknown;
  /** How the reader of an error finds it: "drainTimeout in /etc/outrigger.yaml". */
  readonly where: string;
}

/** Names with our prefix that other parts of the product read. */
const kForeignPrefixes = [
  'OUTRIGGER_DPDK_',
  'OUTRIGGER_DRIVER_',
  'OUTRIGGER_INIT_',
  'OUTRIGGER_NATIVE_',
  'OUTRIGGER_TEST_',
  'OUTRIGGER_DEMO_',
];
const kForeignNames = new Set([
  'OUTRIGGER_CONFIG',
  'OUTRIGGER_ADDON',
  'OUTRIGGER_ADDRESS',
  'OUTRIGGER_BACKEND',
  'OUTRIGGER_BACKENDS',
  'OUTRIGGER_BACKEND_RETRY',
  'OUTRIGGER_BUSY_POLL_US',
  'OUTRIGGER_DIR_MODE',
  'OUTRIGGER_FILE_MODE',
  'OUTRIGGER_HUGEPAGES',
  'OUTRIGGER_IMPAIR',
  'OUTRIGGER_INTERFACE',
  'OUTRIGGER_INTERFACE_ADDRESS',
  'OUTRIGGER_NICD_SOCKET',
  'OUTRIGGER_NICD_CLAIM',
  'OUTRIGGER_PACKET_MODE',
  'OUTRIGGER_PACKET_SOCKETS',
  'OUTRIGGER_POLICY_OWNER',
  'OUTRIGGER_QUEUES',
  'OUTRIGGER_RANDOM_SEED',
  'OUTRIGGER_UDP_GRO',
  'OUTRIGGER_UDP_SEGMENT',
  'OUTRIGGER_UMEM_SIZE',
  'OUTRIGGER_URING_ZERO_COPY',
  'OUTRIGGER_VLAN',
  'OUTRIGGER_XDP_MODE',
]);

function show(value: unknown): string {
  // undefined for what JSON has no text for, such as a function.
  const text = JSON.stringify(value) as string | undefined;
  return value === undefined ? 'nothing' : (text ?? typeof value);
}

function unknownKey(where: string, written: string, known: readonly string[]): string {
  return `${where}: unknown; did you mean ${nearest(written, known)}?`;
}

function readFileSettings(
  path: string,
  read: (path: string) => string,
  settings: Map<ConfigKey, Setting>,
  problems: string[],
): void {
  let document: unknown;
  try {
    document = parseYaml(read(path)); // JSON is YAML
  } catch (error) {
    problems.push(`configuration file ${path}: ${(error as Error).message.trim()}`);
    return;
  }
  if (document === null || document === undefined) {
    return;
  }
  if (typeof document !== 'object' || Array.isArray(document)) {
    problems.push(
      `configuration file ${path}: is ${show(document)}; it must be a map of keys to values, such as "logLevel: debug"`,
    );
    return;
  }
  for (const [key, value] of Object.entries(document)) {
    const where = `${key} in ${path}`;
    if (kConfigKeys.includes(key as ConfigKey)) {
      settings.set(key as ConfigKey, { value, where });
    } else {
      problems.push(unknownKey(where, key, kConfigKeys));
    }
  }
}

function readEnvironment(
  env: Readonly<Record<string, string | undefined>>,
  settings: Map<ConfigKey, Setting>,
  problems: string[],
): void {
  const byName = new Map(kConfigKeys.map((key) => [environmentName(key), key]));
  if (env['AERON_DIR'] !== undefined && env['AERON_DIR'] !== '' && !settings.has('driverDirectory')) {
    settings.set('driverDirectory', { value: env['AERON_DIR'], where: 'AERON_DIR in the environment' });
  }
  for (const [name, value] of Object.entries(env)) {
    if (!name.startsWith('OUTRIGGER_') || value === undefined) {
      continue;
    }
    const key = byName.get(name);
    if (key !== undefined) {
      settings.set(key, { value, where: `${name} in the environment` });
    } else if (!kForeignNames.has(name) && !kForeignPrefixes.some((prefix) => name.startsWith(prefix))) {
      problems.push(unknownKey(`${name} in the environment`, name, [...byName.keys(), 'OUTRIGGER_CONFIG']));
    }
  }
}

interface Flags {
  readonly settings: Map<ConfigKey, Setting>;
  readonly configFile?: string;
}

function keyMeta(key: ConfigKey): KeyMeta {
  return configSchema.shape[key].meta() as unknown as KeyMeta;
}

function readFlags(argv: readonly string[], problems: string[]): Flags {
  const byName = new Map<string, ConfigKey>(kConfigKeys.map((key) => [flagName(key), key]));
  const settings = new Map<ConfigKey, Setting>();
  let configFile: string | undefined;
  for (let i = 0; i < argv.length; i++) {
    const argument = argv[i] as string;
    const equals = argument.indexOf('=');
    const name = equals < 0 ? argument : argument.slice(0, equals);
    const key = byName.get(name);
    if (key === undefined && name !== '--config') {
      problems.push(
        name.startsWith('--')
          ? unknownKey(`flag ${name}`, name, [...byName.keys(), '--config'])
          : `argument ${show(argument)}: not expected; settings are flags such as --log-level debug`,
      );
      continue;
    }
    let value: string | undefined = equals < 0 ? undefined : argument.slice(equals + 1);
    if (value === undefined) {
      const following = argv[i + 1];
      const isSwitch = key !== undefined && keyMeta(key).unit === 'boolean';
      if (
        following !== undefined &&
        (!following.startsWith('--') || following === '') &&
        (!isSwitch || /^(true|false)$/.test(following))
      ) {
        value = following;
        i++;
      } else if (isSwitch) {
        value = 'true';
      }
    }
    if (value === undefined) {
      const allowed = key === undefined ? 'a path' : keyMeta(key).allowed;
      problems.push(
        `flag ${name}: has no value; write ${name} <value> or ${name}=<value>; allowed: ${allowed}`,
      );
    } else if (key === undefined) {
      configFile = value;
    } else {
      settings.set(key, { value, where: `flag ${name}` });
    }
  }
  return configFile === undefined ? { settings } : { settings, configFile };
}

/** True for addresses that never leave the machine. */
export function isLoopback(hostPort: string): boolean {
  const host = hostPort.slice(0, hostPort.lastIndexOf(':'));
  return host === 'localhost' || host === '[::1]' || /^127\.\d+\.\d+\.\d+$/.test(host);
}

function crossCheck(config: Config, where: (key: ConfigKey) => string, problems: string[]): void {
  if (config.grpcSocket === '' && config.grpcListen === '') {
    problems.push(
      `${where('grpcSocket')}: empty, and grpcListen too; allowed: at least one of them set (${flagName('grpcSocket')}, ${flagName('grpcListen')}), or nobody can reach the sidecar`,
    );
  }
  if (config.grpcListen !== '' && !config.grpcAllowRemote && !isLoopback(config.grpcListen)) {
    problems.push(
      `${where('grpcListen')}: ${show(config.grpcListen)} is no loopback address; allowed: 127.0.0.1:port, [::1]:port, localhost:port, or set grpcAllowRemote: true (${flagName('grpcAllowRemote')})`,
    );
  }
  for (const endpoint of config.endpoints) {
    if (endpoint.endsWith(':0')) {
      problems.push(
        `${where('endpoints')}: ${show(endpoint)} has port 0; allowed: host:port with a port above 0, since publishers must know it`,
      );
    }
  }
}

/** The configuration, or ConfigError with every problem. */
export function loadConfig(sources: ConfigSources = {}): Config {
  const env = sources.env ?? {};
  const problems: string[] = [];
  const flags = readFlags(sources.argv ?? [], problems);
  const settings = new Map<ConfigKey, Setting>();
  const path = flags.configFile ?? env['OUTRIGGER_CONFIG'];
  if (path !== undefined && path !== '') {
    readFileSettings(path, sources.readFile ?? ((file) => readFileSync(file, 'utf8')), settings, problems);
  }
  readEnvironment(env, settings, problems);
  for (const [key, setting] of flags.settings) {
    settings.set(key, setting);
  }

  const where = (key: ConfigKey): string => settings.get(key)?.where ?? `${key} (flag ${flagName(key)})`;
  const result = configSchema.safeParse(
    Object.fromEntries([...settings].map(([key, setting]) => [key, setting.value])),
  );
  if (result.success) {
    crossCheck(result.data, where, problems);
    if (problems.length === 0) {
      return result.data;
    }
  } else {
    for (const issue of result.error.issues) {
      const key = issue.path[0] as ConfigKey;
      problems.push(`${where(key)}: ${show(settings.get(key)?.value)} ${issue.message}`);
    }
  }
  throw new ConfigError(problems);
}
