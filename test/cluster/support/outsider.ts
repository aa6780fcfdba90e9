// SPDX-License-Identifier: Apache-2.0
// A pod that no webhook touched, with a driver and a sidecar of its own: it knows of no directory, and sends to whatever address it likes.
import { kImage } from './product';
import type { Pods } from './pods';

const kName = 'outsider';
const kSocket = '/run/own/outrigger.sock';
const kTopics = '/etc/topics';

/** The pod `outsider` and its file of topics. Its app is `outrigger ARGS` on its own sidecar, once. */
export function outsider(pods: Pods, topics: object, args: readonly string[]): readonly object[] {
  const { namespace } = pods;
  const volumeMounts = [
    { name: 'own', mountPath: '/run/own' },
    { name: 'topics', mountPath: kTopics },
  ];
  const run = ['run', '--driver', '--driver-directory', '/dev/shm/own', '--grpc-socket', kSocket];
  const driver = {
    name: 'driver',
    image: kImage,
    imagePullPolicy: 'Never',
    command: ['/usr/bin/outrigger', ...run, '--topics-file', `${kTopics}/topics.json`],
    securityContext: { runAsUser: 1000, runAsNonRoot: true },
    volumeMounts,
  };
  const { metadata, spec } = pods.app(kName, 'node1', [...args, '--address', `unix:${kSocket}`], {
    container: { volumeMounts },
    others: [driver],
    spec: {
      securityContext: { fsGroup: 1000 },
      volumes: [
        { name: 'own', emptyDir: {} },
        { name: 'topics', configMap: { name: kName } },
      ],
    },
  });
  return [
    {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: kName, namespace },
      data: { 'topics.json': JSON.stringify(topics) },
    },
    { apiVersion: 'v1', kind: 'Pod', metadata: { ...metadata, labels: { app: kName } }, spec },
  ];
}
