// SPDX-License-Identifier: Apache-2.0
// Version of this installation, from its package.json: in the source tree, in the build folder and in an image alike.
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

export function installedVersion(): string {
  for (let folder = __dirname; folder !== dirname(folder); folder = dirname(folder)) {
    try {
      const file = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as Record<string, unknown>;
      if (file['name'] === 'outrigger' && typeof file['version'] === 'string') {
        return file['version'];
      }
    } catch {
      // Not here: then further up.
    }
  }
  return 'unknown';
}
