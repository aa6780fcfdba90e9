// SPDX-License-Identifier: Apache-2.0
// The objects of the API that certificates live in and travel by, as far as they are looked into.
import type { V1MutatingWebhookConfiguration } from '@kubernetes/client-node';
import type { KubeObject } from '../api';
import { resource, type Resource } from '../kit/resource';
import type { SecretData } from './secret';

export interface Secret extends KubeObject {
  readonly type?: string;
  readonly data?: SecretData;
}

export interface ConfigMap extends KubeObject {
  readonly data?: Readonly<Record<string, string>>;
}

export interface WebhookConfiguration extends KubeObject {
  readonly webhooks?: V1MutatingWebhookConfiguration['webhooks'];
}

export interface EndpointSlice extends KubeObject {
  readonly endpoints?: readonly { readonly addresses?: readonly string[] }[] | null;
  readonly ports?: readonly { readonly name?: string; readonly port?: number }[] | null;
}

const kAdmission = { group: 'admissionregistration.k8s.io', version: 'v1' } as const;

export const kSecrets = resource<Secret>({ group: '', version: 'v1', kind: 'Secret', plural: 'secrets' });
export const kConfigMaps = resource<ConfigMap>({
  group: '',
  version: 'v1',
  kind: 'ConfigMap',
  plural: 'configmaps',
});
export const kEndpointSlices = resource<EndpointSlice>({
  group: 'discovery.k8s.io',
  version: 'v1',
  kind: 'EndpointSlice',
  plural: 'endpointslices',
});
export const kWebhookConfigurations: Resource<WebhookConfiguration> = resource(
  { ...kAdmission, kind: 'MutatingWebhookConfiguration', plural: 'mutatingwebhookconfigurations' },
  'Cluster',
);
export const kPolicies = resource(
  { ...kAdmission, kind: 'ValidatingAdmissionPolicy', plural: 'validatingadmissionpolicies' },
  'Cluster',
);
export const kPolicyBindings = resource(
  { ...kAdmission, kind: 'ValidatingAdmissionPolicyBinding', plural: 'validatingadmissionpolicybindings' },
  'Cluster',
);
