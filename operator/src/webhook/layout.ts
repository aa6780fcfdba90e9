// SPDX-License-Identifier: Apache-2.0
// Names and paths that a pod with a sidecar has, and where the image keeps its programs. Webhook, image and their tests read them here.

import { kGroup } from '../api/names';

/** Every annotation of a pod that is ours begins so. */
export const kAnnotationPrefix = `${kGroup}/`;
/** Annotation that the webhook writes: a pod that has it was through here. */
export const kInjectedAnnotation = `${kGroup}/injected`;

/** Path of the webhook's URL. */
export const kInjectPath = '/inject';

export const kSidecarName = 'outrigger';
/** Setting of init: cores for the driver alone. */
export const kDriverCoresVariable = 'OUTRIGGER_INIT_DRIVER_CORES';
/** User and group of the image, the "nonroot" of distroless images: no user of a node has it. */
export const kSidecarId = 65532;

export const kVolumes = {
  socket: 'outrigger-socket',
  memory: 'outrigger-memory',
  hugepages: 'outrigger-hugepages',
  topics: 'outrigger-topics',
  directory: 'outrigger-directory',
  own: 'outrigger-own',
} as const;

/** Inside the pod. */
export const kPodPaths = {
  socketDirectory: '/run/outrigger',
  socket: '/run/outrigger/outrigger.sock',
  memory: '/run/outrigger-memory',
  /** Below the volume, not the volume itself: the driver makes it with the rights that it wants. */
  driverDirectory: '/run/outrigger-memory/driver',
  hugepages: '/dev/hugepages',
  topicsDirectory: '/etc/outrigger/topics',
  topicsFile: '/etc/outrigger/topics/topics.yaml',
  /** Token for the directory and the CA of its certificate. */
  directorySecrets: '/var/run/secrets/outrigger.dev',
  directoryToken: '/var/run/secrets/outrigger.dev/token',
  directoryCa: '/var/run/secrets/outrigger.dev/ca.crt',
  /** The sidecar's container alone has it, and it outlives a crash of that: what apps must not be able to change. */
  own: '/run/outrigger-own',
  directoryCache: '/run/outrigger-own/directory.json',
  /** In a folder that the sidecar makes, since anybody may write to a volume itself, as far as modes go. */
  policyFile: '/run/outrigger-own/policy/policy',
} as const;

/** What apps are told, as gRPC names an address. */
export const kAddress = `unix:${kPodPaths.socket}`;

/** Inside the image: see the Dockerfile, and scripts/image. */
export const kImagePaths = {
  init: '/usr/bin/outrigger-init',
  driver: '/usr/bin/outrigger-driver',
  nicd: '/usr/bin/outrigger-nicd',
  node: '/usr/bin/node',
  /** The command, with Node as its interpreter: there is no shell. */
  command: '/usr/bin/outrigger',
  sidecar: '/usr/lib/outrigger/build/ts/sidecar/src/main.js',
  operator: '/usr/lib/outrigger/build/ts/operator/src/main.js',
} as const;

/** Entry point of the image, and so of the sidecar's container: init is PID 1, driver and sidecar are its children. */
export const kEntrypoint: readonly string[] = [kImagePaths.init];
export const kArguments: readonly string[] = [
  '--driver',
  kImagePaths.driver,
  '--sidecar',
  kImagePaths.node,
  kImagePaths.sidecar,
];
