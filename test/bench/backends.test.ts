// SPDX-License-Identifier: Apache-2.0
// The backends' part of the benchmark: its statistics, charts and text, and each floor for a moment, held against the interface's own counters. No number
// is judged.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import {
  LATENCY_CHART,
  THROUGHPUT_CHART,
  latencyChart,
  report,
  throughputChart,
  verdicts,
  withReport,
} from './backend_report';
import {
  type BackendResults,
  type Curve,
  type Rates,
  aims,
  at,
  medianCurve,
  p50,
  rateRatio,
} from './backend_results';
import { type Ends, VARIANTS, datagramBytes, floorBytes } from './backend_variants';
import { BackendRuns } from './backends';
import { logarithmic, logarithmicTicks, svg } from './chart';
import { Hosts } from './hosts';
import type { Results } from './results';
import { run, stopAll } from './shell';

const kRoot = resolve(__dirname, '../..');

const rates = (...bytesPerSecond: number[]): Rates => ({
  bytes: bytesPerSecond,
  bytesPerSecond,
  cpuSecondsPerGigabyte: bytesPerSecond.map(() => 1.5),
  missedPercent: bytesPerSecond.map(() => 0),
});
const curve = (p50Us: number): Curve => [
  [10, p50Us / 2],
  [50, p50Us],
  [99, p50Us * 2],
  [99.9, p50Us * 4],
  [100, p50Us * 8],
];
function found(): BackendResults {
  const point = (
    variant: string,
    trains: boolean,
    engine: Rates,
    floor: Rates,
  ): BackendResults['rates'][number] => ({
    ...{ variant, trains, mtu: 1500, messageBytes: 1376, floorBytes: 1408 },
    ...{ engine, floor },
  });
  return {
    rounds: 3,
    rates: [
      point('socket', false, rates(2e8, 1e8, 9e8), rates(2.5e8)),
      point('mmsg', false, rates(3e8), rates(3e8)),
      point('xdp native', false, rates(6e8), rates(5e8)),
      point('mmsg, trains', true, rates(2e9), rates(4e9)),
      point('uring', false, rates(), rates(1e8)),
    ],
    roundTrips: [
      { variant: 'socket', mtu: 1500, engine: [curve(20)], floor: [curve(10)] },
      { variant: 'xdp native', mtu: 1500, engine: [curve(9), curve(7), curve(8)], floor: [curve(5)] },
    ],
    reflectors: [{ name: 'XDP reflector, by xdp', mtu: 1500, curves: [curve(4)] }],
    missing: [{ what: 'engine over uring', reason: 'a seccomp filter forbids io_uring' }],
  };
}

describe('statistics', () => {
  it('take the middle run of each per cent', () => {
    expect(at(medianCurve([curve(9), curve(7), curve(8)]), 50)).toBe(8);
    expect(p50([])).toBeUndefined();
    expect(() => medianCurve([])).toThrow('no curves');
    expect(() => medianCurve([curve(1), [[10, 1]]])).toThrow('different per cents');
    expect(() => at(curve(1), 42)).toThrow('no 42 %');
  });

  it('divide medians, and nothing by what was not measured', () => {
    const [socket, , , , uring] = found().rates;
    expect(socket && rateRatio(socket)).toBe(0.8);
    expect(uring && rateRatio(uring)).toBeUndefined();
  });

  it('say of each aim whether it holds and what falls short', () => {
    expect(aims(found())).toEqual([
      {
        aim: 'throughput ≥ 0.7 of the raw floor of each API at 1408-byte datagrams',
        got: '3 of 4; short of it: mmsg, trains 0.50',
        holds: false,
      },
      {
        aim: '`xdp` (native) RTT p50 ≤ 1.5 × its raw floor',
        got: '1.60 × (8.0 µs, floor 5.0 µs)',
        holds: false,
      },
      {
        aim: '`xdp` (native) RTT p50 ≤ 0.5 × `socket`',
        got: '0.40 × (`socket` 20.0 µs; the floor of xdp alone is 0.25 ×)',
        holds: true,
      },
    ]);
    expect(aims({ ...found(), rates: [], roundTrips: [] })).toEqual([]);
  });
});

describe('sizes', () => {
  it('give a floor whole datagrams where the engine sends whole ones', () => {
    expect(datagramBytes(1500)).toBe(1408);
    expect(datagramBytes(9000)).toBe(8960);
    expect([64, 1375, 1376, 8192].map((bytes) => floorBytes(bytes, 1500))).toEqual([64, 1375, 1408, 1408]);
    expect(floorBytes(8192, 9000)).toBe(8192);
  });

  it('tell floor and engine of a variant the same way to the network', () => {
    const ends: Ends = { interface: 'eth7', mtu: 9000, purpose: 'throughput' };
    expect(new Set(VARIANTS.map((variant) => variant.name)).size).toBe(VARIANTS.length);
    for (const variant of VARIANTS) {
      const engine = variant.engine(ends);
      const floor = variant.floor.args(ends);
      expect(engine['OUTRIGGER_BACKENDS']).toBe(floor['api']);
      if (floor['segmentation'] !== undefined) {
        expect(floor['segmentation'] === 'on').toBe(variant.trains);
        if (floor['api'] !== 'socket') expect(engine['OUTRIGGER_UDP_SEGMENT'] !== 'off').toBe(variant.trains);
      }
      if (floor['mode'] !== undefined)
        expect(engine['OUTRIGGER_PACKET_MODE'] ?? engine['OUTRIGGER_XDP_MODE']).toBe(floor['mode']);
    }
  });
});

describe('charts', () => {
  it('lay equal factors equally far apart', () => {
    const scale = logarithmic(1, 100);
    expect([scale(1), scale(10), scale(100)]).toEqual([0, 0.5, 1]);
    expect(() => logarithmic(0, 1)).toThrow('no logarithmic scale');
  });

  it('have ticks from under the lowest to over the highest value', () => {
    expect(logarithmicTicks(3, 40)).toEqual([2, 5, 10, 20, 50]);
    expect(logarithmicTicks(1, 1)).toEqual([1]);
    expect(() => logarithmicTicks(-1, 1)).toThrow('no ticks');
  });

  it('draw a line for each series, and one entry of the legend for a name', () => {
    const axis = {
      title: 'a & b',
      scale: (value: number) => value,
      ticks: [{ value: 0.5, label: '<half>' }],
    };
    const picture = svg({
      ...{ title: 't', subtitle: 's', columns: 2 },
      panels: [
        {
          ...{ title: 'p', x: axis, y: axis },
          series: [
            {
              name: 'one',
              dashed: false,
              points: [
                [0, 0],
                [1, 1],
              ],
            },
            {
              name: 'one',
              dashed: true,
              points: [
                [0, 1],
                [2, -1],
              ],
            },
            { name: 'none', dashed: false, points: [] },
          ],
        },
      ],
    });
    expect(picture.match(/<path class="line"/g)).toHaveLength(3); // one curve, two in the legend
    expect(picture.match(/<path class="floor"/g)).toHaveLength(1);
    expect(picture).toContain('a &amp; b');
    expect(picture).toContain('&lt;half&gt;');
    // Whatever lies outside the axes is drawn at their edge.
    expect(picture).toContain('d="M58 98L406 298"');
  });

  it('show every backend, solid and dashed, and the reflector', () => {
    const latency = latencyChart(found());
    for (const name of ['socket', 'xdp native', 'XDP reflector, by xdp'])
      expect(latency).toContain(`>${name}</text>`);
    expect(latency.match(/<path class="floor"/g)).toHaveLength(3);
    const throughput = throughputChart(found());
    expect(throughput).toContain('MTU 1500, trains (segmentation offload)');
    expect(throughput).toContain('MTU 1500, single datagrams');
    expect(() => throughputChart({ ...found(), rates: [] })).toThrow('no rates');
    expect(() => latencyChart({ ...found(), roundTrips: [], reflectors: [] })).toThrow('no round trips');
  });

  it('are drawn from a single point too', () => {
    const one = found();
    one.rates = one.rates.filter((point) => point.variant === 'mmsg');
    expect(throughputChart(one)).not.toContain('NaN');
    one.roundTrips = [{ variant: 'socket', mtu: 1500, engine: [[[50, 20]]], floor: [] }];
    one.reflectors = [];
    expect(latencyChart(one)).not.toContain('NaN');
  });
});

describe('the report', () => {
  it('has both charts, the aims, a row for each point, and what could not be measured', () => {
    const text = report(found(), 'Somewhere.');
    for (const chart of [LATENCY_CHART, THROUGHPUT_CHART]) expect(text).toContain(`](${chart})`);
    expect(text).toContain('| **0.80** | socket | 1500 | 1376 | 1.60 | 1.50 | 1408 | 2.00 | 1.50 | 0 |');
    expect(text).toContain('| – | uring | 1500 | 1376 | – | – | 1408 | 0.80 | 1.50 | 0 |');
    expect(text).toContain('| **1.60** | xdp native | 1500 | 8.0 | 16.0 | 32.0 | 5.0 | 10.0 | 20.0 |');
    expect(text).toContain('| – | XDP reflector, by xdp | 1500 | – | – | – | 4.0 | 8.0 | 16.0 |');
    expect(text).toContain('- engine over uring: a seccomp filter forbids io_uring');
  });

  it('says what a backend gains over veth', () => {
    expect(verdicts(found())).toEqual([
      expect.stringContaining('`xdp native` 0.30 ×'),
      'Datagram by datagram, against `mmsg` without offload: `socket` 0.67 ×, `xdp native` 2.00 ×.',
      'Round trips (p50) against `socket`: `xdp native` 0.40 ×.',
    ]);
  });

  it('replaces its own part of the document alone', () => {
    const file = readFileSync(join(kRoot, 'docs/benchmarks.md'), 'utf8');
    const updated = withReport(file, report(found(), 'Somewhere.'));
    expect(updated).toContain('Somewhere.');
    expect(updated.length).toBeGreaterThan(1000);
    expect(withReport(updated, report(found(), 'Somewhere.'))).toBe(updated);
    expect(() => withReport('nothing', 'x')).toThrow('no');
  });
});

const asRoot = process.getuid?.() === 0 ? describe : describe.skip;
const built = (program: string): boolean => existsSync(join(kRoot, 'build/native', program));

asRoot('each floor', () => {
  let hosts: Hosts;
  let runs: BackendRuns;
  beforeAll(() => {
    hosts = Hosts.open(`t${process.pid}`, 1500);
    runs = new BackendRuns(hosts, join(kRoot, 'build/native'), `t${process.pid}`);
  }, 60_000);
  afterAll(async () => {
    await stopAll();
    hosts.close();
  }, 60_000);

  const arrived = (): number => {
    const { namespace, interface: name } = hosts.b;
    const [link] = JSON.parse(run('ip', '-n', namespace, '-s', '-j', 'link', 'show', 'dev', name)) as {
      stats64: { rx: { bytes: number } };
    }[];
    return link?.stats64.rx.bytes ?? 0;
  };

  it.each(
    VARIANTS.filter((variant) => built(variant.floor.program)).map(
      (variant) => [variant.name, variant] as const,
    ),
  )(
    'of %s counts no byte that did not arrive, and gets an answer to what it sends',
    async (_, variant) => {
      const before = arrived();
      const found = await runs.floorRate(variant, 1500, 1408, { warmupMs: 20, measureMs: 100 });
      expect(found.bytes[0]).toBeGreaterThan(1408);
      expect(arrived() - before).toBeGreaterThanOrEqual(found.bytes[0] ?? 0);
      expect(found.cpuSecondsPerGigabyte[0]).toBeGreaterThanOrEqual(0);
      if (variant.trains) return;
      const answered = arrived();
      const trips = await runs.floorTrips(variant, 1500, {
        ...{ mtus: [1500], bytes: 64, rate: 1000 },
        window: { warmupMs: 10, measureMs: 100 },
      });
      expect(trips.map(([percent]) => percent)).toEqual([
        0, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.95, 99.99, 100,
      ]);
      expect(trips.every(([, us], i) => us > 0 && us >= (trips[i - 1]?.[1] ?? 0))).toBe(true);
      expect(arrived() - answered).toBeGreaterThan(100 * 64);
    },
    120_000,
  );
});

asRoot('make bench BENCH="smoke --only backends"', () => {
  let folder: string;
  let results: Results;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'outrigger-bench-test-'));
    const file = join(folder, 'results.json');
    execFileSync(
      join(kRoot, 'scripts/bench'),
      ['smoke', '--only', 'backends', '--out', file, '--document', 'no'],
      {
        cwd: kRoot,
        stdio: ['ignore', 'ignore', 'pipe'],
        // It cleans up behind itself when it is told to end.
        timeout: 220_000,
      },
    );
    results = JSON.parse(readFileSync(file, 'utf8')) as Results;
  }, 240_000);
  afterAll(() => rmSync(folder, { recursive: true }));

  it('measures the engine over every backend that this build has', () => {
    expect(results.failures).toEqual([]);
    const absent = VARIANTS.filter((variant) => !built(variant.floor.program)).map((variant) => variant.name);
    for (const { what } of results.backends?.missing ?? [])
      expect(absent.some((name) => what.endsWith(name))).toBe(true);
    for (const point of (results.backends?.rates ?? []).filter((one) => !absent.includes(one.variant))) {
      expect(point.engine.bytesPerSecond).toEqual([expect.any(Number)]);
      expect(rateRatio(point)).toBeGreaterThan(0);
    }
    expect(results.backends?.rates.map((point) => point.variant)).toEqual(
      VARIANTS.map((variant) => variant.name),
    );
    for (const point of (results.backends?.roundTrips ?? []).filter((one) => !absent.includes(one.variant)))
      expect(p50(point.engine)).toBeGreaterThan(0);
    expect(results.backends?.reflectors).not.toHaveLength(0);
    for (const one of results.backends?.reflectors ?? []) expect(p50(one.curves)).toBeGreaterThan(0);
  });

  it('draws both charts beside its results', () => {
    for (const chart of [LATENCY_CHART, THROUGHPUT_CHART])
      expect(readFileSync(join(folder, chart), 'utf8')).toMatch(/^<svg [^]*<\/svg>\n$/);
  });

  it('leaves no namespace and no driver directory behind', () => {
    expect(execFileSync('ip', ['netns', 'list'], { encoding: 'utf8' })).not.toMatch(/\bogb\d+[ab]\b/);
    expect(readdirSync('/dev/shm').filter((name) => name.startsWith('outrigger-bench-b'))).toEqual([]);
  });
});
