// SPDX-License-Identifier: Apache-2.0
// The benchmark itself works: a tiny run of every engine suite gives results of the promised form, with every payload checked. No number is judged.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { type Results, makeCase, median, table, withTable } from './results';

const kRoot = resolve(__dirname, '../..');
const kCaseKeys = [
  ...['suite', 'path', 'backend', 'mtu', 'sizeBytes', 'lossPercent', 'metric', 'unit'],
  ...['ours', 'peer', 'peerTuning', 'peerValue', 'ratio', 'runs'],
];
const kAbout: Parameters<typeof makeCase>[0] = {
  suite: 's',
  path: 'engine',
  backend: 'mmsg',
  mtu: 1500,
  sizeBytes: 288,
  lossPercent: 0,
  peer: 'aeron',
  peerTuning: 'default',
};

describe('results', () => {
  it('are better when the ratio is larger, for rates and for costs', () => {
    expect(makeCase(kAbout, 'throughput', [30, 10, 20], [10, 10, 10]).ratio).toBe(2);
    expect(makeCase(kAbout, 'rttP50', [30, 10, 20], [10, 10, 10]).ratio).toBe(0.5);
  });

  it('stay finite when nothing was used', () => {
    expect(makeCase(kAbout, 'idleCpu', [0], [2]).ratio).toBe(20);
  });

  it('are medians, and none without values', () => {
    expect(median([3, 1, 2])).toBe(2);
    expect(median([4, 1, 2, 3])).toBe(2.5);
    expect(() => median([])).toThrow('no values');
  });

  it('replace the table in a document and leave its prose alone', () => {
    const results: Results = {
      machine: { cpu: 'c', cores: 2, memoryGb: 4, kernel: 'k' },
      date: 'now',
      mode: 'smoke',
      seconds: 1,
      cases: [makeCase(kAbout, 'throughput', [2e6], [1e6])],
      failures: [],
    };
    const document = `before\n${table({ ...results, cases: [] })}\nafter\n`;
    const updated = withTable(document, results);
    expect(updated).toContain('**2.00×**');
    expect(updated.startsWith('before\n')).toBe(true);
    expect(updated.endsWith('\nafter\n')).toBe(true);
    expect(withTable(updated, results)).toBe(updated);
  });
});

const asRoot = process.getuid?.() === 0 ? describe : describe.skip;

asRoot('make bench BENCH=smoke', () => {
  const folder = mkdtempSync(join(tmpdir(), 'outrigger-bench-test-'));
  const file = join(folder, 'results.json');
  let results: Results;

  beforeAll(() => {
    execFileSync(join(kRoot, 'scripts/bench'), ['smoke', '--out', file, '--document', 'no'], {
      cwd: kRoot,
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    results = JSON.parse(readFileSync(file, 'utf8')) as Results;
  }, 240_000);
  afterAll(() => rmSync(folder, { recursive: true }));

  it('measures every engine suite, with no payload lost, disordered or damaged', () => {
    expect(results.failures).toEqual([]);
    expect([...new Set(results.cases.map((one) => one.suite))].sort()).toEqual([
      'idle-1-streams',
      'loss',
      'rtt',
      'throughput',
    ]);
  });

  it('gives each case all that the format promises', () => {
    for (const one of results.cases) {
      expect(Object.keys(one)).toEqual(expect.arrayContaining(kCaseKeys));
      expect(one.ratio).toBeGreaterThan(0);
      expect(Number.isFinite(one.ratio)).toBe(true);
      expect(one.runs).toBeGreaterThanOrEqual(1);
    }
  });

  it('says on what machine and when', () => {
    expect(results.machine.cores).toBeGreaterThan(0);
    expect(new Date(results.date).getTime()).not.toBeNaN();
  });

  it('leaves no namespace and no driver directory behind', () => {
    expect(execFileSync('ip', ['netns', 'list'], { encoding: 'utf8' })).not.toMatch(/\bogb\d+[ab]\b/);
    expect(readdirSync('/dev/shm').filter((name) => name.startsWith('outrigger-bench-'))).toEqual([]);
  });
});
