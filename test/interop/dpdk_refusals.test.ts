// SPDX-License-Identifier: Apache-2.0
// What a driver of ours says when DPDK can't have what the `dpdk` backend needs. What it carries where it can: backends.test.ts.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { kDpdk, startOurs } from './support/drivers';
import { localHost } from './support/hosts';

jest.setTimeout(120_000);

const kModule = join(__dirname, '../../build/native/outrigger-dpdk.so');
const kEnv = { OUTRIGGER_BACKENDS: 'dpdk', ...kDpdk } as const;

test('the module of the backend was built: libdpdk-dev is a package of the tests', () => {
  expect(existsSync(kModule)).toBe(true);
});

describe('a driver that may use nothing but dpdk ends and says why', () => {
  test.each([
    {
      what: 'too few hugepages: how many are needed, and the command',
      env: {
        OUTRIGGER_HUGEPAGES: 'true',
        OUTRIGGER_UMEM_SIZE: '1g',
        OUTRIGGER_DPDK_ARGS: '--vdev=net_ring0',
      },
      expected:
        /hugepages: .* are free; 528 of 2 MiB are needed .* echo \d+ > .*hugepages-2048kB\/nr_hugepages/,
    },
    {
      what: 'an interface that is not there',
      env: { OUTRIGGER_DPDK_ARGS: '--vdev=net_af_packet0,iface=og-none' },
      expected: /there is no interface og-none in this network namespace/,
    },
    {
      what: 'a PCI device that is not there',
      env: { OUTRIGGER_DPDK_DEVICE: 'ffff:ff:1f.7', OUTRIGGER_DPDK_ARGS: '' },
      expected: /there is no PCI device ffff:ff:1f\.7/,
    },
    {
      what: 'a device without addresses that the kernel does not own',
      env: { OUTRIGGER_DPDK_ARGS: '--vdev=net_ring0' },
      expected: /it needs addresses of its own; .*OUTRIGGER_DPDK_ADDRESSES/,
    },
    {
      what: 'an argument that the driver decides',
      env: { OUTRIGGER_DPDK_ARGS: '--vdev=net_ring0 --proc-type=secondary' },
      expected: /'--proc-type=secondary' is set by the driver/,
    },
    {
      what: 'a module that is missing',
      env: { OUTRIGGER_DPDK_LIBRARY: '/nonexistent/outrigger-dpdk.so' },
      expected: /\/nonexistent\/outrigger-dpdk\.so: cannot open shared object file/,
    },
  ])('$what', async ({ env, expected }) => {
    const driver = startOurs(localHost, {
      env: { ...kEnv, OUTRIGGER_DPDK_ARGS: '--vdev=net_af_packet0,iface=lo', ...env },
    });
    await driver.exited;
    expect(driver.child.exitCode).toBe(1);
    expect(driver.output()).toMatch(expected);
    await expect(driver.close()).rejects.toThrow('driver ended with 1');
  });
});
