// SPDX-License-Identifier: Apache-2.0
// The lines that people read of a pod, and the exit statuses.
import type { ExplainCluster } from '../../../operator/src/explain/rights';
import { explainPodIn } from './explain_pod';
import type { Out } from './output';

const kReport = {
  driver: {
    backend: 'mmsg',
    facts: { mode: 'kernel', GRO: 'on' },
    threads: { mode: 'shared', sender: 'or-driver' },
    reason: '',
    notBetter: [{ name: 'uring', reason: 'io_uring_setup: EPERM' }],
    settings: { AERON_MTU_LENGTH: '1408' },
  },
  order: ['uring', 'mmsg'],
  sidecar: {
    topics: [
      {
        name: 'orders',
        streamId: 5,
        publishStreams: 1,
        members: [
          { pod: 'shop/till-1', node: 'node1', publishes: true, self: true, sameNode: true },
          {
            pod: 'shop/s1',
            node: 'node1',
            subscribes: true,
            sameNode: true,
            network: 'pod',
            address: '10.0.0.9',
            port: 40_200,
            mtu: 1500,
            to: {
              state: 'PATH_STATE_NOT_CONNECTED',
              reason: 'nothing has ever come back from 10.0.0.9:40200',
            },
          },
        ],
      },
    ],
  },
};

function cluster(objects: Readonly<Record<string, unknown>>): ExplainCluster {
  return {
    get: <T>(path: string) => Promise.resolve(objects[path] as T | undefined),
    post: () => Promise.reject(new Error('not asked')),
    exec: () => Promise.resolve({ status: 0, stdout: JSON.stringify(kReport), stderr: '' }),
  };
}

const kPod = { namespace: 'shop', name: 'till-1' };
const kPath = '/api/v1/namespaces/shop/pods/till-1';

let text: string;
const out: Out = { isTty: false, line: (line) => void (text += `${line}\n`), frame: () => undefined };
beforeEach(() => (text = ''));

describe('outrigger explain pod', () => {
  it('prints what it found out, a member a row with the reason below it', async () => {
    const pod = {
      metadata: {
        annotations: { 'outrigger.dev/injected': '{"profile":""}', 'outrigger.dev/backends': 'uring,mmsg' },
      },
      spec: { nodeName: 'node1', initContainers: [{ name: 'outrigger', image: 'i:1' }] },
      status: {
        phase: 'Running',
        podIP: '10.0.0.1',
        initContainerStatuses: [{ name: 'outrigger', ready: true }],
      },
    };
    const topic = { status: { conditions: [{ type: 'Ready', status: 'True' }] } };
    const objects = {
      [kPath]: pod,
      '/apis/outrigger.dev/v1alpha1/namespaces/shop/sidecarprofiles': { items: [] },
      '/apis/outrigger.dev/v1alpha1/namespaces/shop/topics/orders': topic,
    };
    expect(await explainPodIn(cluster(objects), kPod, false, out)).toBe(0);
    expect(text.trimEnd().split('\n')).toEqual([
      'pod shop/till-1: of no controller, on node1, address 10.0.0.1, Running',
      '  sidecar     ready, image i:1',
      '  profile     none, so the defaults of every field: no SidecarProfile selects the pod and none is the default',
      '  tuned       outrigger.dev/backends=uring,mmsg',
      '  backend     mmsg of uring, mmsg',
      '  not uring   io_uring_setup: EPERM',
      '  with        mode: kernel, GRO: on, longest datagram: 1408',
      '  threads     shared (sender: or-driver)',
      '',
      'topic orders (shop/orders), stream 5: publishes (1 streams)',
      '  MEMBER       ROLE        NODE               WHERE                        PATH',
      '  shop/till-1  publishes   this pod                                        no way needed',
      '      this sidecar knows it, but no TopicEndpointSlice has it (yet, or no longer)',
      '  shop/s1      subscribes  node1 (same node)  pod 10.0.0.9:40200 mtu 1500  to: not connected',
      '      to: nothing has ever come back from 10.0.0.9:40200',
      '      this sidecar knows it, but no TopicEndpointSlice has it (yet, or no longer)',
    ]);
  });

  it('ends with status 1 and the fix for a pod without a sidecar, and for one that is not there', async () => {
    const objects = { [kPath]: { metadata: {}, spec: { containers: [] }, status: { phase: 'Running' } } };
    expect(await explainPodIn(cluster(objects), kPod, false, out)).toBe(1);
    expect(text).toContain('  no sidecar  it has no label outrigger.dev/inject: "true"\n  fix         ');
    await expect(explainPodIn(cluster({}), kPod, false, out)).rejects.toMatchObject({
      status: 1,
      message: expect.stringContaining('has no pod "till-1"') as string,
    });
  });

  it('says the same as JSON', async () => {
    const objects = { [kPath]: { metadata: {}, spec: { containers: [] } } };
    expect(await explainPodIn(cluster(objects), kPod, true, out)).toBe(1);
    expect(JSON.parse(text)).toMatchObject({
      sidecar: null,
      absence: { why: expect.stringContaining('no label') as string },
    });
  });
});
