// SPDX-License-Identifier: Apache-2.0
// The product in the test cluster as `helm install` brings it, for test files that need it: each installs it and takes it away again, since
// others bring an injector of their own.
import { join } from 'node:path';
import { command, helm } from '../kubectl';

export const kRoot = join(__dirname, '../../..');
export const kChart = join(kRoot, 'charts/outrigger');
/** `make image` makes it; test/cluster/run puts it on both nodes. */
export const kImage = 'localhost/outrigger:dev';
export const kSystem = 'outrigger-system';
export const kNodes = ['node1', 'node2'] as const;
export type NodeName = (typeof kNodes)[number];

/** Installs or upgrades, and waits until all of it is ready. @param values `--set` of the chart beyond the image. */
export async function installProduct(values: Readonly<Record<string, string>> = {}): Promise<void> {
  const all = {
    'image.repository': 'localhost/outrigger',
    'image.tag': 'dev',
    'image.pullPolicy': 'Never',
    ...values,
  };
  await helm(
    ...['upgrade', '--install', 'outrigger', kChart, '--namespace', kSystem, '--create-namespace'],
    ...Object.entries(all).flatMap(([key, value]) => ['--set', `${key}=${value}`]),
    ...['--wait', '--timeout', '150s', '--take-ownership'],
  );
}

/** Takes it away, where it is there; never rejects, for `afterAll`. */
export async function uninstallProduct(): Promise<void> {
  const args = ['uninstall', 'outrigger', '--namespace', kSystem, '--wait', '--timeout', '120s'];
  await command('helm', [...args, '--ignore-not-found'], { timeoutMs: 150_000 });
}

/** `outrigger`, as who works with the cluster runs it. */
export const kOutrigger = join(kRoot, 'bin/outrigger');
