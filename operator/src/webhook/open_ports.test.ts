// SPDX-License-Identifier: Apache-2.0
// A pod in a namespace with the chart's NetworkPolicy is told, when it is made, which of its ports that keeps closed.
import type { V1Pod } from '@kubernetes/client-node';
import { loadOperatorConfig } from '../config/load';
import { openPortsOf } from '../config/open_ports';
import { sidecarProfileSpecSchema, type SidecarProfile } from '../api';
import { review } from './review';
import { decoded, kSettings, reviewText } from './testing';

const kOpenPorts = openPortsOf(
  loadOperatorConfig(
    [
      ...['--network-policy-namespaces', 'shop,till'],
      ...['--network-policy-udp-ports', '40200-40210', '--network-policy-metrics-port', '9464'],
    ],
    {},
  ),
);

function warningsOf(
  annotations: Readonly<Record<string, string>>,
  spec: object = {},
  { namespace = 'shop', hostNetwork = false } = {},
): readonly string[] {
  const profile: SidecarProfile = {
    metadata: { name: 'p', namespace, creationTimestamp: '2026-01-01T00:00:00Z' },
    spec: sidecarProfileSpecSchema.parse({ default: true, ...spec }),
  };
  const pod: V1Pod = {
    metadata: { name: 'pod', labels: { 'outrigger.dev/inject': 'true' }, annotations },
    spec: {
      containers: [{ name: 'app' }],
      ...(hostNetwork ? { hostNetwork, dnsPolicy: 'ClusterFirstWithHostNet' } : {}),
    },
  };
  const context = {
    profiles: () => [profile],
    settings: (of: string) => {
      const openPorts = kOpenPorts(of);
      return { ...kSettings, ...(openPorts === undefined ? {} : { openPorts }) };
    },
  };
  const answer = decoded(review(reviewText(pod, 'u', { namespace }), context).answer);
  expect(answer).toMatchObject({ allowed: true });
  return answer.warnings ?? [];
}

describe('a pod in a namespace with the NetworkPolicy of the chart', () => {
  const udp = (port: number): RegExp =>
    new RegExp(
      `this pod receives on UDP port ${port}, but the NetworkPolicy outrigger-sidecars opens UDP 40200 to 40210`,
    );
  const metrics = /metricsPort is 9999, but the NetworkPolicy outrigger-sidecars opens TCP 9464/;

  it('hears nothing where the policy opens what it uses, up to the last port', () => {
    expect(warningsOf({})).toEqual([]);
    expect(warningsOf({ 'outrigger.dev/udp-port': '40210' })).toEqual([]);
  });

  it.each<[string, Readonly<Record<string, string>>, object, readonly RegExp[]]>([
    ['the range of its profile', {}, { udpPorts: { first: 41_000, last: 41_007 } }, [udp(41_000)]],
    [
      'the port of its annotation, though its profile has it',
      { 'outrigger.dev/udp-port': '40211' },
      {},
      [udp(40_211)],
    ],
    ['the port for metrics of its profile', {}, { metricsPort: 9999 }, [metrics]],
    ['that of its annotation', { 'outrigger.dev/metrics-port': '9999' }, {}, [metrics]],
    [
      'both',
      { 'outrigger.dev/udp-port': '41000' },
      { metricsPort: 9999, udpPorts: { first: 40_200, last: 41_000 } },
      [udp(41_000), metrics],
    ],
  ])('is told that it closes %s', (_, annotations, spec, said) => {
    expect(warningsOf(annotations, spec)).toEqual(
      said.map((each) => expect.stringMatching(each) as unknown as string),
    );
  });

  it('hears nothing on the network of its node, nor in another namespace', () => {
    const spec = { udpPorts: { first: 41_000, last: 41_007 }, metricsPort: 9999 };
    expect(warningsOf({}, spec, { hostNetwork: true })).toEqual([]);
    expect(warningsOf({}, spec, { namespace: 'lab' })).toEqual([]);
    expect(warningsOf({}, spec, { namespace: 'till' })).toHaveLength(2);
  });
});
