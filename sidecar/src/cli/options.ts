// SPDX-License-Identifier: Apache-2.0
// Options that several commands share, and how their values are read.
import { InvalidArgumentError, Option, type Command } from 'commander';
import { kDefaultAddress, type Target } from '../../../clients/typescript/src';
import { parseDuration, parseSize } from '../config/units';
import { configSchema } from '../config/schema';
import { usage } from './exit';

export function wholeNumber(min: number, max = Number.MAX_SAFE_INTEGER) {
  return (text: string): number => {
    const value = /^-?\d+$/.test(text) ? Number(text) : NaN;
    if (!(value >= min && value <= max)) {
      throw new InvalidArgumentError(`allowed: a whole number, ${min} to ${max}.`);
    }
    return value;
  };
}

export function number(min: number, max: number) {
  return (text: string): number => {
    const value = text.trim() === '' ? NaN : Number(text);
    if (!(value >= min && value <= max)) {
      throw new InvalidArgumentError(`allowed: a number, ${min} to ${max}.`);
    }
    return value;
  };
}

export function sizeIn(min: number, max: number) {
  return (text: string): number => {
    const bytes = parseSize(text);
    if (bytes === undefined || bytes < min || bytes > max) {
      throw new InvalidArgumentError(`allowed: a size such as 288 or 4KiB, ${min} to ${max} bytes.`);
    }
    return bytes;
  };
}

/** Milliseconds; a bare number is seconds here, as people type it. */
export function duration(text: string): number {
  const milliseconds = /^\d+(\.\d+)?$/.test(text) ? Number(text) * 1000 : parseDuration(text);
  if (milliseconds === undefined || !(milliseconds > 0)) {
    throw new InvalidArgumentError('allowed: a duration above 0, such as 5, 500ms, 10s or 2m.');
  }
  return milliseconds;
}

/** Milliseconds, from a microsecond on. */
export function shortDuration(text: string): number {
  const microseconds = /^(\d+(?:\.\d+)?)us$/.exec(text)?.[1];
  const milliseconds = microseconds === undefined ? duration(text) : Number(microseconds) / 1000;
  if (milliseconds < 0.001) {
    throw new InvalidArgumentError('allowed: a duration of 1us or more, such as 100us, 5ms or 1s.');
  }
  return milliseconds;
}

export interface ConnectionOptions {
  readonly address: string;
  readonly channel?: string;
  readonly stream?: number;
}

/** For commands that talk to a sidecar. */
export function withAddress(command: Command): Command {
  return command.addOption(
    new Option('-a, --address <address>', 'gRPC address of the sidecar: unix:/path or host:port')
      .env('OUTRIGGER_ADDRESS')
      .default(kDefaultAddress),
  );
}

/** For commands that publish or subscribe. */
export function withConnection(command: Command): Command {
  return withAddress(command)
    .option('--channel <uri>', 'an Aeron channel instead of a topic, where the sidecar has allowChannels')
    .option('--stream <id>', 'stream id, with --channel', wholeNumber(-2147483648, 2147483647));
}

export function targetOf(topic: string | undefined, options: ConnectionOptions): Target {
  if ((topic === undefined) === (options.channel === undefined)) {
    throw usage('name a topic, or --channel with --stream; one of them');
  }
  if (topic !== undefined) {
    if (options.stream !== undefined) {
      throw usage('--stream goes with --channel; a topic has its stream id in the topics file');
    }
    return { topic };
  }
  if (options.stream === undefined) {
    throw usage('--channel needs --stream');
  }
  return { channel: options.channel as string, streamId: options.stream };
}

/** For commands that read a driver's directory; no sidecar is needed. */
export function withDirectory(command: Command): Command {
  return command.addOption(
    new Option('-d, --dir <path>', 'directory of the driver')
      .env('AERON_DIR')
      .default(configSchema.parse({}).driverDirectory),
  );
}

export function withJson(command: Command, what: string): Command {
  return command.option('--json', `print ${what} as JSON`);
}
