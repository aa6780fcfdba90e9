// SPDX-License-Identifier: Apache-2.0
// Our driver on each backend beyond the sockets of driver_pair.test.ts, against Aeron's Java driver over UDP and against ours on another
// backend: every message arrives once, in order and whole, in both directions, with and without loss.
import { startDriver, type DriverOptions } from './support/drivers';
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
  type Side,
} from './support/pair';

jest.setTimeout(120_000);

let machines: Machines;
beforeAll(async () => {
  machines = await makeMachines();
});
afterAll(async () => {
  await machines.close();
});

const kLoss = { receiveLoss: 0.03, transmitLoss: 0.03 };

/** Environment of ours, and what the driver's counter of its backend must say. */
const kRuns = [
  { run: 'packet', label: 'backend=packet', loss: {}, scale: 1, env: { OUTRIGGER_BACKENDS: 'packet' } },
  {
    run: 'packet for bulk, on threads of its own, 3 % of all datagrams lost at both ends, both ways',
    label: 'backend=packet',
    loss: kLoss,
    scale: 0.3,
    env: { OUTRIGGER_BACKENDS: 'packet', OUTRIGGER_PACKET_MODE: 'bulk', AERON_THREADING_MODE: 'DEDICATED' },
  },
  { run: 'xdp', label: 'backend=xdp', loss: {}, scale: 1, env: { OUTRIGGER_BACKENDS: 'xdp' } },
  {
    run: 'xdp in generic mode',
    label: 'backend=xdp',
    loss: {},
    scale: 0.5,
    env: { OUTRIGGER_BACKENDS: 'xdp', OUTRIGGER_XDP_MODE: 'generic' },
  },
  {
    run: 'xdp, 3 % of all datagrams lost at both ends, both ways',
    label: 'backend=xdp',
    loss: kLoss,
    scale: 0.3,
    env: { OUTRIGGER_BACKENDS: 'xdp' },
  },
  { run: 'uring', label: 'backend=uring', loss: {}, scale: 1, env: { OUTRIGGER_BACKENDS: 'uring' } },
  {
    run: 'uring, on threads of its own, 3 % of all datagrams lost at both ends, both ways',
    label: 'backend=uring',
    loss: kLoss,
    scale: 0.3,
    env: { OUTRIGGER_BACKENDS: 'uring', AERON_THREADING_MODE: 'DEDICATED' },
  },
] as const;

async function backendOf(side: Side): Promise<string> {
  const counters = await side.client.counters();
  return (
    counters.find(({ label }) => label.startsWith('outrigger: backend='))?.label ??
    'no counter tells the backend'
  );
}

describe.each(kRuns)('with $run', ({ label, loss, scale, env }) => {
  let pair: Pair;
  const scaled = (count: number): number => Math.ceil(count * scale);

  beforeAll(async () => {
    pair = await makePair(machines, { java: loss, ours: { ...loss, env } });
  });
  afterAll(async () => {
    await pair.close();
  });

  test('the driver runs on it', async () => {
    expect(await backendOf(pair.ours)).toContain(label);
  });

  describe.each(kDirections)('from %s', (direction) => {
    test.each([
      { what: 'small messages', family: 'IPv4', count: 10_000, size: 100 },
      { what: 'full datagrams', family: 'IPv6', count: 4_000, size: 'payload' },
      {
        what: 'messages of many sizes, fragmented ones among them',
        family: 'IPv4',
        count: 2_000,
        size: 'mix',
      },
    ] as const)('$what arrive over $family', async ({ family, count, size }) => {
      const { from, to } = ends(pair, direction);
      const channel = `aeron:udp?endpoint=${endpoint(to, family)}`;
      const subscription = await to.client.subscription(channel, 10);
      const publication = await from.client.publication(`${channel}|term-length=256k`, 10);
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

/** Ours on both hosts. */
async function makeOurs(
  a: DriverOptions,
  b: DriverOptions,
): Promise<{ a: Side; b: Side; close(): Promise<void> }> {
  const { hosts } = machines;
  const sides: Side[] = [];
  for (const [name, host, peer, options] of [
    ['a', hosts.a, machines.a, a],
    ['b', hosts.b, machines.b, b],
  ] as const) {
    const driver = await startDriver('ours', host, peer, options);
    sides.push({ name, host, peer, driver, client: await peer.client(driver.dir) });
  }
  const [left, right] = sides as [Side, Side];
  return {
    a: left,
    b: right,
    close: () => closeAll(left.client, right.client, left.driver, right.driver),
  };
}

// Over a veth pair a train of a sender with segmentation offload stays in one piece up to the far end's driver.
test.each([
  { from: 'mmsg', to: 'packet' },
  { from: 'mmsg', to: 'xdp' },
  { from: 'packet', to: 'xdp' },
  { from: 'xdp', to: 'mmsg' },
  { from: 'packet', to: 'mmsg' },
  { from: 'uring', to: 'packet' },
  { from: 'packet', to: 'uring' },
])('trains of $from reach $to whole', async ({ from, to }) => {
  const ours = await makeOurs({ env: { OUTRIGGER_BACKENDS: from } }, { env: { OUTRIGGER_BACKENDS: to } });
  try {
    for (const family of ['IPv4', 'IPv6'] as const) {
      const channel = `aeron:udp?endpoint=${endpoint(ours.b, family)}`;
      const subscription = await ours.b.client.subscription(channel, 40);
      const publication = await ours.a.client.publication(`${channel}|term-length=1m`, 40, {
        exclusive: true,
      });
      await exchange({ publication, subscriptions: [subscription], count: 20_000, size: 'payload' });
      await closeAll(publication, subscription);
    }
  } finally {
    await ours.close();
  }
});
