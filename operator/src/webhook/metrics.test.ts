// SPDX-License-Identifier: Apache-2.0
// Metrics of the webhook and its certificates.
import { Registry } from 'prom-client';
import { serviceNames } from '../ca/certificates';
import { carryOut, kRotationTimes, rotationPolicy, type CertificateState } from '../ca/rotation';
import { injectionMetrics } from './metrics';

test('count outcomes, and say when certificates end, also after a renewal', async () => {
  const registry = new Registry();
  const stored: { state?: CertificateState } = {};
  const count = injectionMetrics(registry, () => stored.state);
  count({ outcome: 'injected', seconds: 0.001 });
  count({ outcome: 'too_large', seconds: 0.2 });
  expect(await registry.metrics()).not.toContain('certificate="serving"');

  const names = serviceNames('w', 'ns');
  const nowMs = Date.parse('2026-01-01T00:00:00Z');
  stored.state = await carryOut(
    undefined,
    { kind: 'begin', reason: '' },
    names,
    rotationPolicy(kRotationTimes),
    nowMs,
  );
  const text = await registry.metrics();
  expect(text).toContain('outrigger_operator_injection_reviews_total{outcome="injected"} 1');
  expect(text).toContain('outrigger_operator_injection_reviews_total{outcome="too_large"} 1');
  const serving = (nowMs + kRotationTimes.servingLifeMs) / 1000;
  expect(text).toContain(
    `outrigger_operator_certificate_expiry_timestamp_seconds{certificate="serving"} ${serving}`,
  );
  const authority = (nowMs + kRotationTimes.authorityLifeMs) / 1000;
  expect(text).toContain(`{certificate="authority"} ${authority}`);
});
