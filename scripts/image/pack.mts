// SPDX-License-Identifier: Apache-2.0
// A folder as an image of one layer, for what is no product image: node scripts/image/pack.mts NAME:TAG FOLDER ARCHIVE ENTRYPOINT USER:GROUP
import { writeImage } from './oci.mts';
import { entriesOf, tar } from './tar.mts';

const [reference, root, archive, entrypoint, user] = process.argv.slice(2);
if (
  reference === undefined ||
  root === undefined ||
  archive === undefined ||
  entrypoint === undefined ||
  user === undefined
) {
  console.error('usage: node scripts/image/pack.mts NAME:TAG FOLDER ARCHIVE ENTRYPOINT USER:GROUP');
  process.exit(2);
}
writeImage(archive, {
  reference,
  config: {
    User: user,
    Entrypoint: [entrypoint],
    Cmd: [],
    Env: ['PATH=/usr/bin:/'],
    WorkingDir: '/',
    Labels: {},
  },
  layers: [
    {
      comment: 'all',
      archive: tar(
        entriesOf(root, () => true),
        0,
      ),
    },
  ],
  epoch: 0,
  architecture: process.arch === 'x64' ? 'amd64' : process.arch,
});
