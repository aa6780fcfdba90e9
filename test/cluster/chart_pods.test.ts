// SPDX-License-Identifier: Apache-2.0
// Every pod of the chart, as the real helm renders it: what a cluster needs to run the operator (credentials of its registry, tolerations, nodes,
// priority, resources) each of them has, those of Helm's hooks too. A hook of `helm uninstall` that can't run leaves the injector registered, with
// nobody behind it. No release is made.
import type { V1PodSpec, V1PodTemplateSpec } from '@kubernetes/client-node';
import { rendered } from './support/rendered';

jest.setTimeout(120_000);

/** What a part of the values gives its pods. */
const kPlace = {
  nodeSelector: { pool: 'messaging' },
  tolerations: [{ key: 'dedicated', operator: 'Exists', effect: 'NoSchedule' }],
  priorityClassName: 'important',
  resources: { requests: { cpu: '11m', memory: '111Mi' }, limits: { memory: '222Mi' } },
};
const kNodeAffinity = {
  requiredDuringSchedulingIgnoredDuringExecution: {
    nodeSelectorTerms: [{ matchExpressions: [{ key: 'disk', operator: 'Exists' }] }],
  },
};
const kPodAffinity = {
  requiredDuringSchedulingIgnoredDuringExecution: [
    { topologyKey: 'kubernetes.io/hostname', labelSelector: { matchLabels: { app: 'beside' } } },
  ],
};
const kPart = {
  ...kPlace,
  affinity: { nodeAffinity: kNodeAffinity, podAffinity: kPodAffinity },
  podLabels: { team: 'messaging' },
  podAnnotations: { 'example.com/scan': 'no' },
};
const kPullSecrets = [{ name: 'registry' }, { name: 'mirror' }];
const kValues = {
  image: { pullSecrets: kPullSecrets },
  operator: kPart,
  directory: kPart,
  seccompProfile: { install: true, ...kPlace },
  nicd: { enabled: true, interface: 'eth1', claims: '/run/claims', ...kPlace },
};

const kOfOperator = ['Deployment outrigger-operator', 'Deployment outrigger-directory'];
const kOfHooks = ['Job outrigger-uninstall', 'Pod outrigger-test'];
const kOfNodes = ['DaemonSet outrigger-nicd', 'DaemonSet outrigger-seccomp'];

/** The pods of all objects that make some, by kind and name. */
async function renderedPods(values: object): Promise<ReadonlyMap<string, V1PodTemplateSpec>> {
  return new Map(
    (await rendered(values)).flatMap((object) => {
      const pod = podOf(object);
      return pod === undefined ? [] : [[`${object.kind} ${object.metadata.name}`, pod]];
    }),
  );
}

/** Wherever containers are, there is a pod: of a kind, too, that the chart makes one day. */
function podOf(value: unknown): V1PodTemplateSpec | undefined {
  if (typeof value !== 'object' || value === null) {
    return undefined;
  }
  const { spec } = value as { readonly spec?: { readonly containers?: unknown } };
  if (spec?.containers !== undefined) {
    return value;
  }
  for (const inner of Object.values(value)) {
    const found = podOf(inner);
    if (found !== undefined) {
      return found;
    }
  }
  return undefined;
}

describe('the pods of the chart', () => {
  let pods: ReadonlyMap<string, V1PodTemplateSpec>;
  beforeAll(async () => {
    pods = await renderedPods(kValues);
  });

  const pod = (name: string): V1PodTemplateSpec => pods.get(name) as V1PodTemplateSpec;
  const spec = (name: string): V1PodSpec => pod(name).spec as V1PodSpec;

  it('are those that this test looks at', () => {
    expect([...pods.keys()].sort()).toEqual([...kOfOperator, ...kOfHooks, ...kOfNodes].sort());
  });

  it.each([...kOfOperator, ...kOfHooks, ...kOfNodes])(
    '%s: fetches its image and is scheduled as its values say',
    (name) => {
      const { imagePullSecrets, nodeSelector, tolerations, priorityClassName } = spec(name);
      expect({ imagePullSecrets, nodeSelector, tolerations, priorityClassName }).toEqual({
        imagePullSecrets: kPullSecrets,
        nodeSelector: { 'kubernetes.io/os': 'linux', ...kPlace.nodeSelector },
        tolerations: kPlace.tolerations,
        priorityClassName: kPlace.priorityClassName,
      });
      const { containers, initContainers = [] } = spec(name);
      for (const { resources } of [...containers, ...initContainers]) {
        expect(resources).toEqual(kPlace.resources);
      }
    },
  );

  it.each([...kOfOperator, ...kOfHooks])('%s: has the labels and annotations of its values', (name) => {
    const { labels, annotations } = pod(name).metadata ?? {};
    expect(labels).toMatchObject(kPart.podLabels);
    expect(annotations).toMatchObject(kPart.podAnnotations);
  });

  it.each(kOfOperator)('%s: has the affinity of its values', (name) => {
    expect(spec(name).affinity).toEqual(kPart.affinity);
  });

  it.each(kOfHooks)('%s: goes by the nodes of the affinity alone, since other pods may be gone', (name) => {
    expect(spec(name).affinity).toEqual({ nodeAffinity: kNodeAffinity });
  });

  it('stay on Linux nodes with values that say nothing of it', async () => {
    const plain = await renderedPods({ seccompProfile: { install: true } });
    expect([...plain.values()].map((each) => each.spec?.nodeSelector)).toEqual(
      [...plain.keys()].map(() => ({ 'kubernetes.io/os': 'linux' })),
    );
  });
});
