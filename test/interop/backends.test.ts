// SPDX-License-Identifier: Apache-2.0
// Our driver on each backend beyond the sockets of driver_pair.test.ts, against Aeron's Java driver over UDP and against ours on another
// backend: every message arrives once, in order and whole, in both directions, with and without loss.
import { kDpdk } from './support/drivers';
import { testExchanges } from './support/exchange_table';
import {
  closeAll,
  endpoint,
  exchange,
  Made,
  makeMachines,
  makePair,
  makeSideOn,
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

/** Environment of ours, and how much is sent of what driver_pair.test.ts sends: less, for there are many. */
const kRuns = [
  { run: 'uring', backend: 'uring', loss: undefined, scale: 0.5, env: {} },
  {
    run: 'uring, on threads of its own, 3 % of all datagrams lost at both ends, both ways',
    backend: 'uring',
    loss: 0.03,
    scale: 0.2,
    env: { AERON_THREADING_MODE: 'DEDICATED' },
  },
  { run: 'packet', backend: 'packet', loss: undefined, scale: 0.5, env: {} },
  {
    run: 'packet for bulk, on threads of its own, 3 % of all datagrams lost at both ends, both ways',
    backend: 'packet',
    loss: 0.03,
    scale: 0.2,
    env: { OUTRIGGER_PACKET_MODE: 'bulk', AERON_THREADING_MODE: 'DEDICATED' },
  },
  { run: 'xdp', backend: 'xdp', loss: undefined, scale: 0.5, env: {} },
  {
    run: 'xdp in generic mode',
    backend: 'xdp',
    loss: undefined,
    scale: 0.2,
    env: { OUTRIGGER_XDP_MODE: 'generic' },
  },
  {
    run: 'xdp, 3 % of all datagrams lost at both ends, both ways',
    backend: 'xdp',
    loss: 0.03,
    scale: 0.2,
    env: {},
  },
  { run: 'dpdk', backend: 'dpdk', loss: undefined, scale: 0.5, env: kDpdk },
  {
    run: 'dpdk, 3 % of all datagrams lost at both ends, both ways',
    backend: 'dpdk',
    loss: 0.03,
    scale: 0.2,
    env: kDpdk,
  },
] as const;

async function backendOf(side: Side): Promise<string> {
  const counters = await side.client.counters();
  return (
    counters.find(({ label }) => label.startsWith('outrigger: backend='))?.label ??
    'no counter tells the backend'
  );
}

describe.each(kRuns)('with $run', ({ backend, loss, scale, env }) => {
  let pair: Pair;

  beforeAll(async () => {
    const options = loss === undefined ? {} : { receiveLoss: loss, transmitLoss: loss };
    pair = await makePair(machines, {
      java: options,
      ours: { ...options, env: { OUTRIGGER_BACKENDS: backend, ...env } },
    });
  });
  afterAll(async () => {
    await pair.close();
  });

  test('the driver runs on it', async () => {
    expect(await backendOf(pair.ours)).toContain(`backend=${backend}`);
  });

  testExchanges({ pair: () => pair, scale, loss });
});

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
  const { hosts, a, b } = machines;
  const made = new Made();
  try {
    const left = await made.add(makeSideOn(hosts.a, a, 'ours', { env: { OUTRIGGER_BACKENDS: from } }));
    const right = await made.add(makeSideOn(hosts.b, b, 'ours', { env: { OUTRIGGER_BACKENDS: to } }));
    for (const family of ['IPv4', 'IPv6'] as const) {
      const channel = `aeron:udp?endpoint=${endpoint(right, family)}`;
      const subscription = await right.client.subscription(channel, 40);
      const publication = await left.client.publication(`${channel}|term-length=1m`, 40, {
        exclusive: true,
      });
      await exchange({ publication, subscriptions: [subscription], count: 20_000, size: 'payload' });
      await closeAll(publication, subscription);
    }
  } finally {
    await made.close();
  }
});
