// SPDX-License-Identifier: Apache-2.0
// The leader's work on certificates: steps of the rotation, and the bundle where API servers read it, in the registration of the webhook, with the
// policy beside it. One key: all of it belongs together. What sidecars read is config_maps.ts, whose bundle comes from here.
import type { Caches } from '../caches';
import type { KubeObject } from '../api';
import type { EventRecorder } from '../kit/events';
import { Informer, type KitContext } from '../kit/informer';
import { source, type ControllerDefinition, type Source } from '../kit/controller';
import type { Permission } from '../kit/permissions';
import { keyOf, ResourceClient, type Resource } from '../kit/resource';
import {
  admissionPolicy,
  admissionPolicyBinding,
  mutatingWebhookConfiguration,
  type Registration,
} from '../webhook/registration';
import type { Component } from '../process/component';
import { caConfigMaps, kManager } from './config_maps';
import { stepCertificates } from './manager';
import { BundleObserver, observeReplicas, type ReplicaAddress } from './observer';
import {
  kEndpointSlices,
  kPolicies,
  kPolicyBindings,
  kWebhookConfigurations,
  type EndpointSlice,
  type WebhookConfiguration,
} from './resources';
import { bundleOf, type Observed, type RotationPolicy } from './rotation';
import { secretStore, type CertificateWatch } from './secret_store';

export interface CertificateControllerOptions {
  readonly kit: KitContext;
  readonly caches: Caches;
  readonly events: EventRecorder;
  readonly certificates: CertificateWatch;
  /** Without the bundle, which comes from the state. */
  readonly registration: Omit<Registration, 'caBundle'>;
  /** Name of the Secret, in the registration's namespace. */
  readonly secret: string;
  /** Name of the ConfigMap in each namespace with opted-in pods; absent: none are made. */
  readonly caConfigMap?: string;
  /** Told how many namespaces refuse theirs. */
  readonly refused: (namespaces: number) => void;
  /** Services beside the webhook's, in its namespace, whose replicas serve the certificate. */
  readonly otherServices?: readonly string[];
  readonly names: readonly string[];
  readonly policy: RotationPolicy;
  readonly now: () => number;
}

const kKey = 'certificates';

export interface CertificateControllers {
  /** What the controllers go by. Every replica reads it: who leads anew, or again, must not go by what is old. */
  readonly informers: Component;
  /** What they remember of the time in which this replica leads; to be started before them. */
  readonly memory: Component;
  readonly definitions: readonly ControllerDefinition[];
}

export function certificatePermissions(name: string, caConfigMap: string | undefined): readonly Permission[] {
  const group = 'admissionregistration.k8s.io';
  const applied = (resource: string, object: string): Permission[] => [
    // An apply that makes the object needs create, which can't be bound to a name.
    { group, resource, verbs: ['create'] },
    // list and watch of one name: a field selector on metadata.name counts as the name.
    { group, resource, verbs: ['get', 'patch', 'list', 'watch'], names: [object] },
  ];
  return [
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

export function certificateControllers(options: CertificateControllerOptions): CertificateControllers {
  const { kit, caches, events, certificates, registration, policy, names, now, caConfigMap } = options;
  const { namespace } = registration;
  const one = <T extends KubeObject>(kind: Resource<T>, name: string): Informer<T> =>
    new Informer(kit, kind, {}, { fieldSelector: `metadata.name=${registration.name}-${name}` });
  const configurations = one(kWebhookConfigurations, 'injector');
  // Without them a pod that the webhook was not asked about would be taken without a sidecar.
  const policies = [one(kPolicies, 'sidecar-present'), one(kPolicyBindings, 'sidecar-present')];
  const configMaps =
    caConfigMap === undefined
      ? undefined
      : caConfigMaps({ kit, caches, events, name: caConfigMap, refused: options.refused });
  const slices = new Informer<EndpointSlice>(
    kit,
    kEndpointSlices,
    {},
    {
      namespace,
      labelSelector: `kubernetes.io/service-name in (${[registration.service, ...(options.otherServices ?? [])].join(',')})`,
    },
  );
  const mine = [
    ...[configurations, ...policies, slices],
    ...(configMaps === undefined ? [] : [configMaps.informer]),
  ] as const;
  let observer = new BundleObserver();
  const store = secretStore(kit, { namespace, name: options.secret });

  const observe = async (): Promise<Observed> => {
    const bundles = new Map<string, string>();
    for (const { webhooks } of configurations.store.list()) {
      bundles.set('webhook', decoded(webhooks?.[0]?.clientConfig.caBundle));
    }
    for (const configMap of configMaps?.informer.store.list() ?? []) {
      bundles.set(keyOf(configMap), configMap.data?.['ca.crt'] ?? '');
    }
    // Without a registration nobody can be asked, and nothing is settled.
    observer.observe(configurations.store.size === 0 ? new Map<string, string>() : bundles, now());
    const refused = configMaps?.refusals() ?? new Set();
    return {
      bundles: observer.bundles(refused),
      served: await observeReplicas(addressesOf(slices.store.list())),
    };
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

  const sources: Source[] = [
    source(configurations, () => [kKey]),
    ...policies.map((each) => source(each, () => [kKey])),
    source(slices, () => [kKey]),
    source(certificates.informer, () => [kKey]),
    // Whether every client has the bundle is seen here.
    ...(configMaps === undefined ? [] : [source(configMaps.informer, () => [kKey])]),
  ];
  const definition: ControllerDefinition = {
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
        signal,
      });
      if (step.kind !== 'none') {
        kit.log.info({ step: step.kind, reason: step.reason }, 'certificates');
      }
      if (state !== undefined) {
        const bundle = bundleOf(state);
        configMaps?.publish(bundle);
        await applyRegistration(bundle, signal);
      }
      return { afterMs };
    },
  };
  const forget = (): Promise<void> => {
    // What changes while another leads is not observed here.
    observer = new BundleObserver();
    configMaps?.forget();
    return Promise.resolve();
  };
  return {
    memory: { name: 'certificate-memory', start: forget, stop: forget },
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
    definitions: [definition, ...(configMaps === undefined ? [] : [configMaps.definition])],
  };
}
