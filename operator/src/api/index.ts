// SPDX-License-Identifier: Apache-2.0
// What other parts use of the resources.
export * from './label_selector';
export * from './names';
export type * from './object_meta';
export * from './open_ports';
export * from './quantity';
export * from './select_profile';
export * from './sidecar_profile';
export * from './topic';
export * from './topic_endpoint_slice';
export type { Condition } from './conditions';
export { customResourceDefinition, structuralSchema, type StructuralSchema } from './crd';
export {
  kResources,
  kSidecarProfile,
  kTopic,
  kTopicEndpointSlice,
  type ResourceDefinition,
} from './resources';
