// SPDX-License-Identifier: Apache-2.0
// pub, sub, stat, errors and loss: against a sidecar with a driver in memory, and against counters made by hand.
import { Readable } from 'node:stream';
import type { CounterSnapshot, NativeTools } from '../native/types';
import { FakeDriver } from '../testing/fake_native';
import { startFixture, type Fixture } from '../testing/sidecar_fixture';
import { leave } from './leave';
import type { Out } from './output';
import { pub, type PubOptions } from './pub';
import { streamTable } from './stream_table';
import { sub, type SubOptions } from './sub';
import { errors, loss, stat } from './tools';

let fixture: Fixture;
let lines: string[];
const out: Out = { isTty: false, line: (text) => lines.push(text), frame: (text) => lines.push(text) };
const sink = {
  write: (text: string): undefined => {
    lines.push(...text.trimEnd().split('\n'));
  },
};

beforeEach(async () => {
  lines = [];
  fixture = await startFixture();
  jest.spyOn(process.stderr, 'write').mockImplementation(() => true);
});
afterEach(async () => {
  jest.restoreAllMocks();
  await fixture.close();
});

const address = (): string => `unix:${fixture.sidecar.socket}`;
const pubOptions = (more: Partial<PubOptions> = {}): PubOptions => ({
  address: address(),
  backPressure: 'wait',
  linger: 0,
  wait: 5000,
  json: true,
  ...more,
});
const subOptions = (more: Partial<SubOptions> = {}): SubOptions => ({
  address: address(),
  format: 'text',
  slowPolicy: 'block',
  ...more,
});

describe('pub and sub', () => {
  it('carry lines of standard input, the last one also without its newline', async () => {
    const received = sub('local', subOptions({ count: 3 }), sink);
    expect(await pub('local', pubOptions(), out, Readable.from(['one\ntw', 'o\nthr', 'ee']))).toBe(0);
    expect(await received).toBe(0);
    const summary = lines.find((line) => line.startsWith('{')) as string; // publisher and subscriber share `lines`
    expect(lines.filter((line) => line !== summary)).toEqual(['one', 'two', 'three']);
    expect(JSON.parse(summary)).toMatchObject({ accepted: 3, refused: 0 });
  });

  it('generate and check messages', async () => {
    const received = sub('local', subOptions({ count: 500, check: true, format: 'none', json: true }), sink);
    expect(await pub('local', pubOptions({ count: 500, size: 100 }), out)).toBe(0);
    expect(await received).toBe(0);
    const objects = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
    const summary = objects.find((each) => each['type'] === 'summary');
    expect(summary).toMatchObject({ received: 500, lost: 0, duplicated: 0, outOfOrder: 0, corrupt: 0 });
    // Both name the session, so that the numbers of several publishers can be told apart.
    const { sessions } = objects.find((each) => 'accepted' in each) as { sessions: readonly number[] };
    expect(sessions).toHaveLength(1);
    expect(summary?.['sessions']).toEqual([
      expect.objectContaining({ sessionId: sessions[0], first: 0, last: 499, received: 500, lost: 0 }),
    ]);
  });

  it('say with their status that something was refused or missing', async () => {
    const nobody = pubOptions({ wait: 0, count: 5, backPressure: 'fail' });
    expect(await pub('local', nobody, out)).toBe(1);
    expect(JSON.parse(lines[0] as string)).toMatchObject({ refused: 5, refusals: { NOT_CONNECTED: 5 } });
    expect(await sub('local', subOptions({ count: 1, duration: 1 }), sink)).toBe(1);
  });

  it('say who is missing: the sidecar, or a subscriber', async () => {
    // Long enough for a busy machine to open the stream: this one is about the subscriber.
    await expect(pub('local', pubOptions({ wait: 2000 }), out)).rejects.toThrow('no subscriber came');
    await expect(pub('local', pubOptions({ wait: 20, address: 'unix:/nowhere' }), out)).rejects.toThrow(
      'no sidecar answers at unix:/nowhere',
    );
    await expect(sub('locla', subOptions(), sink)).rejects.toThrow('did you mean "local"');
  });

  it('print a line of JSON for each message and event', async () => {
    const received = sub('local', subOptions({ count: 1, json: true, format: 'hex' }), sink);
    await pub('local', pubOptions({ json: false }), out, Readable.from(['hi\n']));
    await received;
    expect(lines.map((line) => JSON.parse(line) as object)).toMatchObject([
      { type: 'imageAvailable' },
      { type: 'message', payload: '6869', size: 2 },
      { type: 'summary', received: 1 },
    ]);
  });
});

function counter(
  typeId: number,
  value: bigint,
  sessionId: number,
  channel = 'aeron:udp?endpoint=a:1',
): CounterSnapshot {
  const key = Buffer.alloc(112);
  key.writeInt32LE(sessionId, 8);
  key.writeInt32LE(1001, 12);
  key.writeInt32LE(channel.length, 16);
  key.write(channel, 20);
  return {
    id: typeId,
    typeId,
    value,
    registrationId: BigInt(typeId),
    ownerId: 0n,
    label: `type ${typeId}`,
    key,
  };
}

describe('stream table', () => {
  it('puts the counters of a stream into one row', () => {
    const rows = streamTable([
      counter(1, 900n, 5),
      counter(2, 700n, 5),
      counter(12, 800n, 5),
      counter(5, 100n, 6),
      counter(3, 160n, 6),
      counter(4, 90n, 6),
      counter(4, 80n, 6),
      counter(0, 1n, 6),
    ]);
    expect(rows).toEqual([
      {
        streamId: 1001,
        sessionId: 5,
        channel: 'aeron:udp?endpoint=a:1',
        published: 800n,
        sent: 700n,
        limit: 900n,
        received: undefined,
        ahead: undefined,
        consumed: undefined,
        subscribers: 0,
      },
      expect.objectContaining({ sessionId: 6, received: 100n, ahead: 60n, consumed: 80n, subscribers: 2 }),
    ]);
  });

  it('bears a key with an impossible length', () => {
    const broken = counter(2, 1n, 5);
    broken.key.writeInt32LE(-3, 16);
    expect(streamTable([broken])[0]?.channel).toBe('');
    broken.key.writeInt32LE(5000, 16);
    expect(streamTable([broken])).toHaveLength(1);
  });
});

describe('leave', () => {
  it('tells the sidecar, and says when there is none', async () => {
    expect(await leave({ address: address(), timeout: 5000, json: true }, out)).toBe(0);
    expect(lines).toEqual(['{"streams":0}']);
    expect(await fixture.client.call('admin', 'getStatus')).toMatchObject({ leaving: true });
    const nobody = leave({ address: 'unix:/nowhere', timeout: 5000 }, out);
    await expect(nobody).rejects.toThrow('no sidecar answers at unix:/nowhere');
  });
});

describe('stat, errors and loss', () => {
  it('show counters and streams, with rates from the second look on', async () => {
    const driver = new FakeDriver();
    driver.counterList = [counter(2, 700n, 5), { ...counter(0, 42n, 0), label: 'Bytes sent' }];
    let looks = 0;
    const tools: NativeTools = {
      readCounters: () =>
        driver.counterList.map((each) => ({ ...each, value: each.value + BigInt(looks++ * 1_000_000) })),
      readDriver: () => ({ pid: 4711, startMs: 1, heartbeatAgeMs: 12 }),
      readErrors: () => [{ count: 2, firstMs: 0, lastMs: 1, text: 'address in use' }],
      readLosses: () => [],
    };
    expect(await stat({ dir: '/d', interval: 1, count: 2, json: true }, tools, out)).toBe(0);
    const [first, second] = lines.map(
      (line) => JSON.parse(line) as { streams: { bytesPerSecond: number | null }[] },
    );
    expect(first?.streams[0]?.bytesPerSecond).toBeNull();
    expect(second?.streams[0]?.bytesPerSecond).toBeGreaterThan(0);
    lines = [];
    await stat({ dir: '/d', interval: 1 }, tools, out);
    expect(lines[0]).toContain('driver 4711 in /d');
    expect(lines[0]).toContain('Bytes sent');
    lines = [];
    expect(errors({ dir: '/d' }, tools, out)).toBe(0);
    expect(lines[0]).toContain('address in use');
    expect(loss({ dir: '/d', json: true }, tools, out)).toBe(0);
    expect(JSON.parse(lines[1] as string)).toEqual({ directory: '/d', losses: [] });
  });
});
