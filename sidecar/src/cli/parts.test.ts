// SPDX-License-Identifier: Apache-2.0
// The parts of the command that need no sidecar: checks of sequences and payloads, tables, pacing, help.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Latencies } from './latency';
import { grouped, json, table } from './output';
import { paced } from './pacer';
import { blankPayload, intendedNsOf, isIntact, kStampBytes, monotonicNs, sequenceOf, stamp } from './payload';
import { runCli } from './program';
import { SequenceCheck, SessionChecks } from './sequence_check';

describe('sequence check', () => {
  const check = (sequence: readonly number[], sent: number): object => {
    const made = new SequenceCheck();
    sequence.forEach((each) => made.take(each));
    const { received, duplicated, outOfOrder } = made;
    return { received, lost: made.lost(sent), duplicated, outOfOrder };
  };

  it.each([
    [[0, 1, 2], 3, { received: 3, lost: 0, duplicated: 0, outOfOrder: 0 }],
    [[0, 2], 3, { received: 2, lost: 1, duplicated: 0, outOfOrder: 0 }],
    [[0, 1], 5, { received: 2, lost: 3, duplicated: 0, outOfOrder: 0 }],
    [[0, 0, 1, 1], 2, { received: 2, lost: 0, duplicated: 2, outOfOrder: 0 }],
    [[2, 0, 1], 3, { received: 3, lost: 0, duplicated: 0, outOfOrder: 2 }],
    [[5, 1, 1, 3, 4, 2, 0], 6, { received: 6, lost: 0, duplicated: 1, outOfOrder: 5 }],
    [[], 4, { received: 0, lost: 4, duplicated: 0, outOfOrder: 0 }],
  ])('of %j out of %d is %j', (sequence, sent, expected) => {
    expect(check(sequence, sent)).toEqual(expected);
  });

  it('begins anew for a session that is joined again: what was sent while the subscriber was away is no loss', () => {
    const checks = new SessionChecks();
    checks.joined(7);
    [3, 4, 6].forEach((each) => checks.take(7, each));
    checks.take(8, 0);
    checks.joined(7);
    [20, 21].forEach((each) => checks.take(7, each));
    const whole = { lost: 0, duplicated: 0, outOfOrder: 0 };
    expect(checks.reports).toEqual([
      { ...whole, sessionId: 7, first: 3, last: 6, received: 3, lost: 1 },
      { ...whole, sessionId: 8, first: 0, last: 0, received: 1 },
      { ...whole, sessionId: 7, first: 20, last: 21, received: 2 },
    ]);
  });
});

describe('payload', () => {
  it('carries its number and time, and shows any changed byte', () => {
    const payload = blankPayload(64);
    const now = monotonicNs();
    stamp(payload, 2 ** 40, now);
    expect(isIntact(payload)).toBe(true);
    expect([sequenceOf(payload), intendedNsOf(payload)]).toEqual([2 ** 40, now]);
    for (let i = 0; i < payload.length; i++) {
      const changed = Buffer.from(payload);
      changed[i] = (changed[i] as number) ^ 4;
      expect(isIntact(changed)).toBe(false);
    }
    expect(isIntact(payload.subarray(0, 40))).toBe(false);
    expect(isIntact(Buffer.alloc(kStampBytes - 1))).toBe(false);
  });
});

describe('pacing', () => {
  it('gives each message the time it is due, also when it is late', async () => {
    const due: number[] = [];
    const sent = await paced({
      rate: 2000,
      count: 50,
      durationMs: Infinity,
      signal: new AbortController().signal,
      send: (sequence, intendedNs) => {
        due.push(intendedNs);
        expect(sequence).toBe(due.length - 1);
        return sequence === 10 ? new Promise((resolve) => setTimeout(resolve, 5)) : undefined;
      },
    });
    expect(sent).toBe(50);
    const start = due[0] as number;
    due.forEach((each, i) => expect(each - start).toBeCloseTo(i * 500_000, -1));
  });

  it('ends at the signal', async () => {
    const stop = new AbortController();
    const sent = await paced({
      rate: 0,
      count: Infinity,
      durationMs: Infinity,
      signal: stop.signal,
      send: (sequence) => {
        if (sequence === 600) {
          stop.abort();
        }
        return undefined;
      },
    });
    expect(sent).toBeGreaterThan(600);
  });
});

describe('output', () => {
  it('aligns tables, numbers to the right', () => {
    expect(
      table(
        ['NAME', 'N'],
        [
          ['a', 5],
          ['bcd', 12345],
        ],
      ),
    ).toBe('NAME      N\na         5\nbcd   12345');
  });

  it('groups digits and writes bigints', () => {
    expect([grouped(1234567), grouped(999), grouped(-1000n)]).toEqual(['1,234,567', '999', '-1,000']);
    expect(json({ a: 5n, b: 2n ** 60n })).toBe('{"a":5,"b":"1152921504606846976"}');
  });

  it('sums latencies up in microseconds', () => {
    const latencies = new Latencies();
    for (let us = 1; us <= 1000; us++) {
      latencies.record(us * 1000);
    }
    const summary = latencies.summary();
    expect(summary.p50).toBeCloseTo(500, -1);
    expect(summary.p99).toBeCloseTo(990, -1);
    expect(summary.max).toBeCloseTo(1000, -1);
  });
});

describe('command line', () => {
  let out: string;
  beforeEach(() => {
    out = '';
    jest.spyOn(process.stdout, 'write').mockImplementation((chunk) => ((out += String(chunk)), true));
    jest.spyOn(process.stderr, 'write').mockImplementation((chunk) => ((out += String(chunk)), true));
  });
  afterEach(() => jest.restoreAllMocks());

  it.each(['pub', 'sub', 'stat', 'errors', 'loss'])(
    '%s --help has examples and exit statuses',
    async (command) => {
      expect(await runCli([command, '--help'])).toBe(0);
      expect(out).toContain('Examples:');
      expect(out).toContain('Exit status:');
      expect(out).toContain('--json');
    },
  );

  it.each([
    [['pbu'], 'pub'],
    [['pub', '--cuont', '5'], '--count'],
    [['pub', 'quotes', '--count', 'many'], 'a whole number'],
    [['pub'], 'name a topic'],
    [['sub', 'quotes', '--channel', 'aeron:ipc', '--stream', '1'], 'one of them'],
    [['sub', '--channel', 'aeron:ipc'], '--stream'],
    [['sub', 'quotes', '--format', 'xml'], 'text'],
  ])('%j is refused with a hint', async (argv, hint) => {
    expect(await runCli(argv)).toBe(64);
    expect(out).toContain(hint);
  });

  it('tells the version of the package', async () => {
    const { version } = JSON.parse(readFileSync(join(__dirname, '../../../package.json'), 'utf8')) as {
      version: string;
    };
    expect(await runCli(['--version'])).toBe(0);
    expect(out.trim()).toBe(version);
  });
});
