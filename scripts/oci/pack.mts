// SPDX-License-Identifier: Apache-2.0
// A folder as an OCI image archive, for scripts: node scripts/oci/pack.mts --name NAME:TAG --root DIR --out FILE --entrypoint PATH --user UID:GID
import { parseArgs } from 'node:util';
import { writeImage } from './archive.mts';

const { values } = parseArgs({
  options: {
    name: { type: 'string' },
    root: { type: 'string' },
    out: { type: 'string' },
    entrypoint: { type: 'string', multiple: true },
    command: { type: 'string', multiple: true },
    env: { type: 'string', multiple: true },
    user: { type: 'string', default: '65532:65532' },
  },
});
const { name, root, out, entrypoint } = values;
if (name === undefined || root === undefined || out === undefined || entrypoint === undefined) {
  console.error(
    'usage: node scripts/oci/pack.mts --name NAME:TAG --root DIR --out FILE --entrypoint PATH [--command ARG]... [--env NAME=VALUE]... [--user UID:GID]',
  );
  process.exit(2);
}
const { command, env, user } = values;
const digest = await writeImage({
  ...{ name, root, out, entrypoint, user },
  ...(command === undefined ? {} : { command }),
  ...(env === undefined ? {} : { env }),
});
console.log(`${name} ${digest} ${out}`);
