// SPDX-License-Identifier: Apache-2.0
// Every setting of the operator, once: meaning, unit, range and default. Types, validation, --help and errors come from here.
import { z } from 'zod';
import { bool, choice, count, duration, list, text } from '../../../sidecar/src/config/fields';
import { kHostPort } from '../../../sidecar/src/config/schema';
import { defaultProfileSpec } from '../api';
import { kRotationTimes } from '../ca/rotation';

const kOpenPorts = defaultProfileSpec();
const kDayMs = 86_400_000;
const kHostPortOrNone = new RegExp(`^$|${kHostPort.source}`);
const kDnsName = /^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/;
const kDnsNameOrNone = new RegExp(`^$|${kDnsName.source}`);

export const operatorConfigSchema = z.strictObject({
  httpListen: text(
    'Address of /metrics, /livez and /readyz; empty for none. [::] is all addresses, IPv4 too.',
    'host:port',
    'host:port, or empty',
    '[::]:8080',
    kHostPortOrNone,
  ),
  leaderElection: bool('Let one replica at a time write. Off only where there is surely one.', true),
  leaseName: text('Name of the Lease of the leader.', 'name', 'a DNS name', 'outrigger-operator', kDnsName),
  leaseNamespace: text(
    'Namespace of that Lease; empty for the namespace of this pod.',
    'name',
    'a DNS name, or empty',
    '',
    kDnsNameOrNone,
  ),
  leaseDuration: duration(
    'How long others wait after the last renewal before one of them takes over.',
    { min: 2000, max: 600_000 },
    15_000,
  ),
  renewDeadline: duration(
    'A leader that could not renew for this long leads no more. Shorter than leaseDuration.',
    { min: 1000, max: 600_000 },
    10_000,
  ),
  retryPeriod: duration(
    'Time between two tries to take or renew the lease.',
    { min: 100, max: 60_000 },
    2000,
  ),
  requestsPerSecond: count(
    'Requests to the API server a second; bursts may have twice as many. The directory has as many for tokens and pods, and as many for slices.',
    'requests',
    { min: 1, max: 10_000 },
    50,
  ),
  stopTimeout: duration(
    'How long a stop may take before the process exits.',
    { min: 0, max: 600_000 },
    15_000,
  ),
  webhookListen: text(
    'Address of the webhook that injects sidecars; empty for none.',
    'host:port',
    'host:port, or empty',
    '',
    kHostPortOrNone,
  ),
  webhookService: text(
    'Service in the namespace of this pod under which the API server reaches the webhook.',
    'name',
    'a DNS name',
    'outrigger-webhook',
    kDnsName,
  ),
  sidecarImage: text(
    'Image of injected sidecars: that of this operator. Needed with webhookListen.',
    'image',
    'a reference of an image, or empty',
    '',
    /^\S*$/,
  ),
  sidecarImagePullPolicy: choice(
    'When nodes fetch that image.',
    ['IfNotPresent', 'Always', 'Never'],
    'IfNotPresent',
  ),
  directoryListen: text(
    'Address of the directory (gRPC over TLS) that sidecars join; empty for none.',
    'host:port',
    'host:port, or empty',
    '',
    kHostPortOrNone,
  ),
  controllers: bool(
    'Run the controllers, certificates included, in whichever replica leads. Off for processes that only serve.',
    true,
  ),
  directoryAddress: text(
    'Where injected sidecars find the directory; empty for none: topics come from files alone.',
    'host:port',
    'host:port, or empty',
    '',
    kHostPortOrNone,
  ),
  authorityLife: duration(
    'Life of the CA of webhook and directory. Its successor is announced after two thirds of it.',
    { min: 7 * kDayMs, max: 3650 * kDayMs },
    kRotationTimes.authorityLifeMs,
  ),
  servingLife: duration(
    'Life of their certificates, which are renewed after two thirds of it. No longer than authorityLife.',
    { min: kDayMs, max: 3650 * kDayMs },
    kRotationTimes.servingLifeMs,
  ),
  certificateSettle: duration(
    'From when a new CA is in every configuration until certificates of it are served: API servers and kubelets must have read it by then.',
    { min: 1000, max: kDayMs },
    kRotationTimes.settleMs,
  ),
  ipFamily: choice(
    'Addresses of pods. auto: that of the API server as this pod reaches it.',
    ['auto', 'IPv4', 'IPv6'],
    'auto',
  ),
  networkPolicyNamespaces: list(
    'Namespaces in which the chart made the NetworkPolicy outrigger-sidecars. Profiles and pods there that use other ports than it opens are told so.',
    'namespaces',
    'names of namespaces',
    /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/,
  ),
  networkPolicyUdpPorts: text(
    'UDP ports that these policies open.',
    'range of ports',
    'the first and the last port, as in 40200-40231',
    `${kOpenPorts.udpPorts.first}-${kOpenPorts.udpPorts.last}`,
    /^\d{1,5}-\d{1,5}$/,
  ),
  networkPolicyMetricsPort: count(
    'TCP port that they open.',
    'port',
    { min: 1, max: 65_535 },
    kOpenPorts.metricsPort,
  ),
  logLevel: choice(
    'Least severe level that is logged.',
    ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'],
    'info',
  ),
});

export type OperatorConfig = z.infer<typeof operatorConfigSchema>;
export type OperatorConfigKey = keyof OperatorConfig;

export const kOperatorConfigKeys = Object.keys(operatorConfigSchema.shape) as OperatorConfigKey[];
