// SPDX-License-Identifier: Apache-2.0
// `outrigger capture` of a driver on a raw backend: another program reads the frames of a stream as UDP, with the right checksums, those that a
// device would have made or cut among them.
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { readBackendNote } from '../../sidecar/src/driver/backend';
import { kDpdk } from './support/drivers';
import {
  closeAll,
  endpoint,
  ends,
  exchange,
  kDirections,
  makeMachines,
  makePair,
  nextPort,
  type Machines,
} from './support/pair';
import { until } from './support/until';

jest.setTimeout(120_000);

const run = promisify(execFile);
const kCommand = join(__dirname, '../../bin/outrigger');

let machines: Machines;
let folder: string;
beforeAll(async () => {
  machines = await makeMachines();
  folder = mkdtempSync(join(tmpdir(), 'outrigger-capture-test-'));
});
afterAll(async () => {
  rmSync(folder, { recursive: true, force: true });
  await machines.close();
});

interface Captured {
  readonly output: string;
  readonly packets: number;
  readonly dropped: number;
}

/** Captures until told to end. */
function startCapture(directory: string, file: string): { end(): Promise<Captured> } {
  const child = spawn(kCommand, ['capture', '-d', directory, '-o', file, '--json'], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let text = '';
  child.stdout.on('data', (data: Buffer) => (text += data.toString()));
  child.stderr.on('data', (data: Buffer) => (text += data.toString()));
  const over = once(child, 'close');
  return {
    end: async () => {
      child.kill('SIGINT');
      await over;
      return JSON.parse(text) as Captured;
    },
  };
}

/** Values of these fields of each packet, as tshark reads them; checksums are checked, not believed. */
async function read(file: string, filter: string, ...fields: string[]): Promise<string[][]> {
  const { stdout } = await run(
    'tshark',
    [
      ...['-r', file, '-o', 'udp.check_checksum:TRUE', '-o', 'ip.check_checksum:TRUE', '-Y', filter],
      ...['-T', 'fields', ...fields.flatMap((field) => ['-e', field])],
    ],
    { maxBuffer: 256 * 1024 * 1024 },
  );
  return stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => line.split('\t'));
}

const kGood = '1';

describe.each(['packet', 'xdp', 'dpdk'])('a capture of %s', (backend) => {
  test.each([
    { direction: kDirections[0], family: 'IPv4' },
    { direction: kDirections[1], family: 'IPv4' },
    { direction: kDirections[1], family: 'IPv6' },
  ] as const)(
    'has each datagram of a stream from $direction over $family, whole',
    async ({ direction, family }) => {
      const pair = await makePair(machines, {
        ours: { env: { OUTRIGGER_BACKENDS: backend, ...(backend === 'dpdk' ? kDpdk : {}) } },
      });
      try {
        expect(readBackendNote(pair.ours.driver.dir)).toMatchObject({ backend });
        const { from, to } = ends(pair, direction as (typeof kDirections)[number]);
        const port = nextPort();
        const channel = `aeron:udp?endpoint=${endpoint(to, family, port)}`;
        const file = join(folder, `${backend}-${port}.pcapng`);
        const subscription = await to.client.subscription(channel, 10);
        const publication = await from.client.publication(`${channel}|term-length=1m`, 10);
        const capture = startCapture(pair.ours.driver.dir, file);
        // It is there before the messages: the file has its head.
        await until(
          'the capture',
          async () => (await run('sh', ['-c', `test -s ${file}`]).catch(() => undefined)) !== undefined,
        );
        await exchange({ publication, subscriptions: [subscription], count: 300, size: 'payload' });
        const { packets, dropped } = await capture.end();
        expect(dropped).toBe(0);

        const data = await read(
          file,
          `udp.dstport == ${port}`,
          'udp.checksum.status',
          'udp.length',
          'frame.packet_flags_direction',
          'frame.interface_name',
        );
        expect(new Set(data.map(([status]) => status))).toEqual(new Set([kGood]));
        expect(new Set(data.map(([, , , name]) => name))).toEqual(new Set(['eth0']));
        const way = direction === 'ours to java' ? '0x00000002' : '0x00000001';
        expect(new Set(data.map(([, , seen]) => seen))).toEqual(new Set([way]));
        const full = Math.max(...data.map(([, length]) => Number(length)));
        expect(full).toBe(1408 + 8);
        expect(data.filter(([, length]) => Number(length) === full).length).toBeGreaterThanOrEqual(300);
        // The answers go the other way.
        const answers = await read(file, `udp.srcport == ${port}`, 'udp.checksum.status');
        expect(answers.length).toBeGreaterThan(0);
        expect(new Set(answers.map(([status]) => status))).toEqual(new Set([kGood]));
        const all = await read(file, 'frame', 'frame.number');
        expect(all).toHaveLength(packets);
        expect(await read(file, '_ws.malformed', 'frame.number')).toEqual([]);
        await closeAll(publication, subscription);
      } finally {
        await pair.close();
      }
    },
  );
});

test('a capture of what the kernel sees is refused, and names tcpdump', async () => {
  const pair = await makePair(machines, { ours: { env: { OUTRIGGER_BACKENDS: 'mmsg' } } });
  try {
    expect(readBackendNote(pair.ours.driver.dir)).toMatchObject({ backend: 'mmsg' });
    const args = ['capture', '-d', pair.ours.driver.dir, '-o', join(folder, 'none.pcapng')];
    await expect(run(kCommand, args)).rejects.toMatchObject({
      code: 1,
      stderr: expect.stringContaining(
        'the driver runs mmsg, whose datagrams go through the kernel: tcpdump sees them',
      ) as string,
    });
  } finally {
    await pair.close();
  }
});

test('without a driver it says so', async () => {
  await expect(run(kCommand, ['capture', '-d', folder, '-o', '-'])).rejects.toMatchObject({
    code: 69,
    stderr: expect.stringContaining('no driver that can capture runs here') as string,
  });
});
