// SPDX-License-Identifier: Apache-2.0
// A port that is taken: the error that a client gets names who has it, whichever backend holds it and wherever its driver is.
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readBackendNote } from '../../sidecar/src/driver/backend';
import { kDpdk, startOurs, type OurDriver } from './support/drivers';
import { kPodUser, makePod, Nicd } from './support/nicd';
import { endpoint, Made, makeMachines, nextPort, type Machines } from './support/pair';
import { until } from './support/until';

jest.setTimeout(120_000);

let machines: Machines;
beforeAll(async () => {
  machines = await makeMachines();
});
afterAll(async () => {
  await machines.close();
});

const kStream = 5;

/** What a second driver on host B answers to a subscription of an endpoint that somebody holds. */
async function refusalOf(channel: string, second: OurDriver): Promise<string> {
  const client = await machines.b.client(second.dir);
  try {
    return await client.subscription(channel, kStream).then(
      () => 'nothing: it was opened',
      (error: unknown) => (error as Error).message,
    );
  } finally {
    await client.close();
  }
}

function driver(backends: string): OurDriver {
  return startOurs(machines.hosts.b, {
    env: { OUTRIGGER_BACKENDS: backends, ...(backends === 'dpdk' ? kDpdk : {}) },
  });
}

function nameOf({ child, dir }: OurDriver): string {
  return `held by outrigger-driver ${child.pid} in ${dir};`;
}

test.each([
  { first: 'mmsg', second: 'mmsg' },
  { first: 'packet', second: 'mmsg' },
  { first: 'xdp', second: 'packet' },
])('a driver on $second is told that one on $first has the port', async ({ first, second }) => {
  const made = new Made();
  const channel = `aeron:udp?endpoint=${endpoint({ host: machines.hosts.b }, 'IPv6')}`;
  try {
    const drivers = [await made.add(driver(first)), await made.add(driver(second))] as const;
    const holder = await made.add(machines.b.client(drivers[0].dir));
    const subscription = await holder.subscription(channel, kStream);
    expect(await refusalOf(channel, drivers[1])).toContain(nameOf(drivers[0]));
    await subscription.close();
  } finally {
    await made.close();
  }
});

/** What `ss` of host B says of the UDP sockets at a port: protocol, address and process. */
async function socketsAt(port: number): Promise<string[]> {
  const child = machines.hosts.b.spawn('ss', ['-Hulnp', `sport = :${port}`], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let text = '';
  child.stdout?.on('data', (data: Buffer) => (text += data.toString()));
  await once(child, 'close');
  expect(child.exitCode).toBe(0);
  return text.split('\n').filter((line) => line !== '');
}

test.each(['packet', 'xdp', 'dpdk'])(
  'ss shows the port of a subscription on %s, and whose it is, while it is open',
  async (backend) => {
    const made = new Made();
    try {
      const ours = await made.add(driver(backend));
      const client = await made.add(machines.b.client(ours.dir));
      expect(readBackendNote(ours.dir)).toMatchObject({ backend });
      for (const family of ['IPv4', 'IPv6'] as const) {
        const port = nextPort();
        const where = endpoint({ host: machines.hosts.b }, family, port);
        expect(await socketsAt(port)).toEqual([]);
        const subscription = await client.subscription(`aeron:udp?endpoint=${where}`, kStream);
        const shown = await socketsAt(port);
        expect(shown).toHaveLength(1);
        expect(shown[0]).toContain(` ${where} `);
        expect(shown[0]).toContain(`pid=${ours.child.pid},`);
        await subscription.close();
        await until('the port to be free', async () => (await socketsAt(port)).length === 0);
      }
    } finally {
      await made.close();
    }
  },
);

test('any other program is named by its process', async () => {
  const port = 20_999;
  const script = `require('dgram').createSocket('udp4').bind(${port}, '0.0.0.0', () => console.log('bound'))`;
  const other: ChildProcess = machines.hosts.b.spawn(process.execPath, ['-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const second = driver('mmsg');
  try {
    await once(other.stdout as NodeJS.ReadableStream, 'data');
    const channel = `aeron:udp?endpoint=${endpoint({ host: machines.hosts.b }, 'IPv4', port)}`;
    expect(await refusalOf(channel, second)).toMatch(
      new RegExp(`held by process ${other.pid} \\(.+\\) of user 0;`),
    );
  } finally {
    const closed = once(other, 'close');
    other.kill('SIGKILL');
    await closed;
    await second.close();
  }
});

test('a port that nicd reserved for a driver in a pod is named so to one on the host, and to one in another pod', async () => {
  const made = new Made();
  const channel = `aeron:udp?endpoint=${endpoint({ host: machines.hosts.b }, 'IPv4')}`;
  try {
    const nicd = await made.add(Nicd.start(machines.hosts.b, '--allow-packet'));
    const inPod = async (): Promise<OurDriver> => {
      const pod = await made.add(makePod(machines.hosts.b));
      const env = { ...nicd.env, OUTRIGGER_BACKENDS: 'packet' };
      return made.add(startOurs(pod.host, { env }, pod.directory()));
    };
    const drivers = [await inPod(), await inPod(), await made.add(driver('mmsg'))] as const;
    const holder = await made.add(machines.b.client(drivers[0].dir));
    const subscription = await holder.subscription(channel, kStream);
    const name = `process ${drivers[0].child.pid} of user ${kPodUser}`;
    expect(await refusalOf(channel, drivers[1])).toContain(`is steered to ${name}`);
    expect(await refusalOf(channel, drivers[2])).toContain(`held by outrigger-nicd for ${name}`);
    await subscription.close();
  } finally {
    await made.close();
  }
});
