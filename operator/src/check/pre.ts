// SPDX-License-Identifier: Apache-2.0
// `outrigger check --pre`: can the chart be installed here, by this user?
import { kGroup, kInjectWebhook } from '../api';
import { listed, requireAccess, type CheckCluster, type List, type Metadata } from './cluster';
import { CheckFailure, CheckWarning, type Check, type Section } from './runner';

/** The oldest minor version that the chart takes: what it uses is stable there. */
export const kOldestMinor = 34;

export interface Version {
  readonly major: string;
  readonly minor: string;
  readonly gitVersion: string;
}

export function apiSection(cluster: CheckCluster): Section {
  return {
    title: 'kubernetes',
    checks: [
      {
        id: 'api-reachable',
        sentence: 'the API server answers',
        hint: 'look at the server of the current context: kubectl config view --minify',
        required: true,
        run: async () => {
          await cluster.get<Version>('/version');
        },
      },
      {
        id: 'kubernetes-version',
        sentence: `Kubernetes is 1.${kOldestMinor} or newer`,
        hint: `upgrade the cluster; the chart refuses versions before 1.${kOldestMinor}`,
        run: async () => {
          const version = await cluster.get<Version>('/version');
          const minor = parseInt(version?.minor ?? '0', 10); // some say "34+"
          if (version?.major !== '1' || minor < kOldestMinor) {
            throw new CheckFailure(`it is ${version?.gitVersion ?? 'unknown'}`);
          }
        },
      },
      {
        id: 'nodes-linux',
        sentence: 'there is a Linux node that is Ready',
        hint: 'sidecars and operator run on Linux nodes only',
        run: async () => {
          const nodes =
            await cluster.get<
              List<{ metadata: Metadata; status?: { conditions?: { type: string; status: string }[] } }>
            >('/api/v1/nodes');
          const linux = (nodes?.items ?? []).filter(
            (each) => each.metadata.labels?.['kubernetes.io/os'] === 'linux',
          );
          const ready = linux.filter((each) =>
            each.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True'),
          );
          if (ready.length === 0) {
            throw new CheckFailure(`${linux.length} Linux nodes, none Ready`);
          }
        },
      },
    ],
  };
}

interface CustomResourceDefinition {
  readonly metadata: Metadata;
  readonly spec: { readonly versions: readonly { readonly name: string }[] };
}

interface ChartResource {
  readonly group: string;
  readonly resource: string;
  /** Of no namespace. */
  readonly wide?: boolean;
}

/** What `helm install --create-namespace` makes with the chart's own values; a test holds it against what helm renders. */
export const kChartResources: readonly ChartResource[] = [
  { group: 'apiextensions.k8s.io', resource: 'customresourcedefinitions', wide: true },
  { group: 'rbac.authorization.k8s.io', resource: 'clusterroles', wide: true },
  { group: 'rbac.authorization.k8s.io', resource: 'clusterrolebindings', wide: true },
  { group: '', resource: 'namespaces', wide: true },
  { group: '', resource: 'secrets' }, // helm's own record of the release
  { group: '', resource: 'serviceaccounts' },
  { group: '', resource: 'services' },
  { group: '', resource: 'pods' }, // of helm test
  { group: 'apps', resource: 'deployments' },
  { group: 'batch', resource: 'jobs' },
  { group: 'networking.k8s.io', resource: 'networkpolicies' },
  { group: 'policy', resource: 'poddisruptionbudgets' },
  { group: 'rbac.authorization.k8s.io', resource: 'roles' },
  { group: 'rbac.authorization.k8s.io', resource: 'rolebindings' },
];

/** @param namespace where the operator is to run. */
export function preSections(cluster: CheckCluster, namespace: string): readonly Section[] {
  const may = ({ group, resource, wide = false }: ChartResource): Check => ({
    id: `may-create-${resource}`,
    sentence: `you may create ${resource}${wide ? '' : ` in namespace "${namespace}"`}`,
    hint: 'install as a user with the ClusterRole cluster-admin, or have its owner run helm install',
    run: () => requireAccess(cluster, { verb: 'create', group, resource, ...(wide ? {} : { namespace }) }),
  });
  return [
    apiSection(cluster),
    {
      title: 'permissions',
      checks: kChartResources.map(may),
    },
    {
      title: 'what is there already',
      checks: [
        {
          id: 'no-foreign-crds',
          sentence: `no resources of ${kGroup} were installed by someone else`,
          hint: 'remove them, or install with crds.install=false and keep them up to date yourself',
          run: async () => {
            const all = await cluster.get<List<CustomResourceDefinition>>(
              '/apis/apiextensions.k8s.io/v1/customresourcedefinitions',
            );
            const ours = (all?.items ?? []).filter((each) => each.metadata.name?.endsWith(`.${kGroup}`));
            const foreign = ours.filter(
              (each) => each.metadata.labels?.['app.kubernetes.io/managed-by'] !== 'Helm',
            );
            if (foreign.length > 0) {
              throw new CheckWarning(
                `${listed(foreign.map((each) => each.metadata.name ?? ''))} are not managed by Helm`,
              );
            }
          },
        },
        {
          id: 'no-stray-webhook',
          sentence: 'no injector is left from an earlier installation',
          hint: 'kubectl delete mutatingwebhookconfiguration NAME, or upgrade that release instead',
          run: async () => {
            const all = await cluster.get<
              List<{
                metadata: Metadata;
                webhooks?: { name: string; clientConfig: { service?: { namespace: string } } }[];
              }>
            >('/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations');
            const ours = (all?.items ?? []).filter((each) =>
              each.webhooks?.some((webhook) => webhook.name === kInjectWebhook),
            );
            if (ours.length > 0) {
              throw new CheckWarning(`there is ${listed(ours.map((each) => each.metadata.name ?? ''))}`);
            }
          },
        },
      ],
    },
  ];
}
