// SPDX-License-Identifier: Apache-2.0
// A driver of ours loses its backend in the midst of a stream to or from Aeron's Java driver: the streams go on with the next backend of the
// same address, and no message is lost, duplicated or out of order, in the one image that there was. So they do where the link becomes narrower.
import { execFile } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { readBackendNote } from '../../sidecar/src/driver/backend';
import { kDpdk, type OurDriver } from './support/drivers';
import {
  closeAll,
  endpoint,
  ends,
  expectExactly,
  kDirections,
  makeMachines,
  makePair,
  type Machines,
  type Pair,
} from './support/pair';
import { until } from './support/until';

jest.setTimeout(120_000);

const run = promisify(execFile);

let machines: Machines;
beforeAll(async () => {
  machines = await makeMachines();
});
afterAll(async () => {
  await machines.close();
});

/** Number of the link that holds a driver's XDP program to its interface, as proc_pid_fdinfo(5) has it. */
function xdpLinkOf(pid: number): string {
  for (const fd of readdirSync(`/proc/${pid}/fdinfo`)) {
    const info = readFileSync(`/proc/${pid}/fdinfo/${fd}`, 'utf8');
    const id = /^link_type:\s*xdp$/m.test(info) ? /^link_id:\s*(\d+)$/m.exec(info)?.[1] : undefined;
    if (id !== undefined) {
      return id;
    }
  }
  throw new Error(`process ${pid} holds no XDP program`);
}

async function pullProgram(pair: Pair): Promise<void> {
  const { child } = pair.ours.driver as OurDriver;
  await run('bpftool', ['link', 'detach', 'id', xdpLinkOf(child.pid as number)]);
}

const kMoves = [
  {
    what: 'its XDP program is pulled',
    backend: 'xdp',
    reason: 'was detached',
    lose: pullProgram,
    restore: (): Promise<void> => Promise.resolve(),
  },
  ...['xdp', 'packet', 'dpdk'].map((backend) => ({
    what: `the interface of ${backend} goes down for a while`,
    backend,
    reason: 'down',
    lose: (pair: Pair) => pair.hosts.b.setLink('down'),
    restore: (pair: Pair) => pair.hosts.b.setLink('up'),
  })),
];

describe.each(kMoves)('when $what', ({ backend, reason, lose, restore }) => {
  test.each(kDirections)('a stream from %s goes on, complete', async (direction) => {
    const pair = await makePair(machines, {
      ours: { env: { OUTRIGGER_BACKENDS: `${backend},mmsg`, ...(backend === 'dpdk' ? kDpdk : {}) } },
    });
    try {
      const { from, to } = ends(pair, direction);
      const channel = `aeron:udp?endpoint=${endpoint(to, 'IPv4')}`;
      const subscription = await to.client.subscription(channel, 10);
      const publication = await from.client.publication(`${channel}|term-length=1m`, 10);
      await publication.until({ connected: true });
      await subscription.until({ images: 1 });
      const note = () => readBackendNote(pair.ours.driver.dir);
      expect(note()).toMatchObject({ backend });

      const count = 150_000;
      const sending = publication.send(count, { size: 200 });
      await subscription.until({ count: 10_000 });
      await lose(pair);
      await until('the other backend', () => note()?.backend === 'mmsg');
      await restore(pair);
      await sending;
      await subscription.until({ count });
      expectExactly(await subscription.status(), count);
      expect(note()).toMatchObject({
        backend: 'mmsg',
        notBetter: [{ name: backend, reason: expect.stringContaining(reason) as string }],
        changes: [{ from: backend, to: 'mmsg' }],
      });
      await closeAll(publication, subscription);
    } finally {
      await pair.close();
    }
  });
});

// Each backend in turn: the kernel may let go of an AF_XDP queue a moment after the driver that had it has ended.
describe.each(kDirections)('a stream from %s goes on in fragments, complete', (direction) => {
  test.each(['xdp', 'packet', 'dpdk', 'mmsg', 'uring'])(
    'when the link of %s becomes narrower',
    async (backend) => {
      const pair = await makePair(machines, {
        ours: { env: { OUTRIGGER_BACKENDS: backend, ...(backend === 'dpdk' ? kDpdk : {}) } },
      });
      const { a, b } = machines.hosts;
      // Both ends at once: whichever is first, frames are under way that the other takes no more.
      const setMtu = (bytes: number) => Promise.all([a.setMtu(bytes), b.setMtu(bytes)]);
      // Of ours, on either side: the stack's counters are written once a second.
      const fragmented = async (): Promise<number> => {
        const name = direction === 'java to ours' ? 'kernel_datagrams' : 'fragmented_sends';
        const counters = await pair.ours.client.counters();
        return Number(counters.find(({ label }) => label.endsWith(`: ${name}`))?.value ?? 0);
      };
      try {
        const { from, to } = ends(pair, direction);
        const channel = `aeron:udp?endpoint=${endpoint(to, 'IPv4')}`;
        const subscription = await to.client.subscription(channel, 10);
        const publication = await from.client.publication(`${channel}|term-length=1m|mtu=1408`, 10);
        await publication.until({ connected: true });
        await subscription.until({ images: 1 });
        const note = () => readBackendNote(pair.ours.driver.dir);
        const raw = note()?.facts['mtu'] !== undefined;
        expect(raw).toBe(['xdp', 'packet', 'dpdk'].includes(backend));

        const live = 40_000;
        const sending = publication.send(live, { size: 1300 });
        await subscription.until({ count: 5_000 });
        await setMtu(1300);
        if (raw) {
          await until('the driver to know', () => note()?.facts['mtu'] === '1300');
        }
        await sending;
        const after = 2_000;
        await publication.send(after, { size: 1300 });
        await subscription.until({ count: live + after });
        expectExactly(await subscription.status(), live + after);
        if (raw) {
          await until('fragments to be counted', async () => (await fragmented()) >= after);
          expect(note()).toMatchObject({ facts: { mtu: '1300' } });
        }
        expect(note()).toMatchObject({ backend, changes: [] });
        await closeAll(publication, subscription);
      } finally {
        await setMtu(1500);
        await pair.close();
      }
    },
  );
});
