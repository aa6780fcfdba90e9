// SPDX-License-Identifier: Apache-2.0
// Multi-destination publications with subscribers on both hosts: what must hold whatever carries the datagrams.
import type { Family } from './hosts';
import {
  closeAll,
  endpoint,
  ends,
  exchange,
  nextPort,
  type Direction,
  type Exchange,
  type Pair,
  type Side,
} from './pair';
import { until } from './until';

export interface MultiDestination {
  readonly pair: Pair;
  readonly direction: Direction;
  readonly fc: 'min' | 'max';
  readonly family: Family;
  /** Of the number of messages. */
  readonly scale: number;
}

// With max the fastest decides how far the publisher goes: little enough is sent that nobody can be left behind a window.
function traffic(fc: 'min' | 'max', scale: number): { count: number; size: number | 'mix' } {
  return fc === 'min'
    ? { count: Math.ceil(3_000 * scale), size: 'mix' }
    : { count: Math.ceil(400 * scale), size: 200 };
}

/**
 * With min the slowest decides only once the publisher's driver has heard of it. A subscriber has its image before: should its first status
 * messages be lost, Aeron's driver and ours alike may leave it behind by more than what they still repair.
 */
async function exchangeWithAll(from: Side, fc: 'min' | 'max', what: Exchange): Promise<void> {
  const { publication, subscriptions } = what;
  const label = new RegExp(`^fc-receivers: \\d+ ${publication.opened.session} `);
  if (fc === 'min') {
    await until(`${from.name} to know ${subscriptions.length} receivers`, async () =>
      (await from.client.counters()).some(
        (counter) => label.test(counter.label) && counter.value === String(subscriptions.length),
      ),
    );
  }
  await exchange(what);
}

/** Three subscribers join by its control address. */
export async function exchangeDynamic({
  pair,
  direction,
  fc,
  family,
  scale,
}: MultiDestination): Promise<void> {
  const { from, to } = ends(pair, direction);
  const control = endpoint(from, family);
  const publication = await from.client.publication(
    `aeron:udp?control-mode=dynamic|control=${control}|fc=${fc}|term-length=256k`,
    30,
  );
  const near = await from.client.subscription(
    `aeron:udp?endpoint=${endpoint(from, family)}|control=${control}`,
    30,
  );
  const far = await to.client.subscription(
    `aeron:udp?endpoint=${endpoint(to, family)}|control=${control}`,
    30,
  );
  const farToo = await to.client.subscription(
    `aeron:udp?endpoint=${endpoint(to, family)}|control=${control}`,
    30,
  );
  await exchangeWithAll(from, fc, {
    publication,
    subscriptions: [near, far, farToo],
    ...traffic(fc, scale),
  });
  await closeAll(publication, near, far, farToo);
}

/** Its three destinations are given; one that was removed hears nothing any more, the others go on. */
export async function exchangeManual({
  pair,
  direction,
  fc,
  family,
  scale,
}: MultiDestination): Promise<void> {
  const { from, to } = ends(pair, direction);
  const channels = [endpoint(from, family), endpoint(to, family), endpoint(to, family)].map(
    (address) => `aeron:udp?endpoint=${address}`,
  );
  const control = fc === 'min' ? `|control=${from.host.address(family)}:${nextPort()}` : '';
  const publication = await from.client.publication(
    `aeron:udp?control-mode=manual${control}|fc=${fc}|term-length=256k`,
    31,
  );
  const subscriptions = [
    await from.client.subscription(channels[0] ?? '', 31),
    await to.client.subscription(channels[1] ?? '', 31),
    await to.client.subscription(channels[2] ?? '', 31),
  ];
  for (const channel of channels) {
    await publication.addDestination(channel);
  }
  const { count, size } = traffic(fc, scale);
  await exchangeWithAll(from, fc, { publication, subscriptions, count, size });
  await publication.removeDestination(channels[2] ?? '');
  await subscriptions[2]?.close();
  await publication.send(100, { size: 300 });
  await subscriptions[1]?.until({ count: count + 100 });
  await closeAll(publication, ...subscriptions.slice(0, 2));
}
