// SPDX-License-Identifier: Apache-2.0
// An unmodified Java Aeron client in our driver's directory: publications of both kinds, claims, IPC, spies, fragments, counters, untethered
// subscriptions, dead publishers. Refusals: java_client_refusals.test.ts; the end of a driver: java_client_driver_end.test.ts.
import { makeLocal, type Local } from './support/local';
import { closeAll, exchange, expectExactly, nextPort } from './support/pair';
import { Peer } from './support/peer';
import { until, untilGone } from './support/until';

jest.setTimeout(120_000);

let local: Local;
beforeAll(async () => {
  local = await makeLocal({
    properties: {
      'aeron.timer.interval': '100ms',
      'aeron.client.liveness.timeout': '5s',
      'aeron.publication.unblock.timeout': '6s',
      'aeron.publication.linger.timeout': '200ms',
      'aeron.untethered.window.limit.timeout': '300ms',
      'aeron.untethered.linger.timeout': '300ms',
      'aeron.untethered.resting.timeout': '500ms',
    },
  });
});
afterAll(async () => {
  await local.close();
});

const udp = (): string => `aeron:udp?endpoint=${local.host.ipv4}:${nextPort()}|term-length=256k`;
const kIpc = 'aeron:ipc?term-length=256k';

describe.each(['IPC', 'UDP'] as const)('over %s', (medium) => {
  const channel = (): string => (medium === 'IPC' ? kIpc : udp());

  test.each([
    { what: 'a concurrent publication', exclusive: false, count: 20_000, size: 100 },
    { what: 'an exclusive publication', exclusive: true, count: 20_000, size: 100 },
    { what: 'a concurrent publication of many sizes', exclusive: false, count: 5_000, size: 'mix' },
    { what: 'an exclusive publication of many sizes', exclusive: true, count: 5_000, size: 'mix' },
    { what: 'claims in a concurrent publication', exclusive: false, count: 5_000, size: 'mix', claim: true },
    { what: 'claims in an exclusive publication', exclusive: true, count: 5_000, size: 'mix', claim: true },
    { what: 'messages of the maximum length', exclusive: false, count: 100, size: 'max' },
  ] as const)('$what: all arrives', async ({ exclusive, count, size, ...rest }) => {
    const uri = channel();
    const subscription = await local.client.subscription(uri, 60);
    const publication = await local.client.publication(uri, 60, { exclusive });
    expect(publication.opened.maxMessage).toBe(32 << 10);
    await exchange({ publication, subscriptions: [subscription], count, size, ...rest });
    await closeAll(publication, subscription);
  });

  test('several subscriptions each get everything, one that comes later from there on', async () => {
    const uri = channel();
    const publication = await local.client.publication(uri, 61);
    const early = [await local.client.subscription(uri, 61), await local.client.subscription(uri, 61)];
    await exchange({ publication, subscriptions: early, count: 500, size: 'mix' });
    const late = await local.client.subscription(uri, 61);
    await late.until({ images: 1 });
    await publication.send(500, { size: 'mix' });
    for (const subscription of early) {
      expectExactly(await subscription.until({ count: 1_000 }), 1_000);
    }
    // It joins where the slowest stands by its counter, which a client moves after each poll: a poll's fragments before 500 at the most.
    const first = (await late.until({ count: 1 })).images[0]?.first ?? -1;
    expect(first).toBeGreaterThan(400);
    expect(first).toBeLessThanOrEqual(500);
    const count = 1_000 - first;
    expect((await late.until({ count })).images).toMatchObject([
      { first, next: 1_000, count, outOfOrder: 0, corrupt: 0 },
    ]);
    await closeAll(publication, ...early, late);
  });

  test('clients of two processes share a concurrent publication, exclusive ones are apart', async () => {
    const uri = channel();
    const other = await Peer.java(local.host);
    const otherClient = await other.client(local.driver.dir);
    const subscription = await local.client.subscription(uri, 62);
    const shared = [await local.client.publication(uri, 62), await otherClient.publication(uri, 62)];
    expect(shared[0]?.opened.session).toBe(shared[1]?.opened.session);
    const exclusive = [
      await local.client.publication(uri, 62, { exclusive: true }),
      await otherClient.publication(uri, 62, { exclusive: true }),
    ];
    await subscription.until({ images: 3 });
    await Promise.all(
      [...shared, ...exclusive].map((publication) => publication.send(2_000, { size: 'mix' })),
    );
    const { images } = await subscription.until({ count: 8_000 });
    expect(images.map(({ count, corrupt }) => ({ count, corrupt }))).toEqual(
      images.map(({ session }) => ({
        count: session === shared[0]?.opened.session ? 4_000 : 2_000,
        corrupt: 0,
      })),
    );
    expect(images).toHaveLength(3);
    // The second client's objects go with it; the publication that both used stays.
    await other.close();
    await subscription.until({ images: 2 });
    await shared[0]?.send(10);
    await subscription.until({ count: 8_010 });
    await closeAll(...shared.slice(0, 1), ...exclusive.slice(0, 1), subscription);
  });

  test('an image ends, with the end of the stream reached, when its publication closes', async () => {
    const uri = channel();
    const subscription = await local.client.subscription(uri, 63);
    const publication = await local.client.publication(uri, 63);
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

  test('an untethered subscription that falls behind is left out, and comes back after its rest', async () => {
    const uri = channel();
    const tethered = await local.client.subscription(uri, 64);
    const untethered = await local.client.subscription(`${uri}|tether=false`, 64, { paused: true });
    const publication = await local.client.publication(uri, 64);
    await untethered.until({ images: 1 });
    // More than any window: without the rule for untethered ones this stands still.
    await exchange({ publication, subscriptions: [tethered], count: 2_000, size: 1_000 });
    await untethered.until({ ended: 1 });
    await untethered.until({ images: 1 });
    await untethered.pause(false);
    await publication.send(100, { size: 1_000 });
    await until('it sees the newest', async () =>
      (await untethered.status()).images.some((image) => image.next === 2_100),
    );
    await tethered.until({ count: 2_100 });
    expectExactly(await tethered.status(), 2_100);
    await closeAll(publication, tethered, untethered);
  });

  test('a claim that is never committed is passed over, and the stream of the other publishers goes on', async () => {
    const uri = channel();
    const subscription = await local.client.subscription(uri, 65);
    const publication = await local.client.publication(uri, 65);
    await exchange({ publication, subscriptions: [subscription], count: 10, size: 100 });
    const victim = await Peer.java(local.host);
    const dying = await (await victim.client(local.driver.dir)).publication(uri, 65);
    await dying.abandonClaim(500);
    await victim.kill();
    await publication.send(200, { size: 100 });
    expectExactly(await subscription.until({ count: 210 }), 210);
    const unblocked = (await local.client.counters()).find((counter) =>
      counter.label.startsWith('Unblocked Publications'),
    );
    expect(Number(unblocked?.value)).toBeGreaterThan(0);
    await closeAll(publication, subscription);
  });
});

describe('a spy', () => {
  test('sees what its publication sends, beside the remote subscriber', async () => {
    const uri = udp();
    const remote = await local.client.subscription(uri, 70);
    const publication = await local.client.publication(uri, 70);
    const spy = await local.client.subscription(`aeron-spy:${uri}`, 70);
    await exchange({ publication, subscriptions: [remote, spy], count: 5_000, size: 'mix' });
    await closeAll(publication, remote, spy);
  });

  test('alone keeps a publication connected only when asked to', async () => {
    const silent = udp();
    const spyOnly = await local.client.publication(silent, 71);
    const spy = await local.client.subscription(`aeron-spy:${silent}`, 71);
    await spy.until({ images: 1 });
    expect(await spyOnly.offer()).toBe('NOT_CONNECTED');
    const uri = udp();
    const simulated = await local.client.subscription(`aeron-spy:${uri}`, 72);
    const publication = await local.client.publication(`${uri}|ssc=true`, 72);
    await exchange({ publication, subscriptions: [simulated], count: 3_000, size: 'mix' });
    await closeAll(spyOnly, spy, publication, simulated);
  });

  test('that is slow holds the publisher up', async () => {
    const uri = udp();
    const remote = await local.client.subscription(uri, 73);
    const publication = await local.client.publication(uri, 73);
    const spy = await local.client.subscription(`aeron-spy:${uri}`, 73, { paused: true });
    await spy.until({ images: 1 });
    await publication.until({ connected: true });
    const some = await publication.send(10_000, { size: 1_000, partial: true, 'timeout-ms': 500 });
    expect(some.sent).toBeLessThan(10_000);
    await spy.pause(false);
    for (const subscription of [spy, remote]) {
      expectExactly(await subscription.until({ count: some.sent }), some.sent);
    }
    await closeAll(publication, remote, spy);
  });
});

describe("counters, through the client's CountersReader", () => {
  test('of the system are all there, by their number and name', async () => {
    const counters = await local.client.counters();
    const system = counters.filter((counter) => counter.type === 0);
    for (const [id, label] of kSystemLabels.entries()) {
      const counter = system.find((candidate) => candidate.id === id);
      expect(`${id} ${counter?.label.slice(0, label.length)}`).toBe(`${id} ${label}`);
    }
  });

  test('of a stream have their types and labels, and are gone after it', async () => {
    const uri = udp();
    const subscription = await local.client.subscription(uri, 80);
    const publication = await local.client.publication(uri, 80);
    const { position } = await exchange({
      publication,
      subscriptions: [subscription],
      count: 100,
      size: 100,
    });
    const { session, registrationId } = publication.opened;
    const bySession = (await local.client.counters()).filter((counter) =>
      counter.label.includes(`${session} 80 ${uri}`),
    );
    const label = (name: string): string => `${name}: ${registrationId} ${session} 80 ${uri}`;
    const find = (type: number, name: string): { label: string; value: string } | undefined =>
      bySession.find((counter) => counter.type === type && counter.label.startsWith(name));
    expect(find(1, 'pub-lmt')?.label).toBe(label('pub-lmt'));
    expect(find(12, 'pub-pos (concurrent)')?.label).toBe(label('pub-pos (concurrent)'));
    expect(find(2, 'snd-pos')?.label).toBe(label('snd-pos'));
    expect(find(9, 'snd-lmt')?.label).toBe(label('snd-lmt'));
    expect(find(13, 'snd-bpe')?.label).toBe(label('snd-bpe'));
    expect(Number(find(2, 'snd-pos')?.value)).toBe(position);
    expect(find(3, 'rcv-hwm')).toMatchObject({ value: String(position) });
    expect(find(5, 'rcv-pos')).toMatchObject({ value: String(position) });
    await until('the subscriber position is level', async () =>
      (await local.client.counters()).some(
        (counter) =>
          counter.type === 4 &&
          counter.label.includes(`${session} 80 ${uri} @0`) &&
          counter.value === String(position),
      ),
    );
    const channels = (await local.client.counters()).filter(
      (counter) => counter.label.endsWith(uri) || counter.label.includes(`${uri} `),
    );
    expect(channels.some((counter) => counter.type === 6 && counter.label.startsWith('snd-channel: '))).toBe(
      true,
    );
    expect(channels.some((counter) => counter.type === 7 && counter.label.startsWith('rcv-channel: '))).toBe(
      true,
    );
    await closeAll(publication, subscription);
    await untilGone(local.client, `${session} 80 ${uri}`);
  });

  test('of a client are made, read back by another, and go with it', async () => {
    const other = await local.peer.client(local.driver.dir);
    await local.peer.request('counter', {
      name: 'own',
      client: other.name,
      type: 1234,
      label: 'a-test-counter',
      value: 42,
    });
    const heartbeats = (await local.client.counters()).filter((counter) => counter.type === 11);
    expect(heartbeats.length).toBeGreaterThanOrEqual(2);
    const seen = (await local.client.counters()).find((counter) => counter.label === 'a-test-counter');
    expect(seen).toMatchObject({ type: 1234, value: '42' });
    expect(heartbeats.map((counter) => counter.registrationId)).toContain(seen?.ownerId);
    await other.close();
    await untilGone(local.client, 'a-test-counter');
  });
});

test('destinations are removed by their id', async () => {
  const endpoints = [udp(), udp()];
  const subscriptions = [
    await local.client.subscription(endpoints[0] ?? '', 81),
    await local.client.subscription(endpoints[1] ?? '', 81),
  ];
  const publication = await local.client.publication(
    'aeron:udp?control-mode=manual|fc=min|term-length=64k',
    81,
  );
  const ids: string[] = [];
  for (const channel of endpoints) {
    const args = { name: publication.name, client: local.client.name, channel };
    ids.push((await local.peer.request<{ id: string }>('add-destination-async', args)).id);
  }
  await exchange({ publication, subscriptions, count: 100, size: 'mix' });
  await local.peer.request('remove-destination', { name: publication.name, id: ids[1] ?? '' });
  await subscriptions[1]?.close();
  await publication.send(100, { size: 500 });
  await subscriptions[0]?.until({ count: 200 });
  await closeAll(publication, ...subscriptions.slice(0, 1));
});

test('a session id that the driver names is free, and the next one is another', async () => {
  const next = async (): Promise<number> =>
    (await local.peer.request<{ session: number }>('next-session', { name: local.client.name, stream: 82 }))
      .session;
  const session = await next();
  const channel = udp();
  const publication = await local.client.publication(`${channel}|session-id=${session}`, 82, {
    exclusive: true,
  });
  expect(publication.opened.session).toBe(session);
  expect(await next()).not.toBe(session);
  await publication.close();
});

test('a static counter is made once, whoever asks again', async () => {
  const make = (client: string): Promise<{ id: number }> =>
    local.peer.request('static-counter', { client, type: 4321, registration: 99, label: 'a-static-counter' });
  const other = await local.peer.client(local.driver.dir);
  const first = await make(local.client.name);
  expect(await make(other.name)).toMatchObject({ id: first.id });
  await other.close();
  expect((await local.client.counters()).filter(({ label }) => label === 'a-static-counter')).toHaveLength(1);
});

test('a client that was frozen for longer than its liveness timeout is told so, and the driver has let go of its things', async () => {
  const uri = udp();
  const subscription = await local.client.subscription(uri, 90);
  const frozen = await Peer.java(local.host);
  const client = await frozen.client(local.driver.dir);
  const publication = await client.publication(uri, 90);
  await exchange({ publication, subscriptions: [subscription], count: 10, size: 100 });
  const before = Number((await local.client.counters())[24]?.value);
  frozen.child.kill('SIGSTOP');
  await subscription.until({ ended: 1 });
  frozen.child.kill('SIGCONT');
  const status = await client.status({ 'await-closed': true });
  // By the driver's word, by its own clock, or by its counter that is gone: what it sees first.
  expect(status.errors.join(' ')).toMatch(/timeout|heartbeat timestamp counter/i);
  expect(Number((await local.client.counters())[24]?.value)).toBeGreaterThan(before);
  await frozen.kill();
  await subscription.close();
});

// As Aeron's driver has them; what it is built of and how it runs may follow.
const kSystemLabels: readonly string[] = [
  'Bytes sent',
  'Bytes received',
  'Failed offers to ReceiverProxy',
  'Failed offers to SenderProxy',
  'Failed offers to DriverConductorProxy',
  'NAKs sent',
  'NAKs received',
  'Status Messages sent',
  'Status Messages received',
  'Heartbeats sent',
  'Heartbeats received',
  'Retransmits sent',
  'Flow control under runs',
  'Flow control over runs',
  'Invalid packets',
  'Errors',
  'Short sends',
  'Failed attempts to free log buffers',
  'Sender flow control limits, i.e. back-pressure events',
  'Unblocked Publications',
  'Unblocked Control Commands',
  'Possible TTL Asymmetry',
  'ControllableIdleStrategy status',
  'Loss gap fills',
  'Client liveness timeouts',
  'Resolution changes',
  'Conductor max cycle time doing its work in ns',
  'Conductor work cycle exceeded threshold count',
  'Sender max cycle time doing its work in ns',
  'Sender work cycle exceeded threshold count',
  'Receiver max cycle time doing its work in ns',
  'Receiver work cycle exceeded threshold count',
  'NameResolver max time in ns',
  'NameResolver exceeded threshold count',
  'Aeron software: ',
  'Bytes currently mapped',
  'Retransmitted bytes',
  'Retransmit Pool Overflow count',
  'Error Frames received',
  'Error Frames sent',
  'Publications Revoked',
  'Publication Images Revoked',
  'Images rejected',
  'Control protocol version',
  'Status Messages rejected',
  'Failed offers to AsyncExecutorProxy',
];
