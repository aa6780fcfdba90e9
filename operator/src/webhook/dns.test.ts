// SPDX-License-Identifier: Apache-2.0
import { dnsAdvice } from './dns';
import { kSettings, reviewOf } from './testing';

const kNode = 'with hostNetwork and dnsPolicy';
const kNoName = "the sidecar can't resolve the name of its directory; set dnsPolicy:";

describe('a pod that looks for the directory', () => {
  test.each([
    [{}, undefined],
    [{ dnsPolicy: 'ClusterFirst' }, undefined],
    [{ dnsPolicy: 'ClusterFirstWithHostNet' }, undefined],
    [{ dnsPolicy: 'None' }, undefined],
    [{ dnsPolicy: 'Default' }, `with dnsPolicy Default ${kNoName} ClusterFirst`],
    [{ hostNetwork: true }, `${kNode} ClusterFirst ${kNoName} ClusterFirstWithHostNet`],
    [
      { hostNetwork: true, dnsPolicy: 'ClusterFirst' },
      `${kNode} ClusterFirst ${kNoName} ClusterFirstWithHostNet`,
    ],
    [{ hostNetwork: true, dnsPolicy: 'Default' }, `${kNode} Default ${kNoName} ClusterFirstWithHostNet`],
    [{ hostNetwork: true, dnsPolicy: 'ClusterFirstWithHostNet' }, undefined],
    [{ hostNetwork: true, dnsPolicy: 'None' }, undefined],
  ])('and has %j is told %s', (spec, advice) => {
    expect(dnsAdvice(spec)).toBe(advice);
  });

  test('hears it at admission, and nothing where there is no directory', () => {
    const pod = {
      metadata: { name: 'p', labels: { 'outrigger.dev/inject': 'true' } },
      spec: { hostNetwork: true, dnsPolicy: 'ClusterFirst', containers: [{ name: 'app' }] },
    };
    expect(reviewOf(pod, []).warnings).toEqual([dnsAdvice(pod.spec)]);
    const { directory, ...settings } = kSettings;
    expect(directory).toBeDefined();
    expect(reviewOf(pod, [], 'u', settings).warnings).toBeUndefined();
  });
});
