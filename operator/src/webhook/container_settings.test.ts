// SPDX-License-Identifier: Apache-2.0
// What a sidecar's container is told, against what its programs take: the sidecar's own configuration reads every variable. The driver's and
// init's side, which needs the build, is test/operator/sidecar_settings.test.ts.
import { loadConfig } from '../../../sidecar/src/config/load';
import { sidecarProfileSpecSchema } from '../api/sidecar_profile';
import { drainTimes, sidecarContainer } from './sidecar_container';
import { sidecarResources } from './resources';
import { environmentOf, kExtremeProfiles } from './testing';

describe('the sidecar takes every variable of its container', () => {
  test.each(Object.entries(kExtremeProfiles))('%s', (_, profile) => {
    const spec = sidecarProfileSpecSchema.parse(profile);
    for (const ipv6 of [false, true]) {
      const container = sidecarContainer({
        spec,
        image: 'i',
        resources: sidecarResources(spec, true),
        ipv6,
        hostNetwork: false,
        udpPort: spec.udpPorts.first,
        hasTopics: true,
        directoryAddress: 'outrigger-directory.outrigger-system.svc:9443',
        guaranteed: true,
        graceSeconds: 30,
      });
      const config = loadConfig({ env: environmentOf(container, ipv6 ? 'fd00::7' : '10.0.0.7') });
      expect(config).toMatchObject({
        driverDirectory: '/run/outrigger-memory/driver',
        grpcSocket: '/run/outrigger/outrigger.sock',
        endpoints: [`${ipv6 ? '[fd00::7]' : '10.0.0.7'}:${spec.udpPorts.first}`],
        httpListen: `${ipv6 ? '[::]' : '0.0.0.0'}:${spec.metricsPort}`,
        maxStreams: spec.limits.maxStreams,
        logLevel: spec.logging.level,
      });
    }
  });
});

test.each([0, 1, 2, 5, 30, 600, 100_000])(
  'drains fit into a grace period of %i s, one in the other',
  (graceSeconds) => {
    for (const wantedMs of [0, 10_000, 3_600_000]) {
      const { init, driver, sidecar } = drainTimes(graceSeconds, wantedMs);
      expect(driver).toBeLessThan(init);
      expect(sidecar).toBeLessThanOrEqual(init - driver);
      expect(init).toBeLessThanOrEqual(Math.max(graceSeconds * 1000, 1000));
      expect(init).toBeLessThanOrEqual(3_600_000);
    }
  },
);
