// SPDX-License-Identifier: Apache-2.0
// The sidecar as a whole on a fake driver: addresses, health, admin, metrics, reflection, drain.
import { Client, credentials, status, type ServiceError } from '@grpc/grpc-js';
import { once } from 'node:events';
import { existsSync, linkSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { groupId, removeStaleSocket } from './grpc/socket_file';
import { FakeDriver } from './testing/fake_native';
import { connectTo } from './testing/grpc_client';
import { get, startFixture, type Fixture } from './testing/sidecar_fixture';

let fixture: Fixture | undefined;
const running = (): Fixture => fixture as Fixture;

const open = (topic: string, more: object = {}) => ({ open: { target: { topic }, ...more } });

/** int32 stream and session in the key of a stream counter. */
function streamKey(session: number, stream: number): Buffer {
  const key = Buffer.alloc(112);
  key.writeInt32LE(session, 8);
  key.writeInt32LE(stream, 12);
  return key;
}

function counter(
  id: number,
  typeId: number,
  value: number,
  more: { key?: Buffer; label?: string; registrationId?: bigint } = {},
) {
  return {
    id,
    typeId,
    value: BigInt(value),
    registrationId: 0n,
    ownerId: 0n,
    label: '',
    key: Buffer.alloc(112),
    ...more,
  };
}

function metric(body: string, series: string): number | undefined {
  const line = body.split('\n').find((each) => each.startsWith(`${series} `));
  return line === undefined ? undefined : Number(line.slice(series.length + 1));
}

afterEach(async () => {
  await fixture?.close();
  fixture = undefined;
});

describe('addresses', () => {
  it('makes a socket that user and group may use, and removes it at the end', async () => {
    fixture = await startFixture({ grpcListen: '127.0.0.1:0' });
    const socket = fixture.sidecar.socket as string;
    expect(statSync(socket).mode & 0o777).toBe(0o660);
    const tcp = connectTo(fixture.sidecar.grpcAddress as string);
    expect(await tcp.call('admin', 'getStatus')).toMatchObject({ driverState: 'DRIVER_STATE_UP' });
    tcp.close();
    await fixture.sidecar.drain();
    expect(existsSync(socket)).toBe(false);
  });

  it('removes a socket file that a dead process left, never one in use or another file', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'outrigger-socket-'));
    const path = join(folder, 's');
    const server = createServer().listen(path);
    await once(server, 'listening');
    await expect(removeStaleSocket(path)).rejects.toThrow('listens there already');
    const stale = join(folder, 'stale');
    linkSync(path, stale); // Node unlinks only the path that it bound
    server.close();
    await once(server, 'close');
    await removeStaleSocket(stale);
    expect(existsSync(stale)).toBe(false);
    writeFileSync(path, 'a file');
    await expect(removeStaleSocket(path)).rejects.toThrow('no socket');
    await removeStaleSocket(join(folder, 'absent'));
    rmSync(folder, { recursive: true });
  });

  it('refuses to start on a socket in use, and names it', async () => {
    fixture = await startFixture();
    await expect(startFixture({ grpcSocket: fixture.sidecar.socket })).rejects.toThrow(
      /grpcSocket .*listens there already/,
    );
  });

  it('refuses to start on an HTTP address in use, and names the key', async () => {
    fixture = await startFixture();
    await expect(startFixture({ httpListen: fixture.sidecar.httpAddress })).rejects.toThrow(
      /httpListen .*EADDRINUSE/,
    );
  });

  it('finds groups by name and number', () => {
    expect(groupId('1234')).toBe(1234);
    expect(groupId('root')).toBe(0);
    expect(() => groupId('no-such-group')).toThrow('no such group');
  });
});

describe('health', () => {
  it('serves while the driver is up, and watchers hear of changes', async () => {
    fixture = await startFixture();
    expect(await fixture.client.call('health', 'check')).toEqual({ status: 'SERVING' });
    expect((await get(fixture, '/livez')).body).toBe('ok\n');
    expect(await get(fixture, '/readyz')).toEqual({ status: 200, body: 'ready\n' });
    const watch = fixture.client.watchHealth('outrigger.v1.MessagingService');
    expect(await watch.next((answer) => answer['status'])).toBe('SERVING');
    fixture.driver.die('kill -9');
    expect(await watch.next((answer) => answer['status'])).toBe('NOT_SERVING');
    const ready = await get(fixture, '/readyz');
    expect(ready.status).toBe(503);
    expect(ready.body).toContain('kill -9');
    fixture.driver.revive();
    expect(await watch.next((answer) => answer['status'])).toBe('SERVING');
    watch.stream.cancel();
  });

  it('starts without a driver and says that it is away', async () => {
    const driver = new FakeDriver();
    driver.alive = false;
    fixture = await startFixture({}, driver);
    expect((await get(fixture, '/readyz')).status).toBe(503);
    expect(await fixture.client.call('admin', 'getStatus')).toMatchObject({
      driverState: 'DRIVER_STATE_CONNECTING',
    });
    const error = (await fixture.client
      .call('admin', 'listCounters')
      .catch((thrown: ServiceError) => thrown)) as ServiceError;
    expect(error.code).toBe(status.UNAVAILABLE);
  });

  it('does not know services that are not there', async () => {
    fixture = await startFixture();
    await expect(fixture.client.call('health', 'check', { service: 'nope' })).rejects.toMatchObject({
      code: status.NOT_FOUND,
    });
  });
});

describe('admin', () => {
  it('shows topics, streams, counters, errors and losses', async () => {
    fixture = await startFixture();
    fixture.driver.counterList = [counter(0, 0, 42, { label: 'Bytes sent' })];
    const subscriber = fixture.client
      .subscribe()
      .write(open('local', { initialCredit: { messages: 10, bytes: 1000 } }));
    await subscriber.next((answer) => answer['opened']);
    const publisher = fixture.client.publish().write(open('local'));
    publisher.write({ batch: { sequence: 1, messages: [Buffer.from('abc')] } });
    await publisher.next((answer) => answer['result']);
    await subscriber.next((answer) => answer['batch']);
    const call = (method: string) => running().client.call('admin', method);
    const { counterReads } = fixture.driver;
    expect(await call('listTopics')).toMatchObject({
      topics: [{ name: 'local', publishStreams: 1, publishedMessages: '1' }, { name: 'quotes' }],
    });
    expect(fixture.driver.counterReads - counterReads).toBe(1); // however many topics there are
    expect(await call('listStreams')).toMatchObject({
      publishers: [{ topic: 'local', connected: true, messages: '1', bytes: '3' }],
      subscribers: [{ topic: 'local', images: 1, messages: '1', bytes: '3', slowPolicy: 'BLOCK' }],
    });
    expect(await call('listCounters')).toMatchObject({ counters: [{ label: 'Bytes sent', value: '42' }] });
    expect(await call('listErrors')).toMatchObject({ errors: [{ count: 2, text: 'address in use' }] });
    expect(await call('listLosses')).toMatchObject({
      losses: [{ observations: '3', bytesLost: '4096', streamId: 6 }],
    });
    expect(await call('getStatus')).toMatchObject({
      version: '0.1.0',
      driverPid: '4711',
      endpoints: ['10.0.0.1:40123'],
    });
  });

  it.each(['grpc.reflection.v1.ServerReflection', 'grpc.reflection.v1alpha.ServerReflection'])(
    'answers reflection of %s',
    async (service) => {
      fixture = await startFixture();
      const raw = new Client(`unix:${fixture.sidecar.socket}`, credentials.createInsecure());
      const pass = (bytes: Buffer): Buffer => bytes;
      const stream = raw.makeBidiStreamRequest(`/${service}/ServerReflectionInfo`, pass, pass);
      stream.write(Buffer.from([0x3a, 0x01, 0x2a])); // list_services: "*"
      const [answer] = (await once(stream, 'data')) as [Buffer];
      expect(answer.toString('latin1')).toContain('outrigger.v1.MessagingService');
      expect(answer.toString('latin1')).toContain('grpc.health.v1.Health');
      stream.end();
      await once(stream, 'end');
      raw.close();
    },
  );
});

describe('metrics', () => {
  it('counts by topic, and never goes back when streams close', async () => {
    fixture = await startFixture();
    for (let round = 1; round <= 2; round++) {
      const subscriber = fixture.client
        .subscribe()
        .write(open('local', { initialCredit: { messages: 10, bytes: 1000 } }));
      await subscriber.next((answer) => answer['opened']);
      const publisher = fixture.client.publish().write(open('local'));
      publisher.write({ batch: { sequence: 1, messages: [Buffer.from('abc'), Buffer.from('de')] } });
      await publisher.next((answer) => answer['result']);
      await subscriber.next((answer) =>
        (answer['batch'] as { messages: Buffer[] } | undefined)?.messages.some(
          (each) => String(each) === 'de',
        ) === true
          ? true
          : undefined,
      );
      expect(
        metric((await get(fixture, '/metrics')).body, 'outrigger_grpc_streams{topic="local",kind="publish"}'),
      ).toBe(1);
      publisher.stream.end();
      await publisher.ended();
      subscriber.stream.cancel();
      await subscriber.ended();
      const { body } = await get(fixture, '/metrics');
      expect(metric(body, 'outrigger_published_messages_total{topic="local"}')).toBe(2 * round);
      expect(metric(body, 'outrigger_published_bytes_total{topic="local"}')).toBe(5 * round);
      expect(metric(body, 'outrigger_delivered_messages_total{topic="local"}')).toBe(2 * round);
      expect(metric(body, 'outrigger_grpc_streams{topic="local",kind="publish"}')).toBe(0);
    }
  });

  it('reads driver counters at scrape, sums sessions of a stream, and keeps what closed ones had', async () => {
    fixture = await startFixture();
    const session = (id: number, value: number) =>
      counter(id, 2, value, { key: streamKey(id, 1001), registrationId: BigInt(id) });
    const own = Buffer.alloc(112);
    own.writeInt32LE(5, 0);
    fixture.driver.counterList = [
      counter(0, 0, 1000),
      counter(5, 0, 3),
      counter(60, 40000, 77, { key: own }),
      counter(61, 40001, 1, {
        label:
          'outrigger: backend=xdp mode="native copy" interface="eth0" not better because: dpdk: not built',
      }),
      counter(62, 40002, 9, { key: own, label: 'outrigger network: bad_udp_checksums' }),
      session(50, 400),
      session(51, 600),
      counter(52, 4, 5000, {
        key: streamKey(1, 1001),
        label: 'sub-pos: 1 2 1001 aeron:udp?endpoint=a:1 @4000',
      }),
    ];
    const first = (await get(fixture, '/metrics')).body;
    expect(metric(first, 'outrigger_driver_bytes_sent_total')).toBe(1000);
    expect(metric(first, 'outrigger_driver_naks_sent_total')).toBe(3);
    expect(metric(first, 'outrigger_driver_datagrams_sent_total')).toBe(77);
    expect(metric(first, 'outrigger_network_events_total{reason="bad_udp_checksums"}')).toBe(9);
    expect(metric(first, 'outrigger_topic_sent_bytes_total{topic="quotes"}')).toBe(1000);
    expect(metric(first, 'outrigger_topic_consumed_bytes_total{topic="quotes"}')).toBe(1000);
    expect(metric(first, 'outrigger_driver_up')).toBe(1);
    expect(metric(first, 'outrigger_backend_info{backend="xdp",mode="native copy",interface="eth0"}')).toBe(
      1,
    );
    expect(first).toContain('# TYPE outrigger_topic_sent_bytes_total counter');
    expect(first).not.toMatch(/session\w*=/);

    fixture.driver.counterList = [counter(0, 0, 1500), session(51, 700)];
    const second = (await get(fixture, '/metrics')).body;
    expect(metric(second, 'outrigger_topic_sent_bytes_total{topic="quotes"}')).toBe(1100);
    expect(metric(second, 'outrigger_driver_bytes_sent_total')).toBe(1500);

    fixture.driver.counterList = [counter(0, 0, 10)]; // a driver that started anew
    const third = (await get(fixture, '/metrics')).body;
    expect(metric(third, 'outrigger_driver_bytes_sent_total')).toBe(1510);
    expect(metric(third, 'outrigger_topic_sent_bytes_total{topic="quotes"}')).toBe(1100);
  });

  it('makes no series of stream ids that are no topic, however many clients open', async () => {
    fixture = await startFixture();
    fixture.driver.counterList = Array.from({ length: 100 }, (_, i) =>
      counter(50 + i, 2, 10, { key: streamKey(i, 50_000 + i), registrationId: BigInt(i) }),
    );
    const { body } = await get(fixture, '/metrics');
    expect(metric(body, 'outrigger_topic_sent_bytes_total{topic="(channel)"}')).toBe(1000);
    expect(
      body.split('\n').filter((line) => line.startsWith('outrigger_topic_sent_bytes_total')),
    ).toHaveLength(1);
  });

  it('shows a topics file that is refused', async () => {
    fixture = await startFixture();
    writeFileSync(fixture.topicsFile, 'topics: nonsense');
    while (
      ((await fixture.client.call('admin', 'getStatus'))['topicsError'] as string | undefined) === undefined
    ) {
      await new Promise(setImmediate);
    }
    const { body } = await get(fixture, '/metrics');
    expect(metric(body, 'outrigger_topics_stale')).toBe(1);
    expect(metric(body, 'outrigger_topics')).toBe(2);
  });

  it('answers other paths and methods with what there is', async () => {
    fixture = await startFixture();
    expect(await get(fixture, '/nope')).toEqual({
      status: 404,
      body: '/nope: not here; /metrics, /livez and /readyz are\n',
    });
    expect((await fetch(`http://${fixture.sidecar.httpAddress}/metrics`, { method: 'POST' })).status).toBe(
      405,
    );
  });
});

describe('leave', () => {
  it('makes the sidecar not ready, while its apps go on publishing and subscribing', async () => {
    fixture = await startFixture();
    const subscriber = fixture.client
      .subscribe()
      .write(open('local', { initialCredit: { messages: 100, bytes: 10_000 } }));
    await subscriber.next((answer) => answer['opened']);

    expect(await fixture.client.call('admin', 'leave')).toEqual({ streams: 1 });
    expect(await fixture.client.call('admin', 'leave')).toEqual({ streams: 1 });
    const ready = await get(fixture, '/readyz');
    expect(ready).toMatchObject({ status: 503 });
    expect(ready.body).toContain('leaving');
    expect(await get(fixture, '/livez')).toMatchObject({ status: 200 });
    expect(await fixture.client.call('admin', 'getStatus')).toMatchObject({ leaving: true, draining: false });
    expect(await fixture.client.call('health', 'check')).toMatchObject({ status: 'SERVING' });

    const publisher = fixture.client.publish().write(open('local'));
    await publisher.next((answer) => answer['opened']);
    publisher.write({ batch: { sequence: 1, messages: [Buffer.from('still here')] } });
    await publisher.next((answer) => answer['result']);
    const batch = await subscriber.next((answer) => answer['batch'] as { messages: Buffer[] } | undefined);
    expect(batch.messages.map(String)).toEqual(['still here']);
  });
});

describe('drain', () => {
  it('flushes and ends publishers, then ends subscribers after what they have, then is over', async () => {
    fixture = await startFixture();
    const subscriber = fixture.client
      .subscribe()
      .write(open('local', { initialCredit: { messages: 100, bytes: 10_000 } }));
    await subscriber.next((answer) => answer['opened']);
    const publisher = fixture.client.publish().write(open('local'));
    await publisher.next((answer) => answer['opened']);
    const publication = [...fixture.driver.publications][0];
    publisher.write({ batch: { sequence: 1, messages: [Buffer.from('last')] } });
    await publisher.next((answer) => answer['result']);

    expect(await fixture.client.call('admin', 'drain')).toEqual({ timeoutMs: 2000 });
    expect((await publisher.ended())?.code).toBe(status.UNAVAILABLE);
    expect((await subscriber.ended())?.code).toBe(status.UNAVAILABLE);
    expect(publication?.closedInOrder).toBe(true);
    const batches = subscriber.answers.flatMap(
      (each) => (each['batch'] as { messages: Buffer[] } | undefined)?.messages ?? [],
    );
    expect(batches.map(String)).toEqual(['last']);
    await fixture.sidecar.ended;
    expect(fixture.driver.subscriptions.size).toBe(0);
  });

  it('takes no new streams once it has begun', async () => {
    fixture = await startFixture({ drainTimeout: '10s' });
    fixture.driver.room = 0;
    await fixture.client
      .subscribe()
      .write(open('local'))
      .next((answer) => answer['opened']);
    const stuck = fixture.client
      .publish()
      .write(open('local', { backPressure: 'BACK_PRESSURE_POLICY_WAIT', waitTimeoutMs: 600_000 }));
    await stuck.next((answer) => answer['opened']);
    stuck.write({ batch: { sequence: 1, messages: [Buffer.from('x')] } });
    while (fixture.driver.waits === 0) {
      await new Promise(setImmediate);
    }
    const over = fixture.sidecar.drain();
    const refused = (await fixture.client.publish().write(open('local')).ended()) as ServiceError;
    expect(refused.code).toBe(status.UNAVAILABLE);
    expect(refused.details).toContain('shutting down');
    expect((await get(fixture, '/readyz')).body).toContain('draining');
    fixture.driver.grantRoom(10);
    expect(await stuck.next((answer) => answer['result'])).toMatchObject({ accepted: 1 });
    await over;
  });

  it('does not wait for a connection that never says anything', async () => {
    fixture = await startFixture();
    const silent = connect(fixture.sidecar.socket as string);
    await once(silent, 'connect');
    await fixture.sidecar.drain();
    expect(silent.readyState).toBe('open');
    silent.destroy();
  });

  it('cuts what does not end in time', async () => {
    fixture = await startFixture({ drainTimeout: '50ms' });
    fixture.driver.room = 0;
    await fixture.client
      .subscribe()
      .write(open('local'))
      .next((answer) => answer['opened']);
    const stuck = fixture.client
      .publish()
      .write(open('local', { backPressure: 'BACK_PRESSURE_POLICY_WAIT', waitTimeoutMs: 600_000 }));
    await stuck.next((answer) => answer['opened']);
    stuck.write({ batch: { sequence: 1, messages: [Buffer.from('x')] } });
    while (fixture.driver.waits === 0) {
      await new Promise(setImmediate);
    }
    await fixture.sidecar.drain();
    expect(await stuck.ended()).toBeDefined();
  });
});
