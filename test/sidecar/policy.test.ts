// SPDX-License-Identifier: Apache-2.0
// Topics' permissions in a real driver: its sidecar is in a directory, a foreign driver on another address sends, and a client in the driver's
// memory opens what it likes. Needs `make build`.
import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pino from 'pino';
import { Directory, kDirectoryDefaults } from '../../operator/src/directory/directory';
import { FakeCluster, inProcess, tokenOf, topicResource } from '../../operator/src/directory/testing';
import { configSchema } from '../../sidecar/src/config/schema';
import type { DirectoryStream } from '../../sidecar/src/directory/transport';
import { native } from '../../sidecar/src/native/index';
import type { NativeClient, SubscriptionOptions } from '../../sidecar/src/native/types';
import { startSidecar, type Sidecar } from '../../sidecar/src/server';
import { encodeBatch } from '../native/support';
import { Collector, freePort, Node, numbered, until } from './support';

jest.setTimeout(120_000);

const kStream = 1001; // as FakeCluster's topic has it
const kForeignAddress = '127.0.0.3';
const silent = pino({ level: 'silent' });

describe('a driver whose sidecar writes its policy', () => {
  let folder: string;
  let endpoint: string;
  let node: Node;
  let foreign: Node;
  let cluster: FakeCluster;
  let directory: Directory;
  let sidecar: Sidecar;
  const clients: NativeClient[] = [];
  const members: DirectoryStream[] = [];

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'outrigger-policy-'));
    const policyFile = join(folder, 'own/policy');
    endpoint = `127.0.0.1:${await freePort()}`;
    node = new Node('governed', endpoint, '', [], { OUTRIGGER_POLICY_FILE: policyFile });
    foreign = new Node('foreign', endpoint, '');
    cluster = new FakeCluster();
    cluster.addresses.set('governed', ['127.0.0.1']).set('late', [kForeignAddress]);
    directory = new Directory(cluster, { ...kDirectoryDefaults, replica: 'a' }, silent);
    directory.start();
    directory.namespaceSet('shop', {});
    directory.topicSet(topicResource('orders', 'shop', {}, kStream));
    node.driver.start();
    foreign.driver.start();
    sidecar = await startSidecar(
      configSchema.parse({
        driverDirectory: node.directory,
        grpcSocket: node.socket,
        httpListen: '127.0.0.1:0',
        endpoints: [endpoint],
        policyFile,
        drainTimeout: '5s',
        flushTimeout: '1s',
      }),
      {
        native,
        log: silent,
        openDirectory: inProcess(
          () => directory,
          () => tokenOf('governed'),
        ),
      },
    );
    await until('the driver', () => sidecar.link.state === 'up');
  });

  afterEach(async () => {
    members.splice(0).forEach((each) => each.close());
    await Promise.all(clients.splice(0).map((each) => each.close()));
    await node.client.close();
    await sidecar.drain();
    await directory.close();
    await Promise.all([node.stop(), foreign.stop()]);
    rmSync(folder, { recursive: true, force: true });
  });

  async function attach(to: Node): Promise<NativeClient> {
    const client = await native.connect({ directory: to.directory, onDriverLost: () => undefined }, 30_000);
    clients.push(client);
    return client;
  }

  function subscription(channel: string): SubscriptionOptions {
    return {
      channel,
      streamId: kStream,
      slowPolicy: 'BLOCK',
      disconnectAfterMs: 0,
      maxBatchBytes: 65_536,
      onResponses: () => undefined,
      onEnd: () => undefined,
    };
  }

  async function metric(name: string): Promise<number> {
    const text = await (await fetch(`http://${sidecar.httpAddress}/metrics`)).text();
    return Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(text)?.[1]);
  }

  /** A pod without a driver of ours registers. */
  function register(pod: string, address: string): void {
    const member = inProcess(
      () => directory,
      () => tokenOf(pod),
    )({ onResponse: () => undefined, onEnd: () => undefined });
    members.push(member);
    const endpoints = [{ network: 'pod', address, port: 40_200, mtu: 0 }];
    member.send({ hello: { instanceId: randomUUID(), endpoints, version: '1' } });
    member.send({ register: { topic: 'orders', role: 'ROLE_PUBLISHER' } });
  }

  it('refuses and counts the stream of who is no member, and takes it when it has become one', async () => {
    const collector = new Collector(node.client.subscribe('orders'));
    await collector.subscription.ready();
    const stranger = await attach(foreign);
    const publication = await stranger.addPublication({
      channel: `aeron:udp?endpoint=${endpoint}|interface=${kForeignAddress}|term-length=64k`,
      streamId: kStream,
      exclusive: true,
    });
    await until('refused SETUPs', async () => (await metric('outrigger_driver_sources_refused_total')) > 3);
    expect(publication.isConnected).toBe(false);
    await until('its entry in the error log', () => native.readErrors(node.directory).length > 0);
    expect(native.readErrors(node.directory).map(({ text }) => text)).toEqual([
      expect.stringContaining(`stream ${kStream} from ${kForeignAddress} to ${endpoint} refused`),
    ]);
    register('late', kForeignAddress);
    await until('the connection of the new member', () => publication.isConnected);
    const batch = encodeBatch(1, [numbered(1, 0), numbered(1, 1)]);
    expect(publication.offerBatch(batch).accepted).toBe(2);
    await until('its messages', () => collector.messages === 2);
    await publication.close();
    collector.subscription.close();
    await collector.over;
  });

  it('carries a topic between members as ever', async () => {
    const collector = new Collector(node.client.subscribe('orders'));
    await collector.subscription.ready();
    const publisher = node.client.publisher('orders');
    await publisher.whenConnected();
    for (let i = 0; i < 100; i++) {
      await publisher.publish(numbered(7, i));
    }
    await until('all messages', () => collector.messages === 100);
    expect(await metric('outrigger_driver_commands_forbidden_total')).toBe(0);
    expect(await metric('outrigger_driver_sources_refused_total')).toBe(0);
    await publisher.close();
    collector.subscription.close();
    await collector.over;
  });

  it("lets a client in the driver's memory open channels of topics that the sidecar has open, and no other", async () => {
    const app = await attach(node);
    const own = `aeron:udp?endpoint=${endpoint}`;
    await expect(app.addSubscription(subscription(own))).rejects.toThrow(
      `a subscription of channel '${own}' with stream ${kStream} is not allowed`,
    );
    const collector = new Collector(node.client.subscribe('orders'));
    await collector.subscription.ready();
    const allowed = await app.addSubscription(subscription(own));
    const foreignChannel = 'aeron:udp?endpoint=127.0.0.9:40200';
    await expect(
      app.addPublication({ channel: foreignChannel, streamId: kStream, exclusive: true }),
    ).rejects.toMatchObject({ code: 'DRIVER_REFUSED', message: expect.stringContaining(foreignChannel) });
    await expect(
      app.addPublication({ channel: 'aeron:udp?control-mode=manual', streamId: kStream, exclusive: true }),
    ).rejects.toThrow('in this role');
    const local = await app.addPublication({
      channel: 'aeron:ipc?term-length=64k',
      streamId: 5,
      exclusive: true,
    });
    expect(await metric('outrigger_driver_commands_forbidden_total')).toBe(3);
    await Promise.all([allowed.close(), local.close()]);
    collector.subscription.close();
    await collector.over;
  });
});
