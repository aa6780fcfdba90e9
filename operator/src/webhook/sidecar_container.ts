// SPDX-License-Identifier: Apache-2.0
// The sidecar's container: program, environment, rights, probes, ports. What becomes of the pod around it is inject.ts.
import type { V1Container, V1EnvVar, V1VolumeMount } from '@kubernetes/client-node';
import { parseBytes, parseDurationMs } from '../api/quantity';
import type { SidecarProfileSpec } from '../api/sidecar_profile';
import {
  kArguments,
  kDriverCoresVariable,
  kEntrypoint,
  kImagePaths,
  kPodPaths,
  kSidecarId,
  kSidecarName,
  kVolumes,
} from './layout';
import { hugepagesOf, type SidecarResources } from './resources';

export interface SidecarOptions {
  readonly spec: SidecarProfileSpec;
  readonly image: string;
  readonly imagePullPolicy?: string;
  readonly resources: SidecarResources;
  /** The pod's addresses are of IPv6. */
  readonly ipv6: boolean;
  /** The pod uses its node's network, so its ports are the node's. */
  readonly hostNetwork: boolean;
  readonly udpPort: number;
  readonly hasTopics: boolean;
  /** host:port of the directory, where there is one. */
  readonly directoryAddress?: string;
  /** The pod is of QoS class Guaranteed: its whole CPUs may be its own. */
  readonly guaranteed: boolean;
  /** terminationGracePeriodSeconds of the pod. */
  readonly graceSeconds: number;
}

/** Kept of the grace period for the kubelet and the runtime, so that init's own end comes before SIGKILL. */
const kRuntimeMs = 1000;
const kDriverDrainMs = 5000;
const kHourMs = 3_600_000;

/** How the grace period is shared out; each part ends within the one around it. Milliseconds. */
export function drainTimes(
  graceSeconds: number,
  wantedMs: number,
): { init: number; driver: number; sidecar: number } {
  const init = Math.min(Math.max(graceSeconds * 1000 - kRuntimeMs, 1000), kHourMs);
  const driver = Math.min(kDriverDrainMs, Math.floor(init / 5));
  return { init, driver, sidecar: Math.min(wantedMs, init - driver) };
}

const kThreadingModes = {
  Shared: 'SHARED',
  SharedNetwork: 'SHARED_NETWORK',
  Dedicated: 'DEDICATED',
} as const;

function byteCount(text: string): string {
  return `${parseBytes(text) ?? 0}`;
}

function milliseconds(text: string): string {
  return `${parseDurationMs(text) ?? 0}ms`;
}

/** Settings of driver, sidecar and init, in their words (docs/configuration.md). */
function environment(options: SidecarOptions): V1EnvVar[] {
  const { spec } = options;
  const { buffers, limits, timeouts } = spec;
  const drain = drainTimes(options.graceSeconds, parseDurationMs(timeouts.drain) ?? 0);
  const podAddress = options.ipv6 ? '[$(POD_IP)]' : '$(POD_IP)';
  const anyAddress = options.ipv6 ? '[::]' : '0.0.0.0';
  const driver: Record<string, string> = {
    AERON_DIR: kPodPaths.driverDirectory,
    // The volume outlives a crash of the container, and no other driver can be in it.
    AERON_DIR_DELETE_ON_START: 'true',
    AERON_THREADING_MODE: kThreadingModes[spec.threading],
    AERON_TERM_BUFFER_LENGTH: byteCount(buffers.termLength),
    // Aeron's own default for IPC is 64 MiB: three of them would be more than most memory volumes.
    AERON_IPC_TERM_BUFFER_LENGTH: byteCount(buffers.termLength),
    AERON_MTU_LENGTH: `${buffers.mtu}`,
    AERON_RCV_INITIAL_WINDOW_LENGTH: byteCount(buffers.receiverWindow),
    AERON_SOCKET_SO_RCVBUF: byteCount(buffers.socketReceive),
    AERON_SOCKET_SO_SNDBUF: byteCount(buffers.socketSend),
    AERON_DRIVER_TIMEOUT: milliseconds(timeouts.driver),
    AERON_MULTICAST_FLOWCONTROL_SUPPLIER: spec.flowControl.strategy.toLowerCase(),
    AERON_FLOW_CONTROL_RECEIVER_TIMEOUT: milliseconds(spec.flowControl.receiverTimeout),
    OUTRIGGER_BACKENDS: spec.backends.join(','),
    // A container without a limit for huge pages may use none: it dies where it touches one.
    OUTRIGGER_HUGEPAGES: `${hugepagesOf(spec) !== undefined}`,
    OUTRIGGER_PACKET_MODE: spec.packet.mode.toLowerCase(),
    OUTRIGGER_PACKET_SOCKETS: `${spec.packet.receiveSockets}`,
  };
  const sidecar: Record<string, string> = {
    OUTRIGGER_GRPC_SOCKET: kPodPaths.socket,
    OUTRIGGER_HTTP_LISTEN: `${anyAddress}:${spec.metricsPort}`,
    OUTRIGGER_ENDPOINTS: `${podAddress}:${options.udpPort}`,
    OUTRIGGER_DRIVER_TIMEOUT: milliseconds(timeouts.driver),
    OUTRIGGER_TERM_LENGTH: byteCount(buffers.termLength),
    OUTRIGGER_MAX_STREAMS: `${limits.maxStreams}`,
    OUTRIGGER_MAX_MESSAGE_BYTES: byteCount(limits.maxMessageSize),
    OUTRIGGER_MAX_BATCH_BYTES: byteCount(limits.maxBatchSize),
    OUTRIGGER_SUBSCRIBER_BUFFER: byteCount(limits.subscriberBuffer),
    OUTRIGGER_MAX_PENDING_BATCHES: `${limits.maxPendingBatches}`,
    OUTRIGGER_MAX_PENDING_BYTES: byteCount(limits.maxPendingSize),
    OUTRIGGER_FLUSH_TIMEOUT: milliseconds(timeouts.flush),
    OUTRIGGER_DRAIN_TIMEOUT: `${drain.sidecar}ms`,
    OUTRIGGER_LOG_LEVEL: spec.logging.level,
    // The driver's variable, too: both are in this container.
    ...(spec.driverPolicy === 'Enforce' ? { OUTRIGGER_POLICY_FILE: kPodPaths.policyFile } : {}),
    ...(options.hasTopics ? { OUTRIGGER_TOPICS_FILE: kPodPaths.topicsFile } : {}),
    ...(options.directoryAddress === undefined
      ? {}
      : {
          OUTRIGGER_DIRECTORY_ADDRESS: options.directoryAddress,
          OUTRIGGER_DIRECTORY_CA: kPodPaths.directoryCa,
          OUTRIGGER_DIRECTORY_TOKEN: kPodPaths.directoryToken,
          OUTRIGGER_DIRECTORY_CACHE: kPodPaths.directoryCache,
        }),
  };
  const init: Record<string, string> = {
    OUTRIGGER_INIT_DRAIN_TIMEOUT: `${drain.init}ms`,
    OUTRIGGER_INIT_DRIVER_DRAIN: `${drain.driver}ms`,
    // The number of CPUs tells init whether the kubelet gave them to this container alone: not with every policy, nor where the pod as a whole has
    // resources and the kubelet is not set up for that (cores.ts).
    ...(spec.cores > 0 && options.guaranteed
      ? {
          [kDriverCoresVariable]: `${spec.cores}`,
          OUTRIGGER_INIT_CPUS: options.resources.limits['cpu'] ?? '0',
        }
      : {}),
  };
  return [
    // First, since later ones refer to it.
    { name: 'POD_IP', valueFrom: { fieldRef: { fieldPath: 'status.podIP' } } },
    ...Object.entries({ ...driver, ...sidecar, ...init }).map(([name, value]) => ({ name, value })),
  ];
}

function mounts(options: SidecarOptions): V1VolumeMount[] {
  return [
    { name: kVolumes.socket, mountPath: kPodPaths.socketDirectory },
    { name: kVolumes.memory, mountPath: kPodPaths.memory },
    { name: kVolumes.own, mountPath: kPodPaths.own },
    ...(hugepagesOf(options.spec) === undefined
      ? []
      : [{ name: kVolumes.hugepages, mountPath: kPodPaths.hugepages }]),
    ...(options.hasTopics
      ? [{ name: kVolumes.topics, mountPath: kPodPaths.topicsDirectory, readOnly: true }]
      : []),
    ...(options.directoryAddress === undefined
      ? []
      : [{ name: kVolumes.directory, mountPath: kPodPaths.directorySecrets, readOnly: true }]),
  ];
}

function ports({ spec, hostNetwork, udpPort }: SidecarOptions): NonNullable<V1Container['ports']> {
  // On the node's network the scheduler must know: two pods with one port don't fit on one node.
  const port = (name: string, containerPort: number, protocol: string) => ({
    name,
    containerPort,
    protocol,
    ...(hostNetwork ? { hostPort: containerPort } : {}),
  });
  return [port('outrigger-http', spec.metricsPort, 'TCP'), port('outrigger-udp', udpPort, 'UDP')];
}

export function sidecarContainer(options: SidecarOptions): V1Container {
  const { spec } = options;
  const probe = (path: string) => ({ httpGet: { path, port: spec.metricsPort, scheme: 'HTTP' } });
  const { type, localhostProfile } = spec.seccompProfile;
  return {
    name: kSidecarName,
    image: options.image,
    ...(options.imagePullPolicy === undefined ? {} : { imagePullPolicy: options.imagePullPolicy }),
    // A native sidecar: it starts before the apps, ends after them, and does not keep a Job from completing.
    restartPolicy: 'Always',
    command: [...kEntrypoint],
    args: [...kArguments],
    env: environment(options),
    ports: ports(options),
    resources: { requests: { ...options.resources.requests }, limits: { ...options.resources.limits } },
    volumeMounts: mounts(options),
    // The apps start when the driver has opened its backend: a minute for an EAL or a NIC that is slow.
    startupProbe: { ...probe('/readyz'), periodSeconds: 1, timeoutSeconds: 2, failureThreshold: 60 },
    readinessProbe: { ...probe('/readyz'), periodSeconds: 5, timeoutSeconds: 2, failureThreshold: 2 },
    // Restarting takes the driver along: only for a sidecar that is silent for a minute.
    livenessProbe: { ...probe('/livez'), periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 6 },
    // Runs when the pod begins to end, while the apps still publish: leaves, and nothing more. The drain comes with SIGTERM, after the apps.
    lifecycle: { preStop: { exec: { command: [kImagePaths.command, 'leave'] } } },
    securityContext: {
      runAsNonRoot: true,
      runAsUser: kSidecarId,
      runAsGroup: kSidecarId,
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
      seccompProfile: { type, ...(localhostProfile === undefined ? {} : { localhostProfile }) },
    },
    // A bad setting shows in `kubectl describe pod`.
    terminationMessagePolicy: 'FallbackToLogsOnError',
  };
}
