// SPDX-License-Identifier: Apache-2.0
// Kubernetes events: news once, repeats as a series, nothing that holds anyone up.
import type { KubeObject } from '../api';
import { kCalm } from '../testing/chaos_proxy';
import { seeded } from '../testing/seeded';
import { kSilent, TestCluster } from '../testing/test_cluster';
import { EventRecorder, kEvents, type KubeEvent, type News } from './events';
import { ResourceClient, type Resource } from './resource';

const kThing = {
  group: 'outrigger.dev',
  version: 'v1alpha1',
  kind: 'Topic',
  plural: 'topics',
  namespaced: true,
} as Resource<never>;
const news: News = {
  type: 'Warning',
  reason: 'StreamIdConflict',
  action: 'AssignStreamId',
  note: 'streamId 7 is taken',
};

describe('EventRecorder', () => {
  let cluster: TestCluster;
  let recorder: EventRecorder;
  let nowMs: number;
  let dropped: number;
  let namespace: string;
  let object: KubeObject;

  beforeEach(async () => {
    cluster = await TestCluster.start(seeded(1));
    namespace = await cluster.namespace('events');
    object = { metadata: { namespace, name: 'quotes', uid: 'u-1' } };
    nowMs = Date.now();
    dropped = 0;
    recorder = new EventRecorder({
      api: cluster.stormy,
      controller: 'outrigger.dev/operator',
      instance: 'operator-0',
      clock: { wallMs: () => nowMs, monotonicMs: () => nowMs },
      metrics: { recorded: () => undefined, dropped: () => dropped++ },
      log: kSilent,
    });
  });

  afterEach(async () => {
    await recorder.stop(0);
    await cluster.stop();
  });

  async function written(): Promise<readonly KubeEvent[]> {
    await recorder.flushed();
    return (await new ResourceClient(cluster.direct, kEvents).list({ namespace })).items;
  }

  it('says what happened to which object', async () => {
    recorder.record(object, kThing, news);
    expect(await written()).toMatchObject([
      {
        type: 'Warning',
        reason: 'StreamIdConflict',
        action: 'AssignStreamId',
        note: 'streamId 7 is taken',
        reportingController: 'outrigger.dev/operator',
        reportingInstance: 'operator-0',
        regarding: {
          kind: 'Topic',
          namespace,
          name: 'quotes',
          uid: 'u-1',
          apiVersion: 'outrigger.dev/v1alpha1',
        },
      },
    ]);
  });

  it('counts repeats in a series, and begins anew after a while', async () => {
    for (let i = 0; i < 3; i++) recorder.record(object, kThing, news);
    expect((await written()).map(({ series }) => series?.count)).toEqual([3]);
    nowMs += 3_600_000;
    recorder.record(object, kThing, news);
    expect(await written()).toHaveLength(2);
  });

  it('keeps different news apart', async () => {
    recorder.record(object, kThing, news);
    recorder.record(object, kThing, { ...news, note: 'streamId 8 is taken' });
    recorder.record({ metadata: { ...object.metadata, uid: 'u-2' } }, kThing, news);
    expect(await written()).toHaveLength(3);
  });

  it('writes a series anew when its event was deleted meanwhile', async () => {
    recorder.record(object, kThing, news);
    const [first] = await written();
    await new ResourceClient(cluster.direct, kEvents).delete({ namespace, name: first?.metadata.name ?? '' });
    recorder.record(object, kThing, news);
    expect((await written()).map(({ series }) => series)).toEqual([undefined]);
  });

  it('cuts a note that is too long for the API', async () => {
    recorder.record(object, kThing, { ...news, note: `${'x'.repeat(1000)}${'é'.repeat(500)}` });
    const [event] = await written();
    expect(event?.note).toMatch(/^x{1000}é+…$/);
    expect(Buffer.byteLength(event?.note ?? '')).toBeLessThanOrEqual(1024);
  });

  it('drops and counts what can not be written, and what is too much at once', async () => {
    cluster.chaos.faults = { ...kCalm, serverError: 1 };
    for (let i = 0; i < 150; i++) recorder.record(object, kThing, news);
    expect(dropped).toBe(50);
    await recorder.flushed();
    expect(dropped).toBe(150);
  });
});
