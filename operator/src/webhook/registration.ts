// SPDX-License-Identifier: Apache-2.0
// What the API server is told of the webhook: its registration, and the policy that holds when the webhook was not asked. Desired objects as pure
// functions; the operator applies them.
import type {
  V1LabelSelector,
  V1MutatingWebhookConfiguration,
  V1ValidatingAdmissionPolicy,
  V1ValidatingAdmissionPolicyBinding,
} from '@kubernetes/client-node';
import { kInjectionLabel, kInjectLabel, kInjectWebhook } from '../api/names';
import { kInjectPath, kSidecarName } from './layout';

export interface Registration {
  /** Name of the installation: prefix of the objects' names. */
  readonly name: string;
  /** Namespace of the operator; never injected, so that an operator that is down doesn't keep itself down. */
  readonly namespace: string;
  readonly service: string;
  readonly servicePort?: number;
  /** PEM; several certificates while the CA is renewed. */
  readonly caBundle: string;
  /** Labels of all our objects. */
  readonly labels?: Readonly<Record<string, string>>;
}

/** Where a node and the cluster itself run: nothing that fails with us may be there. */
export const kSystemNamespaces: readonly string[] = ['kube-system', 'kube-node-lease', 'kube-public'];

/** Long enough for a pause of garbage collection on a busy node, short enough for whoever waits for a pod. */
const kTimeoutSeconds = 10;

/** Pods that say something about injection other than no: a mistyped value is refused with a reason and not silently left alone. */
function objectSelector(): V1LabelSelector {
  return {
    matchExpressions: [
      { key: kInjectLabel, operator: 'Exists' },
      { key: kInjectLabel, operator: 'NotIn', values: ['false'] },
    ],
  };
}

function namespaceSelector({ namespace }: Registration): V1LabelSelector {
  return {
    matchExpressions: [
      {
        key: 'kubernetes.io/metadata.name',
        operator: 'NotIn',
        values: [...new Set([...kSystemNamespaces, namespace])],
      },
      { key: kInjectionLabel, operator: 'NotIn', values: ['disabled'] },
    ],
  };
}

const kPods = {
  apiGroups: [''],
  apiVersions: ['v1'],
  operations: ['CREATE'],
  resources: ['pods'],
  scope: 'Namespaced',
};

function metadata(name: string, labels: Registration['labels']) {
  return { name, ...(labels === undefined ? {} : { labels: { ...labels } }) };
}

export function mutatingWebhookConfiguration(of: Registration): V1MutatingWebhookConfiguration {
  return {
    apiVersion: 'admissionregistration.k8s.io/v1',
    kind: 'MutatingWebhookConfiguration',
    metadata: metadata(`${of.name}-injector`, of.labels),
    webhooks: [
      {
        name: kInjectWebhook,
        admissionReviewVersions: ['v1'],
        sideEffects: 'None',
        // A pod without its sidecar would start and find no socket: better a Deployment that says why it waits.
        failurePolicy: 'Fail',
        // Another webhook may add a container after us; asked again, we connect it too.
        reinvocationPolicy: 'IfNeeded',
        matchPolicy: 'Equivalent',
        timeoutSeconds: kTimeoutSeconds,
        clientConfig: {
          service: {
            namespace: of.namespace,
            name: of.service,
            path: kInjectPath,
            port: of.servicePort ?? 443,
          },
          caBundle: Buffer.from(of.caBundle).toString('base64'),
        },
        rules: [{ ...kPods }],
        objectSelector: objectSelector(),
        namespaceSelector: namespaceSelector(of),
      },
    ],
  };
}

/** CEL, evaluated by the API server itself: true when the pod has what injection adds. */
export const kHasSidecar =
  `has(object.spec.initContainers) && object.spec.initContainers.exists(c, c.name == '${kSidecarName}' && ` +
  `has(c.restartPolicy) && c.restartPolicy == 'Always')`;

/** Static pods can't be injected: they run already when the API server hears of them. */
const kNoMirrorPod = `!has(object.metadata.annotations) || !('kubernetes.io/config.mirror' in object.metadata.annotations)`;

export function admissionPolicy(of: Registration): V1ValidatingAdmissionPolicy {
  return {
    apiVersion: 'admissionregistration.k8s.io/v1',
    kind: 'ValidatingAdmissionPolicy',
    metadata: metadata(`${of.name}-sidecar-present`, of.labels),
    spec: {
      failurePolicy: 'Fail',
      matchConstraints: {
        resourceRules: [{ ...kPods }],
        objectSelector: objectSelector(),
        namespaceSelector: namespaceSelector(of),
        matchPolicy: 'Equivalent',
      },
      matchConditions: [{ name: 'no-mirror-pod', expression: kNoMirrorPod }],
      validations: [
        {
          expression: kHasSidecar,
          reason: 'Invalid',
          message:
            `the pod has the label ${kInjectLabel} but no sidecar: the injector was not asked. Look at the MutatingWebhookConfiguration ` +
            `${of.name}-injector and at the operator in namespace ${of.namespace}, then create the pod again; or remove the label`,
        },
      ],
    },
  };
}

export function admissionPolicyBinding(of: Registration): V1ValidatingAdmissionPolicyBinding {
  return {
    apiVersion: 'admissionregistration.k8s.io/v1',
    kind: 'ValidatingAdmissionPolicyBinding',
    metadata: metadata(`${of.name}-sidecar-present`, of.labels),
    spec: { policyName: `${of.name}-sidecar-present`, validationActions: ['Deny'] },
  };
}
