// SPDX-License-Identifier: Apache-2.0
// Our C++ client in the directory of Aeron's Java driver, which knows no doorbells: publications of both kinds, claims, subscriptions, IPC and
// UDP, alone and together with a Java client, and what it sees when that driver goes.
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { startJava, type Driver } from './support/drivers';
import { makeHosts, type HostPair } from './support/hosts';
import { closeAll, exchange, expectExactly, nextPort } from './support/pair';
import { Peer, PeerError, type Client } from './support/peer';

jest.setTimeout(120_000);

let hosts: HostPair;
let javaPeer: Peer;
let nativePeer: Peer;
let driver: Driver;
let ours: Client;
let java: Client;
beforeAll(async () => {
  hosts = await makeHosts();
  javaPeer = await Peer.java(hosts.a);
  driver = await startJava(javaPeer, {
    properties: {
      'aeron.timer.interval': '100ms',
      'aeron.publication.linger.timeout': '200ms',
      'aeron.image.liveness.timeout': '2s',
    },
  });
  nativePeer = Peer.native(hosts.a);
  java = await javaPeer.client(driver.dir);
  ours = await nativePeer.client(driver.dir);
});
afterAll(async () => {
  await closeAll(ours, java, driver, nativePeer, javaPeer, hosts);
});

describe.each(['IPC', 'UDP over IPv4', 'UDP over IPv6'] as const)('over %s', (medium) => {
  const channel = (): string =>
    medium === 'IPC'
      ? 'aeron:ipc?term-length=256k'
      : `aeron:udp?endpoint=${hosts.a.address(medium === 'UDP over IPv4' ? 'IPv4' : 'IPv6')}:${nextPort()}|term-length=256k`;

  describe.each([
    { who: 'ours to ours', from: () => ours, to: () => ours },
    { who: 'ours to Java', from: () => ours, to: () => java },
    { who: 'Java to ours', from: () => java, to: () => ours },
  ])('$who', ({ from, to }) => {
    test.each([
      { what: 'a concurrent publication', exclusive: false, count: 5_000, size: 'mix' },
      { what: 'an exclusive publication', exclusive: true, count: 5_000, size: 'mix' },
      { what: 'claims', exclusive: false, count: 5_000, size: 'mix', claim: true },
      { what: 'claims of an exclusive publication', exclusive: true, count: 5_000, size: 'mix', claim: true },
      { what: 'messages of the maximum length', exclusive: true, count: 50, size: 'max' },
    ] as const)('$what: all arrives', async ({ exclusive, count, size, ...rest }) => {
      const uri = channel();
      const subscription = await to().subscription(uri, 10);
      const publication = await from().publication(uri, 10, { exclusive });
      await exchange({ publication, subscriptions: [subscription], count, size, ...rest });
      await closeAll(publication, subscription);
    });

    test('the end of a closed stream is seen', async () => {
      const uri = channel();
      const subscription = await to().subscription(uri, 10);
      const publication = await from().publication(uri, 10);
      const { position } = await exchange({
        publication,
        subscriptions: [subscription],
        count: 100,
        size: 'mix',
      });
      await publication.close();
      const { images } = await subscription.until({ ended: 1 });
      expect(images[0]).toMatchObject({ endOfStream: true, endPosition: position });
      await subscription.close();
    });

    test('a slow subscriber stops the publisher, and gets everything in the end', async () => {
      const uri = channel();
      const subscription = await to().subscription(uri, 11, { paused: true });
      const publication = await from().publication(uri, 11);
      await publication.until({ connected: true });
      const some = await publication.send(10_000, { size: 1_000, partial: true, 'timeout-ms': 300 });
      expect(some.backPressured).toBeGreaterThan(0);
      await subscription.pause(false);
      expectExactly(await subscription.until({ count: some.sent }), some.sent);
      await closeAll(publication, subscription);
    });
  });
});

test("our client reports what Aeron's driver refuses", async () => {
  const refused = ours.publication(`aeron:udp?endpoint=${hosts.a.ipv4}:9999|term-length=100000`, 12);
  await expect(refused).rejects.toThrow(PeerError);
  await expect(refused).rejects.toThrow(/100000/);
});

test("our client reaches a manual multi-destination publication of Aeron's driver", async () => {
  const endpoints = [1, 2].map(() => `aeron:udp?endpoint=${hosts.a.ipv4}:${nextPort()}`);
  const subscriptions = await Promise.all(endpoints.map((endpoint) => java.subscription(endpoint, 13)));
  const publication = await ours.publication('aeron:udp?control-mode=manual|fc=min|term-length=256k', 13);
  for (const endpoint of endpoints) {
    await publication.addDestination(endpoint);
  }
  await exchange({ publication, subscriptions, count: 2_000, size: 'mix' });
  await publication.removeDestination(endpoints[1] ?? '');
  await closeAll(publication, ...subscriptions);
});

test("our client notices that Aeron's driver died, and works with its successor", async () => {
  const victim = await Peer.java(hosts.a);
  const doomed = await startJava(victim);
  const client = await nativePeer.client(doomed.dir, { 'driver-timeout-ms': 3_000 });
  const publication = await client.publication('aeron:ipc?term-length=64k', 14);
  await victim.kill();
  const status = await client.status({ 'await-closed': true });
  expect(status.closed).toBe(true);
  expect(status.errors.join()).not.toBe('');
  expect(await publication.offer()).toBe('CLOSED');
  const successor = await Peer.java(hosts.a);
  await successor.request('driver', { name: 'again', dir: doomed.dir });
  const second = await nativePeer.client(doomed.dir);
  const subscription = await second.subscription('aeron:ipc?term-length=64k', 14);
  const renewed = await second.publication('aeron:ipc?term-length=64k', 14);
  await exchange({ publication: renewed, subscriptions: [subscription], count: 1_000, size: 'mix' });
  await closeAll(client, second, successor);
  rmSync(join(doomed.dir, '..'), { recursive: true, force: true });
});
