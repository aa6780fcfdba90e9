// SPDX-License-Identifier: Apache-2.0
// Metrics of the webhook and of its certificates: where their values come from. What they are called is in metrics/catalogue.ts.
import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import { expiries } from '../ca/manager';
import type { CertificateState } from '../ca/rotation';
import { kOperatorCatalogue } from '../metrics/catalogue';
import type { WebhookEvent } from './server';

/** A review is computed in a millisecond; the API server waits ten seconds. */
const kBuckets = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 10];

/** Registers them; what is answered counts events of the webhook. */
export function injectionMetrics(
  registry: Registry,
  certificates: () => CertificateState | undefined,
): (event: WebhookEvent) => void {
  const { reviews, reviewSeconds, certificateExpiry } = kOperatorCatalogue;
  const registers = [registry];
  const counter = new Counter({
    name: reviews.name,
    help: reviews.help,
    labelNames: reviews.labels,
    registers,
  });
  const histogram = new Histogram({
    name: reviewSeconds.name,
    help: reviewSeconds.help,
    buckets: kBuckets,
    registers,
  });
  new Gauge({
    name: certificateExpiry.name,
    help: certificateExpiry.help,
    labelNames: certificateExpiry.labels,
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
