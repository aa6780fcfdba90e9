// SPDX-License-Identifier: Apache-2.0
// Every key of the sidecar, once: meaning, unit, range and default. Types, validation, `--help` and errors come from here.
import { userInfo } from 'node:os';
import { z } from 'zod';
import { bool, choice, count, duration, fileMode, list, size, text } from './fields';

const kKiB = 1024;
const kMiB = 1024 * kKiB;
const kGiB = 1024 * kMiB;

/** host:port, [v6]:port or empty; the port may be 0 where one is picked. */
export const kHostPort =
  /^(\[[0-9a-fA-F:.%]+\]|[A-Za-z0-9._-]+):(\d{1,4}|[1-5]\d{4}|6[0-4]\d{3}|65[0-4]\d{2}|655[0-2]\d|6553[0-5])$/;
const kHostPortOrNone = new RegExp(`^$|${kHostPort.source}`);
const kAnything = /^[^\0]*$/;

function userName(): string {
  try {
    return userInfo().username;
  } catch {
    return 'default'; // a UID without an entry in /etc/passwd, as in many containers
  }
}

export const configSchema = z.strictObject({
  driverDirectory: text(
    'Directory of the driver: cnc.dat and the log buffers. AERON_DIR is taken when this key is not set.',
    'path',
    'a path',
    `/dev/shm/aeron-${userName()}`,
    /^[^\0]+$/,
    '/dev/shm/aeron-<user>',
  ),
  policyFile: text(
    "File that tells the driver which channels its clients may open and who may publish to them; the driver's variable of the same name must name the same file. Empty: the driver allows everything.",
    'path',
    "an absolute path outside the driver's directory, in a folder that no app has, or empty",
    '',
    /^$|^\/[^\0]*[^\0/]$/,
  ),
  driverTimeout: duration(
    'Without a heartbeat of the driver for this long it counts as lost; all streams then rejoin with an event.',
    { min: 500, max: 600_000 },
    10_000,
  ),
  grpcSocket: text(
    'UNIX socket of the gRPC server; empty for none.',
    'path',
    'a path of at most 107 bytes, or empty',
    '/run/outrigger/outrigger.sock',
    /^[^\0]{0,107}$/,
  ),
  grpcSocketMode: fileMode('File mode of the socket.', 0o660),
  grpcSocketGroup: text(
    'Group of the socket, by name or number; empty keeps that of the process.',
    'group',
    'a group name or number',
    '',
    /^[A-Za-z0-9_.-]*$/,
  ),
  grpcListen: text(
    'TCP address of the gRPC server, besides the socket; empty for none. No encryption: loopback only unless grpcAllowRemote.',
    'host:port',
    'host:port, or empty',
    '',
    kHostPortOrNone,
  ),
  grpcAllowRemote: bool(
    'Allow grpcListen to be other than a loopback address. Whoever reaches it may publish and subscribe.',
    false,
  ),
  grpcFlowControlWindow: size(
    'HTTP/2 receive window of a stream and of a connection.',
    { min: 64 * kKiB, max: 64 * kMiB },
    8 * kMiB,
  ),
  grpcReflection: bool('Serve gRPC reflection (v1 and v1alpha).', true),
  httpListen: text(
    'Address of /metrics, /livez and /readyz; empty for none.',
    'host:port',
    'host:port, or empty',
    '0.0.0.0:9464',
    kHostPortOrNone,
  ),
  topicsFile: text(
    'YAML or JSON file of topics, read again when it changes; empty for none.',
    'path',
    'a path, or empty',
    '',
    kAnything,
  ),
  allowChannels: bool('Let clients open explicit Aeron channels, not only topics.', false),
  endpoints: list(
    'Where this sidecar receives topics, host:port on each of its networks. A topic takes the first that is among its subscribers, else the first.',
    'host:port',
    'host:port with a port above 0',
    kHostPort,
  ),
  directoryAddress: text(
    'Directory of the cluster, which knows the topics and their members; empty for none. Topics of topicsFile come first.',
    'host:port',
    'host:port, or empty',
    '',
    kHostPortOrNone,
  ),
  directoryCa: text(
    "CA certificates that sign the directory's; read at each connection.",
    'path',
    'a path to a PEM file',
    '/var/run/secrets/outrigger.dev/ca.crt',
    kAnything,
  ),
  directoryToken: text(
    "Service account token whose audience is the directory's; read at each connection.",
    'path',
    'a path',
    '/var/run/secrets/outrigger.dev/token',
    kAnything,
  ),
  directoryCache: text(
    'File that keeps the last known members, for a restart while the directory is away; empty for none.',
    'path',
    'a path, or empty',
    '',
    kAnything,
  ),
  termLength: size(
    'Term length of topics that set none. A publication takes three terms of memory; its window is half a term; its longest message an eighth.',
    { min: 64 * kKiB, max: kGiB, powerOfTwo: true },
    2 * kMiB,
  ),
  maxBatchBytes: size(
    'Longest batch sent to a subscriber that asks for none, payload.',
    { min: kKiB, max: 4 * kMiB },
    256 * kKiB,
  ),
  maxMessageBytes: size(
    'Longest gRPC request: one batch with all its messages.',
    { min: 64 * kKiB, max: 64 * kMiB },
    16 * kMiB,
  ),
  maxStreams: count(
    'Publish and Subscribe streams open at a time.',
    'streams',
    { min: 1, max: 100_000 },
    1024,
  ),
  openTimeout: duration(
    'How long a new stream may stay without its open request before it is ended, so that streams which never open hold no place.',
    { min: 10, max: 600_000 },
    10_000,
  ),
  maxPendingBatches: count(
    'Batches of one publish stream that wait (policy WAIT) before its requests are no longer read.',
    'batches',
    { min: 1, max: 65_536 },
    64,
  ),
  maxPendingBytes: size(
    'Bytes of waiting batches of one publish stream before its requests are no longer read.',
    { min: 64 * kKiB, max: 256 * kMiB },
    8 * kMiB,
  ),
  subscriberBuffer: size(
    'Bytes on their way to one subscriber at a time, however much credit it granted.',
    { min: 256 * kKiB, max: 256 * kMiB },
    8 * kMiB,
  ),
  flushTimeout: duration(
    'How long a half-closed publish stream waits for its messages to leave.',
    { min: 0, max: 600_000 },
    5000,
  ),
  drainTimeout: duration(
    'How long a drain (SIGTERM) may take before the process exits.',
    { min: 0, max: 3_600_000 },
    10_000,
  ),
  logLevel: choice(
    'Least severe level that is logged.',
    ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'],
    'info',
  ),
});

export type Config = z.infer<typeof configSchema>;
export type ConfigKey = keyof Config;

export const kConfigKeys = Object.keys(configSchema.shape) as ConfigKey[];

/** driverDirectory → OUTRIGGER_DRIVER_DIRECTORY */
export function environmentName(key: string): string {
  return `OUTRIGGER_${key.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`;
}

/** driverDirectory → --driver-directory */
export function flagName(key: string): string {
  return `--${key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}
