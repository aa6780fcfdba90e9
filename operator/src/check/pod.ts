// SPDX-License-Identifier: Apache-2.0
// `outrigger check --pod`: has this pod what it needs to publish and subscribe?
import { kApiVersion, kInjectLabel, kProfileAnnotation, type TopicEndpointSlice } from '../api';
import {
  conditionOf,
  listed,
  type CheckCluster,
  type Condition,
  type List,
  type Metadata,
  type WithConditions,
} from './cluster';
import { CheckFailure, CheckSkip, CheckWarning, type Section } from './runner';

interface ContainerStatus {
  readonly name: string;
  readonly ready?: boolean;
  readonly started?: boolean;
  readonly restartCount?: number;
  readonly state?: {
    readonly waiting?: { readonly reason?: string; readonly message?: string };
    readonly terminated?: { readonly reason?: string; readonly exitCode?: number };
  };
  readonly lastState?: { readonly terminated?: { readonly reason?: string; readonly exitCode?: number } };
}

interface Container {
  readonly name: string;
  readonly env?: readonly { readonly name: string; readonly value?: string }[];
}

export interface CheckedPod {
  readonly metadata: Metadata;
  readonly spec?: {
    readonly initContainers?: readonly Container[];
    readonly containers?: readonly Container[];
  };
  readonly status?: {
    readonly phase?: string;
    readonly podIP?: string;
    readonly initContainerStatuses?: readonly ContainerStatus[];
    readonly conditions?: readonly Condition[];
  };
}

const kSidecar = 'outrigger';

export function whyNotReady(status: ContainerStatus | undefined): string {
  const waiting = status?.state?.waiting;
  if (waiting !== undefined) {
    return `it waits: ${waiting.reason ?? 'no reason given'}${waiting.message === undefined ? '' : `, ${waiting.message}`}`;
  }
  const ended = status?.state?.terminated ?? status?.lastState?.terminated;
  if (ended !== undefined) {
    return `it ended with ${ended.reason ?? 'no reason'} (exit status ${ended.exitCode ?? 'unknown'}), ${status?.restartCount ?? 0} restarts`;
  }
  return status?.started === true
    ? 'its readiness probe fails: the driver is away or a drain has begun'
    : 'its startup probe has not passed: no backend is open yet';
}

/** @param now for leases. */
export function podSections(
  cluster: CheckCluster,
  namespace: string,
  name: string,
  nowMs: number,
): readonly Section[] {
  let pod: CheckedPod = { metadata: {} };
  const sidecarStatus = (): ContainerStatus | undefined =>
    pod.status?.initContainerStatuses?.find((each) => each.name === kSidecar);
  return [
    {
      title: `pod ${namespace}/${name}`,
      checks: [
        {
          id: 'pod-exists',
          sentence: 'the pod is there',
          hint: `kubectl get pods -n ${namespace}`,
          required: true,
          run: async () => {
            const found = await cluster.get<CheckedPod>(`/api/v1/namespaces/${namespace}/pods/${name}`);
            if (found === undefined) {
              throw new CheckFailure(`namespace "${namespace}" has no pod "${name}"`);
            }
            pod = found;
          },
        },
        {
          id: 'pod-opted-in',
          sentence: 'it asks for a sidecar',
          hint: `set the label ${kInjectLabel}: "true" in the template of its owner, outside of annotations`,
          required: true,
          run: () => {
            const value = pod.metadata.labels?.[kInjectLabel];
            return value === 'true'
              ? Promise.resolve()
              : Promise.reject(
                  new CheckFailure(
                    value === undefined
                      ? `it has no label ${kInjectLabel}`
                      : `its label ${kInjectLabel} is "${value}"; allowed: "true"`,
                  ),
                );
          },
        },
        {
          id: 'pod-has-sidecar',
          sentence: 'it has one',
          hint: `pods get it when they are made: outrigger explain pod ${namespace}/${name} says why this one did not`,
          required: true,
          run: () =>
            pod.spec?.initContainers?.some((each) => each.name === kSidecar) === true
              ? Promise.resolve()
              : Promise.reject(
                  new CheckFailure(
                    `it has no init container "${kSidecar}": it was made before the injector was there, or the namespace opts out`,
                  ),
                ),
        },
        {
          id: 'pod-sidecar-ready',
          sentence: 'its sidecar is ready',
          hint: `kubectl logs -n ${namespace} ${name} -c ${kSidecar}`,
          run: () => {
            const status = sidecarStatus();
            return status?.ready === true
              ? Promise.resolve()
              : Promise.reject(new CheckFailure(whyNotReady(status)));
          },
        },
        {
          id: 'pod-sidecar-steady',
          sentence: 'its sidecar has not been restarted',
          hint: `kubectl logs -n ${namespace} ${name} -c ${kSidecar} --previous`,
          run: () => {
            const restarts = sidecarStatus()?.restartCount ?? 0;
            return restarts === 0
              ? Promise.resolve()
              : Promise.reject(
                  new CheckWarning(
                    `${restarts} restarts; the last time: ${sidecarStatus()?.lastState?.terminated?.reason ?? 'no reason given'}`,
                  ),
                );
          },
        },
        {
          id: 'pod-apps-connected',
          sentence: 'every app container knows where the sidecar listens',
          hint: 'the injector adds OUTRIGGER_ADDRESS unless the container sets it itself',
          run: () => {
            const without = (pod.spec?.containers ?? []).filter(
              (each) => !each.env?.some((variable) => variable.name === 'OUTRIGGER_ADDRESS'),
            );
            return without.length === 0
              ? Promise.resolve()
              : Promise.reject(
                  new CheckWarning(
                    `OUTRIGGER_ADDRESS is missing in ${listed(without.map((each) => each.name))}`,
                  ),
                );
          },
        },
        {
          id: 'pod-profile',
          sentence: 'its SidecarProfile is there and valid',
          hint: `kubectl get sidecarprofiles -n ${namespace}`,
          run: async () => {
            const wanted = pod.metadata.annotations?.[kProfileAnnotation];
            if (wanted === undefined) {
              throw new CheckSkip(`it names none with ${kProfileAnnotation}`);
            }
            const profile = await cluster.get<WithConditions>(
              `/apis/${kApiVersion}/namespaces/${namespace}/sidecarprofiles/${wanted}`,
            );
            if (profile === undefined) {
              throw new CheckFailure(`namespace "${namespace}" has no SidecarProfile "${wanted}"`);
            }
            const ready = conditionOf(profile, 'Ready');
            if (ready?.status === 'False') {
              throw new CheckFailure(ready.message ?? 'it is not ready');
            }
          },
        },
        {
          id: 'pod-member',
          sentence: 'it is a member of a topic',
          hint: `it becomes one when the app opens a topic; outrigger explain pod ${namespace}/${name} says what it has open and who answers`,
          run: async () => {
            const slices = await cluster.get<List<TopicEndpointSlice>>(
              `/apis/${kApiVersion}/topicendpointslices`,
            );
            const mine = (slices?.items ?? []).flatMap((slice) =>
              slice.spec.members
                .filter((each) => each.namespace === namespace && each.pod === name)
                .map((each) => ({ slice, each })),
            );
            if (mine.length === 0) {
              throw new CheckWarning('no app in it has opened a topic of the cluster');
            }
            const stale = mine.filter(
              ({ each }) => Date.parse(each.lease.renewTime) + each.lease.durationSeconds * 1000 <= nowMs,
            );
            if (stale.length === mine.length) {
              throw new CheckFailure('its leases have run out: its sidecar does not reach the directory');
            }
          },
        },
      ],
    },
  ];
}
