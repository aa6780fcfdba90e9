// SPDX-License-Identifier: Apache-2.0
// Metrics of the directory: what they are called, and where their values come from.
import { Counter, Gauge, type Registry } from 'prom-client';
import type { DirectoryStats } from './directory';

export const kDirectoryMetrics = {
  streams: {
    name: 'outrigger_operator_directory_streams',
    type: 'gauge',
    help: 'Sidecars connected to this replica.',
    labels: [],
  },
  admissions: {
    name: 'outrigger_operator_directory_admissions',
    type: 'gauge',
    help: 'Streams of sidecars whose token is still being checked; with those that are connected they count against the greatest number of streams.',
    labels: [],
  },
  members: {
    name: 'outrigger_operator_directory_members',
    type: 'gauge',
    help: 'Sidecars that are members by this replica: connected, or gone for less than a lease.',
    labels: [],
  },
  registrations: {
    name: 'outrigger_operator_directory_registrations',
    type: 'gauge',
    help: 'Topics that those have registered, once for each role.',
    labels: [],
  },
  topics: {
    name: 'outrigger_operator_directory_topics',
    type: 'gauge',
    help: 'Topics that may be opened.',
    labels: [],
  },
  rejected: {
    name: 'outrigger_operator_directory_streams_rejected_total',
    type: 'counter',
    help: 'Streams refused because there were too many, or the replica ended.',
    labels: [],
  },
  tokens: {
    name: 'outrigger_operator_directory_tokens_refused_total',
    type: 'counter',
    help: 'Streams refused because of their token (NO_TOKEN, TOKEN_EXPIRED, TOKEN_REFUSED, WRONG_AUDIENCE, NOT_A_POD), or because it could not be checked (API_SERVER_UNAVAILABLE, API_SERVER_THROTTLES; CANCELLED: the sidecar went away before; INTERNAL: an error of the directory itself).',
    labels: ['reason'],
  },
  reviews: {
    name: 'outrigger_operator_directory_token_reviews_total',
    type: 'counter',
    help: 'TokenReviews that the API server was asked for: one for all streams that come with the same token meanwhile, none for a token that is known, none while it throttles.',
    labels: [],
  },
  writes: {
    name: 'outrigger_operator_directory_slice_writes_total',
    type: 'counter',
    help: 'TopicEndpointSlices written.',
    labels: [],
  },
  waiting: {
    name: 'outrigger_operator_directory_topics_waiting',
    type: 'gauge',
    help: 'Topics whose members changed and are not written yet: other replicas do not know of it.',
    labels: [],
  },
  failures: {
    name: 'outrigger_operator_directory_slice_failures_total',
    type: 'counter',
    help: 'Writes of TopicEndpointSlices that failed and are tried again.',
    labels: [],
  },
} as const;

/** Registers them; values are read when they are asked for. */
export function directoryMetrics(registry: Registry, stats: () => DirectoryStats): void {
  const registers = [registry];
  const m = kDirectoryMetrics;
  const gauge = (metric: { name: string; help: string }, value: (of: DirectoryStats) => number): void => {
    new Gauge({
      name: metric.name,
      help: metric.help,
      registers,
      collect() {
        this.set(value(stats()));
      },
    });
  };
  const counter = (metric: { name: string; help: string }, value: (of: DirectoryStats) => number): void => {
    let seen = 0;
    new Counter({
      name: metric.name,
      help: metric.help,
      registers,
      collect() {
        const now = value(stats());
        this.inc(now - seen);
        seen = now;
      },
    });
  };
  gauge(m.streams, ({ streams }) => streams);
  gauge(m.admissions, ({ admissions }) => admissions);
  gauge(m.members, ({ instances }) => instances);
  gauge(m.registrations, ({ registrations }) => registrations);
  gauge(m.topics, ({ topics }) => topics);
  counter(m.rejected, ({ rejectedStreams }) => rejectedStreams);
  const counted: Record<string, number> = {};
  new Counter({
    name: m.tokens.name,
    help: m.tokens.help,
    labelNames: m.tokens.labels,
    registers,
    collect() {
      for (const [reason, now] of Object.entries(stats().tokensRefused)) {
        this.inc({ reason }, now - (counted[reason] ?? 0));
        counted[reason] = now;
      }
    },
  });
  counter(m.reviews, ({ tokenReviews }) => tokenReviews);
  gauge(m.waiting, ({ topicsWaiting }) => topicsWaiting);
  counter(m.writes, ({ sliceWrites }) => sliceWrites);
  counter(m.failures, ({ sliceFailures }) => sliceFailures);
}
