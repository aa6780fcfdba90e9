// SPDX-License-Identifier: Apache-2.0
// `check`: the checks of operator/src/check against the cluster of the caller's kubeconfig.
import { installedSections } from '../../../operator/src/check/installed';
import { podSections } from '../../../operator/src/check/pod';
import { preSections } from '../../../operator/src/check/pre';
import { checkPrinter, runChecks, verdict, type Section } from '../../../operator/src/check/runner';
import { connectCluster, podOf, type ClusterConnection } from './cluster_connection';
import { kExit } from './exit';
import { json, type Out } from './output';

export interface CheckOptions {
  /** Before an installation. */
  readonly pre?: boolean;
  /** NAME or NAMESPACE/NAME. */
  readonly pod?: string;
  /** Of the operator. */
  readonly namespace: string;
  /** Milliseconds. */
  readonly wait: number;
  readonly json?: boolean;
}

function sectionsOf(options: CheckOptions, { cluster, namespace }: ClusterConnection): readonly Section[] {
  if (options.pod !== undefined) {
    const pod = podOf(options.pod, namespace);
    return podSections(cluster, pod.namespace, pod.name, Date.now());
  }
  return options.pre === true
    ? preSections(cluster, options.namespace)
    : installedSections(cluster, { namespace: options.namespace, nowMs: Date.now() });
}

/** Resolves with the exit status. */
export async function check(options: CheckOptions, version: string, out: Out): Promise<number> {
  const connection = await connectCluster(`outrigger-check/${version}`);
  try {
    const results = await runChecks(sectionsOf(options, connection), {
      deadlineMs: Date.now() + options.wait,
      ...(options.json === true ? {} : { report: checkPrinter((line) => out.line(line)) }),
    });
    const { ok, line } = verdict(results);
    out.line(options.json === true ? json({ ok, checks: results }, 2) : `\n${line}`);
    return ok ? kExit.ok : kExit.failed;
  } finally {
    connection.close();
  }
}
