// SPDX-License-Identifier: Apache-2.0
// Kubernetes' own kinds that the operator reads, as far as it looks into them.
import type { KubeObject } from '../api';
import { resource } from './resource';

export type Namespace = KubeObject;

export interface Pod extends KubeObject {
  readonly spec?: {
    readonly nodeName?: string;
    readonly serviceAccountName?: string;
  };
  readonly status?: { readonly phase?: string };
}

export const kNamespaces = resource<Namespace>(
  { group: '', version: 'v1', kind: 'Namespace', plural: 'namespaces' },
  'Cluster',
);
export const kPods = resource<Pod>({ group: '', version: 'v1', kind: 'Pod', plural: 'pods' });
