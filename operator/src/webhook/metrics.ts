// SPDX-License-Identifier: Apache-2.0
// Metrics of the webhook and of its certificates: what they are called, and where their values come from.
import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import { expiries } from '../ca/manager';
import type { CertificateState } from '../ca/rotation';
import type { WebhookEvent } from './server';

export const kInjectionMetrics = {
  reviews: {
    name: 'outrigger_operator_injection_reviews_total',
    type: 'counter',
    help: 'Requests to the webhook, by what came of them: injected, unchanged, not_opted_in, refused, not_ready, malformed, too_large, too_slow, bad_request, error.',
    labels: ['outcome'],
  },
  seconds: {
    name: 'outrigger_operator_injection_review_duration_seconds',
    type: 'histogram',
    help: 'Seconds from the head of a request to its answer.',
    labels: [],
  },
  expiry: {
    name: 'outrigger_operator_certificate_expiry_timestamp_seconds',
    type: 'gauge',
    help: 'When a certificate of the operator ends, seconds since 1970: of its CA (authority) and of its servers (serving).',
    labels: ['certificate'],
  },
} as const;

/** A review is computed in a millisecond; the API server waits ten seconds. */
const kBuckets = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 10];

/** Registers them; what is answered counts events of the webhook. */
export function injectionMetrics(
  registry: Registry,
  certificates: () => CertificateState | undefined,
): (event: WebhookEvent) => void {
  const { reviews, seconds, expiry } = kInjectionMetrics;
  const registers = [registry];
  const counter = new Counter({
    name: reviews.name,
    help: reviews.help,
    labelNames: reviews.labels,
    registers,
  });
  const histogram = new Histogram({ name: seconds.name, help: seconds.help, buckets: kBuckets, registers });
  new Gauge({
    name: expiry.name,
    help: expiry.help,
    labelNames: expiry.labels,
    registers,
    collect() {
      this.reset();
      for (const each of expiries(certificates())) {
        this.set({ certificate: each.certificate }, each.seconds);
      }
    },
  });
  return (event) => {
    counter.inc({ outcome: event.outcome });
    histogram.observe(event.seconds);
  };
}
