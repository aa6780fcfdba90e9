// SPDX-License-Identifier: Apache-2.0
// Someone breaks a topics file and repairs it: what Prometheus makes of it.
import { apply, until } from '../kubectl';
import type { Pods } from '../support/pods';
import type { Alert, Prometheus } from '../support/prometheus';

const kPatienceMs = 120_000;

export interface AlertStory {
  readonly before: readonly Alert[];
  readonly firing: readonly Alert[];
}

const kAlert = 'OutriggerTopicsStale';

function topicsFile(pods: Pods, streamId: string): object {
  return {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: 'topics', namespace: pods.namespace },
    data: { 'topics.yaml': `topics: [{ name: local, streamId: ${streamId}, channel: "aeron:ipc" }]` },
  };
}

/** Someone breaks a topics file and repairs it. */
export async function alertStory(pods: Pods, watch: Prometheus): Promise<AlertStory> {
  await apply(topicsFile(pods, '1'));
  await pods.start(
    pods.app('careful', 'node1', ['sub', 'local'], {
      annotations: { 'outrigger.dev/topics-config-map': 'topics' },
    }),
  );
  await until(
    'the pod is scraped',
    async () => (await watch.query('outrigger_topics_stale{pod="careful"} == 0')).length === 1,
  );
  const before = await watch.alerts(kAlert);
  await apply(topicsFile(pods, 'one'));
  let firing: readonly Alert[] = [];
  await until(
    `${kAlert} fires`,
    async () => {
      firing = (await watch.alerts(kAlert)).filter(({ state }) => state === 'firing');
      return firing.length > 0;
    },
    kPatienceMs,
  );
  await apply(topicsFile(pods, '1'));
  await until(`${kAlert} is over`, async () => (await watch.alerts(kAlert)).length === 0, kPatienceMs);
  return { before, firing };
}
