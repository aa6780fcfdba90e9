// SPDX-License-Identifier: Apache-2.0
// Every metric, once: name, type, help with its unit, labels. Where values come from is metrics.ts.

export type MetricType = 'counter' | 'gauge';

export interface MetricEntry {
  readonly name: string;
  readonly type: MetricType;
  readonly unit: 'messages' | 'bytes' | 'datagrams' | 'streams' | 'events' | 'seconds' | 'boolean' | 'frames';
  readonly help: string;
  readonly labels: readonly string[];
}

function entry(
  name: string,
  type: MetricType,
  unit: MetricEntry['unit'],
  help: string,
  labels: readonly string[] = [],
): MetricEntry {
  return { name, type, unit, help, labels };
}

const topic = ['topic'];

export const kCatalogue = {
  build: entry('outrigger_build_info', 'gauge', 'boolean', 'Always 1; the labels say what runs.', [
    'version',
    'node',
  ]),
  start: entry(
    'outrigger_start_time_seconds',
    'gauge',
    'seconds',
    'When the sidecar started, seconds since 1970.',
  ),
  draining: entry('outrigger_draining', 'gauge', 'boolean', '1 once a drain has begun.'),
  driverUp: entry(
    'outrigger_driver_up',
    'gauge',
    'boolean',
    '1 while the sidecar is connected to its driver.',
  ),
  driverHeartbeatAge: entry(
    'outrigger_driver_heartbeat_age_seconds',
    'gauge',
    'seconds',
    "Seconds since the driver's last heartbeat.",
  ),
  driverConnects: entry(
    'outrigger_driver_connects_total',
    'counter',
    'events',
    'Connections made to the driver.',
  ),
  driverLosses: entry('outrigger_driver_losses_total', 'counter', 'events', 'Times the driver was lost.'),
  backendInfo: entry(
    'outrigger_backend_info',
    'gauge',
    'boolean',
    'Always 1 while the driver is up; the labels say which network backend it uses, with what and on which interface.',
    ['backend', 'mode', 'interface'],
  ),
  topicsLoaded: entry('outrigger_topics_loads_total', 'counter', 'events', 'Times a topics file was taken.'),
  topicsFailed: entry(
    'outrigger_topics_load_failures_total',
    'counter',
    'events',
    'Times a topics file was refused and the one before kept.',
  ),
  topicsStale: entry(
    'outrigger_topics_stale',
    'gauge',
    'boolean',
    '1 while the topics file of now is refused and an older one is in use.',
  ),
  directoryUp: entry(
    'outrigger_directory_up',
    'gauge',
    'boolean',
    '1 while the sidecar is connected to the directory of the cluster; absent without one.',
  ),
  directoryLosses: entry(
    'outrigger_directory_losses_total',
    'counter',
    'events',
    'Times the directory was lost; what was known of topics stays in use.',
  ),
  directoryRegistrations: entry(
    'outrigger_directory_registrations',
    'gauge',
    'streams',
    'Topics that are registered with the directory, once for each role.',
  ),
  policyWrites: entry(
    'outrigger_policy_writes_total',
    'counter',
    'events',
    "Times the driver's policy file was written; absent without policyFile.",
  ),
  policyFailures: entry(
    'outrigger_policy_write_failures_total',
    'counter',
    'events',
    "Times the driver's policy file could not be written; it is tried again each second.",
  ),
  topics: entry('outrigger_topics', 'gauge', 'streams', 'Topics in use.'),
  streams: entry('outrigger_grpc_streams', 'gauge', 'streams', 'gRPC streams open.', ['topic', 'kind']),
  rejected: entry(
    'outrigger_grpc_streams_rejected_total',
    'counter',
    'streams',
    'gRPC streams refused for maxStreams or a drain.',
  ),
  published: entry(
    'outrigger_published_messages_total',
    'counter',
    'messages',
    'Messages accepted from publishers.',
    topic,
  ),
  publishedBytes: entry(
    'outrigger_published_bytes_total',
    'counter',
    'bytes',
    'Payload bytes accepted from publishers.',
    topic,
  ),
  refused: entry(
    'outrigger_publish_refused_messages_total',
    'counter',
    'messages',
    'Messages answered as not accepted (policies FAIL and WAIT).',
    topic,
  ),
  dropped: entry(
    'outrigger_publish_dropped_messages_total',
    'counter',
    'messages',
    'Messages dropped under policy DROP.',
    topic,
  ),
  delivered: entry(
    'outrigger_delivered_messages_total',
    'counter',
    'messages',
    'Messages delivered to subscribers; each subscriber counts.',
    topic,
  ),
  deliveredBytes: entry(
    'outrigger_delivered_bytes_total',
    'counter',
    'bytes',
    'Payload bytes delivered to subscribers.',
    topic,
  ),
  skipped: entry(
    'outrigger_skipped_messages_total',
    'counter',
    'messages',
    'Messages skipped for want of credit (policy SKIP).',
    topic,
  ),
  gaps: entry('outrigger_gaps_total', 'counter', 'events', 'Gap events sent to subscribers.', topic),
  slow: entry(
    'outrigger_slow_disconnects_total',
    'counter',
    'events',
    'Subscribers ended for want of credit (policy DISCONNECT_AFTER).',
    topic,
  ),
  sentBytes: entry(
    'outrigger_topic_sent_bytes_total',
    'counter',
    'bytes',
    'Stream bytes sent by the driver, frames included: all sessions of all its clients on the stream id of a topic.',
    topic,
  ),
  consumedBytes: entry(
    'outrigger_topic_consumed_bytes_total',
    'counter',
    'bytes',
    'Stream bytes consumed by subscriptions of the driver, frames included: of all its clients on the stream id of a topic.',
    topic,
  ),
  network: entry(
    'outrigger_network_events_total',
    'counter',
    'events',
    'What a raw network backend (packet, xdp, dpdk, verbs) delivered, dropped or sent another way, and uring without a copy; each reason is explained in docs/netstack.md.',
    ['reason'],
  ),
} as const satisfies Record<string, MetricEntry>;

/** Aeron system counters by id (AERON type 0), as metrics. Ids that are no quantity (versions, idle control) are left out. */
export const kSystemCounters: ReadonlyMap<number, MetricEntry> = new Map(
  (
    [
      [0, 'bytes_sent', 'bytes', 'Bytes sent on the network.'],
      [1, 'bytes_received', 'bytes', 'Bytes received from the network.'],
      [5, 'naks_sent', 'frames', 'NAKs sent: repairs asked for.'],
      [6, 'naks_received', 'frames', 'NAKs received: repairs asked of us.'],
      [7, 'status_messages_sent', 'frames', 'Status messages sent.'],
      [8, 'status_messages_received', 'frames', 'Status messages received.'],
      [9, 'heartbeats_sent', 'frames', 'Heartbeats sent.'],
      [10, 'heartbeats_received', 'frames', 'Heartbeats received.'],
      [11, 'retransmits_sent', 'events', 'Retransmissions sent.'],
      [12, 'flow_control_under_runs', 'events', 'Data that arrived behind the window.'],
      [13, 'flow_control_over_runs', 'events', 'Data that arrived beyond the window.'],
      [14, 'invalid_packets', 'datagrams', 'Datagrams refused as malformed.'],
      [15, 'errors', 'events', 'Errors in the driver; see the error log.'],
      [16, 'short_sends', 'events', 'Sends that the kernel took in part or not at all.'],
      [18, 'sender_flow_control_limits', 'events', 'Times a sender stood at its flow-control limit.'],
      [19, 'unblocked_publications', 'events', 'Publications unblocked after a client died holding a claim.'],
      [20, 'unblocked_commands', 'events', 'Commands unblocked after a client died writing one.'],
      [23, 'loss_gap_fills', 'events', 'Gaps filled with padding on unreliable streams.'],
      [24, 'client_timeouts', 'events', 'Clients that stopped their heartbeat.'],
      [35, 'retransmitted_bytes', 'bytes', 'Bytes retransmitted.'],
      [36, 'retransmit_pool_overflow', 'events', 'NAKs not served for want of a retransmission slot.'],
      [37, 'error_frames_received', 'frames', 'Error frames received.'],
      [38, 'error_frames_sent', 'frames', 'Error frames sent.'],
      [39, 'publications_revoked', 'events', 'Publications revoked.'],
      [40, 'images_revoked', 'events', 'Images revoked by their publisher.'],
      [41, 'images_rejected', 'events', 'Images rejected by a subscriber.'],
    ] as const
  ).map(([id, name, unit, help]) => [id, entry(`outrigger_driver_${name}_total`, 'counter', unit, help)]),
);

/** Counters of our own (type 40000), by the int32 that begins their key. */
export const kOwnCounterType = 40_000;
/** What raw backends count: one a reason, which the label names. */
export const kNetworkCounterType = 40_002;
export const kNetworkCounterLabel = 'outrigger network: ';
export const kOwnCounters: ReadonlyMap<number, MetricEntry> = new Map(
  (
    [
      ['receive_queue_drops', 'datagrams', 'Datagrams the kernel dropped for want of socket buffer.'],
      ['send_errors', 'datagrams', 'Datagrams lost to an error of the send call.'],
      ['segmentation_fallbacks', 'events', 'Trains sent datagram by datagram after the kernel refused them.'],
      ['unknown_stream_drops', 'datagrams', 'Datagrams for a stream that nobody subscribes to.'],
      ['setups_refused', 'events', 'SETUPs whose term length or MTU cannot be received.'],
      ['datagrams_sent', 'datagrams', 'Datagrams sent.'],
      ['datagrams_received', 'datagrams', 'Datagrams received.'],
      [
        'send_calls',
        'events',
        'Transmit system calls; datagrams per call shows what segmentation offload buys.',
      ],
      ['naks_suppressed', 'events', 'NAKs not sent because the repair budget of the round trip was used up.'],
      ['retransmits_suppressed', 'events', 'NAKs answered by a retransmission that is still under way.'],
      ['storage_waits', 'events', 'Times a term could not be backed with memory (volume full).'],
      ['commands_rejected', 'events', 'Malformed or unknown client commands.'],
      ['doorbells_rung', 'events', 'Sleeping clients woken.'],
      ['impaired_drops', 'datagrams', 'Datagrams dropped on purpose by the impair layer.'],
      ['backend_changes', 'events', 'Moves of all streams to another network backend.'],
      [
        'sources_refused',
        'datagrams',
        'Datagrams of new streams from addresses that the policy does not list as publishers.',
      ],
      ['commands_forbidden', 'events', 'Client commands that the policy does not allow.'],
    ] as const
  ).map(([name, unit, help], id) => [id, entry(`outrigger_driver_${name}_total`, 'counter', unit, help)]),
);
