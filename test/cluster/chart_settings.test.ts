// SPDX-License-Identifier: Apache-2.0
// The settings of operator and directory as the chart gives them, rendered by the real helm and read by the operator's own code: each comes from a
// value, or there is a reason why it does not. A setting that no value reaches can't be changed by who installs with helm. No release is made.
import type { V1Deployment } from '@kubernetes/client-node';
import { loadOperatorConfig, operatorEnvironmentName } from '../../operator/src/config/load';
import {
  kOperatorConfigKeys,
  type OperatorConfig,
  type OperatorConfigKey,
} from '../../operator/src/config/schema';
import { kRenderedNamespace, rendered } from './support/rendered';

jest.setTimeout(120_000);

type Part = 'operator' | 'directory';
type Reasons = Readonly<Partial<Record<OperatorConfigKey, string>>>;

/** Why the chart leaves a setting at its default. */
const kLeft: Readonly<Record<Part, Reasons>> = {
  operator: {
    httpListen: 'probes and monitors of the chart use the port of the default',
    leaderElection: 'there may always be another replica, if only during an upgrade',
    leaseName: 'a role is bound to the name of the default',
    leaseNamespace: 'a role is in the namespace of the pod, which is the default',
    directoryListen: 'the directory has pods of its own',
    controllers: 'they are what these pods are for',
  },
  directory: {
    httpListen: 'probes and monitors of the chart use the port of the default',
    leaderElection: 'nothing here leads, since there are no controllers',
    leaseName: 'nothing here leads',
    leaseNamespace: 'nothing here leads',
    leaseDuration: 'nothing here leads',
    renewDeadline: 'nothing here leads',
    retryPeriod: 'nothing here leads',
    webhookListen: 'the operator injects',
    webhookService: 'the operator injects',
    sidecarImage: 'the operator injects',
    sidecarImagePullPolicy: 'the operator injects',
    directoryAddress: 'the operator injects',
    ipFamily: 'the operator injects',
    networkPolicyNamespaces: 'the operator judges profiles and pods',
    networkPolicyUdpPorts: 'the operator judges profiles and pods',
    networkPolicyMetricsPort: 'the operator judges profiles and pods',
    authorityLife: 'the operator renews certificates',
    servingLife: 'the operator renews certificates',
    certificateSettle: 'the operator renews certificates',
  },
};

/** Values other than the defaults of the program, and what they have to become. */
const kValues = {
  image: { repository: 'example.com/o', tag: 'v7', pullPolicy: 'Always' },
  operator: {
    logLevel: 'debug',
    requestsPerSecond: 10_000,
    stopTimeout: '1m',
    leaderElection: { leaseDuration: '40s', renewDeadline: '30s', retryPeriod: '500ms' },
  },
  directory: { logLevel: 'warn', requestsPerSecond: 7, stopTimeout: '2500ms' },
  certificates: { authorityLife: '1000h', servingLife: '100h', settle: '90s' },
  injection: { ipFamily: 'IPv6' },
  networkPolicy: { namespaces: ['shop', 'till'] },
  udpPorts: { first: 41_000, last: 41_007 },
  metricsPort: 9999,
};
const kExpected: Readonly<Record<Part, Partial<OperatorConfig>>> = {
  operator: {
    logLevel: 'debug',
    requestsPerSecond: 10_000,
    stopTimeout: 60_000,
    leaseDuration: 40_000,
    renewDeadline: 30_000,
    retryPeriod: 500,
    webhookListen: '[::]:9443',
    webhookService: 'outrigger-webhook',
    sidecarImage: 'example.com/o:v7',
    sidecarImagePullPolicy: 'Always',
    directoryAddress: `outrigger-directory.${kRenderedNamespace}.svc:9444`,
    authorityLife: 1000 * 3_600_000,
    servingLife: 100 * 3_600_000,
    certificateSettle: 90_000,
    ipFamily: 'IPv6',
    networkPolicyNamespaces: ['shop', 'till'],
    networkPolicyUdpPorts: '41000-41007',
    networkPolicyMetricsPort: 9999,
  },
  directory: {
    logLevel: 'warn',
    requestsPerSecond: 7,
    stopTimeout: 2500,
    directoryListen: '[::]:9444',
    controllers: false,
  },
};

describe.each<Part>(['operator', 'directory'])('the settings of the %s', (part) => {
  let deployment: V1Deployment;
  let environment: Readonly<Record<string, string>>;

  beforeAll(async () => {
    deployment = (await rendered(kValues)).find(
      ({ kind, metadata }) => kind === 'Deployment' && metadata.name === `outrigger-${part}`,
    ) as V1Deployment;
    const { containers = [] } = deployment.spec?.template.spec ?? {};
    environment = Object.fromEntries(
      (containers[0]?.env ?? []).map(({ name, value = '' }) => [name, value] as const),
    );
  });

  it('are set by the chart, or there is a reason why not', () => {
    const set = kOperatorConfigKeys.filter((key) => operatorEnvironmentName(key) in environment);
    const left = Object.keys(kLeft[part]);
    expect(set.filter((key) => left.includes(key))).toEqual([]);
    expect([...set, ...left].toSorted()).toEqual([...kOperatorConfigKeys].toSorted());
    expect(Object.keys(kExpected[part]).toSorted()).toEqual(set.toSorted());
  });

  it('are read by the program as the values say', () => {
    expect(loadOperatorConfig([], environment)).toMatchObject(kExpected[part]);
  });

  it('leave the pod the time to stop in, and for the pause before', () => {
    const { spec } = deployment.spec?.template ?? {};
    const pause = spec?.containers[0]?.lifecycle?.preStop?.sleep?.seconds ?? 0;
    expect(pause).toBeGreaterThan(0);
    expect(spec?.terminationGracePeriodSeconds).toBeGreaterThan(
      pause + (kExpected[part].stopTimeout ?? 0) / 1000,
    );
  });
});
