// SPDX-License-Identifier: Apache-2.0
// Aeron's Java driver on one host, ours on another, over UDP, in both directions, with and without loss: every message arrives once, in
// order and whole. On other backends than sockets: backends.test.ts. How streams begin and end: driver_pair_lifecycle.test.ts.
import { testExchanges } from './support/exchange_table';
import { makeMachines, makePair, type Machines, type Pair } from './support/pair';

jest.setTimeout(120_000);

let machines: Machines;
beforeAll(async () => {
  machines = await makeMachines();
});
afterAll(async () => {
  const stray = [...(await machines.a.strayErrors()), ...(await machines.b.strayErrors())];
  await machines.close();
  expect(stray.filter((text) => text.startsWith('poll:'))).toEqual([]);
});

// Three ways to run ours, each on a network of its own.
const kNetworks = [
  { network: 'no loss', loss: undefined, scale: 1, env: {} },
  {
    network: '3 % of all datagrams lost at both drivers, both ways, ours on threads of their own',
    loss: 0.03,
    scale: 0.25,
    env: { AERON_THREADING_MODE: 'DEDICATED' },
  },
  {
    network: '10 % of all datagrams lost at both drivers, both ways, ours on the reference backend',
    loss: 0.1,
    scale: 0.05,
    env: { AERON_THREADING_MODE: 'SHARED_NETWORK', OUTRIGGER_BACKENDS: 'socket' },
  },
] as const;

describe.each(kNetworks)('with $network', ({ loss, scale, env }) => {
  let pair: Pair;

  beforeAll(async () => {
    const options = loss === undefined ? {} : { receiveLoss: loss, transmitLoss: loss };
    pair = await makePair(machines, { java: options, ours: { ...options, env } });
  });
  afterAll(async () => {
    await pair.close();
  });

  testExchanges({ pair: () => pair, scale, loss });
});
