// SPDX-License-Identifier: Apache-2.0
// Operator and directory as they run in the test cluster: their pods, who leads, what they show and count.
import { servedFingerprint } from '../../../operator/src/ca/observer';
import { get, kubectl, until } from '../kubectl';
import { kSystem } from './product';

export type Part = 'operator' | 'directory';

export interface RunningPod {
  readonly metadata: { readonly name: string; readonly deletionTimestamp?: string };
  readonly spec: { readonly nodeName?: string };
  readonly status: { readonly podIP?: string; readonly phase?: string };
}

export const kTlsPorts = { operator: 9443, directory: 9444 } as const;
/** Of each part. */
export const kMetricsPort = 8080;
const kRolloutMs = 120_000;
const kAnswerMs = 10_000;

/** Pods of a selection that are not ending. */
export async function podsOf(namespace: string, selector: string): Promise<readonly RunningPod[]> {
  const { items } = await get<{ items: readonly RunningPod[] }>('pods', '-n', namespace, '-l', selector);
  return items.filter(({ metadata }) => metadata.deletionTimestamp === undefined);
}

export function replicasOf(part: Part): Promise<readonly RunningPod[]> {
  return podsOf(kSystem, `app.kubernetes.io/component=${part}`);
}

/** Name of the pod that leads, and how often that changed. */
export async function leader(): Promise<{ pod: string; transitions: number }> {
  interface Lease {
    readonly spec: { readonly holderIdentity?: string; readonly leaseTransitions?: number };
  }
  const { spec } = await get<Lease>('lease', 'outrigger-operator', '-n', kSystem);
  return {
    pod: (spec.holderIdentity ?? '').replace(/_[^_]*$/, ''),
    transitions: spec.leaseTransitions ?? 0,
  };
}

/** Resolves when no replica is ending any more: a rollout is over before that, and streams come to such a one for as long as it serves. */
export async function noneEnding(part: Part): Promise<void> {
  await until(`no replica of the ${part} is ending`, async () => {
    const selector = `app.kubernetes.io/component=${part}`;
    const { items } = await get<{ items: readonly RunningPod[] }>('pods', '-n', kSystem, '-l', selector);
    return items.every(({ metadata }) => metadata.deletionTimestamp === undefined);
  });
}

/** Resolves when every replica of both is as it should be. */
export async function partsAvailable(): Promise<void> {
  for (const part of ['operator', 'directory']) {
    const wait = ['rollout', 'status', `deployment/outrigger-${part}`, '-n', kSystem];
    await kubectl([...wait, `--timeout=${kRolloutMs}ms`], { timeoutMs: kRolloutMs + 10_000 });
  }
}

/** Fingerprints of the certificates that the replicas of both show. */
export async function shownCertificates(): Promise<readonly (string | undefined)[]> {
  const addresses = await Promise.all(
    (['operator', 'directory'] as const).map(async (part) =>
      (await replicasOf(part)).map(({ status }) => ({ host: status.podIP ?? '', port: kTlsPorts[part] })),
    ),
  );
  return Promise.all(addresses.flat().map((address) => servedFingerprint(address)));
}

/** Values of a metric by their labels as they are written. @param address host:port */
export async function metricOf(address: string, name: string): Promise<Readonly<Record<string, number>>> {
  const answer = await fetch(`http://${address}/metrics`, { signal: AbortSignal.timeout(kAnswerMs) });
  const lines = (await answer.text()).split('\n').filter((line) => line.startsWith(name));
  return Object.fromEntries(
    lines.map((line) => {
      const blank = line.lastIndexOf(' ');
      return [line.slice(name.length, blank), Number(line.slice(blank + 1))];
    }),
  );
}
