// SPDX-License-Identifier: Apache-2.0
// Finds the .proto files at run time: in the source tree, in the build folder and in an installed package alike.
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';

export const kMessagingProto = 'outrigger/v1/messaging.proto';
export const kAdminProto = 'outrigger/v1/admin.proto';
export const kHealthProto = 'grpc/health/v1/health.proto';

/** The folder that holds outrigger/v1. */
export function protoRoot(): string {
  for (let folder = __dirname; ; folder = dirname(folder)) {
    if (existsSync(join(folder, 'proto', kMessagingProto))) {
      return join(folder, 'proto');
    }
    if (folder === dirname(folder)) {
      throw new Error(`no proto/${kMessagingProto} in ${__dirname} or above; the installation is incomplete`);
    }
  }
}
