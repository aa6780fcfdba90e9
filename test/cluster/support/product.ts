// SPDX-License-Identifier: Apache-2.0
// The product in the test cluster as `helm install` brings it, for test files that need it: each installs it and takes it away again, since
// others bring an injector of their own.
import { join } from 'node:path';
import { command, helm, until } from '../kubectl';

export const kRoot = join(__dirname, '../../..');
export const kChart = join(kRoot, 'charts/outrigger');
/** `make image` makes it; test/cluster/run puts it on both nodes. */
export const kImage = 'localhost/outrigger:dev';
export const kSystem = 'outrigger-system';
export const kNodes = ['node1', 'node2'] as const;
export type NodeName = (typeof kNodes)[number];

/** Other tests of the cluster apply the definitions themselves, and are co-owners of their fields since. */
const kTakeOver = ['--take-ownership', '--force-conflicts'] as const;

/**
 * Installs or upgrades, and waits until all of it is ready and pods get their sidecar.
 * @param values `--set` of the chart beyond the image
 * @param more arguments of helm beyond those of the guide
 */
export async function installProduct(
  values: Readonly<Record<string, string>> = {},
  chart = kChart,
  more: readonly string[] = kTakeOver,
): Promise<void> {
  const all = {
    'image.repository': 'localhost/outrigger',
    'image.tag': 'dev',
    'image.pullPolicy': 'Never',
    ...values,
  };
  await helm(
    ...['upgrade', '--install', 'outrigger', chart, '--namespace', kSystem, '--create-namespace'],
    ...Object.entries(all).flatMap(([key, value]) => ['--set', `${key}=${value}`]),
    ...['--wait', '--timeout', '150s', ...more],
  );
  await until('the injector answers', async () => (await injected()) !== undefined, 90_000);
}

/**
 * Name of the sidecar that a pod would get now; undefined when it would get none, or would be refused. Whoever leads registers the webhook, a
 * moment after all is ready: a pod that is made before has no sidecar.
 */
export async function injected(): Promise<string | undefined> {
  const pod = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'asks', namespace: 'default', labels: { 'outrigger.dev/inject': 'true' } },
    spec: { containers: [{ name: 'app', image: kImage }] },
  };
  const { ok, stdout } = await command('kubectl', ['create', '--dry-run=server', '-o', 'json', '-f', '-'], {
    input: JSON.stringify(pod),
  });
  const made = ok ? (JSON.parse(stdout) as { spec: { initContainers?: { name: string }[] } }) : undefined;
  return made?.spec.initContainers?.find(({ name }) => name === 'outrigger')?.name;
}

/** Takes it away, where it is there; never rejects, for `afterAll`. */
export async function uninstallProduct(): Promise<void> {
  const args = ['uninstall', 'outrigger', '--namespace', kSystem, '--wait', '--timeout', '120s'];
  await command('helm', [...args, '--ignore-not-found'], { timeoutMs: 150_000 });
}

/** `outrigger`, as who works with the cluster runs it. */
export const kOutrigger = join(kRoot, 'bin/outrigger');
