// SPDX-License-Identifier: Apache-2.0
// Where the programs of this installation are.
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { protoRoot } from '../grpc/proto_files';
import { unavailable } from './exit';

/** A native program by name. */
export function nativeProgram(name: string): string {
  const root = dirname(protoRoot());
  for (const candidate of [join(root, 'build', name), join(root, 'build', 'native', name)]) {
    if (existsSync(candidate)) {
      return candidate;
    }
  }
  throw unavailable(`${join(root, 'build', name)} is missing; run \`make build\` in ${root}`);
}

/** A script beside this file or above it, compiled. */
export function script(...path: readonly string[]): string {
  return join(__dirname, ...path);
}
