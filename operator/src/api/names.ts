// SPDX-License-Identifier: Apache-2.0
// Names that several parts of the operator, and users, write: API group, labels, annotations. The tuning annotations of a pod are in webhook/.

export const kGroup = 'outrigger.dev';
export const kVersion = 'v1alpha1';
export const kApiVersion = `${kGroup}/${kVersion}`;

/** Label of a pod that wants a sidecar; the value is "true". */
export const kInjectLabel = `${kGroup}/inject`;
/** Name of the webhook in our MutatingWebhookConfiguration. */
export const kInjectWebhook = `inject.${kGroup}`;
/** Label of a namespace that opts all of it out, with the value "disabled". */
export const kInjectionLabel = `${kGroup}/injection`;
/** Annotation of a pod: name of its SidecarProfile, which then need not select it. */
export const kProfileAnnotation = `${kGroup}/profile`;
/** Label of a TopicEndpointSlice: name of its Topic. */
export const kTopicLabel = `${kGroup}/topic`;
/** The network that every pod is on, in `endpoints[].network`. */
export const kPodNetwork = 'pod';
