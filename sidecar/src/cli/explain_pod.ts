// SPDX-License-Identifier: Apache-2.0
// `explain pod`: the answer of operator/src/explain about one pod, as lines for people or as JSON.
import { NoPod, PodExplainer, type PodExplanation } from '../../../operator/src/explain/explain_pod';
import type { ExplainCluster } from '../../../operator/src/explain/rights';
import { connectCluster, podOf, type ClusterConnection } from './cluster_connection';
import { ApiError } from '../../../operator/src/kit/api_error';
import { CliError, kExit, unavailable } from './exit';
import { factsOf, notBetterLines, threadsLine } from './note_lines';
import { json, type Out } from './output';
import { topicLines } from './topic_lines';

export interface ExplainPodOptions {
  readonly namespace?: string;
  readonly json?: boolean;
}

function headLines({ pod, sidecar, absence }: PodExplanation): string[] {
  const facts = [
    pod.owner === '' ? 'of no controller' : `of ${pod.owner}`,
    ...(pod.node === '' ? ['on no node yet'] : [`on ${pod.node}`]),
    ...(pod.address === '' ? [] : [`address ${pod.address}`]),
    pod.phase,
  ];
  const lines = [`pod ${pod.namespace}/${pod.name}: ${facts.join(', ')}`];
  if (absence !== null) {
    lines.push(`  no sidecar  ${absence.why}`, `  fix         ${absence.fix}`);
  }
  if (sidecar !== null) {
    const restarts = sidecar.restarts === 0 ? '' : `, ${sidecar.restarts} restarts`;
    lines.push(
      `  sidecar     ${sidecar.ready ? 'ready' : `not ready: ${sidecar.notReady}`}${restarts}, image ${sidecar.image}`,
    );
  }
  return lines;
}

function profileLines({ profile }: PodExplanation): string[] {
  if (profile === null) {
    return [];
  }
  const name = profile.name === '' ? 'none, so the defaults of every field' : profile.name;
  const tuned = Object.entries(profile.annotations).map(([key, value]) => `${key}=${value}`);
  return [
    `  profile     ${name}: ${profile.why}`,
    ...(tuned.length === 0 ? [] : [`  tuned       ${tuned.join(', ')}`]),
    ...profile.problems.map((each) => `              ${each}`),
  ];
}

function backendLines({ report, unasked }: PodExplanation): string[] {
  if (unasked !== null) {
    return [`  not asked   ${unasked.why}`, `  fix         ${unasked.fix}`];
  }
  if (report === null) {
    return [];
  }
  const { driver } = report;
  if (driver === null) {
    return ['  backend     none: no driver runs in it'];
  }
  const mtu = driver.settings['AERON_MTU_LENGTH'];
  return [
    `  backend     ${driver.backend} of ${report.order.join(', ')}${driver.reason === '' ? '' : `; ${driver.reason}`}`,
    ...notBetterLines(driver.notBetter),
    `  with        ${factsOf(driver.facts)}${mtu === undefined ? '' : `, longest datagram: ${mtu}`}`,
    threadsLine(driver.threads),
  ];
}

function listed(title: string, lines: readonly string[]): string[] {
  return lines.length === 0 ? [] : ['', title, ...lines.map((each) => `  ${each}`)];
}

export function podLines(story: PodExplanation): string[] {
  const topics = story.topics.flatMap((each) => ['', ...topicLines(each)]);
  const none = story.report !== null && topics.length === 0 ? ['', 'no app in it has a topic open'] : [];
  return [
    ...headLines(story),
    ...profileLines(story),
    ...backendLines(story),
    ...topics,
    ...none,
    ...listed(
      'not as it should be',
      story.conditions.map(({ of, message }) => `${of}: ${message}`),
    ),
    ...listed(
      'you lack these rights (RBAC), so the answer is not whole',
      story.lacking.map((each) => each),
    ),
  ];
}

/** Status 1: there is no such pod, it has no sidecar, or its sidecar could not be asked. */
export async function explainPodIn(
  cluster: ExplainCluster,
  pod: { readonly namespace: string; readonly name: string },
  asJson: boolean,
  out: Out,
): Promise<number> {
  let story: PodExplanation;
  try {
    story = await new PodExplainer(cluster, pod.namespace, pod.name, Date.now()).explain();
  } catch (error) {
    if (error instanceof NoPod) {
      throw new CliError(kExit.failed, error.message);
    }
    if (error instanceof ApiError) {
      throw unavailable(`the API server does not answer as it should: ${error.message}`);
    }
    throw error;
  }
  out.line(asJson ? json(story, 2) : podLines(story).join('\n'));
  return story.report === null ? kExit.failed : kExit.ok;
}

export async function explainPod(
  name: string,
  options: ExplainPodOptions,
  version: string,
  out: Out,
): Promise<number> {
  const connection: ClusterConnection = await connectCluster(`outrigger-explain/${version}`);
  try {
    const pod = podOf(name, options.namespace ?? connection.namespace);
    return await explainPodIn(connection.cluster, pod, options.json === true, out);
  } finally {
    connection.close();
  }
}
