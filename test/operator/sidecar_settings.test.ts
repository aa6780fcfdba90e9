// SPDX-License-Identifier: Apache-2.0
// What injection tells a sidecar's container, taken by the real driver and the real init: profiles at the ends of what is allowed. The sidecar's
// own side is operator/src/webhook/container_settings.test.ts. Needs `make build`.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { sidecarProfileSpecSchema } from '../../operator/src/api/sidecar_profile';
import { sidecarResources } from '../../operator/src/webhook/resources';
import { sidecarContainer } from '../../operator/src/webhook/sidecar_container';
import { environmentOf, kExtremeProfiles } from '../../operator/src/webhook/testing';
import { until } from '../sidecar/support';

jest.setTimeout(60_000);

const kNative = resolve(__dirname, '../../build/native');

function environment(profile: object, graceSeconds: number): Record<string, string> {
  const spec = sidecarProfileSpecSchema.parse(profile);
  const container = sidecarContainer({
    spec,
    image: 'i',
    resources: sidecarResources(spec, true),
    ipv6: false,
    hostNetwork: false,
    udpPort: spec.udpPorts.first,
    hasTopics: true,
    directoryAddress: 'outrigger-directory.outrigger-system.svc:9443',
    guaranteed: true,
    graceSeconds,
  });
  return environmentOf(container, '127.0.0.1');
}

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'outrigger-settings-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

it.each(Object.entries(kExtremeProfiles))('the driver starts with profile %s', async (_, profile) => {
  const directory = join(folder, 'driver');
  const driver = spawn(join(kNative, 'outrigger-driver'), [], {
    env: { ...environment(profile, 30), AERON_DIR: directory },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let log = '';
  driver.stderr.on('data', (data: Buffer) => (log += data.toString()));
  const exited = once(driver, 'close').then(([code]) => code as number | null);
  try {
    const running = until('the driver runs', () => log.includes('"msg":"driver') || driver.exitCode !== null);
    await running;
    expect({ exitCode: driver.exitCode, log }).toMatchObject({ exitCode: null });
    expect(existsSync(join(directory, 'cnc.dat'))).toBe(true);
    driver.kill('SIGTERM');
    expect(await exited).toBe(0);
  } finally {
    driver.kill('SIGKILL');
    await exited;
  }
});

it.each([0, 1, 2, 30, 86_400])(
  'init takes the drain times of a grace period of %i s',
  async (graceSeconds) => {
    // A sidecar that ends with status 0 was told to drain: then init ends too.
    const args = ['--driver', '/bin/sleep', '60', '--sidecar', '/bin/true'];
    const init = spawn(join(kNative, 'outrigger-init'), args, {
      env: environment({}, graceSeconds),
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let log = '';
    init.stderr.on('data', (data: Buffer) => (log += data.toString()));
    const [code] = (await once(init, 'close')) as [number | null];
    expect({ code, log }).toMatchObject({ code: 0 });
  },
);
