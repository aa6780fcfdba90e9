// SPDX-License-Identifier: Apache-2.0
// Images of apps in other languages (test/cluster/images/apps), put onto the nodes by the tests that need them, so that no other run of the cluster
// waits for them.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { command } from '../kubectl';
import { kRoot, type NodeName } from './product';

export type Language = 'java' | 'go' | 'python';

export function imageOf(language: Language): string {
  return `localhost/app-${language}:dev`;
}

/** A command in the namespaces of a node; tests run in those of node1. */
function onNode(node: NodeName, args: readonly string[]): readonly string[] {
  if (node === 'node1') {
    return args;
  }
  const state = process.env['CLUSTER_STATE'] ?? '';
  const init = readFileSync(join(state, node, 'init.pid'), 'utf8').trim();
  return ['nsenter', '-t', init, '-n', '-m', '-p', '-u', '-i', ...args];
}

/** Gives a node the images; a node that has them does not mind. */
export async function loadImages(node: NodeName, ...languages: readonly Language[]): Promise<void> {
  for (const language of languages) {
    const archive = join(kRoot, 'build/cluster-images/apps', `${language}.tar`);
    if (!existsSync(archive)) {
      throw new Error(`${archive} is missing: test/cluster/images/apps makes it`);
    }
    const [program = '', ...args] = onNode(node, ['ctr', '-n', 'k8s.io', 'images', 'import', archive]);
    const { ok, stderr } = await command(program, args, { timeoutMs: 120_000 });
    if (!ok) {
      throw new Error(`image ${language} on ${node}: ${stderr}`);
    }
  }
}
