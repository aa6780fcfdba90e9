// SPDX-License-Identifier: Apache-2.0
// Why a pod has no sidecar, and what to do. Pure: what the API server said goes in, one cause comes out.
import { kInjectLabel, matches, type LabelSelector } from '../api';
import type { Metadata } from '../check/cluster';

export interface Cause {
  readonly why: string;
  readonly fix: string;
}

export interface PodMetadata extends Metadata {
  readonly creationTimestamp?: string;
  readonly ownerReferences?: readonly {
    readonly kind: string;
    readonly name: string;
    readonly controller?: boolean;
  }[];
}

export interface InjectorConfiguration {
  readonly metadata: Metadata & { readonly creationTimestamp?: string };
  readonly webhooks?: readonly { readonly name: string; readonly namespaceSelector?: LabelSelector }[];
}

export interface AbsenceFacts {
  readonly namespace: string;
  readonly name: string;
  readonly metadata: PodMetadata;
  /** undefined: it may not be read. */
  readonly namespaceLabels: Readonly<Record<string, string>> | undefined;
  /** All MutatingWebhookConfigurations of ours; undefined: they may not be read. */
  readonly injectors: readonly InjectorConfiguration[] | undefined;
}

/** The thing whose template a pod comes from: a ReplicaSet is a Deployment's. */
export function ownerOf(metadata: PodMetadata): { readonly kind: string; readonly name: string } | undefined {
  const owner = metadata.ownerReferences?.find(({ controller }) => controller === true);
  const hash = metadata.labels?.['pod-template-hash'];
  return owner?.kind === 'ReplicaSet' && hash !== undefined && owner.name.endsWith(`-${hash}`)
    ? { kind: 'Deployment', name: owner.name.slice(0, -hash.length - 1) }
    : owner;
}

function remake({ namespace, name, metadata }: AbsenceFacts): string {
  const owner = ownerOf(metadata);
  if (owner === undefined) {
    return `delete the pod and make it again: kubectl get pod ${name} -n ${namespace} -o yaml shows what it was`;
  }
  return ['Deployment', 'StatefulSet', 'DaemonSet'].includes(owner.kind)
    ? `kubectl rollout restart ${owner.kind.toLowerCase()}/${owner.name} -n ${namespace}`
    : `kubectl delete pod ${name} -n ${namespace}: its ${owner.kind} ${owner.name} makes it again`;
}

function annotate(facts: AbsenceFacts): string {
  const owner = ownerOf(facts.metadata);
  return owner === undefined
    ? 'a label counts when the pod is made: put its manifest through outrigger annotate, delete the pod and apply that'
    : `kubectl get ${owner.kind.toLowerCase()} ${owner.name} -n ${facts.namespace} -o yaml | outrigger annotate | kubectl apply -f -`;
}

export function absenceOf(facts: AbsenceFacts): Cause {
  const { namespace, metadata, namespaceLabels, injectors } = facts;
  const label = metadata.labels?.[kInjectLabel];
  if (label === undefined) {
    return { why: `it has no label ${kInjectLabel}: "true"`, fix: annotate(facts) };
  }
  if (label !== 'true') {
    return {
      why: `its label ${kInjectLabel} is ${JSON.stringify(label)}; allowed: "true"`,
      fix: annotate(facts),
    };
  }
  if (metadata.annotations?.['kubernetes.io/config.mirror'] !== undefined) {
    return {
      why: 'it is a static pod: its kubelet makes it from a file, and no webhook can change it',
      fix: 'run it as a DaemonSet',
    };
  }
  if (injectors?.length === 0) {
    return {
      why: 'no injector is registered: there is no MutatingWebhookConfiguration with the webhook inject.outrigger.dev',
      fix: `outrigger check says what is wrong with the installation; then ${remake(facts)}`,
    };
  }
  const selectors = (injectors ?? []).flatMap(({ webhooks = [] }) =>
    webhooks.flatMap(({ namespaceSelector }) => namespaceSelector ?? []),
  );
  if (namespaceLabels !== undefined && selectors.some((each) => !matches(each, namespaceLabels))) {
    const disabled = namespaceLabels['outrigger.dev/injection'] === 'disabled';
    return {
      why: disabled
        ? `namespace ${namespace} has the label outrigger.dev/injection: disabled`
        : `namespace ${namespace} is one of those that the injector is never asked for: those of Kubernetes itself and the operator's own`,
      fix: disabled
        ? `kubectl label namespace ${namespace} outrigger.dev/injection-; then ${remake(facts)}`
        : 'run it in another namespace',
    };
  }
  const registered = (injectors ?? []).map(({ metadata: { creationTimestamp = '' } }) =>
    Date.parse(creationTimestamp),
  );
  const made = Date.parse(metadata.creationTimestamp ?? '');
  if (registered.some((each) => made < each)) {
    return {
      why: `it was made at ${metadata.creationTimestamp ?? '?'}, before the injector was registered`,
      fix: remake(facts),
    };
  }
  return {
    why: 'it asks for one, but was not given one when it was made: the label came later, or injector and admission policy were both away',
    fix: `${remake(facts)}; outrigger check says whether the injector works`,
  };
}
