// SPDX-License-Identifier: Apache-2.0
// Why a pod has no sidecar, and what to do. Pure: what the API server said goes in, one cause comes out.
import { kInjectionLabel, kInjectLabel, kInjectWebhook, matches, type LabelSelector } from '../api';
import type { Metadata } from '../check/cluster';

export interface Cause {
  readonly why: string;
  readonly fix: string;
}

export interface PodMetadata extends Metadata {
  readonly creationTimestamp?: string;
  readonly ownerReferences?: readonly {
    readonly apiVersion?: string;
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

export interface Owner {
  readonly kind: string;
  readonly name: string;
  /** What it does with its template: all that the advice depends on. */
  readonly way: 'rolls' | 'replaces' | 'job' | 'unknown';
}

/** Others may have kinds of the same names, such as StatefulSets that are not in apps. */
const kWays: Readonly<Record<string, Owner['way']>> = {
  'apps/v1 Deployment': 'rolls',
  'apps/v1 StatefulSet': 'rolls',
  'apps/v1 DaemonSet': 'rolls',
  'apps/v1 ReplicaSet': 'replaces',
  'v1 ReplicationController': 'replaces',
  'batch/v1 Job': 'job',
};

/** The thing whose template a pod comes from: a ReplicaSet with a hash of its template is a Deployment's. */
export function ownerOf(metadata: PodMetadata): Owner | undefined {
  const owner = metadata.ownerReferences?.find(({ controller }) => controller === true);
  if (owner === undefined) {
    return undefined;
  }
  const { apiVersion = '', kind, name } = owner;
  const way = kWays[`${apiVersion} ${kind}`] ?? 'unknown';
  const hash = metadata.labels?.['pod-template-hash'];
  return kind === 'ReplicaSet' && way === 'replaces' && hash !== undefined && name.endsWith(`-${hash}`)
    ? { kind: 'Deployment', name: name.slice(0, -hash.length - 1), way: 'rolls' }
    : { kind, name, way };
}

/** How the pod is made anew from the same template. */
function remake({ namespace, name, metadata }: AbsenceFacts): string {
  const owner = ownerOf(metadata);
  switch (owner?.way) {
    case undefined:
      return `delete the pod and make it again: kubectl get pod ${name} -n ${namespace} -o yaml shows what it was`;
    case 'rolls':
      return `kubectl rollout restart ${owner.kind.toLowerCase()}/${owner.name} -n ${namespace}`;
    case 'replaces':
      return `kubectl delete pod ${name} -n ${namespace}: its ${owner.kind} ${owner.name} makes another one`;
    case 'job':
      return `kubectl delete pod ${name} -n ${namespace}: its Job ${owner.name} makes another one unless it is over, and counts this one as failed (backoffLimit)`;
    case 'unknown':
      return `make it anew through its ${owner.kind} ${owner.name}; where that replaces pods that are gone, kubectl delete pod ${name} -n ${namespace} is enough`;
  }
}

/** How its template gets the label, and the pod the template. */
function annotate({ namespace, name, metadata }: AbsenceFacts): string {
  const owner = ownerOf(metadata);
  const inPlace = (kind: string, of: string): string =>
    `kubectl get ${kind.toLowerCase()} ${of} -n ${namespace} -o yaml | outrigger annotate | kubectl apply -f -`;
  switch (owner?.way) {
    case undefined:
      return 'a label counts when the pod is made: put its manifest through outrigger annotate, delete the pod and apply that';
    case 'rolls':
      return inPlace(owner.kind, owner.name);
    case 'replaces':
      return `${inPlace(owner.kind, owner.name)}; then kubectl delete pod ${name} -n ${namespace}: its ${owner.kind} changes no pod that is there`;
    case 'job':
      return `the template of a Job can't be changed: put the manifest of Job ${owner.name}, or of the CronJob that makes it, through outrigger annotate, kubectl delete job ${owner.name} -n ${namespace}, and apply that`;
    case 'unknown':
      return `set the label ${kInjectLabel}: "true" in the pod template of its ${owner.kind} ${owner.name}, and have that make the pod anew; outrigger annotate knows only the kinds of Kubernetes itself`;
  }
}

export function absenceOf(facts: AbsenceFacts): Cause {
  const { namespace, metadata, namespaceLabels, injectors } = facts;
  const label = metadata.labels?.[kInjectLabel];
  // First: its label may be right or not, and its owner is its node.
  if (metadata.annotations?.['kubernetes.io/config.mirror'] !== undefined) {
    return {
      why: 'it is a static pod: its kubelet makes it from a file, and no webhook can change it',
      fix: 'run it as a DaemonSet',
    };
  }
  if (label === undefined) {
    return { why: `it has no label ${kInjectLabel}: "true"`, fix: annotate(facts) };
  }
  if (label !== 'true') {
    return {
      why: `its label ${kInjectLabel} is ${JSON.stringify(label)}; allowed: "true"`,
      fix: annotate(facts),
    };
  }
  if (injectors?.length === 0) {
    return {
      why: `no injector is registered: there is no MutatingWebhookConfiguration with the webhook ${kInjectWebhook}`,
      fix: `outrigger check says what is wrong with the installation; then ${remake(facts)}`,
    };
  }
  const selectors = (injectors ?? []).flatMap(({ webhooks = [] }) =>
    webhooks.flatMap(({ namespaceSelector }) => namespaceSelector ?? []),
  );
  if (namespaceLabels !== undefined && selectors.some((each) => !matches(each, namespaceLabels))) {
    const disabled = namespaceLabels[kInjectionLabel] === 'disabled';
    return {
      why: disabled
        ? `namespace ${namespace} has the label ${kInjectionLabel}: disabled`
        : `namespace ${namespace} is one of those that the injector is never asked for: those of Kubernetes itself and the operator's own`,
      fix: disabled
        ? `kubectl label namespace ${namespace} ${kInjectionLabel}-; then ${remake(facts)}`
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
