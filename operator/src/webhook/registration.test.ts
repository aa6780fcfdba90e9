// SPDX-License-Identifier: Apache-2.0
// The objects that the API server gets: what they select, and that they hold what they promise.
import {
  admissionPolicy,
  admissionPolicyBinding,
  kHasSidecar,
  mutatingWebhookConfiguration,
} from './registration';

const kOf = {
  name: 'outrigger',
  namespace: 'outrigger-system',
  service: 'outrigger-webhook',
  caBundle: 'PEM',
};

test('the webhook is asked about opted-in pods only, fails closed, and is asked again', () => {
  const [webhook, ...more] = mutatingWebhookConfiguration(kOf).webhooks ?? [];
  expect(more).toEqual([]);
  expect(webhook).toMatchObject({
    failurePolicy: 'Fail',
    reinvocationPolicy: 'IfNeeded',
    sideEffects: 'None',
    rules: [{ operations: ['CREATE'], resources: ['pods'], apiGroups: [''], apiVersions: ['v1'] }],
    objectSelector: {
      matchExpressions: [
        { key: 'outrigger.dev/inject', operator: 'Exists' },
        { key: 'outrigger.dev/inject', operator: 'NotIn', values: ['false'] },
      ],
    },
    clientConfig: {
      caBundle: Buffer.from('PEM').toString('base64'),
      service: { namespace: 'outrigger-system', name: 'outrigger-webhook', path: '/inject', port: 443 },
    },
  });
});

test('neither system namespaces nor that of the operator nor those that opted out are touched', () => {
  const selector = mutatingWebhookConfiguration(kOf).webhooks?.[0]?.namespaceSelector;
  expect(selector?.matchExpressions).toEqual([
    {
      key: 'kubernetes.io/metadata.name',
      operator: 'NotIn',
      values: ['kube-system', 'kube-node-lease', 'kube-public', 'outrigger-system'],
    },
    { key: 'outrigger.dev/injection', operator: 'NotIn', values: ['disabled'] },
  ]);
});

test('the policy selects what the webhook selects, on creation only, and its binding denies', () => {
  const webhook = mutatingWebhookConfiguration(kOf).webhooks?.[0];
  const policy = admissionPolicy(kOf);
  expect(policy.spec?.matchConstraints).toMatchObject({
    objectSelector: webhook?.objectSelector,
    namespaceSelector: webhook?.namespaceSelector,
    resourceRules: [{ operations: ['CREATE'], resources: ['pods'] }],
  });
  expect(policy.spec?.validations?.[0]?.expression).toBe(kHasSidecar);
  expect(policy.spec?.validations?.[0]?.message).toContain('outrigger-injector');
  const binding = admissionPolicyBinding(kOf);
  expect(binding.spec).toEqual({ policyName: policy.metadata?.name, validationActions: ['Deny'] });
});

test('labels are on every object, and are copies', () => {
  const labels = { 'app.kubernetes.io/part-of': 'outrigger' };
  for (const make of [mutatingWebhookConfiguration, admissionPolicy, admissionPolicyBinding]) {
    expect(make({ ...kOf, labels }).metadata?.labels).toEqual(labels);
    expect(make({ ...kOf, labels }).metadata?.labels).not.toBe(labels);
  }
});
