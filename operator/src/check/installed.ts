// SPDX-License-Identifier: Apache-2.0
// `outrigger check`: does an installation work?
import { X509Certificate } from 'node:crypto';
import { kApiVersion, kGroup, kInjectWebhook } from '../api';
import {
  conditionOf,
  listed,
  type CheckCluster,
  type List,
  type Metadata,
  type WithConditions,
} from './cluster';
import { apiSection } from './pre';
import { CheckFailure, CheckSkip, CheckWarning, type Check, type Section } from './runner';

/** Labels of what the chart makes for operator and directory. */
export const kOperatorSelector = 'app.kubernetes.io/name=outrigger,app.kubernetes.io/component=operator';
export const kDirectorySelector = 'app.kubernetes.io/name=outrigger,app.kubernetes.io/component=directory';
export const kDirectoryServiceName = 'outrigger-directory';
export const kPlurals = ['sidecarprofiles', 'topics', 'topicendpointslices'] as const;
/** Certificates are renewed long before; less than this left says that nobody does. */
const kRenewalDueDays = 7;
const kDayMs = 86_400_000;

interface Deployment {
  readonly metadata: Metadata;
  readonly spec: { readonly replicas?: number };
  readonly status?: { readonly readyReplicas?: number; readonly updatedReplicas?: number };
}

interface WebhookConfiguration {
  readonly metadata: Metadata;
  readonly webhooks?: readonly {
    readonly name: string;
    readonly clientConfig: {
      readonly caBundle?: string;
      readonly service?: { readonly namespace: string; readonly name: string };
    };
  }[];
}

export interface InstalledOptions {
  /** Namespace of the operator. */
  readonly namespace: string;
  readonly nowMs: number;
}

function resourcesSection(cluster: CheckCluster): Section {
  return {
    title: 'resources',
    checks: kPlurals.map((plural): Check => ({
      id: `crd-${plural}`,
      sentence: `${plural}.${kGroup} are served`,
      hint: 'helm upgrade with crds.install=true installs and upgrades them',
      required: true,
      run: async () => {
        const crd = await cluster.get<
          WithConditions & { spec: { versions: { name: string; served: boolean }[] } }
        >(`/apis/apiextensions.k8s.io/v1/customresourcedefinitions/${plural}.${kGroup}`);
        if (crd === undefined) {
          throw new CheckFailure('there is no such CustomResourceDefinition');
        }
        const established = conditionOf(crd, 'Established');
        if (established?.status !== 'True') {
          throw new CheckFailure(
            `it is not established: ${established?.message ?? 'the API server has not looked at it'}`,
          );
        }
        const version = kApiVersion.slice(kGroup.length + 1);
        if (!crd.spec.versions.some((each) => each.name === version && each.served)) {
          throw new CheckFailure(
            `version ${version} is not served: the CustomResourceDefinition is of another release`,
          );
        }
      },
    })),
  };
}

async function serviceHasEndpoints(cluster: CheckCluster, namespace: string, name: string): Promise<void> {
  const slices = await cluster.get<List<{ endpoints?: { conditions?: { ready?: boolean } }[] }>>(
    `/apis/discovery.k8s.io/v1/namespaces/${namespace}/endpointslices`,
    { labelSelector: `kubernetes.io/service-name=${name}` },
  );
  const ready = (slices?.items ?? [])
    .flatMap((each) => each.endpoints ?? [])
    .filter((each) => each.conditions?.ready !== false);
  if (ready.length === 0) {
    throw new CheckFailure(`Service ${namespace}/${name} has no pod behind it that is ready`);
  }
}

function replicasReady(cluster: CheckCluster, namespace: string, component: string, selector: string): Check {
  return {
    id: `${component}-ready`,
    sentence: `all replicas of the ${component} are ready`,
    hint: `kubectl describe pods -n ${namespace} -l ${selector}`,
    required: true,
    run: async () => {
      const found = await cluster.get<List<Deployment>>(`/apis/apps/v1/namespaces/${namespace}/deployments`, {
        labelSelector: selector,
      });
      const [deployment] = found?.items ?? [];
      if (deployment === undefined) {
        throw new CheckFailure(
          `namespace "${namespace}" has no Deployment with labels ${selector}; is it installed elsewhere? Use --namespace`,
        );
      }
      const wanted = deployment.spec.replicas ?? 1;
      const ready = deployment.status?.readyReplicas ?? 0;
      if (ready < wanted) {
        const message = `${ready} of ${wanted} are ready`;
        throw ready === 0 ? new CheckFailure(message) : new CheckWarning(message);
      }
    },
  };
}

function directorySection(cluster: CheckCluster, { namespace }: InstalledOptions): Section {
  return {
    title: 'directory',
    checks: [
      replicasReady(cluster, namespace, 'directory', kDirectorySelector),
      {
        id: 'directory-endpoints',
        sentence: 'the directory has pods behind its Service',
        hint: `kubectl get endpointslices -n ${namespace} -l kubernetes.io/service-name=${kDirectoryServiceName}; without it no app can open a topic that its sidecar does not know yet`,
        run: () => serviceHasEndpoints(cluster, namespace, kDirectoryServiceName),
      },
    ],
  };
}

function operatorSection(cluster: CheckCluster, { namespace, nowMs }: InstalledOptions): Section {
  return {
    title: 'operator',
    checks: [
      replicasReady(cluster, namespace, 'operator', kOperatorSelector),
      {
        id: 'operator-leads',
        sentence: 'one replica leads',
        hint: `kubectl get lease -n ${namespace}, and the logs of the operator`,
        run: async () => {
          const leases = await cluster.get<
            List<{
              metadata: Metadata;
              spec?: { holderIdentity?: string; renewTime?: string; leaseDurationSeconds?: number };
            }>
          >(`/apis/coordination.k8s.io/v1/namespaces/${namespace}/leases`, {});
          const [lease] = (leases?.items ?? []).filter((each) => each.metadata.name?.startsWith('outrigger'));
          if (lease?.spec?.holderIdentity === undefined || lease.spec.holderIdentity === '') {
            throw new CheckFailure('nobody holds the lease');
          }
          const end = Date.parse(lease.spec.renewTime ?? '') + (lease.spec.leaseDurationSeconds ?? 0) * 1000;
          if (!(end > nowMs)) {
            throw new CheckFailure(
              `${lease.spec.holderIdentity} held it until ${lease.spec.renewTime ?? 'never'}, and nobody does now`,
            );
          }
        },
      },
    ],
  };
}

async function injector(cluster: CheckCluster): Promise<WebhookConfiguration> {
  const all = await cluster.get<List<WebhookConfiguration>>(
    '/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations',
  );
  const found = (all?.items ?? []).find((each) => each.webhooks?.some(({ name }) => name === kInjectWebhook));
  if (found === undefined) {
    throw new CheckFailure(
      `no MutatingWebhookConfiguration has a webhook ${kInjectWebhook}: pods get no sidecar`,
    );
  }
  return found;
}

/** PEM certificates of a bundle. */
function certificatesOf(bundle: string): readonly X509Certificate[] {
  const blocks = bundle.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
  return blocks.map((block) => new X509Certificate(block));
}

function injectionSection(cluster: CheckCluster, { namespace, nowMs }: InstalledOptions): Section {
  return {
    title: 'injection',
    checks: [
      {
        id: 'injector-registered',
        sentence: 'the injector is registered',
        hint: 'the operator registers it when it leads: look at its logs',
        required: true,
        run: async () => {
          await injector(cluster);
        },
      },
      {
        id: 'injector-ca',
        sentence: `its CA certificate is valid for more than ${kRenewalDueDays} days`,
        hint: 'the operator renews certificates by itself: look at its logs and at its permission to write its Secret',
        run: async () => {
          const [webhook] = (await injector(cluster)).webhooks ?? [];
          const certificates = certificatesOf(
            Buffer.from(webhook?.clientConfig.caBundle ?? '', 'base64').toString(),
          );
          if (certificates.length === 0) {
            throw new CheckFailure('caBundle is empty: the API server can not call the injector');
          }
          const ends = Math.max(...certificates.map((each) => Date.parse(each.validTo)));
          if (ends <= nowMs) {
            throw new CheckFailure(`it expired on ${new Date(ends).toISOString()}`);
          }
          if (ends <= nowMs + kRenewalDueDays * kDayMs) {
            throw new CheckWarning(`it expires on ${new Date(ends).toISOString()}`);
          }
        },
      },
      {
        id: 'injector-endpoints',
        sentence: 'the injector has pods behind its Service',
        hint: `kubectl get endpointslices -n ${namespace}`,
        run: async () => {
          const service = (await injector(cluster)).webhooks?.[0]?.clientConfig.service;
          if (service === undefined) {
            throw new CheckSkip('it is registered by address, not by Service');
          }
          await serviceHasEndpoints(cluster, service.namespace, service.name);
        },
      },
      {
        id: 'injection-enforced',
        sentence: 'pods that want a sidecar and have none are refused',
        hint: 'the operator makes a ValidatingAdmissionPolicy and its binding when it leads: look at its logs',
        run: async () => {
          const { name = '' } = (await injector(cluster)).metadata;
          const policy = name.replace(/-injector$/, '-sidecar-present');
          for (const plural of ['validatingadmissionpolicies', 'validatingadmissionpolicybindings']) {
            if (
              (await cluster.get(`/apis/admissionregistration.k8s.io/v1/${plural}/${policy}`)) === undefined
            ) {
              throw new CheckFailure(`there is no ${plural}/${policy}`);
            }
          }
        },
      },
    ],
  };
}

function objectsSection(cluster: CheckCluster): Section {
  const allReady = (plural: string, word: string): Check => ({
    id: `${plural}-ready`,
    sentence: `all ${word} are ready`,
    hint: `kubectl describe ${plural} -n NAMESPACE NAME`,
    run: async () => {
      const all = await cluster.get<List<WithConditions>>(`/apis/${kApiVersion}/${plural}`);
      const bad = (all?.items ?? []).filter((each) => conditionOf(each, 'Ready')?.status === 'False');
      if (bad.length > 0) {
        throw new CheckWarning(
          bad
            .slice(0, 5)
            .map(
              (each) =>
                `${each.metadata.namespace}/${each.metadata.name}: ${conditionOf(each, 'Ready')?.message ?? 'no reason given'}`,
            )
            .join('; ') + (bad.length > 5 ? `; and ${bad.length - 5} more` : ''),
        );
      }
    },
  });
  return {
    title: 'topics and profiles',
    checks: [allReady('topics', 'Topics'), allReady('sidecarprofiles', 'SidecarProfiles')],
  };
}

interface Pod {
  readonly metadata: Metadata;
  readonly spec?: { readonly initContainers?: readonly { readonly name: string; readonly image?: string }[] };
  readonly status?: {
    readonly phase?: string;
    readonly initContainerStatuses?: readonly {
      readonly name: string;
      readonly ready?: boolean;
      readonly restartCount?: number;
    }[];
  };
}

function sidecarsSection(cluster: CheckCluster): Section {
  const pods = async (): Promise<readonly Pod[]> =>
    (
      (await cluster.get<List<Pod>>('/api/v1/pods', { labelSelector: `${kGroup}/inject` }))?.items ?? []
    ).filter((each) => each.status?.phase === 'Running' && each.metadata.deletionTimestamp === undefined);
  return {
    title: 'sidecars',
    checks: [
      {
        id: 'sidecars-ready',
        sentence: 'all sidecars of running pods are ready',
        hint: 'outrigger check --pod NAMESPACE/NAME',
        run: async () => {
          const all = await pods();
          if (all.length === 0) {
            throw new CheckSkip(`no running pod has the label ${kGroup}/inject`);
          }
          const bad = all.filter(
            (each) =>
              each.status?.initContainerStatuses?.find(({ name }) => name === 'outrigger')?.ready !== true,
          );
          if (bad.length > 0) {
            throw new CheckWarning(
              `${bad.length} of ${all.length} are not: ${listed(bad.map((each) => `${each.metadata.namespace}/${each.metadata.name}`))}`,
            );
          }
        },
      },
      {
        id: 'sidecars-same-image',
        sentence: 'all sidecars have the same image',
        hint: 'pods keep the sidecar that they were made with: kubectl rollout restart after an upgrade',
        run: async () => {
          const images = new Map<string, number>();
          for (const each of await pods()) {
            const image =
              each.spec?.initContainers?.find(({ name }) => name === 'outrigger')?.image ?? 'none';
            images.set(image, (images.get(image) ?? 0) + 1);
          }
          if (images.size > 1) {
            throw new CheckWarning([...images].map(([image, count]) => `${count} × ${image}`).join(', '));
          }
        },
      },
    ],
  };
}

export function installedSections(cluster: CheckCluster, options: InstalledOptions): readonly Section[] {
  return [
    apiSection(cluster),
    resourcesSection(cluster),
    operatorSection(cluster, options),
    directorySection(cluster, options),
    injectionSection(cluster, options),
    objectsSection(cluster),
    sidecarsSection(cluster),
  ];
}
