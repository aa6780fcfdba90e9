// SPDX-License-Identifier: Apache-2.0
// The leader's work on certificates: steps of the rotation, and the bundle in every object that clients read it from: the registration of the
// webhook for the API server, a ConfigMap in each namespace with opted-in pods for the sidecars. One key: all of it belongs together.
import type { Caches } from '../caches';
import { Informer, type KitContext } from '../kit/informer';
import { source, type ControllerDefinition, type Source } from '../kit/controller';
import type { Permission } from '../kit/permissions';
import { keyOf, ResourceClient } from '../kit/resource';
import {
  admissionPolicy,
  admissionPolicyBinding,
  mutatingWebhookConfiguration,
  type Registration,
} from '../webhook/registration';
import type { Component } from '../process/component';
import { stepCertificates } from './manager';
import { BundleObserver, observeReplicas, type ReplicaAddress } from './observer';
import {
  kConfigMaps,
  kEndpointSlices,
  kPolicies,
  kPolicyBindings,
  kWebhookConfigurations,
  type ConfigMap,
  type EndpointSlice,
  type WebhookConfiguration,
} from './resources';
import { bundleOf, type Observed, type RotationPolicy } from './rotation';
import { secretStore, type CertificateWatch } from './secret_store';

export interface CertificateControllerOptions {
  readonly kit: KitContext;
  readonly caches: Caches;
  readonly certificates: CertificateWatch;
  /** Without the bundle, which comes from the state. */
  readonly registration: Omit<Registration, 'caBundle'>;
  /** Name of the Secret, in the registration's namespace. */
  readonly secret: string;
  /** Name of the ConfigMap in each namespace with opted-in pods; absent: none are made. */
  readonly caConfigMap?: string;
  /** Services beside the webhook's, in its namespace, whose replicas serve the certificate. */
  readonly otherServices?: readonly string[];
  readonly names: readonly string[];
  readonly policy: RotationPolicy;
  readonly now: () => number;
}

const kKey = 'certificates';
const kManager = { fieldManager: 'outrigger-operator', force: true } as const;
/** Label of our ConfigMaps: by it they are found. */
const kCaLabel = 'outrigger.dev/ca';

/** The informers of the leader alone, with the controller that goes by them. */
export interface CertificateController {
  readonly informers: Component;
  readonly definition: ControllerDefinition;
}

export function certificatePermissions(name: string, caConfigMap: string | undefined): readonly Permission[] {
  const group = 'admissionregistration.k8s.io';
  const applied = (resource: string, object: string): Permission[] => [
    // An apply that makes the object needs create, which can't be bound to a name.
    { group, resource, verbs: ['create'] },
    { group, resource, verbs: ['get', 'patch'], names: [object] },
  ];
  return [
    { group, resource: 'mutatingwebhookconfigurations', verbs: ['list', 'watch'] },
    ...applied('mutatingwebhookconfigurations', `${name}-injector`),
    ...applied('validatingadmissionpolicies', `${name}-sidecar-present`),
    ...applied('validatingadmissionpolicybindings', `${name}-sidecar-present`),
    ...(caConfigMap === undefined
      ? []
      : [
          { group: '', resource: 'configmaps', verbs: ['list', 'watch', 'create'] } as const,
          { group: '', resource: 'configmaps', verbs: ['get', 'patch'], names: [caConfigMap] } as const,
        ]),
  ];
}

/** In the operator's own namespace. */
export function certificateNamespacePermissions(secret: string): readonly Permission[] {
  return [
    { group: '', resource: 'secrets', verbs: ['create'] },
    // list and watch of one name: a field selector on metadata.name counts as the name.
    { group: '', resource: 'secrets', verbs: ['get', 'update', 'list', 'watch'], names: [secret] },
    { group: 'discovery.k8s.io', resource: 'endpointslices', verbs: ['get', 'list', 'watch'] },
  ];
}

function decoded(base64: string | undefined): string {
  return Buffer.from(base64 ?? '', 'base64').toString('utf8');
}

function addressesOf(slices: readonly EndpointSlice[]): readonly ReplicaAddress[] {
  return slices.flatMap(({ endpoints, ports }) =>
    (endpoints ?? []).flatMap(({ addresses }) =>
      (addresses ?? []).flatMap((host) =>
        (ports ?? []).flatMap(({ port }) => (port === undefined ? [] : [{ host, port }])),
      ),
    ),
  );
}

export function certificateController(options: CertificateControllerOptions): CertificateController {
  const { kit, caches, certificates, registration, policy, names, now, caConfigMap } = options;
  const { namespace } = registration;
  const configurations = new Informer<WebhookConfiguration>(
    kit,
    kWebhookConfigurations,
    {},
    {
      fieldSelector: `metadata.name=${registration.name}-injector`,
    },
  );
  const configMaps = new Informer<ConfigMap>(kit, kConfigMaps, {}, { labelSelector: `${kCaLabel}=true` });
  const slices = new Informer<EndpointSlice>(
    kit,
    kEndpointSlices,
    {},
    {
      namespace,
      labelSelector: `kubernetes.io/service-name in (${[registration.service, ...(options.otherServices ?? [])].join(',')})`,
    },
  );
  const mine = [configurations, slices, ...(caConfigMap === undefined ? [] : [configMaps])] as const;
  const observer = new BundleObserver();
  const store = secretStore(kit, { namespace, name: options.secret });

  const observe = async (): Promise<Observed> => {
    const bundles = new Map<string, string>();
    for (const { webhooks } of configurations.store.list()) {
      bundles.set('webhook', decoded(webhooks?.[0]?.clientConfig.caBundle));
    }
    for (const configMap of configMaps.store.list()) {
      bundles.set(keyOf(configMap), configMap.data?.['ca.crt'] ?? '');
    }
    // Without a registration nobody can be asked, and nothing is settled.
    observer.observe(configurations.store.size === 0 ? new Map<string, string>() : bundles, now());
    return { bundles: observer.bundles, served: await observeReplicas(addressesOf(slices.store.list())) };
  };

  const applyRegistration = async (caBundle: string, signal: AbortSignal): Promise<void> => {
    const whole = { ...registration, caBundle };
    type Applied = Parameters<ResourceClient<WebhookConfiguration>['apply']>[0];
    // The policy first: it holds while the webhook is not there yet.
    for (const [kind, object] of [
      [kPolicies, admissionPolicy(whole)],
      [kPolicyBindings, admissionPolicyBinding(whole)],
      [kWebhookConfigurations, mutatingWebhookConfiguration(whole)],
    ] as const) {
      await new ResourceClient(kit.api, kind).apply(object as unknown as Applied, kManager, signal);
    }
  };

  /** In namespaces with opted-in pods, and wherever one is already. */
  const applyConfigMaps = async (name: string, bundle: string, signal: AbortSignal): Promise<void> => {
    const present = new Map(configMaps.store.list().map((each) => [each.metadata.namespace ?? '', each]));
    const wanted = new Set([
      ...caches.pods.store.list().map(({ metadata }) => metadata.namespace ?? ''),
      ...present.keys(),
    ]);
    for (const each of wanted) {
      if (present.get(each)?.data?.['ca.crt'] !== bundle) {
        const metadata = { namespace: each, name, labels: { [kCaLabel]: 'true' } };
        await configMaps.client.apply({ metadata, data: { 'ca.crt': bundle } }, kManager, signal);
      }
    }
  };

  const sources: Source[] = [
    source(configurations, () => [kKey]),
    source(slices, () => [kKey]),
    source(certificates.informer, () => [kKey]),
    ...(caConfigMap === undefined
      ? []
      : [
          source(configMaps, () => [kKey]),
          // A namespace gets its ConfigMap with its first pod.
          source(caches.pods, (change) => (change.kind === 'added' ? [kKey] : [])),
        ]),
  ];
  return {
    informers: {
      name: 'certificate-informers',
      start: () => {
        mine.forEach((each) => each.start());
        return Promise.resolve();
      },
      stop: async () => {
        await Promise.all(mine.map((each) => each.stop()));
      },
    },
    definition: {
      name: 'certificates',
      permissions: [
        ...certificatePermissions(registration.name, caConfigMap),
        ...certificateNamespacePermissions(options.secret),
      ],
      sources,
      initialKeys: () => [kKey],
      concurrency: 1,
      reconcile: async (_, signal) => {
        const { step, state, afterMs } = await stepCertificates({
          store,
          observe,
          served: () => certificates.state,
          names,
          policy,
          now,
        });
        if (step.kind !== 'none') {
          kit.log.info({ step: step.kind, reason: step.reason }, 'certificates');
        }
        if (state !== undefined) {
          const bundle = bundleOf(state);
          await applyRegistration(bundle, signal);
          if (caConfigMap !== undefined) {
            await applyConfigMaps(caConfigMap, bundle, signal);
          }
        }
        return { afterMs };
      },
    },
  };
}
