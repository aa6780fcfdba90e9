// SPDX-License-Identifier: Apache-2.0
// What the chart's values may be: source of values.schema.json. Unknown keys are refused, since a mistyped one would change nothing silently.
import { z } from 'zod';
import { durationPattern, type DurationUnit } from './duration_pattern';

const logLevel = z.enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent']);
const labels = z.record(z.string(), z.string());
const quantities = z.record(z.string(), z.union([z.string(), z.number()]));
const resources = z.strictObject({ requests: quantities.optional(), limits: quantities.optional() });
const port = z.int().min(1).max(65_535);
const duration = z.string().regex(/^\d+(ms|s|m|h)$/);
const kMinuteMs = 60_000;
const kHourMs = 3_600_000;
const kDayMs = 24 * kHourMs;

/** What the program behind the value takes: Helm refuses the rest, instead of a pod that does not start. */
function durationOf(units: readonly DurationUnit[], minMs: number, maxMs: number) {
  return z.string().regex(durationPattern(units, minMs, maxMs));
}

const dnsLabel = z.string().regex(/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/);

function part<More extends z.ZodRawShape>(meaning: string, more: More) {
  return z
    .strictObject({
      replicas: z.int().min(1).max(20),
      logLevel,
      // These as in operator/src/config/schema.ts.
      requestsPerSecond: z.int().min(1).max(10_000),
      stopTimeout: durationOf(['ms', 's', 'm'], 0, 10 * kMinuteMs),
      ...more,
      resources,
      nodeSelector: labels,
      tolerations: z.array(z.record(z.string(), z.unknown())),
      affinity: z.record(z.string(), z.unknown()),
      priorityClassName: z.string(),
      podAnnotations: labels,
      podLabels: labels,
    })
    .describe(meaning);
}

export const valuesSchema = z.strictObject({
  image: z
    .strictObject({
      repository: z.string().min(1),
      tag: z.string().regex(/^[\w.-]{0,128}$/),
      pullPolicy: z.enum(['IfNotPresent', 'Always', 'Never']),
      pullSecrets: z.array(z.strictObject({ name: z.string().min(1) })),
    })
    .describe('Image of operator, directory and sidecars.'),
  crds: z.strictObject({ install: z.boolean() }),
  operator: part('Controllers, certificates and the injector.', {
    leaderElection: z
      .strictObject({
        leaseDuration: durationOf(['ms', 's', 'm'], 2000, 10 * kMinuteMs),
        renewDeadline: durationOf(['ms', 's', 'm'], 1000, 10 * kMinuteMs),
        retryPeriod: durationOf(['ms', 's', 'm'], 100, kMinuteMs),
      })
      .describe('The lease of the leader.'),
  }),
  directory: part('The directory of topics and members.', {}),
  certificates: z
    .strictObject({
      // As in operator/src/config/schema.ts.
      authorityLife: durationOf(['h'], 7 * kDayMs, 3650 * kDayMs),
      servingLife: durationOf(['h'], kDayMs, 3650 * kDayMs),
      settle: durationOf(['s', 'm', 'h'], 1000, kDayMs),
    })
    .describe('Lives of the CA and the certificates of webhook and directory.'),
  injection: z.strictObject({ sidecarImage: z.string(), ipFamily: z.enum(['auto', 'IPv4', 'IPv6']) }),
  udpPorts: z.strictObject({ first: port, last: port }),
  metricsPort: port,
  seccompProfile: z.strictObject({
    install: z.boolean(),
    kubeletRoot: z.string().regex(/^\/[\w./-]+$/),
    nodeSelector: labels,
    tolerations: z.array(z.record(z.string(), z.unknown())),
    priorityClassName: z.string(),
    resources,
  }),
  nicd: z
    .strictObject({
      enabled: z.boolean(),
      interface: z.string().regex(/^[^\s/:]{0,15}$/),
      claims: z.string().regex(/^(\/[\w.-]+)*$/),
      allowPacket: z.boolean(),
      // As in native/src/nicd/options.cc.
      lease: durationOf(['ms', 's', 'm'], 100, kHourMs),
      allowUids: z.array(z.int().min(0).max(4_294_967_294)).min(1),
      resources,
      nodeSelector: labels,
      tolerations: z.array(z.record(z.string(), z.unknown())),
      priorityClassName: z.string(),
    })
    .describe('outrigger-nicd on every node of nodeSelector: hands NIC queues to drivers without rights.'),
  networkPolicy: z.strictObject({ enabled: z.boolean(), namespaces: z.array(dnsLabel) }),
  monitoring: z.strictObject({
    podMonitors: z.boolean(),
    rules: z.boolean(),
    labels,
    dashboards: z.boolean(),
    dashboardLabels: labels,
    runbookUrl: z.url(),
    interval: duration,
  }),
  // Helm's own.
  global: z.record(z.string(), z.unknown()).optional(),
});

/** JSON schema as Helm reads it. */
export function valuesJsonSchema(): object {
  return z.toJSONSchema(valuesSchema, { target: 'draft-7', io: 'input' });
}
