// SPDX-License-Identifier: Apache-2.0
// The CRDs of the chart, for tests that need the resources and no more of it.
import { join } from 'node:path';
import { command, helm, kubectl, until } from './kubectl';

const kChart = join(__dirname, '../../charts/outrigger');

export async function installCrds(): Promise<void> {
  await kubectl(['apply', '--server-side', '--force-conflicts', '-f', '-'], {
    input: await helm('template', 'outrigger', kChart, '--show-only', 'templates/crds/*.yaml'),
  });
  await until(
    'the resources are served',
    async () => (await command('kubectl', ['get', 'outrigger', '-A'])).ok,
  );
}
