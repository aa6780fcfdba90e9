// SPDX-License-Identifier: Apache-2.0
// Puts the API's .proto beside the built package, so that an installed copy can be read with other tools too.
'use strict';
const { cpSync, mkdirSync } = require('node:fs');
const { join } = require('node:path');

const from = join(__dirname, '..', '..', '..', 'proto', 'outrigger', 'v1', 'messaging.proto');
const to = join(__dirname, '..', 'proto', 'outrigger', 'v1');
mkdirSync(to, { recursive: true });
cpSync(from, join(to, 'messaging.proto'));
