// SPDX-License-Identifier: Apache-2.0
// SidecarProfile: how the sidecars of a namespace's pods are made. Every field with its range and default; injection and driver read it.
import { z } from 'zod';
import { conditionsSchema } from './conditions';
import { labelSelector } from './label_selector';
import type { KubeObject } from './object_meta';
import { parseBytes } from './quantity';
import {
  bytes,
  choice,
  described,
  duration,
  integer,
  kTermLengths,
  mapList,
  mtu,
  quantity,
  setOf,
  text,
  withRules,
} from './schema';

/** What OUTRIGGER_BACKENDS takes; which of them a build has is for the driver to say. */
export const kBackends = ['mmsg', 'socket', 'uring', 'packet', 'xdp', 'dpdk', 'verbs'] as const;

/** Threads that spin in each mode, so cores that a driver can use. */
const kThreads = { Shared: 1, SharedNetwork: 2, Dedicated: 3 } as const;

function isMultiple(amount: string, unit: string): boolean {
  return (parseBytes(amount) ?? 0) % (parseBytes(unit) ?? 1) === 0;
}

const buffersSchema = z.strictObject({
  termLength: choice(
    'Term length of topics that set none. A stream takes three terms on each side; its longest message is an eighth of a term.',
    kTermLengths,
  ).default('2Mi'),
  receiverWindow: bytes('How far a publisher may be ahead of a receiver. At most half a term is used.', {
    min: '4Ki',
    max: '512Mi',
  }).default('128Ki'),
  mtu: mtu('Longest datagram of topics that set none.').default(1408),
  socketReceive: bytes('SO_RCVBUF of sockets. The kernel caps it at net.core.rmem_max.', {
    min: '4Ki',
    max: '1Gi',
  }).default('128Ki'),
  socketSend: bytes('SO_SNDBUF of sockets; 0 keeps what the kernel gives.', { min: '0', max: '1Gi' }).default(
    '0',
  ),
});

const packetSchema = z.strictObject({
  mode: choice(
    'Receive ring. Latency hands over each frame as it comes (TPACKET_V2). Bulk hands over blocks of frames, at most a millisecond later: less work a frame, 16 MiB of memory of the node a socket (TPACKET_V3).',
    ['Latency', 'Bulk'],
  ).default('Latency'),
  receiveSockets: integer(
    'Sockets that receive, each with a ring of its own, among which the kernel shares out the flows (a fanout group): for an interface whose queues interrupt several CPUs. From outrigger-nicd there is one, whatever this says.',
    1,
    16,
  ).default(1),
});

const hugepagesSchema = withRules(
  z.strictObject({
    mode: choice(
      'Never: none are asked for. Required: the pod waits for a node that has them. Preferred: as Never, since a pod either asks for huge pages, and waits for them, or may use none.',
      ['Never', 'Preferred', 'Required'],
    ).default('Never'),
    pageSize: choice('Size of a page.', ['2Mi', '1Gi']).default('2Mi'),
    amount: bytes('Hugepage memory of a sidecar: packet buffers of raw backends. A multiple of pageSize.', {
      min: '2Mi',
      max: '64Gi',
    }).default('64Mi'),
  }),
  [
    {
      rule: "self.mode == 'Never' || quantity(self.amount).asInteger() % quantity(self.pageSize).asInteger() == 0",
      check: ({ mode, amount, pageSize }) => mode === 'Never' || isMultiple(amount, pageSize),
      message: 'amount is no multiple of pageSize; make it one, for example 64Mi with pages of 2Mi',
      messageExpression:
        "'amount ' + self.amount + ' is no multiple of pageSize ' + self.pageSize + '; make it one, for example 64Mi with pages of 2Mi'",
      refused: [
        { mode: 'Preferred', amount: '65Mi' },
        { mode: 'Preferred', pageSize: '1Gi' },
      ],
    },
  ],
);

const flowControlSchema = z.strictObject({
  strategy: choice(
    'Of topics that set none. Max: the fastest subscriber sets the pace and others recover or lose. Min: the slowest does.',
    ['Max', 'Min'],
  ).default('Max'),
  receiverTimeout: duration('Silence after which a subscriber no longer holds the publisher back.', {
    min: '100ms',
    max: '1h',
  }).default('5s'),
});

const limitsSchema = z.strictObject({
  maxStreams: integer('Publish and Subscribe streams of one sidecar at a time.', 1, 100_000).default(1024),
  maxMessageSize: bytes('Longest gRPC request: one batch with all its messages.', {
    min: '64Ki',
    max: '64Mi',
  }).default('16Mi'),
  maxBatchSize: bytes('Longest batch sent to a subscriber that asks for none.', {
    min: '1Ki',
    max: '4Mi',
  }).default('256Ki'),
  subscriberBuffer: bytes('Bytes on their way to one subscriber, however much credit it gave.', {
    min: '256Ki',
    max: '256Mi',
  }).default('8Mi'),
  maxPendingBatches: integer(
    'Batches of one publisher that wait before its requests are no longer read.',
    1,
    65_536,
  ).default(64),
  maxPendingSize: bytes('Bytes of waiting batches of one publisher.', { min: '64Ki', max: '256Mi' }).default(
    '8Mi',
  ),
});

const udpPortsSchema = withRules(
  z.strictObject({
    first: integer('First UDP port that sidecars receive on.', 1024, 65_535).default(40_200),
    last: integer(
      'Last one. A pod of its own network needs one port; pods on the host network share them.',
      1024,
      65_535,
    ).default(40_231),
  }),
  [
    {
      rule: 'self.first <= self.last',
      check: ({ first, last }) => first <= last,
      message: 'first is above last; swap them',
      refused: [{ first: 50_001, last: 50_000 }, { first: 50_000 }],
    },
  ],
);

const timeoutsSchema = z.strictObject({
  driver: duration('Without a heartbeat of the driver for this long it counts as lost.', {
    min: '500ms',
    max: '10m',
  }).default('10s'),
  drain: duration('How long a sidecar that is told to stop lets streams end.', {
    min: '0s',
    max: '1h',
  }).default('10s'),
  flush: duration('How long a publisher that ended its stream is waited for until its messages left.', {
    min: '0s',
    max: '10m',
  }).default('5s'),
});

/** Quantities of a container's resources. Those of devices have a place of their own: they are whole, and limits are requests. */
function quantities(
  words: { cpu: string; memory: string; disk: string },
  least: { cpu: string; bytes: string },
) {
  const disk = { min: least.bytes, max: '1Ti', example: '1Gi' };
  return z.strictObject({
    // More cores than any node has; as much memory as its volume may have.
    cpu: quantity(words.cpu, { min: least.cpu, max: '1024', example: '250m or 2' }).optional(),
    memory: quantity(words.memory, { min: least.bytes, max: '1Ti', example: '256Mi or 1Gi' }).optional(),
    'ephemeral-storage': quantity(words.disk, disk).optional(),
  });
}

/** Kubernetes, "Extended Resources": a qualified name outside kubernetes.io, in whole numbers. */
const deviceSchema = z.strictObject({
  resource: described(
    'Name of the resource, as the device plugin has it: rdma/hca, example.com/nic.',
    withRules(
      z
        .string()
        // A domain, with room for the "requests." of quotas before it, a slash, a name.
        .max(308)
        .regex(
          /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\/[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/,
        ),
      [
        {
          rule: "!self.contains('kubernetes.io/') && !self.startsWith('requests.')",
          check: (name) => !name.includes('kubernetes.io/') && !name.startsWith('requests.'),
          message:
            'is no resource of a device; allowed: domain/name outside kubernetes.io, as the device plugin has it, such as rdma/hca',
          refused: ['kubernetes.io/nic', 'node.kubernetes.io/nic', 'requests.example.com/nic'],
        },
      ],
    ),
  ),
  count: integer('How many of it; the pod waits for a node that has them.', 1, 64).default(1),
});

const resourcesSchema = z.strictObject({
  requests: quantities(
    {
      cpu: 'CPU that the sidecar asks for, without cores.',
      memory: 'Memory that its programs ask for, without the memory volume.',
      disk: 'Disk of the node that it asks for.',
    },
    { cpu: '0', bytes: '0' },
  )
    .describe(
      'Requests of the sidecar container, without its memory volume, hugepages and cores, which injection adds.',
    )
    .default({ cpu: '50m', memory: '160Mi' }),
  limits: quantities(
    {
      cpu: 'CPU that it may use, without cores.',
      memory: 'Memory that its programs may use, without the memory volume.',
      disk: 'Disk of the node that it may use.',
    },
    // A limit of 0 is none to Kubernetes.
    { cpu: '1m', bytes: '1Mi' },
  )
    .describe('Its limits, in the same way.')
    .default({ memory: '320Mi' }),
  devices: mapList(deviceSchema, ['resource'], 8)
    .describe(
      'Devices of device plugins (extended resources) that the sidecar asks for, such as the RDMA device of verbs.',
    )
    .optional(),
});

const seccompSchema = withRules(
  z.strictObject({
    type: choice('RuntimeDefault, or a profile that lies on the nodes.', [
      'RuntimeDefault',
      'Localhost',
    ]).default('RuntimeDefault'),
    localhostProfile: text(
      'Path of that profile under the seccomp folder of the kubelet. The backend uring needs one that allows io_uring.',
      /^[A-Za-z0-9._/-]+$/,
      253,
    ).optional(),
  }),
  [
    {
      rule: "(self.type == 'Localhost') == has(self.localhostProfile)",
      check: ({ type, localhostProfile }) => (type === 'Localhost') === (localhostProfile !== undefined),
      message:
        'localhostProfile goes with type Localhost only: set both, for example localhostProfile: outrigger/io-uring.json, or neither',
      refused: [{ type: 'Localhost' }, { localhostProfile: 'outrigger/io-uring.json' }],
    },
  ],
);

export const sidecarProfileSpecSchema = withRules(
  z.strictObject({
    default: described(
      'Take this profile for pods of the namespace that neither name one nor are selected by one.',
      z.boolean(),
    ).default(false),
    podSelector: labelSelector(
      'Pods that take this profile, unless they name another with the annotation outrigger.dev/profile. Absent: none.',
    ).optional(),
    backends: setOf(choice('A network backend.', kBackends), 1, kBackends.length)
      .describe(
        'Network backends, best first. The first that opens is taken; why no better one did is reported. uring needs a seccomp profile that allows it; packet, xdp and dpdk need rights or a device that injection does not give, and are passed over without.',
      )
      .default(['mmsg', 'socket']),
    threading: choice(
      'Which agents of the driver share a thread. Shared costs an idle pod about nothing; Dedicated is the fastest.',
      ['Shared', 'SharedNetwork', 'Dedicated'],
    ).default('Shared'),
    cores: integer(
      'Whole cores for the driver process alone, beside those of the sidecar; 0 for none. Takes effect in pods of QoS class Guaranteed, by the resources of their containers, on nodes with the static CPU manager policy; elsewhere they are asked for, and the driver runs on all CPUs of its container.',
      0,
      3,
    ).default(0),
    memory: bytes(
      'Size of the memory volume of the driver: its buffers. Counted in the memory limit of the sidecar.',
      {
        min: '16Mi',
        max: '1Ti',
      },
    ).default('128Mi'),
    buffers: described('Sizes of buffers.', buffersSchema).prefault({}),
    packet: described('How the backend packet receives.', packetSchema).prefault({}),
    hugepages: described('Memory in huge pages.', hugepagesSchema).prefault({}),
    flowControl: described(
      'Who sets the pace of a publisher with several subscribers.',
      flowControlSchema,
    ).prefault({}),
    limits: described('Bounds that keep one app from using up its sidecar.', limitsSchema).prefault({}),
    udpPorts: described(
      'UDP ports that sidecars receive on; a NetworkPolicy must let them in.',
      udpPortsSchema,
    ).prefault({}),
    metricsPort: integer('TCP port of /metrics, /livez and /readyz.', 1024, 65_535).default(9464),
    timeouts: described('How long to wait for what.', timeoutsSchema).prefault({}),
    sharedMemory: choice(
      "Whether apps may attach Aeron clients to the driver's memory, where they read and write every stream that is open. OnRequest: pods that ask for it by annotation.",
      ['Never', 'OnRequest', 'Always'],
    ).default('OnRequest'),
    driverPolicy: choice(
      'Whether the driver, too, holds permissions of topics: Enforce takes streams from registered publishers only, and lets Aeron clients open nothing but channels of topics that the sidecar has open, and aeron:ipc. Disabled: for Aeron clients with channels of their own, and publishers outside the cluster.',
      ['Enforce', 'Disabled'],
    ).default('Enforce'),
    resources: described('CPU, memory and devices of the sidecar container.', resourcesSchema).prefault({}),
    seccompProfile: described('Seccomp profile of the sidecar container.', seccompSchema).prefault({}),
    logging: described(
      'What the sidecar logs.',
      z.strictObject({
        level: choice('Least severe level that is logged.', [
          'trace',
          'debug',
          'info',
          'warn',
          'error',
          'fatal',
          'silent',
        ]).default('info'),
      }),
    ).prefault({}),
  }),
  [
    {
      rule: "self.cores <= (self.threading == 'Dedicated' ? 3 : self.threading == 'SharedNetwork' ? 2 : 1)",
      check: ({ cores, threading }) => cores <= kThreads[threading],
      message:
        'cores is more than the threads of this threading mode; Shared has 1, SharedNetwork 2, Dedicated 3',
      refused: [{ cores: 2 }, { threading: 'SharedNetwork', cores: 3 }],
    },
    {
      // A stream is three terms; one that doesn't fit could never be opened.
      rule: 'quantity(self.memory).asInteger() >= 3 * quantity(self.buffers.termLength).asInteger() + 8388608',
      check: ({ memory, buffers }) =>
        (parseBytes(memory) ?? 0) >= 3 * (parseBytes(buffers.termLength) ?? 0) + 8 * 1024 ** 2,
      message:
        'memory does not hold one stream: it needs 8Mi and three times buffers.termLength; raise memory or lower termLength',
      messageExpression:
        "'memory ' + self.memory + ' does not hold one stream: it needs 8Mi and three times buffers.termLength, ' + self.buffers.termLength + '; raise memory or lower termLength'",
      refused: [{ memory: '103Mi', buffers: { termLength: '32Mi' } }, { buffers: { termLength: '64Mi' } }],
    },
    {
      rule: "!(self.hugepages.mode == 'Required' && self.backends.all(b, b in ['mmsg', 'socket', 'uring', 'packet', 'verbs']))",
      check: ({ hugepages, backends }) =>
        hugepages.mode !== 'Required' || backends.some((each) => ['xdp', 'dpdk'].includes(each)),
      message:
        'hugepages.mode is Required, but none of backends uses hugepages; add xdp or dpdk, or set Preferred or Never',
      refused: [
        { hugepages: { mode: 'Required' } },
        { hugepages: { mode: 'Required' }, backends: ['uring'] },
      ],
    },
  ],
);

export type SidecarProfileSpec = z.output<typeof sidecarProfileSpecSchema>;

export const sidecarProfileStatusSchema = z.strictObject({
  observedGeneration: z
    .int()
    .min(0)
    .meta({ format: 'int64', description: 'The generation that was judged last.' })
    .optional(),
  pods: integer('Pods with a sidecar that this profile made or would make.', 0, 0x7fffffff).optional(),
  conflictsWith: setOf(z.string().max(253), 0, 100)
    .describe('Profiles that select the same pods and were made earlier, so that they are taken.')
    .optional(),
  conditions: conditionsSchema.optional(),
});

export type SidecarProfileStatus = z.output<typeof sidecarProfileStatusSchema>;

export interface SidecarProfile extends KubeObject {
  readonly spec: SidecarProfileSpec;
  readonly status?: SidecarProfileStatus;
}

/** What holds where no profile is taken. */
export function defaultProfileSpec(): SidecarProfileSpec {
  return sidecarProfileSpecSchema.parse({});
}
