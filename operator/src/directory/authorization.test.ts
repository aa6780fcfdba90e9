// SPDX-License-Identifier: Apache-2.0
import { isAllowed, refusalOf } from './authorization';
import type { AllowRule, PodIdentity, TopicDefinition } from './types';

const kPod: PodIdentity = { namespace: 'shop', serviceAccount: 'till', pod: 'a', podUid: 'u', node: 'n' };

function topic(
  allow: readonly AllowRule[] | undefined,
  namespace = 'shop',
  name = 'orders',
): TopicDefinition {
  return {
    namespace,
    name,
    streamId: 7,
    notReady: '',
    flowControl: 'max',
    reliable: true,
    termLength: 0,
    mtu: 0,
    allow,
  };
}

describe('who may open a topic', () => {
  it('is every pod of its namespace where no rules are given, and no other', () => {
    expect(isAllowed(topic(undefined), kPod, 'publisher', {})).toBe(true);
    expect(isAllowed(topic(undefined), { ...kPod, namespace: 'bank' }, 'subscriber', {})).toBe(false);
  });

  it('is nobody where the list of rules is empty', () => {
    expect(isAllowed(topic([]), kPod, 'publisher', {})).toBe(false);
  });

  it('is decided for each role by the first rule that matches namespace and account', () => {
    const rules: AllowRule[] = [
      { roles: ['publisher'], namespaceSelector: undefined, serviceAccounts: ['till'] },
      { roles: ['subscriber'], namespaceSelector: { matchLabels: { team: 'audit' } }, serviceAccounts: [] },
    ];
    expect(isAllowed(topic(rules), kPod, 'publisher', {})).toBe(true);
    expect(isAllowed(topic(rules), { ...kPod, serviceAccount: 'guest' }, 'publisher', {})).toBe(false);
    expect(isAllowed(topic(rules), kPod, 'subscriber', {})).toBe(false);
    const auditor = { ...kPod, namespace: 'audit', serviceAccount: 'x' };
    expect(isAllowed(topic(rules), auditor, 'subscriber', { team: 'audit' })).toBe(true);
    expect(isAllowed(topic(rules), auditor, 'publisher', { team: 'audit' })).toBe(false);
  });

  it('is nobody by a selector that a Topic has from before it was refused: NotIn nothing, or an operator that none is', () => {
    for (const operator of ['NotIn', 'Maybe']) {
      const namespaceSelector = { matchExpressions: [{ key: 'team', operator }] };
      const rules: AllowRule[] = [{ roles: ['subscriber'], namespaceSelector, serviceAccounts: [] }];
      expect(isAllowed(topic(rules), kPod, 'subscriber', {})).toBe(false);
    }
  });
});

describe('while the labels of the namespace of a pod are not known', () => {
  const [own, other] = ['shop', 'bank'].map((namespace) => ({ ...kPod, namespace })) as [
    PodIdentity,
    PodIdentity,
  ];
  const rule = (operator: string): AllowRule => ({
    roles: ['subscriber'],
    namespaceSelector: {
      matchExpressions: [{ key: 'team', operator, ...(operator === 'NotIn' ? { values: ['x'] } : {}) }],
    },
    serviceAccounts: ['till'],
  });
  const reasonOf = (
    allow: readonly AllowRule[] | undefined,
    identity = other,
    labels?: Readonly<Record<string, string>>,
  ): string | undefined =>
    refusalOf('shop/orders', topic(allow), identity, 'subscriber', labels, () => [])?.reason;

  it.each(['NotIn', 'DoesNotExist', 'Exists'])(
    'a selector with %s admits nobody, and says that it will be known',
    (operator) => {
      expect(reasonOf([rule(operator)])).toBe('TOPIC_NOT_READY');
      expect(reasonOf([rule(operator)], own)).toBe('TOPIC_NOT_READY');
      expect(reasonOf([rule(operator)], other, {})).toBe(operator === 'Exists' ? 'UNKNOWN_TOPIC' : undefined);
    },
  );

  it('a rule without selector decides as ever, and so do roles and accounts', () => {
    const plain: AllowRule = { roles: ['subscriber'], namespaceSelector: undefined, serviceAccounts: [] };
    expect(reasonOf(undefined, own)).toBeUndefined();
    expect(reasonOf([rule('NotIn'), plain], own)).toBeUndefined();
    expect(reasonOf([rule('NotIn')], { ...own, serviceAccount: 'guest' })).toBe('NOT_ALLOWED');
    expect(reasonOf([{ ...rule('NotIn'), roles: ['publisher'] }], own)).toBe('NOT_ALLOWED');
  });

  it('a topic of another namespace answers the same whether it exists or not', () => {
    const said = [topic([rule('NotIn')]), topic([]), topic(undefined), undefined].map((each) =>
      refusalOf('shop/orders', each, other, 'subscriber', undefined, () => []),
    );
    expect(new Set(said.map((each) => JSON.stringify(each))).size).toBe(1);
    expect(said[0]).toMatchObject({
      reason: 'TOPIC_NOT_READY',
      message: expect.stringContaining('labels of namespace "bank"') as string,
    });
  });
});

describe('a refusal', () => {
  const all = [topic(undefined), topic(undefined, 'shop', 'invoices'), topic(undefined, 'bank', 'secrets')];

  it('names the nearest topic that the pod could have opened', () => {
    const refusal = refusalOf('shop/order', undefined, kPod, 'publisher', {}, () => all);
    expect(refusal).toMatchObject({ reason: 'UNKNOWN_TOPIC', nearest: 'orders' });
    expect(refusal?.message).toContain('did you mean "orders"?');
  });

  it('says what to create where there is nothing like it', () => {
    const refusal = refusalOf('shop/x', undefined, kPod, 'publisher', {}, () => []);
    expect(refusal?.message).toContain('create a Topic resource of that name in namespace "shop"');
  });

  it('does not tell strangers that a topic exists', () => {
    const refusal = refusalOf('bank/secrets', all[2], kPod, 'subscriber', {}, () => all);
    expect(refusal?.reason).toBe('UNKNOWN_TOPIC');
    expect(refusal?.message).not.toContain('spec.allow');
  });

  it('names account, role and topic where the pod may see it', () => {
    const closed = topic([{ roles: ['subscriber'], namespaceSelector: undefined, serviceAccounts: [] }]);
    const refusal = refusalOf('shop/orders', closed, kPod, 'publisher', {}, () => all);
    expect(refusal).toMatchObject({ reason: 'NOT_ALLOWED' });
    expect(refusal?.message).toContain(
      'service account "till" of namespace "shop" may not be a publisher of topic "shop/orders"',
    );
  });

  it('says why a topic is not ready', () => {
    const waiting: TopicDefinition = {
      ...topic(undefined),
      streamId: undefined,
      notReady: 'stream id 7 is taken by "invoices"',
    };
    expect(refusalOf('shop/orders', waiting, kPod, 'publisher', {}, () => all)).toMatchObject({
      reason: 'TOPIC_NOT_READY',
      message: expect.stringContaining('stream id 7 is taken by "invoices"'),
    });
  });
});
