// SPDX-License-Identifier: Apache-2.0
// Our driver in a pod without interface, user or right, its device from outrigger-nicd on the host that has the interface: with Aeron's Java
// driver on another host, with another driver of ours that also lives by nicd, and while nicd is killed and comes back.
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { readBackendNote } from '../../sidecar/src/driver/backend';
import { kRoot } from './support/jar';
import { startJava, startOurs, type OurDriver } from './support/drivers';
import { kPodUser, makePod, Nicd, type Pod } from './support/nicd';
import {
  closeAll,
  endpoint,
  ends,
  exchange,
  expectExactly,
  kDirections,
  Made,
  makeMachines,
  type Machines,
  type Pair,
} from './support/pair';
import { until } from './support/until';

jest.setTimeout(120_000);

const run = promisify(execFile);

const world = new Made();
let machines: Machines;
let pod: Pod;
let nicd: Nicd;
beforeAll(async () => {
  machines = await world.add(makeMachines());
  pod = await world.add(makePod(machines.hosts.b));
  nicd = await world.add(Nicd.start(machines.hosts.b, '--allow-packet'));
});
afterAll(async () => {
  await world.close();
});

interface NodePair extends Pair {
  readonly driver: OurDriver;
}

/** Aeron's driver on host A; ours in the pod, its messages by the interface of host B. */
async function makeNodePair(backends: string, by = nicd): Promise<NodePair> {
  const { hosts, a, b } = machines;
  const made = new Made();
  try {
    const env = { ...by.env, OUTRIGGER_BACKENDS: backends };
    const javaDriver = await made.add(startJava(a));
    const driver = await made.add(startOurs(pod.host, { env }, pod.directory()));
    const java = {
      name: 'java',
      host: hosts.a,
      peer: a,
      driver: javaDriver,
      client: await made.add(a.client(javaDriver.dir)),
    };
    const client = await made.add(b.client(driver.dir));
    const ours = { name: 'ours', host: pod.host, peer: b, driver, client };
    return { hosts, java, ours, driver, close: () => made.close() };
  } catch (error) {
    await made.close();
    throw error;
  }
}

function processStatus(pid: number): Readonly<Record<string, string>> {
  const lines = readFileSync(`/proc/${pid}/status`, 'utf8').split('\n');
  return Object.fromEntries(
    lines.map((line) => {
      const [name = '', value = ''] = line.split(':');
      return [name, value.trim()] as const;
    }),
  );
}

async function explain(driver: OurDriver) {
  const command = join(kRoot, 'bin/outrigger');
  const { stdout } = await run(command, ['explain', '-d', driver.dir, '--json'], { maxBuffer: 1 << 24 });
  return JSON.parse(stdout) as {
    driver: {
      backend: string;
      facts: Record<string, string>;
      notBetter: { name: string; reason: string }[];
    };
    backends: { name: string; availability: string; causes: { cause: string }[] }[];
  };
}

describe.each(['xdp', 'packet'])('a driver on %s by nicd', (backend) => {
  let pair: NodePair;
  beforeAll(async () => {
    pair = await makeNodePair(backend);
  });
  afterAll(async () => {
    await pair.close();
  });

  test('has no interface, no capability and no way to get one', async () => {
    expect(await pod.interfaces()).toEqual(['lo']);
    const status = processStatus(pair.driver.child.pid as number);
    expect(status).toMatchObject({
      Uid: Array(4).fill(kPodUser).join('\t'),
      NoNewPrivs: '1',
      ...Object.fromEntries(['Inh', 'Prm', 'Eff', 'Bnd', 'Amb'].map((set) => [`Cap${set}`, '0'.repeat(16)])),
    });
  });

  test('is explained as what it is', async () => {
    const { driver, backends } = await explain(pair.driver);
    expect(driver).toMatchObject({
      backend,
      facts: { by: `outrigger-nicd at ${nicd.socket}`, interface: 'eth0' },
      notBetter: [],
    });
    expect(backends.find(({ name }) => name === backend)).toMatchObject({
      facts: expect.objectContaining({ by: `outrigger-nicd at ${nicd.socket}` }) as unknown,
    });
  });

  test('tells what it really runs with, as that changes', async () => {
    const facts = () => readBackendNote(pair.driver.dir)?.facts;
    expect(facts()).toMatchObject({
      mtu: '1500',
      queues: '1',
      offloads: expect.not.stringMatching(/^$/) as string,
    });
    await machines.hosts.b.setMtu(1400);
    try {
      await until('the MTU of the moment', () => facts()?.mtu === '1400');
      expect((await explain(pair.driver)).driver.facts).toMatchObject({ mtu: '1400', interface: 'eth0' });
    } finally {
      await machines.hosts.b.setMtu(1500);
    }
    await until('the MTU of before', () => facts()?.mtu === '1500');
  });

  describe.each(kDirections)('from %s', (direction) => {
    test.each([
      { what: 'small messages', family: 'IPv4', count: 10_000, size: 100 },
      { what: 'full datagrams', family: 'IPv6', count: 4_000, size: 'payload' },
      { what: 'messages of many sizes', family: 'IPv4', count: 2_000, size: 'mix' },
    ] as const)('$what arrive over $family', async ({ family, count, size }) => {
      const { from, to } = ends(pair, direction);
      const channel = `aeron:udp?endpoint=${endpoint(to, family)}`;
      const subscription = await to.client.subscription(channel, 10);
      const publication = await from.client.publication(`${channel}|term-length=256k`, 10);
      await exchange({ publication, subscriptions: [subscription], count, size });
      await closeAll(publication, subscription);
    });

    test('nicd is killed under load and comes back: nothing is lost, and the next stream opens', async () => {
      const { from, to } = ends(pair, direction);
      const channel = `aeron:udp?endpoint=${endpoint(to, 'IPv4')}`;
      const subscription = await to.client.subscription(channel, 10);
      const publication = await from.client.publication(`${channel}|term-length=1m`, 10);
      await publication.until({ connected: true });
      await subscription.until({ images: 1 });
      const count = 150_000;
      const sending = publication.send(count, { size: 200 });
      await subscription.until({ count: 10_000 });
      await nicd.kill('SIGKILL');
      const reason = () => readBackendNote(pair.driver.dir)?.reason ?? '';
      await until('the driver to say so', () => reason().includes('outrigger-nicd is away'));
      await subscription.until({ count: 40_000 });
      const from0 = nicd.logged;
      await nicd.start();
      await nicd.untilLogged('a client came back for its session', 1, from0);
      await until('the driver to say that it is back', () => !reason().includes('is away'));
      await sending;
      await subscription.until({ count });
      expectExactly(await subscription.status(), count);
      expect(readBackendNote(pair.driver.dir)).toMatchObject({ backend, changes: [] });

      const next = `aeron:udp?endpoint=${endpoint(to, 'IPv4')}`;
      const more = await to.client.subscription(next, 11);
      const again = await from.client.publication(`${next}|term-length=256k`, 11);
      await exchange({ publication: again, subscriptions: [more], count: 1000, size: 100 });
      await closeAll(publication, subscription, again, more);
    });
  });
});

test('two drivers that live by a nicd each exchange messages both ways', async () => {
  const made = new Made();
  const hosts = [machines.hosts.a, machines.hosts.b] as const;
  try {
    const far = await made.add(Nicd.start(machines.hosts.a));
    const farPod = await made.add(makePod(machines.hosts.a));
    const start = (where: Pod, by: Nicd): Promise<OurDriver> =>
      made.add(startOurs(where.host, { env: { ...by.env, OUTRIGGER_BACKENDS: 'xdp' } }, where.directory()));
    const drivers = [await start(farPod, far), await start(pod, nicd)] as const;
    const clients = [
      await made.add(machines.a.client(drivers[0].dir)),
      await made.add(machines.b.client(drivers[1].dir)),
    ] as const;
    for (const to of [0, 1] as const) {
      const channel = `aeron:udp?endpoint=${endpoint({ host: hosts[to] }, 'IPv6')}`;
      const subscription = await clients[to].subscription(channel, 20);
      const publication = await clients[to === 0 ? 1 : 0].publication(`${channel}|term-length=256k`, 20);
      await exchange({ publication, subscriptions: [subscription], count: 10_000, size: 'payload' });
      await closeAll(publication, subscription);
    }
    expect(drivers.map(({ dir }) => readBackendNote(dir)?.facts['by'])).toEqual([
      `outrigger-nicd at ${far.socket}`,
      `outrigger-nicd at ${nicd.socket}`,
    ]);
  } finally {
    await made.close();
  }
  await until('nicd has let go of everything', () => nicd.leftovers().length === 0).catch(() => undefined);
  expect(nicd.leftovers()).toEqual([]);
});

test('a nicd that hands out no packet sockets is named as the reason for the next backend', async () => {
  const made = new Made();
  try {
    const strict = await made.add(Nicd.start(machines.hosts.a));
    const node = await made.add(makePod(machines.hosts.a));
    const env = { ...strict.env, OUTRIGGER_BACKENDS: 'packet,mmsg' };
    const driver = await made.add(startOurs(node.host, { env }, node.directory()));
    await until('the driver runs', () => readBackendNote(driver.dir) !== undefined);
    const explained = await explain(driver);
    expect(explained.driver).toMatchObject({
      backend: 'mmsg',
      notBetter: [
        {
          name: 'packet',
          reason: expect.stringMatching(/outrigger-nicd refuses: .*--allow-packet/) as string,
        },
      ],
    });
    expect(explained.backends.find(({ name }) => name === 'packet')).toMatchObject({
      availability: 'impossible',
      causes: [{ cause: expect.stringContaining('--allow-packet') as string }],
    });
  } finally {
    await made.close();
  }
});

// What backend_loss.test.ts shows of devices that the driver opens itself.
describe.each([
  {
    what: "nicd's XDP program is pulled",
    backends: ['xdp', 'packet', 'mmsg'],
    reason: 'was detached',
    lose: () => nicd.pullProgram(),
    restore: () => Promise.resolve(),
  },
  {
    what: "nicd's XDP program is pulled, and nothing but the kernel's sockets is left",
    backends: ['xdp', 'mmsg'],
    reason: 'was detached',
    lose: () => nicd.pullProgram(),
    restore: () => Promise.resolve(),
  },
  {
    what: 'the interface of its packet sockets goes down for a while',
    backends: ['packet', 'mmsg'],
    reason: 'down',
    lose: () => machines.hosts.b.setLink('down'),
    restore: () => machines.hosts.b.setLink('up'),
  },
])('when $what', ({ backends, reason, lose, restore }) => {
  test.each(kDirections)('a stream from %s goes on by the next backend, complete', async (direction) => {
    const pair = await makeNodePair(backends.join(','));
    try {
      const { from, to } = ends(pair, direction);
      const channel = `aeron:udp?endpoint=${endpoint(to, 'IPv4')}`;
      const subscription = await to.client.subscription(channel, 10);
      const publication = await from.client.publication(`${channel}|term-length=1m`, 10);
      await publication.until({ connected: true });
      await subscription.until({ images: 1 });
      const note = () => readBackendNote(pair.driver.dir);
      expect(note()).toMatchObject({ backend: backends[0] });
      const count = 150_000;
      const sending = publication.send(count, { size: 200 });
      await subscription.until({ count: 10_000 });
      await lose();
      await until('the next backend', () => note()?.backend === backends[1]);
      await restore();
      await sending;
      await subscription.until({ count });
      expectExactly(await subscription.status(), count);
      expect(note()).toMatchObject({
        backend: backends[1],
        notBetter: [{ name: backends[0], reason: expect.stringContaining(reason) as string }],
        changes: [{ from: backends[0], to: backends[1] }],
      });
      await closeAll(publication, subscription);
    } finally {
      await pair.close();
    }
  });
});
