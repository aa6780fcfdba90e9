// SPDX-License-Identifier: Apache-2.0
// A pod that opted in becomes a pod with a sidecar. A pure function that only adds what is missing: run on its own result, it changes nothing,
// whatever other webhooks and the API server's defaults did to the pod in between.
import { createHash } from 'node:crypto';
import type { V1Container, V1Pod, V1PodSpec, V1Volume, V1VolumeMount } from '@kubernetes/client-node';
import { nearest } from '../../../sidecar/src/base/nearest';
import { formatBytes, parseDurationMs } from '../api/quantity';
import { closedOfPod, type OpenPorts } from '../api/open_ports';
import { nameOf, selectProfile } from '../api/select_profile';
import { defaultProfileSpec, type SidecarProfile, type SidecarProfileSpec } from '../api/sidecar_profile';
import { parseAnnotations, withOverrides, type Parsed, type PodTuning } from './annotations';
import { whyNoCores } from './cores';
import { dnsAdvice } from './dns';
import {
  kAddress,
  kAnnotationPrefix,
  kInjectedAnnotation,
  kPodPaths,
  kSidecarId,
  kSidecarName,
  kVolumes,
} from './layout';
import {
  grownPodResources,
  hugepagesOf,
  isGuaranteed,
  kSocketVolumeBytes,
  resourceProblems,
  sidecarResources,
} from './resources';
import { drainTimes, sidecarContainer } from './sidecar_container';

export interface InjectionSettings {
  readonly image: string;
  readonly imagePullPolicy?: string;
  /** Pods of this cluster have IPv6 addresses. */
  readonly ipv6: boolean;
  /** Where sidecars find each other; absent: topics come from files alone. */
  readonly directory?: DirectorySettings;
  /** What the chart's NetworkPolicy in the pod's namespace lets in; absent where it has none. */
  readonly openPorts?: OpenPorts;
}

export interface DirectorySettings {
  /** host:port. */
  readonly address: string;
  /** Audience of the tokens that the directory takes. */
  readonly audience: string;
  /** ConfigMap in each namespace whose key ca.crt has the CAs of the directory's certificate. */
  readonly caConfigMap: string;
}

export interface InjectionInput {
  readonly pod: V1Pod;
  /** Profiles of the pod's namespace. */
  readonly profiles: readonly SidecarProfile[];
  readonly settings: InjectionSettings;
  /** Tells pods apart before they have a name of their own, such as the UID of the admission request. */
  readonly seed: string;
}

export type Injection =
  | { readonly pod: V1Pod; readonly profile: string; readonly warnings: readonly string[] }
  /** A sentence for each reason why the pod is refused. */
  | { readonly problems: readonly string[] };

/**
 * Containers of service meshes: their own place is before everything that uses the network, and our socket is nothing to them. Istio, Linkerd,
 * Kuma, Consul.
 */
const kMeshContainers: ReadonlySet<string> = new Set([
  'istio-init',
  'istio-validation',
  'istio-proxy',
  'linkerd-init',
  'linkerd-network-validator',
  'linkerd-proxy',
  'kuma-init',
  'kuma-validation',
  'kuma-sidecar',
  'consul-connect-inject-init',
  'consul-dataplane',
]);

/** The policy is at most 8 MiB, and its successor stands beside it for a moment; the members of a thousand large topics are some more. */
const kOwnVolumeSize = '64Mi';

const kDefaultGraceSeconds = 30; // Kubernetes' own

interface Plan {
  readonly spec: SidecarProfileSpec;
  readonly tuning: PodTuning;
  readonly profile: string;
  readonly sharedMemory: boolean;
  readonly udpPort: number;
  readonly warnings: readonly string[];
}

function chosenProfile(
  pod: V1Pod,
  profiles: readonly SidecarProfile[],
): Parsed<{ spec: SidecarProfileSpec; name: string; warnings: readonly string[] }> {
  const choice = selectProfile(
    { labels: pod.metadata?.labels, annotations: pod.metadata?.annotations },
    profiles,
  );
  switch (choice.kind) {
    case 'none':
      return { value: { spec: defaultProfileSpec(), name: '', warnings: [] } };
    case 'unknown': {
      const guess = nearest(choice.name, choice.known);
      const hint =
        guess === undefined
          ? 'the namespace has no SidecarProfile: make one, or remove the annotation'
          : `did you mean ${guess}? The namespace has ${choice.known.join(', ')}`;
      return {
        problems: [
          `annotation ${kAnnotationPrefix}profile: there is no SidecarProfile ${choice.name}; ${hint}`,
        ],
      };
    }
    case 'profile': {
      const name = nameOf(choice.profile);
      const others = choice.over.map(nameOf).join(', ');
      const warnings =
        choice.over.length === 0
          ? []
          : [
              `SidecarProfile ${name} is taken since it is the oldest of those that match; ${others} match too: name one with the annotation ${kAnnotationPrefix}profile, or make their selectors exclude each other`,
            ];
      return { value: { spec: choice.profile.spec, name, warnings } };
    }
  }
}

/** One of the range's ports, the same each time for one pod: on a node's network pods must differ, and nobody knows yet which meet there. */
function portBySeed({ udpPorts }: SidecarProfileSpec, seed: string): number {
  const hash = createHash('sha256').update(seed).digest().readUInt32BE();
  return udpPorts.first + (hash % (udpPorts.last - udpPorts.first + 1));
}

/** What a NetworkPolicy keeps from the pod: the chart's one, if there is one, else one that is made for the range of the profile. */
function portWarnings(
  { udpPorts: { first, last }, metricsPort }: SidecarProfileSpec,
  { udpPort }: PodTuning,
  open: OpenPorts | undefined,
): string[] {
  if (open !== undefined) {
    return closedOfPod(udpPort ?? first, metricsPort, open);
  }
  return udpPort === undefined || (udpPort >= first && udpPort <= last)
    ? []
    : [
        `annotation ${kAnnotationPrefix}udp-port: ${udpPort} is outside udpPorts of the profile, ${first} to ${last}: a NetworkPolicy for that range cuts this pod off; choose a port in it, or let the policy have this one`,
      ];
}

function makePlan({ pod, profiles, seed, settings }: InjectionInput): Parsed<Plan> {
  const annotations = parseAnnotations(pod.metadata?.annotations ?? {});
  if ('problems' in annotations) {
    return annotations;
  }
  const { tuning, overrides } = annotations.value;
  const chosen = chosenProfile(pod, profiles);
  if ('problems' in chosen) {
    return chosen;
  }
  const { name, warnings } = chosen.value;
  const tuned = withOverrides(chosen.value.spec, overrides);
  if ('problems' in tuned) {
    return tuned;
  }
  const spec = tuned.value;
  if (tuning.sharedMemory === true && spec.sharedMemory === 'Never') {
    return {
      problems: [
        `annotation ${kAnnotationPrefix}shared-memory: true, but SidecarProfile ${name} says sharedMemory: Never; remove the annotation, or have the profile say OnRequest`,
      ],
    };
  }
  const hostNetwork = pod.spec?.hostNetwork === true;
  return {
    value: {
      spec,
      tuning,
      profile: name,
      sharedMemory: tuning.sharedMemory ?? spec.sharedMemory === 'Always',
      udpPort: tuning.udpPort ?? (hostNetwork ? portBySeed(spec, seed) : spec.udpPorts.first),
      // On the node's network its policies hold, not the pod's.
      warnings: [...warnings, ...(hostNetwork ? [] : portWarnings(spec, tuning, settings.openPorts))],
    },
  };
}

/** The sidecar of a pod that was through here before. */
function presentSidecar(pod: V1Pod): V1Container | undefined {
  return pod.metadata?.annotations?.[kInjectedAnnotation] === undefined
    ? undefined
    : pod.spec?.initContainers?.find(
        ({ name, restartPolicy }) => name === kSidecarName && restartPolicy === 'Always',
      );
}

/** Ports that were chosen then stay: another request has another seed. */
function withPortsOf(sidecar: V1Container, plan: Plan): Plan {
  const port = (protocol: string): number | undefined =>
    sidecar.ports?.find((each) => each.protocol === protocol)?.containerPort;
  return {
    ...plan,
    udpPort: port('UDP') ?? plan.udpPort,
    spec: { ...plan.spec, metricsPort: port('TCP') ?? plan.spec.metricsPort },
  };
}

function isBelow(path: string, folder: string): boolean {
  return path === folder || path.startsWith(`${folder}/`) || path === `${folder}/`;
}

const kOurMounts: readonly { readonly volume: string; readonly path: string }[] = [
  { volume: kVolumes.socket, path: kPodPaths.socketDirectory },
  { volume: kVolumes.memory, path: kPodPaths.memory },
  { volume: kVolumes.own, path: kPodPaths.own },
];

function containerProblems(container: V1Container, plan: Plan): string[] {
  const problems: string[] = [];
  for (const mount of container.volumeMounts ?? []) {
    if (mount.name === kVolumes.own) {
      problems.push(
        `container ${container.name} mounts the volume ${kVolumes.own}, which is the sidecar's alone; remove the mount`,
      );
    }
    const taken = kOurMounts.find(
      ({ volume, path }) => isBelow(mount.mountPath, path) && mount.name !== volume,
    );
    if (taken !== undefined) {
      problems.push(
        `container ${container.name} mounts volume ${mount.name} at ${mount.mountPath}, where the sidecar's ${taken.path} comes; mount it elsewhere`,
      );
    }
  }
  for (const { containerPort, protocol } of container.ports ?? []) {
    const kind = protocol ?? 'TCP';
    const key =
      kind === 'TCP' && containerPort === plan.spec.metricsPort
        ? 'metrics-port'
        : kind === 'UDP' && containerPort === plan.udpPort
          ? 'udp-port'
          : undefined;
    if (key !== undefined) {
      problems.push(
        `container ${container.name} listens on ${kind} port ${containerPort}, as the sidecar would; give the sidecar another one with the annotation ${kAnnotationPrefix}${key}`,
      );
    }
  }
  return problems;
}

/**
 * In one PID namespace the kernel lets processes of one user into each other's root folder (/proc/PID/root): an app of the sidecar's user could
 * write the driver's policy itself. A user that comes from the image can't be seen here.
 */
function sharedUserProblems(spec: V1PodSpec, containers: readonly V1Container[], plan: Plan): string[] {
  const shared =
    spec.shareProcessNamespace === true
      ? 'shareProcessNamespace'
      : spec.hostPID === true
        ? 'hostPID'
        : undefined;
  if (shared === undefined || plan.spec.driverPolicy !== 'Enforce') {
    return [];
  }
  return containers
    .filter(
      ({ securityContext }) => (securityContext?.runAsUser ?? spec.securityContext?.runAsUser) === kSidecarId,
    )
    .map(
      ({ name }) =>
        `container ${name} runs as user ${kSidecarId}, the sidecar's, and ${shared} lets it reach the sidecar's files and so what the driver allows; give it another runAsUser, leave ${shared} out, or set driverPolicy: Disabled in the SidecarProfile`,
    );
}

/** Why this pod can't have a sidecar; empty when it can. */
function podProblems(spec: V1PodSpec, plan: Plan, again: boolean): string[] {
  const problems: string[] = [];
  if (spec.os?.name === 'windows' || spec.nodeSelector?.['kubernetes.io/os'] === 'windows') {
    problems.push(
      'the pod asks for Windows nodes, and the sidecar runs on Linux only; remove the label outrigger.dev/inject',
    );
  }
  const containers = [...(spec.initContainers ?? []), ...spec.containers].filter(
    ({ name }) => !(again && name === kSidecarName),
  );
  if (!again) {
    if (containers.some(({ name }) => name === kSidecarName)) {
      problems.push(`a container is named ${kSidecarName} already, the name of the sidecar; rename it`);
    }
    const names: readonly string[] = Object.values(kVolumes);
    for (const { name } of spec.volumes ?? []) {
      if (names.includes(name)) {
        problems.push(`volume ${name} is there already, a name of the sidecar's; rename it`);
      }
    }
  }
  problems.push(...containers.flatMap((container) => containerProblems(container, plan)));
  problems.push(...sharedUserProblems(spec, containers, plan));
  const known = containers.map(({ name }) => name);
  for (const name of plan.tuning.containers ?? []) {
    if (!known.includes(name)) {
      problems.push(
        `annotation ${kAnnotationPrefix}containers: the pod has no container ${name}; did you mean ${nearest(name, known)}?`,
      );
    }
  }
  return problems;
}

function addVolume(spec: V1PodSpec, volume: V1Volume): void {
  if (!(spec.volumes ?? []).some(({ name }) => name === volume.name)) {
    spec.volumes = [...(spec.volumes ?? []), volume];
  }
}

/** The kubelet renews it when four fifths are over; the directory believes a token that it has seen until it expires. */
const kTokenSeconds = 3600;

function directoryVolume({ audience, caConfigMap }: DirectorySettings): V1Volume {
  return {
    name: kVolumes.directory,
    projected: {
      sources: [
        // Bound to the pod and for the directory alone: worth nothing at the API server.
        { serviceAccountToken: { path: 'token', audience, expirationSeconds: kTokenSeconds } },
        { configMap: { name: caConfigMap, items: [{ key: 'ca.crt', path: 'ca.crt' }] } },
      ],
    },
  };
}

function addVolumes(spec: V1PodSpec, plan: Plan, directory: DirectorySettings | undefined): void {
  addVolume(spec, {
    name: kVolumes.socket,
    emptyDir: { medium: 'Memory', sizeLimit: formatBytes(kSocketVolumeBytes) },
  });
  addVolume(spec, { name: kVolumes.memory, emptyDir: { medium: 'Memory', sizeLimit: plan.spec.memory } });
  // On the node's disk: what is kept there costs no memory that the limits would have to count.
  addVolume(spec, { name: kVolumes.own, emptyDir: { sizeLimit: kOwnVolumeSize } });
  if (hugepagesOf(plan.spec) !== undefined) {
    addVolume(spec, {
      name: kVolumes.hugepages,
      emptyDir: { medium: `HugePages-${plan.spec.hugepages.pageSize}` },
    });
  }
  if (plan.tuning.topicsConfigMap !== undefined) {
    addVolume(spec, { name: kVolumes.topics, configMap: { name: plan.tuning.topicsConfigMap } });
  }
  if (directory !== undefined) {
    addVolume(spec, directoryVolume(directory));
  }
}

function addMount(container: V1Container, mount: V1VolumeMount): void {
  if (!(container.volumeMounts ?? []).some(({ mountPath }) => mountPath === mount.mountPath)) {
    container.volumeMounts = [...(container.volumeMounts ?? []), mount];
  }
}

/** A variable that the app sets itself stays: it may have its reasons, such as a proxy between. */
function addVariable(container: V1Container, name: string, value: string): void {
  if (!(container.env ?? []).some((each) => each.name === name)) {
    container.env = [...(container.env ?? []), { name, value }];
  }
}

function connectContainer(container: V1Container, plan: Plan): void {
  // Read-only keeps an app from removing the socket; connecting is writing to the socket, not to its folder.
  addMount(container, { name: kVolumes.socket, mountPath: kPodPaths.socketDirectory, readOnly: true });
  addVariable(container, 'OUTRIGGER_ADDRESS', kAddress);
  if (plan.sharedMemory) {
    addMount(container, { name: kVolumes.memory, mountPath: kPodPaths.memory });
    addVariable(container, 'AERON_DIR', kPodPaths.driverDirectory);
  }
}

/** Init containers that run once the sidecar has started may use it; those before it can't. */
function connectContainers(spec: V1PodSpec, plan: Plan): void {
  const init = spec.initContainers ?? [];
  const after = init.slice(init.findIndex(({ name }) => name === kSidecarName) + 1);
  for (const container of [...after, ...spec.containers]) {
    if (plan.tuning.containers?.includes(container.name) ?? !kMeshContainers.has(container.name)) {
      connectContainer(container, plan);
    }
  }
}

/** Volumes whose files Kubernetes gives to the fsGroup: a database refuses its folder then, ssh its key. */
function hasFilesOfItsOwn(spec: V1PodSpec): boolean {
  const ours: readonly string[] = Object.values(kVolumes);
  return (spec.volumes ?? []).some(
    ({ name, emptyDir, hostPath }) =>
      emptyDir === undefined &&
      hostPath === undefined &&
      !name.startsWith('kube-api-access-') &&
      !ours.includes(name),
  );
}

/**
 * Apps and sidecar are of different users, so they need a group in common: the pod's fsGroup, set or chosen, owns the volumes and is a group of
 * every process. Where it would change the owner of the pod's own files, all processes join the sidecar's group instead.
 */
function addGroup(spec: V1PodSpec): void {
  const context = spec.securityContext ?? {};
  if (context.fsGroup !== undefined || context.supplementalGroups?.includes(kSidecarId) === true) {
    return;
  }
  spec.securityContext = hasFilesOfItsOwn(spec)
    ? { ...context, supplementalGroups: [...(context.supplementalGroups ?? []), kSidecarId] }
    : { ...context, fsGroup: kSidecarId };
}

function annotate(pod: V1Pod, plan: Plan, image: string): void {
  const annotations = { ...pod.metadata?.annotations };
  if (
    plan.tuning.scrape === true &&
    !Object.keys(annotations).some((key) => key.startsWith('prometheus.io/'))
  ) {
    annotations['prometheus.io/scrape'] = 'true';
    annotations['prometheus.io/port'] = `${plan.spec.metricsPort}`;
    annotations['prometheus.io/path'] = '/metrics';
  }
  annotations[kInjectedAnnotation] = JSON.stringify({ profile: plan.profile, image });
  pod.metadata = { ...pod.metadata, annotations };
}

/** Puts the container in its place; sentences when it can't be. */
function addSidecar(pod: V1Pod, spec: V1PodSpec, plan: Plan, settings: InjectionSettings): readonly string[] {
  const guaranteed = isGuaranteed(pod);
  const resources = sidecarResources(plan.spec, guaranteed);
  const problems = resourceProblems(resources);
  if (problems.length > 0) {
    return problems;
  }
  const { imagePullPolicy } = settings;
  const container = sidecarContainer({
    spec: plan.spec,
    image: settings.image,
    ...(imagePullPolicy === undefined ? {} : { imagePullPolicy }),
    resources,
    ipv6: settings.ipv6,
    hostNetwork: spec.hostNetwork === true,
    udpPort: plan.udpPort,
    hasTopics: plan.tuning.topicsConfigMap !== undefined,
    ...(settings.directory === undefined ? {} : { directoryAddress: settings.directory.address }),
    guaranteed,
    graceSeconds: spec.terminationGracePeriodSeconds ?? kDefaultGraceSeconds,
  });
  const init = spec.initContainers ?? [];
  const firstOfOthers = init.findIndex(({ name }) => !kMeshContainers.has(name));
  const place = firstOfOthers < 0 ? init.length : firstOfOthers;
  spec.initContainers = [...init.slice(0, place), container, ...init.slice(place)];
  if (spec.resources !== undefined) {
    spec.resources = grownPodResources(spec.resources, resources);
  }
  annotate(pod, plan, settings.image);
  return [];
}

function drainWarning(spec: V1PodSpec, { timeouts }: SidecarProfileSpec): string[] {
  const grace = spec.terminationGracePeriodSeconds ?? kDefaultGraceSeconds;
  const { sidecar } = drainTimes(grace, Infinity);
  return (parseDurationMs(timeouts.drain) ?? 0) > sidecar
    ? [
        `a drain of ${timeouts.drain} does not fit into the pod's terminationGracePeriodSeconds of ${grace}; it is cut to ${sidecar}ms`,
      ]
    : [];
}

function coresWarning(pod: V1Pod, { cores }: SidecarProfileSpec): string[] {
  const why = cores > 0 ? whyNoCores(pod) : undefined;
  return why === undefined ? [] : [`cores: ${cores} gives the driver no cores of its own here: ${why}`];
}

export function inject(input: InjectionInput): Injection {
  const planned = makePlan(input);
  if ('problems' in planned) {
    return planned;
  }
  const pod = structuredClone(input.pod);
  const present = presentSidecar(pod);
  const plan = present === undefined ? planned.value : withPortsOf(present, planned.value);
  const spec = pod.spec;
  if (spec === undefined || !Array.isArray(spec.containers)) {
    return { problems: ['the pod has no spec.containers'] };
  }
  const problems = podProblems(spec, plan, present !== undefined);
  if (problems.length > 0) {
    return { problems };
  }
  if (present === undefined) {
    const refused = addSidecar(pod, spec, plan, input.settings);
    if (refused.length > 0) {
      return { problems: refused };
    }
  }
  addVolumes(spec, plan, present === undefined ? input.settings.directory : undefined);
  connectContainers(spec, plan);
  addGroup(spec);
  const advice = input.settings.directory === undefined ? undefined : dnsAdvice(spec);
  const warnings = [
    ...plan.warnings,
    ...drainWarning(spec, plan.spec),
    ...coresWarning(input.pod, plan.spec),
    ...(advice === undefined ? [] : [advice]),
  ];
  return { pod, profile: plan.profile, warnings };
}
