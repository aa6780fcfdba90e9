// SPDX-License-Identifier: Apache-2.0
// Injection as parts of the operator: certificates and webhook in every replica, the rotation in the leader; and what they may do.
import { isIPv6 } from 'node:net';
import { CertificateWatch } from '../ca/secret_store';
import {
  certificateControllers,
  certificateNamespacePermissions,
  certificatePermissions,
} from '../ca/controller';
import { serviceNames } from '../ca/certificates';
import { rotationPolicy } from '../ca/rotation';
import { given } from '../base/given';
import { openPortsOf } from '../config/open_ports';
import type { OperatorConfig } from '../config/schema';
import { kDirectoryDefaults } from '../directory/directory';
import { Controller } from '../kit/controller';
import type { Permission } from '../kit/permissions';
import type { Component } from '../process/component';
import type { OperatorContext } from '../process/operator';
import { WebhookComponent } from './component';
import type { InjectionSettings } from './inject';
import { injectionMetrics } from './metrics';

/** Names that roles are bound to; a cluster has one installation, as it has one set of resources. */
const kInstallation = 'outrigger';
export const kCertificateSecret = 'outrigger-certificates';
const kCaConfigMap = 'outrigger-ca';

export const kInjectionPermissions: readonly Permission[] = certificatePermissions(
  kInstallation,
  kCaConfigMap,
);
export const kInjectionNamespacePermissions: readonly Permission[] =
  certificateNamespacePermissions(kCertificateSecret);

export interface InjectionParts {
  readonly certificates: CertificateWatch;
  readonly webhook: WebhookComponent;
  /** What the parts of the leader read. */
  readonly informers: Component;
  readonly leading: readonly Component[];
}

function splitAddress(hostPort: string): { host: string; port: number } {
  const colon = hostPort.lastIndexOf(':');
  return { host: hostPort.slice(0, colon).replace(/^\[|\]$/g, ''), port: Number(hostPort.slice(colon + 1)) };
}

function injectionSettings(config: OperatorConfig): InjectionSettings {
  const apiServer = process.env['KUBERNETES_SERVICE_HOST'] ?? '';
  const settings = {
    image: config.sidecarImage,
    imagePullPolicy: config.sidecarImagePullPolicy,
    ipv6: config.ipFamily === 'auto' ? isIPv6(apiServer) : config.ipFamily === 'IPv6',
  };
  return config.directoryAddress === ''
    ? settings
    : {
        ...settings,
        directory: {
          address: config.directoryAddress,
          audience: kDirectoryDefaults.audience,
          caConfigMap: kCaConfigMap,
        },
      };
}

/** Undefined where the webhook is off. */
export function injectionParts(context: OperatorContext): InjectionParts | undefined {
  const { config, kit, caches, events, metrics, namespace } = context;
  if (config.webhookListen === '') {
    return undefined;
  }
  const certificates = new CertificateWatch(kit, { namespace, name: kCertificateSecret });
  const settings = injectionSettings(config);
  const openPorts = openPortsOf(config);
  const webhook = new WebhookComponent({
    certificates,
    listen: splitAddress(config.webhookListen),
    log: kit.log,
    count: injectionMetrics(metrics.registry, () => certificates.state),
    settings: (of) => ({ ...settings, ...given({ openPorts: openPorts(of) }) }),
    profiles: (of) => (caches.profiles.hasSynced ? caches.profiles.store.by('namespace', of) : undefined),
  });
  const directory = config.directoryAddress === '' ? [] : [splitAddress(config.directoryAddress).host];
  const [directoryService, directoryNamespace] = directory.join('').split('.');
  const { informers, memory, definitions } = certificateControllers({
    kit,
    caches,
    events,
    refused: (namespaces) => metrics.refusedAuthority(namespaces),
    certificates,
    registration: { name: kInstallation, namespace, service: config.webhookService },
    secret: kCertificateSecret,
    ...(directory.length === 0 ? {} : { caConfigMap: kCaConfigMap }),
    ...(directoryService !== undefined && directoryNamespace === namespace
      ? { otherServices: [directoryService] }
      : {}),
    names: [...new Set([...serviceNames(config.webhookService, namespace), ...directory])],
    policy: rotationPolicy({
      authorityLifeMs: config.authorityLife,
      servingLifeMs: config.servingLife,
      settleMs: config.certificateSettle,
    }),
    now: Date.now,
  });
  return {
    certificates,
    webhook,
    informers,
    leading: [memory, ...definitions.map((each) => new Controller(kit, each))],
  };
}
