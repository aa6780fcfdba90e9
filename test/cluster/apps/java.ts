// SPDX-License-Identifier: Apache-2.0
// Real Aeron clients in Java, in two pods whose drivers they share with the sidecars: counted messages both ways, and to a topic.
import { spawn } from 'node:child_process';
import { javaArguments } from '../../interop/support/jar';
import { Peer, type Client, type SubscriptionSeen } from '../../interop/support/peer';
import { apply, get, kubectl, until } from '../kubectl';
import { imageOf } from '../support/images';
import type { PodObject, Pods } from '../support/pods';
import { kImage, type NodeName } from '../support/product';

const kPatienceMs = 120_000;

/** Neither that of the sidecar nor that of any other app. */
export const kJavaUser = 10_002;
export const kJavaMessages = 5000;
const kPricesStream = 4711;
/** These Aeron clients have channels of their own, and one publishes to a topic that it is no member of. */
const kProfile = 'aeron';
/** Of a profile's range, beside the first, on which the sidecars themselves receive. */
const kJavaPort = 40_201;
const kSidecarPort = 40_200;

export interface JavaStory {
  readonly sidecarUser: number;
  readonly sent: readonly number[];
  /** At java-a from java-b, and the other way. */
  readonly received: readonly SubscriptionSeen[];
  readonly strayErrors: readonly string[];
  readonly readerExit: number;
}

function javaPod(pods: Pods, name: string, node: NodeName, others: readonly object[] = []): PodObject {
  return pods.app(name, node, [], {
    annotations: { 'outrigger.dev/shared-memory': 'true', 'outrigger.dev/profile': kProfile },
    container: {
      image: imageOf('java'),
      command: ['/opt/java/bin/java', ...javaArguments('/app', 64), 'dev.outrigger.interop.Peer', 'serve'],
      stdin: true,
      stdinOnce: true,
      securityContext: { runAsUser: kJavaUser, runAsGroup: kJavaUser, runAsNonRoot: true },
    },
    others,
  });
}

/** The peer of the interop tests, in a pod: requests and answers go through `kubectl attach`. */
async function attach(pods: Pods, pod: string): Promise<{ peer: Peer; client: Client }> {
  const args = ['attach', '--stdin', '--quiet', '-n', pods.namespace, pod, '-c', 'app'];
  const peer = new Peer(spawn('kubectl', args, { stdio: ['pipe', 'pipe', 'pipe'] }));
  const { spec } = await get<{
    spec: { containers: { name: string; env?: { name: string; value?: string }[] }[] };
  }>('pod', pod, '-n', pods.namespace);
  const env = spec.containers.find(({ name }) => name === 'app')?.env ?? [];
  const directory = env.find(({ name }) => name === 'AERON_DIR')?.value ?? '';
  return { peer, client: await peer.client(directory) };
}

export async function javaStory(pods: Pods): Promise<JavaStory> {
  const apiVersion = 'outrigger.dev/v1alpha1';
  await apply(
    {
      apiVersion,
      kind: 'SidecarProfile',
      metadata: { name: kProfile, namespace: pods.namespace },
      spec: { driverPolicy: 'Disabled' },
    },
    {
      apiVersion,
      kind: 'Topic',
      metadata: { name: 'prices', namespace: pods.namespace },
      spec: { streamId: kPricesStream },
    },
  );
  await until('the profile is known', async () => {
    const { status } = await get<{ status?: { conditions?: readonly object[] } }>(
      'sidecarprofile',
      kProfile,
      '-n',
      pods.namespace,
    );
    return status?.conditions !== undefined;
  });
  const reader = {
    name: 'reader',
    image: kImage,
    imagePullPolicy: 'Never',
    command: [
      '/usr/bin/outrigger',
      'sub',
      'prices',
      '--count',
      `${kJavaMessages}`,
      '--format',
      'none',
      '--json',
    ],
    securityContext: { runAsUser: 1000, runAsNonRoot: true },
  };
  await pods.start(javaPod(pods, 'java-a', 'node1'), javaPod(pods, 'java-b', 'node2', [reader]));
  const [a, b] = await Promise.all([attach(pods, 'java-a'), attach(pods, 'java-b')]);
  const [hereA, hereB] = await Promise.all([pods.addressOf('java-a'), pods.addressOf('java-b')]);
  const toA = `aeron:udp?endpoint=${hereA}:${kJavaPort}`;
  const toB = `aeron:udp?endpoint=${hereB}:${kJavaPort}`;
  const subscriptions = [await a.client.subscription(toA, 1), await b.client.subscription(toB, 1)];
  // Lengths from one frame to many fragments; short terms, so that they wrap.
  const publications = [
    await b.client.publication(`${toA}|term-length=1m`, 1),
    await a.client.publication(`${toB}|term-length=1m`, 1),
    // To the topic, whose subscriber is an app over gRPC.
    await a.client.publication(`aeron:udp?endpoint=${hereB}:${kSidecarPort}|term-length=1m`, kPricesStream),
  ];
  const sent = await Promise.all(
    publications.map((each) => each.send(kJavaMessages, { size: 'mix', 'timeout-ms': kPatienceMs })),
  );
  const received = await Promise.all(
    subscriptions.map((each) => each.until({ count: kJavaMessages, 'timeout-ms': kPatienceMs })),
  );
  const readerExit = await pods.exitOf('java-b', 'reader');
  const exec = ['exec', '-n', pods.namespace, 'java-a', '-c', 'outrigger', '--'];
  const sidecarUser = await kubectl([...exec, '/usr/bin/node', '-p', 'process.getuid()']);
  const strayErrors = (await Promise.all([a, b].map(({ peer }) => peer.strayErrors()))).flat();
  await Promise.all([a.peer.close(), b.peer.close()]);
  await pods.expectToEndWell('java-a', 'java-b');
  return {
    sidecarUser: Number(sidecarUser),
    sent: sent.map((each) => each.sent),
    received,
    strayErrors,
    readerExit,
  };
}
