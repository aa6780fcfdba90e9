// SPDX-License-Identifier: Apache-2.0
// Every metric of the operator, once: name, type, help with its unit, labels. Where values come from is operator_metrics.ts.

export interface OperatorMetric {
  readonly name: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly help: string;
  readonly labels: readonly string[];
}

function metric(
  name: string,
  type: OperatorMetric['type'],
  help: string,
  labels: readonly string[] = [],
): OperatorMetric {
  return { name: `outrigger_operator_${name}`, type, help, labels };
}

export const kOperatorCatalogue = {
  build: metric('build_info', 'gauge', 'Always 1; the labels say what runs.', ['version', 'node']),
  requests: metric('api_requests_total', 'counter', 'Requests to the API server. Status 0: no answer came.', [
    'method',
    'status',
  ]),
  requestSeconds: metric(
    'api_request_duration_seconds',
    'histogram',
    'Seconds until a request was answered; of a watch, until it began.',
    ['method'],
  ),
  throttled: metric(
    'api_throttled',
    'gauge',
    '1 while the API server is too busy for this replica: from an answer 429 until one that is none, after the time that it asked to wait, or until it was not asked for half a minute.',
  ),
  retryAfter: metric(
    'api_retry_after_seconds_total',
    'counter',
    'Seconds that the API server asked to wait, summed over its answers 429.',
  ),
  synced: metric('watch_synced', 'gauge', '1 once the cache of the resource holds a complete list.', [
    'resource',
  ]),
  eventAge: metric(
    'watch_last_event_age_seconds',
    'gauge',
    'Seconds since a list, an event or a bookmark of the resource came.',
    ['resource'],
  ),
  objects: metric('watch_objects', 'gauge', 'Objects of the resource in the cache.', ['resource']),
  lists: metric('watch_lists_total', 'counter', 'Complete lists read.', ['resource']),
  events: metric('watch_events_total', 'counter', 'Events of watches.', ['resource', 'type']),
  duplicates: metric('watch_duplicates_total', 'counter', 'Events that said nothing new.', ['resource']),
  restarts: metric('watch_restarts_total', 'counter', 'Watches and lists begun anew, by reason.', [
    'resource',
    'reason',
  ]),
  queueDepth: metric('queue_depth', 'gauge', 'Keys that wait to be reconciled.', ['controller']),
  reconciles: metric('reconciles_total', 'counter', 'Reconciles by result.', ['controller', 'result']),
  reconcileSeconds: metric('reconcile_duration_seconds', 'histogram', 'Seconds that a reconcile took.', [
    'controller',
  ]),
  leader: metric('leader', 'gauge', '1 while this replica leads.'),
  leaderChanges: metric('leader_changes_total', 'counter', 'Times this replica began or ceased to lead.', [
    'change',
  ]),
  recordedEvents: metric('events_recorded_total', 'counter', 'Kubernetes events written.', ['type']),
  droppedEvents: metric('events_dropped_total', 'counter', 'Kubernetes events that could not be written.'),
  reviews: metric(
    'injection_reviews_total',
    'counter',
    'Requests to the webhook, by what came of them: injected, unchanged, not_opted_in, refused, not_ready, malformed, too_large, too_slow, bad_request, error.',
    ['outcome'],
  ),
  reviewSeconds: metric(
    'injection_review_duration_seconds',
    'histogram',
    'Seconds from the head of a request to the webhook to its answer.',
  ),
  certificateExpiry: metric(
    'certificate_expiry_timestamp_seconds',
    'gauge',
    'When a certificate of the operator ends, seconds since 1970: of its CA (authority) and of its servers (serving).',
    ['certificate'],
  ),
  refusedAuthority: metric(
    'ca_refusing_namespaces',
    'gauge',
    'Namespaces with opted-in pods in which the API server refuses the ConfigMap with the CA of the directory. Of the leader.',
  ),
  expiredMembers: metric(
    'members_expired_total',
    'counter',
    'Members of topics removed since their lease was over.',
  ),
} as const satisfies Record<string, OperatorMetric>;
