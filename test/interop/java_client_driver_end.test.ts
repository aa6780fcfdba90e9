// SPDX-License-Identifier: Apache-2.0
// The end of our driver as an unmodified Java client sees it: asked for, in order, killed and restarted; and the edges of its directory:
// other users, a volume that is full.
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { startOurs, temporaryDirectory, type DriverOptions, type OurDriver } from './support/drivers';
import { makeHosts, type HostPair } from './support/hosts';
import { javaPeerFolder } from './support/jar';
import { closeAll, exchange, expectExactly, nextPort } from './support/pair';
import { Peer, type Client } from './support/peer';
import { until } from './support/until';

jest.setTimeout(120_000);

let hosts: HostPair;
let peer: Peer;
beforeAll(async () => {
  hosts = await makeHosts();
  peer = await Peer.java(hosts.b);
});
afterAll(async () => {
  await peer.close();
  await hosts.close();
});

const udp = (): string => `aeron:udp?endpoint=${hosts.b.ipv4}:${nextPort()}|term-length=64k`;

async function started(
  options: DriverOptions = {},
  dir?: string,
): Promise<{ driver: OurDriver; client: Client }> {
  const driver = startOurs(hosts.b, options, dir);
  return { driver, client: await peer.client(driver.dir, { 'driver-timeout-ms': 4_000 }) };
}

async function works(client: Client, channel = udp()): Promise<void> {
  const subscription = await client.subscription(channel, 7);
  const publication = await client.publication(channel, 7);
  await exchange({ publication, subscriptions: [subscription], count: 300, size: 'mix' });
  await closeAll(publication, subscription);
}

describe('a request to terminate', () => {
  test('is denied by default, and counted as an error', async () => {
    const { driver, client } = await started();
    await peer.request('terminate', { dir: driver.dir, token: 'please' });
    await until('the refusal is counted', async () =>
      (await client.counters()).some(({ type, id, value }) => type === 0 && id === 15 && Number(value) > 0),
    );
    await works(client);
    expect(driver.child.exitCode).toBeNull();
    await closeAll(client, driver);
  });

  test('ends a driver that allows it, and its files are gone', async () => {
    const { driver, client } = await started({ env: { AERON_DRIVER_TERMINATION_VALIDATOR: 'allow' } });
    await works(client);
    await peer.request('terminate', { dir: driver.dir, token: 'please' });
    await driver.exited;
    expect(driver.child.exitCode).toBe(0);
    expect(existsSync(join(driver.dir, 'cnc.dat'))).toBe(false);
    await client.status({ 'await-closed': true });
    await closeAll(client, driver);
  });
});

describe('with open streams', () => {
  test('a driver that ends in order leaves nothing behind, and its clients know', async () => {
    const { driver, client } = await started();
    const channel = udp();
    const subscription = await client.subscription(channel, 7);
    const publication = await client.publication(channel, 7);
    await exchange({ publication, subscriptions: [subscription], count: 100, size: 'mix' });
    driver.child.kill('SIGTERM');
    await driver.exited;
    expect({ code: driver.child.exitCode, output: driver.output() }).toMatchObject({ code: 0 });
    expect(existsSync(driver.dir) ? readdirSync(driver.dir) : []).toEqual([]);
    const status = await client.status({ 'await-closed': true });
    expect(status.errors.join(' ')).toMatch(/driver/i);
    expect(await publication.offer()).toBe('CLOSED');
    await closeAll(client, driver);
  });

  test('a driver that is killed is missed, and its successor takes the directory over', async () => {
    const first = await started();
    const channel = udp();
    const subscription = await first.client.subscription(channel, 7);
    const publication = await first.client.publication(channel, 7);
    await exchange({ publication, subscriptions: [subscription], count: 100, size: 'mix' });
    first.driver.child.kill('SIGKILL');
    await first.driver.exited;
    const status = await first.client.status({ 'await-closed': true });
    expect(status.errors.join(' ')).toMatch(/DriverTimeoutException/);
    const second = await started({}, first.driver.dir);
    await works(second.client, channel);
    const logs = ['publications', 'images'].flatMap((name) => readdirSync(join(first.driver.dir, name)));
    await until('logs of the dead one and of the closed streams are gone', () =>
      ['publications', 'images'].every((name) => readdirSync(join(first.driver.dir, name)).length === 0),
    );
    expect(logs.length).toBeLessThanOrEqual(2);
    await closeAll(first.client, second.client, second.driver);
  });

  test('a second driver keeps out of the directory of a live one', async () => {
    const { driver, client } = await started();
    const intruder = startOurs(hosts.b, {}, driver.dir);
    await intruder.exited;
    expect(intruder.child.exitCode).not.toBe(0);
    expect(intruder.output()).toContain(driver.dir);
    await works(client);
    await closeAll(client, driver);
  });
});

describe('with other users', () => {
  // Numbers that no system has accounts for; one group for all.
  const [kDriverUser, kClientUser, kGroup] = [64_123, 64_124, 64_125];

  test('driver and Java client have different UIDs and one group', async () => {
    const parent = temporaryDirectory();
    const jars = mkdtempSync(join(tmpdir(), 'outrigger-interop-jars-'));
    try {
      // Copies, since other users need not reach the folder of this checkout.
      cpSync(await javaPeerFolder(), jars, { recursive: true });
      const copyOf = (program: string): string => {
        const copy = join(jars, basename(program));
        cpSync(program, copy);
        return copy;
      };
      chmodSync(jars, 0o755);
      chownSync(parent, kDriverUser, kGroup);
      chmodSync(parent, 0o2770);
      const as = (uid: number): string[] => [
        '--reuid',
        String(uid),
        '--regid',
        String(kGroup),
        '--clear-groups',
        ...['--pdeathsig', 'KILL'],
      ];
      const driver = startOurs(
        {
          ...hosts.b,
          spawn: (command, args, options) =>
            hosts.b.spawn('setpriv', [...as(kDriverUser), copyOf(command), ...args], options),
        },
        {},
        join(parent, 'driver'),
      );
      const stranger = await Peer.java(
        {
          ...hosts.b,
          spawn: (command, args, options) =>
            hosts.b.spawn('setpriv', [...as(kClientUser), command, ...args], options),
        },
        { cwd: '/' },
        jars,
      );
      const client = await stranger.client(driver.dir);
      expect(statSync(join(driver.dir, 'cnc.dat'))).toMatchObject({ uid: kDriverUser, gid: kGroup });
      expect(statSync(join(driver.dir, 'cnc.dat')).mode & 0o777).toBe(0o660);
      await works(client);
      await works(client, 'aeron:ipc?term-length=64k');
      await closeAll(client, stranger, driver);
    } finally {
      rmSync(parent, { recursive: true, force: true });
      rmSync(jars, { recursive: true, force: true });
    }
  });
});

describe('on a volume that fills up', () => {
  let volume: string;
  beforeEach(() => {
    volume = temporaryDirectory();
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=16m', 'outrigger-interop', volume]);
  });
  afterEach(() => {
    execFileSync('umount', ['-l', volume]);
    rmSync(volume, { recursive: true, force: true });
  });

  test('streams are refused or held up with a reason, the JVM lives, and all goes on when there is room', async () => {
    // A JVM of its own: one that was there before the volume does not see it from its namespace.
    const victim = await Peer.java(hosts.b);
    const driver = startOurs(hosts.b, { under: volume });
    const client = await victim.client(driver.dir);
    const roomy = udp();
    const subscription = await client.subscription(roomy, 8);
    const publication = await client.publication(roomy.replace('64k', '1m'), 8);
    await exchange({ publication, subscriptions: [subscription], count: 50, size: 1_000 });
    // Everything that is left, by another's hand.
    execFileSync('sh', ['-c', 'dd if=/dev/zero of="$0/ballast" bs=64k 2>/dev/null || true', volume]);
    // Through all three terms of the publication, and of its image: much of both has no memory yet.
    const some = await publication.send(20_000, { size: 1_000, partial: true, 'timeout-ms': 2_000 });
    expect(some.sent).toBeLessThan(20_000);
    expect(some.backPressured).toBeGreaterThan(0);
    const refused = client.publication(udp().replace('64k', '16m'), 9, { exclusive: true });
    await expect(refused.then((other) => other.send(1, { 'timeout-ms': 500 }))).rejects.toThrow();
    expect(
      peer.child.exitCode ?? peer.child.signalCode ?? driver.child.exitCode ?? driver.child.signalCode,
    ).toBeNull();
    rmSync(join(volume, 'ballast'));
    const rest = await publication.send(5_000, { size: 1_000 });
    expect(rest.sent).toBe(5_000);
    const total = 50 + some.sent + rest.sent;
    expectExactly(await subscription.until({ count: total }), total);
    await closeAll(client, victim, driver);
  });

  test('a volume with no room for the driver itself is refused with the sizes', async () => {
    execFileSync('mount', ['-o', 'remount,size=1m', volume]);
    const driver = startOurs(hosts.b, { under: volume });
    await driver.exited;
    expect(driver.child.exitCode).not.toBe(0);
    expect(driver.output()).toMatch(/cnc\.dat/);
    mkdirSync(driver.dir, { recursive: true });
  });
});
