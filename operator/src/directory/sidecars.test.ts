// SPDX-License-Identifier: Apache-2.0
// Apps on real sidecars that a real directory joins: what a gRPC client sees of topics that no file names. The network is in memory.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { status, type ServiceError } from '@grpc/grpc-js';
import pino from 'pino';
import { FakeDriver } from '../../../sidecar/src/testing/fake_native';
import { statusDetails } from '../../../sidecar/src/testing/grpc_client';
import { get, startFixture, type Fixture } from '../../../sidecar/src/testing/sidecar_fixture';
import { until } from '../../../sidecar/src/testing/until';
import { Directory, kDirectoryDefaults } from './directory';
import { FakeCluster, inProcess, tokenOf, topicResource } from './testing';

let cluster: FakeCluster;
let directory: Directory;
/** One for both sidecars: endpoints of either lead to the other. */
let driver: FakeDriver;
let fixtures: Fixture[];

async function sidecar(pod: string, address: string, settings = {}): Promise<Fixture> {
  cluster.addresses.set(pod, [address]);
  const open = inProcess(
    () => directory,
    () => tokenOf(pod),
  );
  const made = await startFixture(
    { endpoints: [`${address}:40123`], openTimeout: '2s', ...settings },
    driver,
    open,
  );
  fixtures.push(made);
  return made;
}

const open = (topic: string) => ({ open: { target: { topic } } });
const credit = { initialCredit: { messages: 1e6, bytes: 1e9 } };

describe('apps on sidecars of a cluster', () => {
  beforeEach(() => {
    cluster = new FakeCluster();
    directory = new Directory(cluster, { ...kDirectoryDefaults, replica: 'a' }, pino({ level: 'silent' }));
    directory.start();
    directory.namespaceSet('shop', {});
    directory.topicSet(topicResource('orders'));
    driver = new FakeDriver();
    fixtures = [];
  });
  afterEach(async () => {
    await Promise.all(fixtures.map((each) => each.close()));
    await directory.close();
  });

  it('publish to whoever subscribes, by the name of the topic alone', async () => {
    const [from, to] = [await sidecar('p', '10.0.0.1'), await sidecar('s', '10.0.0.2')];
    const receiver = to.client.subscribe().write({ open: { target: { topic: 'orders' }, ...credit } });
    await receiver.next((answer) => answer['opened'] as object);
    const stream = from.client.publish().write(open('orders'));
    expect(await stream.next((answer) => answer['opened'] as object)).toMatchObject({ streamId: 1001 });
    await stream.next((answer) => (answer['event'] as { connected?: boolean } | undefined)?.connected);
    stream.write({ batch: { sequence: 1, messages: [Buffer.from('hello')] } });
    const [message] = await receiver.next(
      (answer) => (answer['batch'] as { messages: Buffer[] } | undefined)?.messages,
    );
    expect(String(message)).toBe('hello');
    expect((await get(from, '/metrics')).body).toMatch(/^outrigger_directory_up 1$/m);
  });

  it('show the members of a topic and the way to each, from either side', async () => {
    const [from, to] = [await sidecar('p', '10.0.0.1'), await sidecar('s', '10.0.0.2')];
    const receiver = to.client.subscribe().write({ open: { target: { topic: 'orders' }, ...credit } });
    await receiver.next((answer) => answer['opened'] as object);
    const stream = from.client.publish().write(open('orders'));
    await stream.next((answer) => (answer['event'] as { connected?: boolean } | undefined)?.connected);
    const uri = 'aeron:udp?endpoint=10.0.0.2:40123';
    driver.counterList = [
      {
        id: 0,
        typeId: 40_003,
        value: process.hrtime.bigint(),
        registrationId: driver.registrationOf(uri),
        ownerId: 0n,
        label: `outrigger destination: ${uri}`,
        key: Buffer.alloc(112),
      },
    ];
    const membersOf = async ({ client }: Fixture): Promise<unknown> => {
      const { topics } = (await client.call('admin', 'listTopics')) as {
        topics: { name: string; members?: unknown }[];
      };
      return topics.find(({ name }) => name === 'orders')?.members;
    };
    expect(await membersOf(from)).toEqual([
      expect.objectContaining({ pod: 'shop/p', publishes: true, self: true }),
      expect.objectContaining({
        pod: 'shop/s',
        subscribes: true,
        network: 'pod',
        address: '10.0.0.2',
        port: 40_123,
        to: { state: 'PATH_STATE_CONNECTED', reason: '' },
      }),
    ]);
    // The stream in memory comes from no address: the subscriber can't tell that it is that publisher's.
    expect(await membersOf(to)).toEqual([
      expect.objectContaining({
        pod: 'shop/p',
        from: {
          state: 'PATH_STATE_NOT_CONNECTED',
          reason: expect.stringContaining('no stream has come from 10.0.0.1') as string,
        },
      }),
      expect.objectContaining({ pod: 'shop/s', self: true }),
    ]);
    expect(await from.client.call('admin', 'getStatus')).toMatchObject({
      directoryState: 'DIRECTORY_STATE_UP',
      pod: 'shop/p',
    });
  });

  it('are told the nearest topic where there is none of that name', async () => {
    const { client } = await sidecar('p', '10.0.0.1');
    const error = await client.publish().write(open('ordres')).ended();
    expect(error?.code).toBe(status.NOT_FOUND);
    expect(error?.details).toContain('did you mean "orders"?');
    expect(statusDetails(error as ServiceError).details[0]?.fields).toEqual(
      expect.arrayContaining(['UNKNOWN_TOPIC', 'nearest', 'orders']),
    );
  });

  it('lose their stream with the reason when the topic stops allowing it, publisher and subscriber each for itself', async () => {
    const { client } = await sidecar('both', '10.0.0.1');
    const receiver = client.subscribe().write({ open: { target: { topic: 'orders' }, ...credit } });
    await receiver.next((answer) => answer['opened'] as object);
    const stream = client.publish().write(open('orders'));
    await stream.next((answer) => answer['opened'] as object);
    directory.topicSet(topicResource('orders', 'shop', { allow: [{ publish: false, subscribe: true }] }));
    expect((await stream.ended())?.code).toBe(status.PERMISSION_DENIED);
    // Its own end has a reason of its own.
    directory.topicSet(topicResource('orders', 'shop', { allow: [{ publish: true, subscribe: true }] }));
    const again = client.publish().write(open('orders'));
    await again.next((answer) => answer['opened'] as object);
    expect(receiver.over).toBe(false);
    directory.topicSet(topicResource('orders', 'shop', { allow: [{ publish: true, subscribe: false }] }));
    expect((await receiver.ended())?.code).toBe(status.PERMISSION_DENIED);
    expect(again.over).toBe(false);
  });

  it('end as members when the last stream on a topic ends', async () => {
    const { client } = await sidecar('p', '10.0.0.1');
    const first = client.publish().write(open('orders'));
    const second = client.publish().write(open('orders'));
    await first.next((answer) => answer['opened'] as object);
    await second.next((answer) => answer['opened'] as object);
    first.stream.end();
    await first.ended();
    expect(directory.stats.registrations).toBe(1);
    second.stream.end();
    await second.ended();
    await until('it is no member', () => directory.stats.registrations === 0);
  });

  describe('whose driver has a policy', () => {
    const folders: string[] = [];
    let path: string;
    const rules = (): string[] => readFileSync(path, 'utf8').split('\n').slice(1, -2);
    beforeEach(() => {
      const folder = mkdtempSync(join(tmpdir(), 'outrigger-policy-'));
      folders.push(folder);
      path = join(folder, 'policy');
    });
    // After the last sidecar has closed: until then each writes its policy.
    afterAll(() => folders.forEach((folder) => rmSync(folder, { recursive: true, force: true })));
    const governed = (pod: string, address: string): Promise<Fixture> =>
      sidecar(pod, address, { policyFile: path, topicsFile: '' });

    it('let members publish to what they subscribe to, as members come and go', async () => {
      const to = await governed('s', '10.0.0.2');
      const receiver = to.client.subscribe().write({ open: { target: { topic: 'orders' }, ...credit } });
      await receiver.next((answer) => answer['opened'] as object);
      expect(rules()).toEqual(['subscribe 1001 aeron:udp?endpoint=10.0.0.2:40123']);
      const from = await sidecar('p', '10.0.0.1');
      const stream = from.client.publish().write(open('orders'));
      await stream.next((answer) => answer['opened'] as object);
      await until('a publisher is known', () => rules().length > 1);
      expect(rules()).toEqual(['subscribe 1001 aeron:udp?endpoint=10.0.0.2:40123', 'source 10.0.0.1']);
      stream.stream.end();
      await stream.ended();
      await until('it is gone', () => rules().length === 1);
    });

    it('may send to the subscribers of what they publish, while they may publish it', async () => {
      const to = await sidecar('s', '10.0.0.2');
      const receiver = to.client.subscribe().write({ open: { target: { topic: 'orders' }, ...credit } });
      await receiver.next((answer) => answer['opened'] as object);
      const from = await governed('p', '10.0.0.1');
      const stream = from.client.publish().write(open('orders'));
      await stream.next((answer) => answer['opened'] as object);
      expect(rules()).toEqual([
        'destination 1001 aeron:udp?endpoint=10.0.0.2:40123',
        'publish 1001 aeron:udp?control-mode=manual',
      ]);
      directory.topicSet(topicResource('orders', 'shop', { allow: [{ publish: false, subscribe: true }] }));
      expect((await stream.ended())?.code).toBe(status.PERMISSION_DENIED);
      expect(readFileSync(path, 'utf8')).toBe('outrigger-policy 1\nend 0\n');
    });

    it('have the rule before the driver is asked, each time', async () => {
      const { client } = await governed('p', '10.0.0.1');
      const asked: string[][] = [];
      const { publications } = driver;
      const add = publications.add.bind(publications);
      jest.spyOn(publications, 'add').mockImplementation((publication) => {
        asked.push(readFileSync(path, 'utf8').split('\n'));
        return add(publication);
      });
      const stream = client.publish().write(open('orders'));
      await stream.next((answer) => answer['opened'] as object);
      expect(asked).toHaveLength(1);
      expect(asked[0]).toContain('publish 1001 aeron:udp?control-mode=manual');
    });
  });
});
