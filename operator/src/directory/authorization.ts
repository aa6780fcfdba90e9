// SPDX-License-Identifier: Apache-2.0
// May this pod open this topic in this role? A pure function of the topic, the pod and the labels of its namespace.
import { nearest } from '../../../sidecar/src/base/nearest';
import { matches } from '../api/label_selector';
import type { AllowRule, PodIdentity, Refusal, Role, TopicDefinition } from './types';

export type Labels = Readonly<Record<string, string>>;

function allows(
  { namespaceSelector: selector, roles, serviceAccounts }: AllowRule,
  topic: TopicDefinition,
  { namespace, serviceAccount }: PodIdentity,
  role: Role,
  labels: Labels | undefined,
): boolean | undefined {
  if (!roles.includes(role) || (serviceAccounts.length > 0 && !serviceAccounts.includes(serviceAccount))) {
    return false;
  }
  if (selector === undefined) {
    return namespace === topic.namespace;
  }
  // Not as if there were none: NotIn and DoesNotExist would match.
  return labels === undefined ? undefined : matches(selector, labels);
}

/**
 * One rule that allows is enough. A topic without a list of rules is open to the pods of its own namespace, and to no others.
 * @param labels of the pod's namespace; undefined while they are not known.
 * @returns undefined: only the labels would tell.
 */
export function isAllowed(
  topic: TopicDefinition,
  identity: PodIdentity,
  role: Role,
  labels: Labels | undefined,
): boolean | undefined {
  if (topic.allow === undefined) {
    return identity.namespace === topic.namespace;
  }
  const verdicts = topic.allow.map((rule) => allows(rule, topic, identity, role, labels));
  return verdicts.includes(true) || (verdicts.includes(undefined) ? undefined : false);
}

/** Why not, or undefined when it may. A topic that the pod may not open in any role looks like one that does not exist, except in its own
 * namespace, where its owner must see what is wrong. */
export function refusalOf(
  key: string,
  topic: TopicDefinition | undefined,
  identity: PodIdentity,
  role: Role,
  labels: Labels | undefined,
  all: () => Iterable<TopicDefinition>,
): Refusal | undefined {
  const own = identity.namespace;
  const known = topic?.namespace === own;
  const verdict = topic !== undefined && isAllowed(topic, identity, role, labels);
  const allowed = verdict === true;
  // The same for a topic of another namespace that does not exist: a stranger must not learn that it does.
  if (!allowed && labels === undefined && (verdict === undefined || !key.startsWith(`${own}/`))) {
    return {
      reason: 'TOPIC_NOT_READY',
      message: `topic "${key}" can't be used yet: the directory does not know the labels of namespace "${own}" so far, which decide; retry`,
      nearest: '',
    };
  }
  if (topic !== undefined && !allowed) {
    const other: Role = role === 'publisher' ? 'subscriber' : 'publisher';
    if (known || isAllowed(topic, identity, other, labels) === true) {
      return {
        reason: 'NOT_ALLOWED',
        message: `service account "${identity.serviceAccount}" of namespace "${own}" may not be a ${role} of topic "${key}"; add a rule for it to spec.allow of the Topic`,
        nearest: '',
      };
    }
  }
  if (topic === undefined || !allowed) {
    const names = [...all()]
      .filter((each) => isAllowed(each, identity, role, labels) === true)
      .map((each) => (each.namespace === own ? each.name : `${each.namespace}/${each.name}`));
    const short = key.startsWith(`${own}/`) ? key.slice(own.length + 1) : key;
    const near = nearest(short, names) ?? '';
    const hint =
      near === ''
        ? `create a Topic resource of that name in namespace "${key.slice(0, key.indexOf('/'))}"`
        : `did you mean "${near}"?`;
    return {
      reason: 'UNKNOWN_TOPIC',
      message: `topic "${key}" does not exist, or not for this pod; ${hint}`,
      nearest: near,
    };
  }
  if (topic.streamId === undefined) {
    return {
      reason: 'TOPIC_NOT_READY',
      message: `topic "${key}" can't be used yet: ${topic.notReady}; see kubectl describe topic -n ${topic.namespace} ${topic.name}`,
      nearest: '',
    };
  }
  return undefined;
}
