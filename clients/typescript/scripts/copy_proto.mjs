// SPDX-License-Identifier: Apache-2.0
// Puts the API's .proto beside the built package, so that an installed copy can be read with other tools too.
import { cpSync, mkdirSync } from 'node:fs';

const to = new URL('../proto/outrigger/v1/', import.meta.url);
mkdirSync(to, { recursive: true });
cpSync(
  new URL('../../../proto/outrigger/v1/messaging.proto', import.meta.url),
  new URL('messaging.proto', to),
);
