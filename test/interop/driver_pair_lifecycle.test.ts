// SPDX-License-Identifier: Apache-2.0
// How streams between Aeron's Java driver and ours, on each backend, begin and end: end of stream, sessions that come back, silence, death, late
// and slow subscribers, refusals by the receiver. That all arrives in between: driver_pair.test.ts and backends.test.ts.
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import {
  kDpdk,
  kReference,
  startJava,
  startOurs,
  type DriverKind,
  type DriverOptions,
} from './support/drivers';
import type { Host } from './support/hosts';
import { Peer, type Client } from './support/peer';
import { begin, closeMade, of, rowsFor, type Each } from './support/side_by_side';
import { until, untilGone } from './support/until';
import {
  clientOf,
  closeAll,
  endpoint,
  ends,
  exchange,
  expectExactly,
  kDirections,
  Made,
  makeMachines,
  makePair,
  makeSide,
  type Machines,
  type Pair,
} from './support/pair';

jest.setTimeout(120_000);

// Short, so that a test can wait for each; not so short that a busy machine makes them pass by itself. Clients keep alive each 500 ms.
const kShort: DriverOptions = {
  properties: {
    'aeron.timer.interval': '100ms',
    'aeron.image.liveness.timeout': '2s',
    'aeron.publication.connection.timeout': '2s',
    'aeron.publication.linger.timeout': '200ms',
    'aeron.client.liveness.timeout': '5s',
    'aeron.publication.unblock.timeout': '6s',
    'aeron.flow.control.receiver.timeout': '2s',
  },
};

/** What ours runs on, and its environment: with one backend there is no other to fall back to. */
const kRuns: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  sockets: {},
  uring: { OUTRIGGER_BACKENDS: 'uring' },
  packet: { OUTRIGGER_BACKENDS: 'packet' },
  xdp: { OUTRIGGER_BACKENDS: 'xdp' },
  dpdk: { OUTRIGGER_BACKENDS: 'dpdk', ...kDpdk },
};
const kNames = Object.keys(kRuns);

/** Of a run: hosts of its own, and how each driver is started. */
interface Place {
  readonly machines: Machines;
  readonly options: Readonly<Record<DriverKind, DriverOptions>>;
  close(): Promise<void>;
}

const places: Each<Place> = new Map();
beforeAll(() => {
  for (const [name, env] of Object.entries(kRuns)) {
    begin(places, name, async () => {
      const machines = await makeMachines();
      return {
        machines,
        options: { java: kShort, ours: { ...kShort, env } },
        close: () => machines.close(),
      };
    });
  }
});
afterAll(() => closeMade(places));

describe('while both drivers live', () => {
  const pairs: Each<Pair> = new Map();
  beforeAll(() => {
    for (const name of kNames) {
      begin(pairs, name, async () => {
        const { machines, options } = await of(places, name);
        return makePair(machines, options);
      });
    }
  });
  afterAll(() => closeMade(pairs));
  const row = rowsFor(kNames, pairs);

  describe.each(kDirections)('from %s', (direction) => {
    row('a closed publication ends its image where its last message ended', async (pair) => {
      const { from, to } = ends(pair, direction);
      const channel = `aeron:udp?endpoint=${endpoint(to, 'IPv4')}|term-length=64k`;
      const subscription = await to.client.subscription(channel, 40);
      const publication = await from.client.publication(channel, 40);
      const { position } = await exchange({
        publication,
        subscriptions: [subscription],
        count: 500,
        size: 'mix',
      });
      await publication.close();
      const seen = await subscription.until({ ended: 1 });
      expect(seen.images[0]).toMatchObject({
        ended: true,
        endOfStream: true,
        endPosition: position,
        revoked: false,
      });
      await subscription.close();
    });

    row('a publication that closes at once still delivers all it took', async (pair) => {
      const { from, to } = ends(pair, direction);
      const channel = `aeron:udp?endpoint=${endpoint(to, 'IPv6')}|term-length=256k`;
      const subscription = await to.client.subscription(channel, 41);
      const publication = await from.client.publication(channel, 41);
      await publication.until({ connected: true });
      await publication.send(300, { size: 'mix' });
      await publication.close();
      const seen = await subscription.until({ ended: 1 });
      expectExactly(seen, 300);
      expect(seen.images[0]?.endOfStream).toBe(true);
      await subscription.close();
    });

    row('a session that was closed comes back as a new image', async (pair) => {
      const { from, to } = ends(pair, direction);
      const channel = `aeron:udp?endpoint=${endpoint(to, 'IPv4')}`;
      const subscription = await to.client.subscription(channel, 42);
      for (let round = 1; round <= 3; round++) {
        const publication = await from.client.publication(`${channel}|session-id=4242|term-length=64k`, 42, {
          exclusive: true,
        });
        await publication.until({ connected: true });
        await publication.send(200, { size: 200 });
        await subscription.until({ count: 200 * round });
        await publication.close();
        const { images } = await subscription.until({ ended: round });
        expect(images).toHaveLength(round);
        for (const image of images) {
          expect(image).toMatchObject({
            session: 4242,
            first: 0,
            count: 200,
            outOfOrder: 0,
            corrupt: 0,
            endOfStream: true,
          });
        }
        // While the old one lingers its session is taken; the sender's position counter goes when the lingering ends.
        await untilGone(from.client, `4242 42 ${channel}`);
      }
      await subscription.close();
    });

    row('a stream at rest stays, by its heartbeats, for longer than the liveness timeout', async (pair) => {
      const { from, to } = ends(pair, direction);
      const channel = `aeron:udp?endpoint=${endpoint(to, 'IPv4')}|term-length=64k`;
      const subscription = await to.client.subscription(channel, 43);
      const publication = await from.client.publication(channel, 43);
      await exchange({ publication, subscriptions: [subscription], count: 10, size: 100 });
      const heartbeats = async (): Promise<number> =>
        Number(
          (await to.client.counters()).find((counter) => counter.label.startsWith('Heartbeats received'))
            ?.value,
        );
      const before = await heartbeats();
      // One each 100 ms: 25 are longer than the two seconds of both timeouts.
      await until('25 heartbeats', async () => (await heartbeats()) >= before + 25);
      expect((await publication.status()).connected).toBe(true);
      await publication.send(10, { size: 100 });
      const seen = await subscription.until({ count: 20 });
      expectExactly(seen, 20);
      expect(seen.images[0]?.ended).toBe(false);
      await closeAll(publication, subscription);
    });

    row('a publication learns that its only subscriber left, and that another came', async (pair) => {
      const { from, to } = ends(pair, direction);
      const channel = `aeron:udp?endpoint=${endpoint(to, 'IPv4')}|term-length=64k`;
      const first = await to.client.subscription(channel, 44);
      const publication = await from.client.publication(channel, 44);
      const { position } = await exchange({ publication, subscriptions: [first], count: 300, size: 500 });
      await first.close();
      await publication.until({ connected: false });
      expect(await publication.offer()).toBe('NOT_CONNECTED');
      const second = await to.client.subscription(channel, 44);
      await publication.until({ connected: true });
      await second.until({ images: 1 });
      await publication.send(300, { size: 500 });
      const { images } = await second.until({ count: 300 });
      expect(images).toHaveLength(1);
      expect(images[0]).toMatchObject({
        joinPosition: position,
        first: 300,
        next: 600,
        count: 300,
        outOfOrder: 0,
        corrupt: 0,
      });
      await closeAll(publication, second);
    });

    row(
      'a subscriber that joins in the middle of a running stream sees it without a gap from there',
      async (pair) => {
        const { from, to } = ends(pair, direction);
        const channel = `aeron:udp?endpoint=${endpoint(to, 'IPv4')}|term-length=256k`;
        const first = await to.client.subscription(channel, 45);
        const publication = await from.client.publication(channel, 45);
        await publication.until({ connected: true });
        const sending = publication.send(20_000, { size: 200 });
        await first.until({ count: 1_000 });
        const late = await to.client.subscription(channel, 45);
        await sending;
        await first.until({ count: 20_000 });
        expectExactly(await first.status(), 20_000);
        // More, so that also one that came after the last message of the run sees some.
        await late.until({ images: 1 });
        await publication.send(100, { size: 200 });
        await first.until({ count: 20_100 });
        await until(
          'the late subscriber is level',
          async () => (await late.status()).images[0]?.next === 20_100,
        );
        const image = (await late.status()).images[0];
        expect(image).toMatchObject({ outOfOrder: 0, corrupt: 0, count: 20_100 - (image?.first ?? 0) });
        await closeAll(publication, first, late);
      },
    );

    row('a subscriber that stops polling stops the publisher, and costs no message', async (pair) => {
      const { from, to } = ends(pair, direction);
      const channel = `aeron:udp?endpoint=${endpoint(to, 'IPv4')}|term-length=64k`;
      const subscription = await to.client.subscription(channel, 46, { paused: true });
      const publication = await from.client.publication(channel, 46);
      await publication.until({ connected: true });
      const some = await publication.send(10_000, { size: 1_000, partial: true, 'timeout-ms': 1_500 });
      expect(some.backPressured).toBeGreaterThan(0);
      // The receiver's window and the publisher's: together never more than a term.
      expect(some.position).toBeLessThanOrEqual(2 * 65_536);
      expect((await publication.status()).connected).toBe(true);
      await subscription.pause(false);
      await publication.send(1_000, { size: 1_000 });
      await subscription.until({ count: some.sent + 1_000 });
      expectExactly(await subscription.status(), some.sent + 1_000);
      await closeAll(publication, subscription);
    });

    row('a rejected image ends, and the publisher is told why', async (pair) => {
      const { from, to } = ends(pair, direction);
      const channel = `aeron:udp?endpoint=${endpoint(to, 'IPv4')}|term-length=64k`;
      const subscription = await to.client.subscription(channel, 47);
      const publication = await from.client.publication(channel, 47);
      await exchange({ publication, subscriptions: [subscription], count: 10, size: 100 });
      await subscription.reject('no-room-here');
      await subscription.until({ ended: 1 });
      await until('the publisher heard of it', async () =>
        (await from.client.status()).errors.some((error) => error.includes('no-room-here')),
      );
      await closeAll(publication, subscription);
    });

    row('a revoked stream ends at once and says so', async (pair) => {
      const { from, to } = ends(pair, direction);
      const channel = `aeron:udp?endpoint=${endpoint(to, 'IPv4')}|term-length=64k`;
      const subscription = await to.client.subscription(channel, 48);
      const publication = await from.client.publication(channel, 48, { exclusive: true });
      await exchange({ publication, subscriptions: [subscription], count: 10, size: 100 });
      await publication.revoke();
      const { images } = await subscription.until({ ended: 1 });
      expect(images[0]).toMatchObject({ revoked: true });
      await subscription.close();
    });

    row('a publisher process that dies ends its stream, with all it had published', async (pair) => {
      const { from, to } = ends(pair, direction);
      const channel = `aeron:udp?endpoint=${endpoint(to, 'IPv4')}|term-length=64k`;
      const subscription = await to.client.subscription(channel, 49);
      const victim = await Peer.java(from.host);
      const publication = await (await victim.client(from.driver.dir)).publication(channel, 49);
      await publication.until({ connected: true });
      await publication.send(200, { size: 300 });
      await victim.kill();
      const seen = await subscription.until({ ended: 1 });
      expectExactly(seen, 200);
      expect(seen.images[0]?.endOfStream).toBe(true);
      await subscription.close();
    });
  });
});

// A host has one driver at a time, that which dies or the other: two could not share its interface by AF_XDP.
describe.each(kDirections)('from %s', (direction) => {
  const row = rowsFor(kNames, places);
  const [sender, receiver]: readonly [DriverKind, DriverKind] =
    direction === 'java to ours' ? ['java', 'ours'] : ['ours', 'java'];

  row(
    'with min flow control a subscriber whose driver dies holds the others up only until it times out',
    async ({ machines, options }) => {
      const made = new Made();
      try {
        const from = await made.add(makeSide(sender, machines, options[sender]));
        const control = endpoint(from, 'IPv4');
        const publication = await from.client.publication(
          `aeron:udp?control-mode=dynamic|control=${control}|fc=min|term-length=64k`,
          50,
        );
        const survivor = await from.client.subscription(
          `aeron:udp?endpoint=${endpoint(from, 'IPv4')}|control=${control}`,
          50,
        );
        const victim = await made.add(makeVictim(receiver, machines, options[receiver]));
        const lost = await victim.client.subscription(
          `aeron:udp?endpoint=${endpoint(victim, 'IPv4')}|control=${control}`,
          50,
        );
        await exchange({ publication, subscriptions: [survivor, lost], count: 100, size: 500 });
        await victim.close();
        await publication.send(2_000, { size: 500 });
        await survivor.until({ count: 2_100 });
        expectExactly(await survivor.status(), 2_100);
        await closeAll(publication, survivor);
      } finally {
        await made.close();
      }
    },
  );

  row(
    'a driver that is killed is silence: the image times out, and the stream of its successor is a new image',
    async ({ machines, options }) => {
      const made = new Made();
      try {
        const to = await made.add(makeSide(receiver, machines, options[receiver]));
        const channel = `aeron:udp?endpoint=${endpoint(to, 'IPv4')}|term-length=64k`;
        const subscription = await to.client.subscription(channel, 51);
        for (let round = 1; round <= 2; round++) {
          const victim = await made.add(makeVictim(sender, machines, options[sender]));
          const publication = await victim.client.publication(channel, 51);
          await publication.until({ connected: true });
          const { position } = await publication.send(300, { size: 400 });
          await subscription.until({ count: 300 * round });
          await victim.close();
          const { images } = await subscription.until({ ended: round });
          expect(images).toHaveLength(round);
          expect(images[round - 1]).toMatchObject({
            first: 0,
            count: 300,
            outOfOrder: 0,
            corrupt: 0,
            endPosition: position,
            endOfStream: false,
          });
        }
        await subscription.close();
      } finally {
        await made.close();
      }
    },
  );
});

interface Victim {
  readonly host: Host;
  readonly client: Client;
  /** Kills it. */
  close(): Promise<void>;
}

/** A driver and a client of it that a test kills. */
async function makeVictim(kind: DriverKind, { hosts }: Machines, options: DriverOptions): Promise<Victim> {
  const host = kind === 'java' ? hosts.a : hosts.b;
  const peer = await Peer.java(host);
  const ours = kind === 'ours' && !kReference ? startOurs(host, options) : undefined;
  const driver = ours ?? (await startJava(peer, options));
  const client = await clientOf(peer, driver);
  return {
    host,
    client,
    close: async () => {
      ours?.child.kill('SIGKILL');
      await ours?.exited;
      await peer.kill();
      rmSync(join(driver.dir, '..'), { recursive: true, force: true });
    },
  };
}
