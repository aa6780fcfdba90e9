// SPDX-License-Identifier: Apache-2.0
// What arrives between Aeron's Java driver and ours, whatever carries the datagrams: tests that a file declares for a pair of its choice. How
// streams begin and end: driver_pair_lifecycle.test.ts.
import { exchangeDynamic, exchangeManual } from './multi_destination';
import { closeAll, endpoint, ends, exchange, kDirections, type Pair } from './pair';

export interface ExchangeTable {
  /** Of the tests that run: it is made in a hook. */
  readonly pair: () => Pair;
  /** Of the numbers of messages. */
  readonly scale: number;
  /** Part of the datagrams lost at both drivers. */
  readonly loss: number | undefined;
}

/** Declares tests, in both directions. */
export function testExchanges({ pair: made, scale, loss }: ExchangeTable): void {
  const scaled = (count: number): number => Math.ceil(count * scale);

  describe.each(kDirections)('from %s', (direction) => {
    test.each([
      {
        what: 'small messages of a concurrent publication',
        family: 'IPv4',
        exclusive: false,
        count: 20_000,
        size: 100,
      },
      {
        what: 'full datagrams of an exclusive publication',
        family: 'IPv6',
        exclusive: true,
        count: 8_000,
        size: 'payload',
      },
      {
        what: 'messages of many sizes, fragmented ones among them',
        family: 'IPv4',
        exclusive: true,
        count: 4_000,
        size: 'mix',
      },
      {
        what: 'messages of many sizes of a concurrent publication',
        family: 'IPv6',
        exclusive: false,
        count: 4_000,
        size: 'mix',
      },
      {
        what: 'claimed messages of many sizes',
        family: 'IPv4',
        exclusive: false,
        count: 4_000,
        size: 'mix',
        claim: true,
      },
      { what: 'messages of the maximum length', family: 'IPv6', exclusive: true, count: 100, size: 'max' },
    ] as const)('$what arrive over $family', async ({ family, exclusive, count, size, ...rest }) => {
      const { from, to } = ends(made(), direction);
      const channel = `aeron:udp?endpoint=${endpoint(to, family)}`;
      const subscription = await to.client.subscription(channel, 10);
      const publication = await from.client.publication(`${channel}|term-length=256k`, 10, { exclusive });
      await exchange({ publication, subscriptions: [subscription], count: scaled(count), size, ...rest });
      await closeAll(publication, subscription);
    });

    // One message a datagram: Aeron's driver 1.51 writes into the first of each alone.
    test('each message tells when it was sent', async () => {
      const { from, to } = ends(made(), direction);
      const channel = `aeron:udp?endpoint=${endpoint(to, 'IPv4')}`;
      const subscription = await to.client.subscription(channel, 13);
      const publication = await from.client.publication(`${channel}|channel-snd-ts-offset=reserved`, 13);
      const before = BigInt(Date.now()) * 1_000_000n;
      await exchange({ publication, subscriptions: [subscription], count: scaled(1_000), size: 'payload' });
      const after = BigInt(Date.now() + 1) * 1_000_000n;
      const [image] = (await subscription.status()).images;
      const sent = BigInt(image?.reserved ?? 0);
      expect(sent >= before && sent <= after ? 'in time' : `${before} ${sent} ${after}`).toBe('in time');
      await closeAll(publication, subscription);
    });

    test('each message tells when it was read', async () => {
      const { from, to } = ends(made(), direction);
      const channel = `aeron:udp?endpoint=${endpoint(to, 'IPv6')}`;
      const subscription = await to.client.subscription(`${channel}|channel-rcv-ts-offset=reserved`, 14);
      const publication = await from.client.publication(channel, 14);
      const before = BigInt(Date.now()) * 1_000_000n;
      await exchange({ publication, subscriptions: [subscription], count: scaled(1_000), size: 'payload' });
      const after = BigInt(Date.now() + 1) * 1_000_000n;
      const [image] = (await subscription.status()).images;
      const read = BigInt(image?.reserved ?? 0);
      expect(read >= before && read <= after ? 'in time' : `${before} ${read} ${after}`).toBe('in time');
      await closeAll(publication, subscription);
    });

    test('terms rotate under messages that leave padding at the end of each', async () => {
      const { from, to } = ends(made(), direction);
      const channel = `aeron:udp?endpoint=${endpoint(to, 'IPv4')}`;
      const subscription = await to.client.subscription(channel, 11);
      const publication = await from.client.publication(
        `${channel}|term-length=64k|init-term-id=2147483645|term-id=2147483645|term-offset=64`,
        11,
        { exclusive: true },
      );
      // 1000 bytes and a header take 1056: 62 a term, and 64 bytes over. Term ids pass the largest integer. Three terms at least.
      const count = Math.max(scaled(2_000), 3 * 62 + 1);
      const { position } = await exchange({
        publication,
        subscriptions: [subscription],
        count,
        size: 1_000,
      });
      expect(position).toBe(Math.floor(count / 62) * 65_536 + (count % 62) * 1_056);
      await closeAll(publication, subscription);
    });

    test('the longest message of a 16 MiB term, sixteen of them', async () => {
      const { from, to } = ends(made(), direction);
      const channel = `aeron:udp?endpoint=${endpoint(to, 'IPv4')}`;
      const subscription = await to.client.subscription(channel, 12);
      const publication = await from.client.publication(channel, 12);
      expect(publication.opened.maxMessage).toBe(2 << 20);
      await exchange({ publication, subscriptions: [subscription], count: scaled(16), size: 'max' });
      await closeAll(publication, subscription);
    });

    test('streams and sessions of one channel do not mix', async () => {
      const { from, to } = ends(made(), direction);
      const channel = `aeron:udp?endpoint=${endpoint(to, 'IPv4')}`;
      const streams = [21, 22, 23];
      const subscriptions = await Promise.all(
        streams.map((stream) => to.client.subscription(channel, stream)),
      );
      const publications = await Promise.all(
        streams.map((stream) =>
          from.client.publication(`${channel}|term-length=128k`, stream, { exclusive: true }),
        ),
      );
      const second = await from.client.publication(`${channel}|term-length=128k`, 21, { exclusive: true });
      await subscriptions[0]?.until({ images: 2 });
      await Promise.all(subscriptions.slice(1).map((subscription) => subscription.until({ images: 1 })));
      await Promise.all(
        [...publications, second].map((publication) => publication.send(scaled(2_000), { size: 'mix' })),
      );
      for (const [i, subscription] of subscriptions.entries()) {
        const images = i === 0 ? 2 : 1;
        const seen = await subscription.until({ count: images * scaled(2_000) });
        for (const image of seen.images) {
          expect(image).toMatchObject({
            first: 0,
            count: scaled(2_000),
            next: scaled(2_000),
            outOfOrder: 0,
            corrupt: 0,
          });
        }
      }
      await closeAll(...publications, second, ...subscriptions);
    });

    test.each([
      { fc: 'min', family: 'IPv4' },
      { fc: 'max', family: 'IPv6' },
    ] as const)(
      'subscribers join a dynamic multi-destination publication with $fc flow control over $family',
      async ({ fc, family }) => {
        await exchangeDynamic({ pair: made(), direction, fc, family, scale });
      },
    );

    test.each([
      { fc: 'min', family: 'IPv6' },
      { fc: 'max', family: 'IPv4' },
    ] as const)(
      'a manual multi-destination publication with $fc flow control reaches its destinations over $family',
      async ({ fc, family }) => {
        await exchangeManual({ pair: made(), direction, fc, family, scale });
      },
    );
  });

  test('repairs happened where datagrams were lost, at both drivers', async () => {
    const figures: string[] = [];
    for (const side of [made().java, made().ours]) {
      const counters = await side.client.counters();
      for (const label of ['NAKs sent', 'NAKs received', 'Retransmits sent']) {
        const value = Number(counters.find((counter) => counter.label === label)?.value);
        figures.push(`${side.name}: ${label}: ${value > 0 ? 'some' : value}`);
      }
    }
    if (loss !== undefined) {
      expect(figures.filter((figure) => !figure.endsWith('some'))).toEqual([]);
    }
    expect(figures).toHaveLength(6);
  });
}
