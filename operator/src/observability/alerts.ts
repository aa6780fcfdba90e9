// SPDX-License-Identifier: Apache-2.0
// Every alert, once: when it fires, how bad that is, what it means and what to do. The rule files, their runbook pages and the links between
// them come from here. Metric names come from the catalogues, so that an alert can't outlive its metric.
import { kDirectoryMetrics } from '../directory/metrics';
import { kOperatorCatalogue } from '../metrics/catalogue';
import { kCatalogue, kOwnCounters, kSystemCounters } from '../../../sidecar/src/metrics/catalogue';

export interface Alert {
  readonly name: string;
  readonly expr: string;
  /** How long the condition has to hold: a Prometheus duration. */
  readonly for: string;
  readonly severity: 'critical' | 'warning' | 'info';
  /** One line, with labels of the series as {{ $labels.pod }}. */
  readonly summary: string;
  /** What has happened, for whoever is woken by it. */
  readonly meaning: string;
  /** What apps notice. */
  readonly impact: string;
  /** In the order to try them. */
  readonly steps: readonly string[];
}

export interface AlertGroup {
  readonly name: string;
  readonly alerts: readonly Alert[];
}

/** Name of a driver counter's metric; throws where there is none of that name. */
function driver(name: string): string {
  const wanted = `outrigger_driver_${name}_total`;
  for (const entry of [...kSystemCounters.values(), ...kOwnCounters.values()]) {
    if (entry.name === wanted) {
      return wanted;
    }
  }
  throw new Error(`no driver counter gives the metric ${wanted}`);
}

const m = kCatalogue;
const kPod = '{{ $labels.namespace }}/{{ $labels.pod }}';
const kTopic = 'topic {{ $labels.topic }} in {{ $labels.namespace }}/{{ $labels.pod }}';

export const kSidecarAlerts: AlertGroup = {
  name: 'outrigger-sidecar',
  alerts: [
    {
      name: 'OutriggerDriverDown',
      expr: `${m.driverUp.name} == 0`,
      for: '1m',
      severity: 'critical',
      summary: `The driver of ${kPod} is away`,
      meaning:
        'The sidecar process runs, but has had no driver for a minute. The driver is restarted by its parent process after a crash, so it either dies again and again or can not start.',
      impact: 'Nothing is published or delivered in this pod. Its peers have seen the end of its sessions.',
      steps: [
        '`kubectl logs POD -c outrigger` shows why the driver ended: lines of `outrigger-driver` say the key, the value and the fix.',
        '`kubectl exec POD -c outrigger -- outrigger errors` shows the error log of the last driver.',
        'A full memory volume, an address in use and a missing backend are the usual causes; see [troubleshooting](troubleshooting.md).',
      ],
    },
    {
      name: 'OutriggerDriverRestarts',
      expr: `increase(${m.driverLosses.name}[15m]) > 2`,
      for: '0m',
      severity: 'critical',
      summary: `The driver of ${kPod} was lost {{ $value | humanize }} times in 15 minutes`,
      meaning: 'The driver comes up and is lost again.',
      impact: 'Each loss ends all sessions; subscribers get a gap event, publishers rejoin.',
      steps: [
        '`kubectl logs POD -c outrigger --previous`, and look for a signal or an exit status.',
        'Look for memory limits: `kubectl describe pod POD` shows OOMKilled.',
        'A driver that is starved of CPU misses its own heartbeat: compare `cpu` limits with use.',
      ],
    },
    {
      name: 'OutriggerMemoryVolumeFull',
      expr: `increase(${driver('storage_waits')}[5m]) > 0`,
      for: '0m',
      severity: 'critical',
      summary: `The memory volume of ${kPod} is full`,
      meaning: 'A term buffer could not be backed with memory.',
      impact:
        'Publishers of this pod see back pressure, or its subscriptions stop taking data, until there is room. No message is lost.',
      steps: [
        'Raise the volume: `buffers` of the SidecarProfile, or the annotation of the pod.',
        'Lower `termLength` of its topics: each publication and each image takes three terms.',
        '`outrigger stat` lists what takes the memory.',
      ],
    },
    {
      name: 'OutriggerGaps',
      expr: `increase(${m.gaps.name}[5m]) > 0`,
      for: '0m',
      severity: 'warning',
      summary: `Subscribers of ${kTopic} missed messages`,
      meaning: 'Subscribers were told of a gap: messages that they will not get.',
      impact: 'Apps that need every message must recover by their own means.',
      steps: [
        'The event itself says why: a rejoin after a lost driver or image, policy SKIP, or loss on a BestEffort topic.',
        '`outrigger loss` shows losses by stream and source.',
      ],
    },
    {
      name: 'OutriggerMessagesDropped',
      expr: `increase(${m.dropped.name}[5m]) > 0`,
      for: '0m',
      severity: 'warning',
      summary: `Publishers of ${kTopic} dropped messages`,
      meaning:
        'A publisher that asked for policy DROP could not send: no subscriber, or subscribers that are too slow.',
      impact: 'Dropped messages are gone, as the publisher asked.',
      steps: [
        '`outrigger stat` shows whether the publication is connected, and its limit.',
        'Look for slow subscribers: OutriggerSlowSubscriber, CPU throttling.',
      ],
    },
    {
      name: 'OutriggerPublishRefused',
      expr: `rate(${m.refused.name}[5m]) > 0.05 * (rate(${m.published.name}[5m]) + rate(${m.refused.name}[5m]))`,
      for: '10m',
      severity: 'warning',
      summary: `More than 5 % of the messages of ${kTopic} are refused`,
      meaning:
        'Publishers get BACK_PRESSURED or NOT_CONNECTED for more than one message in twenty, for ten minutes.',
      impact: 'Publishers have to offer them again, or give up.',
      steps: [
        'NOT_CONNECTED: are there subscribers? `kubectl get topicendpointslices -l outrigger.dev/topic=TOPIC`.',
        'BACK_PRESSURED: which subscriber is the slowest? `outrigger stat` shows the positions.',
        'With flow control Min the slowest subscriber sets the pace for all.',
      ],
    },
    {
      name: 'OutriggerSlowSubscriber',
      expr: `increase(${m.slow.name}[10m]) + increase(${m.skipped.name}[10m]) > 0`,
      for: '0m',
      severity: 'warning',
      summary: `A subscriber of ${kTopic} can not keep up`,
      meaning:
        'A subscriber was ended (DISCONNECT_AFTER), or skipped messages (SKIP), because it granted no credit.',
      impact: 'That subscriber misses messages; no other one is affected.',
      steps: [
        'Look at the CPU of the app and of its sidecar.',
        'Have the app grant more credit, or take larger batches.',
      ],
    },
    {
      name: 'OutriggerReceiveQueueDrops',
      expr: `rate(${driver('receive_queue_drops')}[5m]) > 10`,
      for: '5m',
      severity: 'warning',
      summary: `The kernel drops {{ $value | humanize }} datagrams a second before the driver of ${kPod} reads them`,
      meaning:
        'The socket buffer overflows: the driver is not given enough CPU, or the buffer is smaller than the window.',
      impact: 'What is dropped is sent again; throughput falls and latency rises.',
      steps: [
        'Give the sidecar more CPU, or the threading mode `dedicated`.',
        'Raise `net.core.rmem_max` of the node and the socket receive buffer, or lower the receiver window.',
      ],
    },
    {
      name: 'OutriggerRetransmits',
      expr: `rate(${driver('retransmitted_bytes')}[5m]) > 0.05 * rate(${driver('bytes_sent')}[5m])`,
      for: '10m',
      severity: 'warning',
      summary: `More than 5 % of what the driver of ${kPod} sends is sent again`,
      meaning: 'Peers ask for repairs of more than one byte in twenty.',
      impact: 'Latency rises; nothing is lost on Reliable topics.',
      steps: [
        'Are the receivers overrun? OutriggerReceiveQueueDrops on their pods.',
        'Is the network lossy? `outrigger ping` between the nodes, and the counters of the interfaces.',
      ],
    },
    {
      name: 'OutriggerSetupsRefused',
      expr: `increase(${driver('setups_refused')}[10m]) > 0`,
      for: '0m',
      severity: 'warning',
      summary: `The driver of ${kPod} refuses a publisher`,
      meaning: 'A publisher offers a term length or an MTU that this receiver can not hold.',
      impact: 'This subscriber gets nothing from that publisher.',
      steps: [
        '`outrigger errors` names the source, both numbers and the fix.',
        'Set `mtu` and `termLength` in the Topic, so that all members agree.',
      ],
    },
    {
      name: 'OutriggerSourcesRefused',
      // Each stream asks ten times a second; for a moment also that of a new member whom the sidecar does not know yet.
      expr: `rate(${driver('sources_refused')}[5m]) > 1`,
      for: '5m',
      severity: 'warning',
      summary: `The driver of ${kPod} refuses streams of an address that is no publisher`,
      meaning: 'Somebody sends to a topic of this subscriber without being a registered publisher of it.',
      impact: 'None for the members. If it should be one, this subscriber gets nothing from it.',
      steps: [
        '`outrigger errors` names stream and address.',
        'A publisher of the cluster: does its sidecar have the topic open (`outrigger explain pod`), and does `spec.allow` of the Topic let it?',
        'A pod on the network of its node: an overlay may have put another address into its datagrams. `driverPolicy: Disabled` in the SidecarProfile of the subscriber takes anybody.',
      ],
    },
    {
      name: 'OutriggerDriverErrors',
      expr: `increase(${driver('errors')}[10m]) > 0`,
      for: '0m',
      severity: 'info',
      summary: `The driver of ${kPod} logged errors`,
      meaning: 'The error log of the driver has a new entry, or an old one again.',
      impact: 'Depends on the entry.',
      steps: ['`outrigger errors` shows each distinct error with its count, first and last time.'],
    },
    {
      name: 'OutriggerTopicsStale',
      expr: `${m.topicsStale.name} == 1`,
      for: '2m',
      severity: 'warning',
      summary: `The topics file of ${kPod} is refused`,
      meaning: 'The topics file was changed into something that can not be used; the topics before it stay.',
      impact: 'Changes to topics do not take effect.',
      steps: [
        'The log of the sidecar and `outrigger stat` name the place in the file, the value and what is allowed.',
      ],
    },
    {
      name: 'OutriggerDirectoryLost',
      expr: `${m.directoryUp.name} == 0`,
      for: '5m',
      severity: 'warning',
      summary: `The sidecar of ${kPod} does not reach the directory`,
      meaning: 'No replica of the directory answers, or it refuses the token.',
      impact:
        'Open topics go on with the members last known; new members are not seen, and topics never opened before can not be.',
      steps: [
        'The log of the sidecar says the gRPC status: UNAVAILABLE is the network or the operator, UNAUTHENTICATED the token.',
        '`kubectl get pods -n NAMESPACE_OF_OPERATOR`, and its logs.',
        'Does a NetworkPolicy keep the pod from the directory?',
      ],
    },
    {
      name: 'OutriggerStreamsRejected',
      expr: `increase(${m.rejected.name}[10m]) > 0 unless ${m.draining.name} == 1`,
      for: '0m',
      severity: 'warning',
      summary: `The sidecar of ${kPod} refuses gRPC streams`,
      meaning: 'More streams are open than maxStreams allows.',
      impact: 'Apps get RESOURCE_EXHAUSTED when they open a stream.',
      steps: [
        'Find out who opens so many: `outrigger stat`. Raise `maxStreams`, or have the app share its streams.',
      ],
    },
  ],
};

const o = kOperatorCatalogue;
const kReplica = '{{ $labels.namespace }}/{{ $labels.pod }}';
const kLogs = '`kubectl logs -n NAMESPACE POD` of the replica in the labels.';

export const kOperatorAlerts: AlertGroup = {
  name: 'outrigger-operator',
  alerts: [
    {
      name: 'OutriggerNoLeader',
      expr: `sum by (namespace) (${o.leader.name}) == 0`,
      for: '2m',
      severity: 'warning',
      summary: 'No replica of the operator leads in {{ $labels.namespace }}',
      meaning: 'For two minutes no replica has held the lease.',
      impact: 'New topics get no stream id, certificates are not renewed. Open streams go on.',
      steps: [
        kLogs,
        '`kubectl get lease -n NAMESPACE`: who held it last, and until when?',
        'Does the API server answer, and may the operator write the Lease?',
      ],
    },
    {
      name: 'OutriggerOperatorStale',
      expr: `${o.eventAge.name} > 300`,
      for: '1m',
      severity: 'warning',
      summary: `${kReplica} has heard nothing of {{ $labels.resource }} for {{ $value | humanizeDuration }}`,
      meaning:
        'Neither an event nor a bookmark of a watch came for five minutes; API servers send a bookmark every minute.',
      impact:
        'The replica works with what it knew: new topics, members of other replicas and profiles are not seen.',
      steps: [
        kLogs,
        'Does the API server answer? `kubectl get --raw /readyz`',
        'Is something between that cuts idle connections?',
      ],
    },
    {
      name: 'OutriggerApiThrottled',
      expr: `sum by (namespace, pod) (rate(${o.requests.name}{status="429"}[5m])) > 0.1`,
      for: '5m',
      severity: 'warning',
      summary: `The API server throttles ${kReplica}`,
      meaning:
        'More than one request in ten seconds is answered 429 (Too Many Requests), for five minutes. The replica waits as long as it is asked to (Retry-After).',
      impact:
        'Conditions, stream ids, certificates and members of other replicas come late; a leader that can not renew its lease leads no more until it can. Streams and the injection of sidecars go on.',
      steps: [
        'The log of the replica names a request, the Retry-After, and the UIDs of its FlowSchema and PriorityLevelConfiguration.',
        '`kubectl get flowschemas,prioritylevelconfigurations -o custom-columns=KIND:.kind,NAME:.metadata.name,UID:.metadata.uid` gives their names; `apiserver_flowcontrol_rejected_requests_total` says who else is refused.',
        'Who floods that priority level? If it is this operator, its metrics by method tell, and the values `operator.requestsPerSecond` and `directory.requestsPerSecond` of the chart limit it; if not, give its service accounts a FlowSchema of their own.',
      ],
    },
    {
      name: 'OutriggerReconcileFailures',
      expr: `rate(${o.reconciles.name}{result="failed"}[10m]) > 0.1`,
      for: '10m',
      severity: 'warning',
      summary: `Controller {{ $labels.controller }} of ${kReplica} keeps failing`,
      meaning: 'More than one reconcile in ten seconds fails, for ten minutes. Each is tried again.',
      impact: 'What the controller keeps is out of date.',
      steps: [
        kLogs,
        'A refusal (403) means that the roles of the chart are older than the operator: helm upgrade.',
      ],
    },
    {
      name: 'OutriggerInjectionErrors',
      expr: `sum by (namespace, outcome) (increase(${o.reviews.name}{outcome=~"error|not_ready|malformed|too_large|too_slow"}[10m])) > 0`,
      for: '0m',
      severity: 'warning',
      summary: 'The injector could not answer for a pod: {{ $labels.outcome }}',
      meaning: 'A pod that asks for a sidecar was refused for no fault of its own.',
      impact: 'Its owner tries again; until then the pod is missing.',
      steps: [kLogs, 'not_ready: the replica had not read the profiles yet; it should pass within seconds.'],
    },
    {
      name: 'OutriggerCertificateExpires',
      expr: `min by (namespace, certificate) (${o.certificateExpiry.name}) - time() < 14 * 86400`,
      for: '1h',
      severity: 'critical',
      summary:
        'The {{ $labels.certificate }} certificate of the operator in {{ $labels.namespace }} ends within 14 days',
      meaning: 'Certificates are renewed months before they end; this one was not.',
      impact: 'When it ends, no labelled pod can be made and no sidecar reaches the directory.',
      steps: [
        kLogs,
        'May the leader write its Secret? `kubectl auth can-i update secrets -n NAMESPACE --as system:serviceaccount:NAMESPACE:NAME`',
        'OutriggerNoLeader: only a leader renews.',
      ],
    },
    {
      name: 'OutriggerAuthorityRefused',
      expr: `${o.refusedAuthority.name} > 0`,
      for: '5m',
      severity: 'warning',
      summary: '{{ $value }} namespaces refuse the ConfigMap with the CA of the directory',
      meaning:
        'For five minutes the operator could not write the ConfigMap `outrigger-ca` in a namespace with opted-in pods: a ResourceQuota, an admission policy or a webhook forbids it. It goes on trying; all other namespaces have theirs.',
      impact:
        'New pods of that namespace wait for the volume. A new CA waits for the namespace for a day; after that its sidecars go on with the members last known, and learn of no new ones.',
      steps: [
        '`kubectl get events -A --field-selector reason=AuthorityNotWritten` names the namespace and what the API server says.',
        '`kubectl describe resourcequota -n NAMESPACE`: `count/configmaps` or `configmaps` needs room for one more.',
        'An admission policy or webhook has to let `system:serviceaccount:NAMESPACE_OF_OPERATOR:outrigger-operator` write ConfigMaps there.',
      ],
    },
    {
      name: 'OutriggerDirectoryTokensRefused',
      expr: `sum by (namespace, pod) (rate(${kDirectoryMetrics.tokens.name}[10m])) > 0.2`,
      for: '10m',
      severity: 'warning',
      summary: `The directory ${kReplica} refuses tokens`,
      meaning: 'Sidecars come with tokens that are not accepted or can not be checked.',
      impact: 'Those sidecars learn of no new members.',
      steps: [
        'The log of such a sidecar says why, and the label `reason` of the metric: expired, of another audience, or the API server could not be asked.',
        'May the directory create TokenReviews?',
      ],
    },
    {
      name: 'OutriggerDirectoryWriteFailures',
      expr: `increase(${kDirectoryMetrics.failures.name}[10m]) > 5`,
      for: '5m',
      severity: 'warning',
      summary: `The directory ${kReplica} can not write TopicEndpointSlices`,
      meaning: 'Members that this replica knows do not get to the others.',
      impact: 'Members that are on different replicas do not find each other when they are new.',
      steps: [
        kLogs,
        'Does the API server answer? May the directory write TopicEndpointSlices in every namespace?',
      ],
    },
  ],
};

export const kAlertGroups: readonly AlertGroup[] = [kSidecarAlerts, kOperatorAlerts];
