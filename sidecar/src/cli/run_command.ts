// SPDX-License-Identifier: Apache-2.0
// `outrigger run`: the sidecar in this process.
import type { Native } from '../native/types';
import { runSidecarProcess } from '../run';

export function run(
  argv: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
  loadNative: () => Native,
): Promise<number> {
  return runSidecarProcess(argv, env, loadNative);
}
