// SPDX-License-Identifier: Apache-2.0
// Aeron's Java driver on one host, ours on the `dpdk` backend on another: over DPDK's port on the kernel's packet sockets, with and without
// loss. And what the driver says when DPDK can't have what it needs.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { kDpdk, startOurs } from './support/drivers';
import { localHost } from './support/hosts';
import { exchangeDynamic, exchangeManual } from './support/multi_destination';
import {
  closeAll,
  endpoint,
  ends,
  exchange,
  kDirections,
  makeMachines,
  makePair,
  type Machines,
  type Pair,
} from './support/pair';

jest.setTimeout(120_000);

const kModule = join(__dirname, '../../build/native/outrigger-dpdk.so');
const kEnv = { OUTRIGGER_BACKENDS: 'dpdk', ...kDpdk } as const;

test('the module of the backend was built: libdpdk-dev is a package of the tests', () => {
  expect(existsSync(kModule)).toBe(true);
});

describe.each([
  { network: 'no loss', loss: undefined, scale: 1, env: {} },
  { network: '3 % of all datagrams lost at both drivers, both ways', loss: 0.03, scale: 0.25, env: {} },
] as const)('with $network', ({ loss, scale, env }) => {
  let machines: Machines;
  let pair: Pair;
  const scaled = (count: number): number => Math.ceil(count * scale);

  beforeAll(async () => {
    machines = await makeMachines();
    const options = loss === undefined ? {} : { receiveLoss: loss, transmitLoss: loss };
    pair = await makePair(machines, { java: options, ours: { ...options, env: { ...kEnv, ...env } } });
  });
  afterAll(async () => {
    await pair.close();
    await machines.close();
  });

  describe.each(kDirections)('from %s', (direction) => {
    test.each([
      { what: 'small messages', family: 'IPv4', exclusive: false, count: 10_000, size: 100 },
      { what: 'full datagrams', family: 'IPv6', exclusive: true, count: 4_000, size: 'payload' },
      { what: 'messages of many sizes', family: 'IPv4', exclusive: true, count: 2_000, size: 'mix' },
    ] as const)('$what arrive over $family', async ({ family, exclusive, count, size }) => {
      const { from, to } = ends(pair, direction);
      const channel = `aeron:udp?endpoint=${endpoint(to, family)}`;
      const subscription = await to.client.subscription(channel, 10);
      const publication = await from.client.publication(`${channel}|term-length=256k`, 10, { exclusive });
      await exchange({ publication, subscriptions: [subscription], count: scaled(count), size });
      await closeAll(publication, subscription);
    });

    test('subscribers join a dynamic multi-destination publication', async () => {
      await exchangeDynamic({ pair, direction, fc: 'min', family: 'IPv4', scale: scale / 3 });
    });

    test('a manual multi-destination publication reaches its destinations', async () => {
      await exchangeManual({ pair, direction, fc: 'min', family: 'IPv6', scale: scale / 3 });
    });
  });
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
