// SPDX-License-Identifier: Apache-2.0
// Exit statuses of the command, the same for all subcommands, and the errors that lead to them.
import { OutriggerError } from '../../../clients/typescript/src';
import { NativeError } from '../native/types';

export const kExit = {
  ok: 0,
  /** It ran, and the outcome is bad: messages lost or refused, a count not reached in time. */
  failed: 1,
  usage: 64,
  /** No driver, no sidecar, or something of the installation is missing. */
  unavailable: 69,
  internal: 70,
  config: 78,
  interrupted: 130,
} as const;

export const kExitHelp = `
Exit status: 0 all went well; 1 it ran and the outcome is bad (messages lost or refused, a count not reached);
64 wrong usage; 69 no driver or sidecar there; 70 a fault in the program; 78 a bad setting.`;

/** Ends the command with a sentence on standard error. */
export class CliError extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
    this.name = 'CliError';
  }
}

export function usage(message: string): CliError {
  return new CliError(kExit.usage, message);
}

export function unavailable(message: string): CliError {
  return new CliError(kExit.unavailable, message);
}

/** Status for what a command threw; undefined for what is a fault of ours. */
export function statusOf(error: unknown): number | undefined {
  if (error instanceof CliError) {
    return error.status;
  }
  if (error instanceof NativeError || (error instanceof OutriggerError && error.retryable)) {
    return kExit.unavailable;
  }
  return error instanceof OutriggerError ? kExit.failed : undefined;
}
