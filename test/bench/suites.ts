// SPDX-License-Identifier: Apache-2.0
// The engine suites: throughput, round trip, loss, idle. Each decides who runs against whom; how one run goes is in engine.ts.
import { type Comparison, type Outcome, type Values, compare } from './compare';
import {
  type Build,
  type Contender,
  type DriverPair,
  Fleet,
  LOSS_LINGER,
  type ThreadingMode,
  aeron,
  ours,
} from './contenders';
import { Engine, type Size, type Window } from './engine';
import type { Hosts } from './hosts';
import type { Plan } from './plan';

// Mean length of the messages of `mix`, for the results' sizeBytes.
const MIX_MEAN_BYTES = 498; // kMixMeanLength of native/bench/payload.h
const sizeNumber = (size: Size): number => (size === 'mix' ? MIX_MEAN_BYTES : size);
const suiteName = (base: string, size: Size): string => (size === 'mix' ? `${base}-mix` : base);

// Largest multiple of 32 that fits a datagram of the interface: MTU - 20 (IPv4) - 8 (UDP). 1408 is Aeron's own default for 1500.
const aeronMtu = (mtu: number): number => (mtu === 1500 ? 1408 : (mtu - 28) & ~31);

export class Suites {
  readonly outcome: Outcome = { cases: [], failures: [] };
  private heated = new Set<string>();
  private bestMode: ThreadingMode | undefined;
  private bestYields = false;

  constructor(
    private readonly hosts: Hosts,
    private readonly build: Build,
    private readonly plan: Plan,
    private readonly tag: string,
    private readonly log: (text: string) => void,
  ) {}

  private add(outcome: Outcome): void {
    this.outcome.cases.push(...outcome.cases);
    this.outcome.failures.push(...outcome.failures);
  }
  private async compare(what: Comparison): Promise<void> {
    this.add(await compare(what, this.log));
  }

  private async withFleet(action: (fleet: Fleet, engine: Engine) => Promise<void>): Promise<void> {
    const fleet = new Fleet(this.hosts, this.build, this.tag);
    this.heated = new Set();
    try {
      await action(fleet, new Engine(this.hosts, this.build, fleet));
    } catch (error) {
      this.outcome.failures.push(error instanceof Error ? error.message : String(error));
      this.log(`FAILED ${this.outcome.failures.at(-1) ?? ''}`);
    } finally {
      await fleet.close();
    }
  }

  // A run of a warm driver.
  private async throughput(
    fleet: Fleet,
    engine: Engine,
    contender: Contender,
    size: Size,
    window: Window,
  ): Promise<Values> {
    const pair = await fleet.activate(contender);
    await this.heat(engine, pair, size);
    const measured = await engine.throughput(pair, size, window);
    return { throughput: measured.messagesPerSecond, cpuSecondsPerMillion: measured.cpuSecondsPerMillion };
  }
  private async heat(engine: Engine, pair: DriverPair, size: Size): Promise<void> {
    if (pair.contender.peer !== 'aeron' || this.plan.heatMs === 0 || this.heated.has(pair.contender.name))
      return;
    this.heated.add(pair.contender.name);
    await engine.throughput(pair, size, { warmupMs: 0, measureMs: this.plan.heatMs });
  }

  // Aeron's best threading mode and idling on this machine, by a short run of each.
  private async aeronTuned(fleet: Fleet, engine: Engine, mtu: number): Promise<Contender> {
    if (this.bestMode === undefined) {
      const candidates: { mode: ThreadingMode; yielding: boolean }[] =
        this.plan.mode === 'smoke'
          ? [{ mode: 'DEDICATED', yielding: false }]
          : [
              { mode: 'DEDICATED', yielding: false },
              { mode: 'SHARED_NETWORK', yielding: false },
              { mode: 'SHARED', yielding: false },
              { mode: 'SHARED', yielding: true },
            ];
      let best = -1;
      for (const candidate of candidates) {
        const contender = aeron(`trial-${candidate.mode}-${candidate.yielding ? 'yielding' : 'backoff'}`, {
          tuned: true,
          ...candidate,
        });
        try {
          const { throughput = 0 } =
            candidates.length === 1
              ? { throughput: 0 }
              : await this.throughput(fleet, engine, contender, 288, this.plan.window);
          this.log(`${contender.name}: ${Math.round(throughput)} messages/s`);
          if (throughput > best) {
            best = throughput;
            this.bestMode = candidate.mode;
            this.bestYields = candidate.yielding;
          }
        } finally {
          await fleet.stop(contender);
        }
      }
    }
    const mode = this.bestMode as ThreadingMode;
    return aeron(`tuned: 2 MiB buffers, ${mode} ${this.bestYields ? 'yielding' : 'backoff'}`, {
      tuned: true,
      mode,
      yielding: this.bestYields,
      ...(mtu === 1500 ? {} : { mtuLength: aeronMtu(mtu) }),
    });
  }

  async throughputSuites(): Promise<void> {
    for (const part of this.plan.throughput) {
      this.hosts.setMtu(part.mtu);
      await this.withFleet(async (fleet, engine) => {
        const tuned = await this.aeronTuned(fleet, engine, part.mtu);
        const mtuLength = part.mtu === 1500 ? 0 : aeronMtu(part.mtu);
        const mmsg = ours('mmsg', true, mtuLength);
        const socket = ours('socket', true, mtuLength);
        const peerDefault = aeron('default', {});
        const oursDefault = ours('mmsg', false);
        for (const size of part.sizes) {
          const one = (contender: Contender) => () =>
            this.throughput(fleet, engine, contender, size, this.plan.window);
          const segmentationOff = (contender: Contender) => async () => {
            this.hosts.setSegmentation(false);
            try {
              return await this.throughput(fleet, engine, contender, size, this.plan.window);
            } finally {
              this.hosts.setSegmentation(true);
            }
          };
          const about = {
            path: 'engine' as const,
            mtu: part.mtu,
            sizeBytes: sizeNumber(size),
            lossPercent: 0,
            rounds: this.plan.rounds,
          };
          await this.compare({
            ...about,
            ours: [
              { name: 'mmsg', suite: suiteName('throughput', size), backend: 'mmsg', measure: one(mmsg) },
              ...(part.socket
                ? [
                    {
                      name: 'socket',
                      suite: suiteName('throughput', size),
                      backend: 'socket',
                      measure: one(socket),
                    },
                  ]
                : []),
            ],
            peers: [
              { name: tuned.name, peer: 'aeron', peerTuning: tuned.tuning, measure: one(tuned) },
              ...(part.defaults
                ? [
                    {
                      name: peerDefault.name,
                      peer: 'aeron' as const,
                      peerTuning: 'default',
                      measure: one(peerDefault),
                    },
                  ]
                : []),
            ],
          });
          if (part.segmentationOff) {
            await this.compare({
              ...about,
              ours: [
                {
                  name: 'mmsg, tx-udp-segmentation off',
                  suite: suiteName('throughput-segmentation-off', size),
                  backend: 'mmsg',
                  measure: segmentationOff(mmsg),
                },
              ],
              peers: [
                {
                  name: tuned.name,
                  peer: 'aeron',
                  peerTuning: tuned.tuning,
                  measure: segmentationOff(tuned),
                },
              ],
            });
          }
          if (part.defaults && size === 288) {
            await this.compare({
              ...about,
              ours: [
                {
                  name: 'mmsg, default settings',
                  suite: 'throughput-both-at-defaults',
                  backend: 'mmsg',
                  measure: one(oursDefault),
                },
              ],
              peers: [
                { name: peerDefault.name, peer: 'aeron', peerTuning: 'default', measure: one(peerDefault) },
              ],
            });
          }
        }
      });
    }
    this.hosts.setMtu(1500);
  }

  async roundTripSuite(): Promise<void> {
    const { rtt } = this.plan;
    const mmsg = ours('mmsg', false);
    const modes =
      this.plan.mode === 'smoke'
        ? [aeron('default', {})]
        : [
            aeron('SHARED yielding', { mode: 'SHARED', yielding: true }),
            aeron('DEDICATED backoff (default)', {}),
            aeron('SHARED backoff', { mode: 'SHARED' }),
          ];
    await this.withFleet(async (fleet, engine) => {
      const once = async (contender: Contender, size: number): Promise<Values> => {
        const pair = await fleet.activate(contender);
        await this.heat(engine, pair, 288);
        const { us } = await engine.roundTrip(pair, size, rtt.rate, rtt.window);
        return { rttP50: us.p50, rttP99: us.p99 };
      };
      for (const size of rtt.sizes) {
        await this.compare({
          path: 'engine',
          mtu: 1500,
          sizeBytes: size,
          lossPercent: 0,
          rounds: rtt.rounds,
          ours: [{ name: 'mmsg', suite: 'rtt', backend: 'mmsg', measure: () => once(mmsg, size) }],
          peers: modes.map((mode) => ({
            name: mode.name,
            peer: 'aeron' as const,
            peerTuning: mode.tuning,
            measure: () => once(mode, size),
          })),
        });
      }
    });
  }

  async lossSuite(lossObject: string): Promise<void> {
    const { loss } = this.plan;
    this.hosts.attachLoss(lossObject);
    try {
      await this.withFleet(async (fleet, engine) => {
        const tuned = await this.aeronTuned(fleet, engine, 1500);
        const mmsg = ours('mmsg');
        const short = (contender: Contender): Contender => ({
          ...contender,
          name: `${contender.name}-linger`,
          tuning: `${contender.tuning}, 100 us linger`,
          settings: { ...contender.settings, ...LOSS_LINGER },
        });
        // The mode that is best without loss need not be with it: one agent that sends and receives gains far more from the short linger.
        const shared = aeron('tuned: 2 MiB buffers, SHARED backoff', { tuned: true, mode: 'SHARED' });
        const lingers = [
          tuned,
          ...(this.plan.mode === 'smoke' || tuned.name === shared.name ? [] : [shared]),
        ];
        const peers = [aeron('default', {}), ...lingers.map(short)];
        for (const size of loss.sizes) {
          const lossFree: number[] = [];
          for (const percent of loss.percents) {
            this.hosts.setLoss(0);
            const one = (contender: Contender) => async (): Promise<Values> => {
              const pair = await fleet.activate(contender);
              this.hosts.setLoss(0);
              await this.heat(engine, pair, size);
              this.hosts.setLoss(percent);
              const before = this.hosts.lossCounters();
              const measured = await engine.throughput(pair, size, loss.window);
              const after = this.hosts.lossCounters();
              const dropped = after.dropped - before.dropped;
              if (percent > 0 && dropped === 0)
                throw new Error(`${percent} % loss was asked for and nothing was dropped`);
              return {
                throughput: measured.messagesPerSecond,
                cpuSecondsPerMillion: measured.cpuSecondsPerMillion,
              };
            };
            const outcome = await compare(
              {
                path: 'engine',
                mtu: 1500,
                sizeBytes: size,
                lossPercent: percent,
                rounds: loss.rounds,
                ours: [{ name: 'mmsg', suite: 'loss', backend: 'mmsg', measure: one(mmsg) }],
                peers: peers.map((peer) => ({
                  name: peer.name,
                  peer: 'aeron' as const,
                  peerTuning: peer.tuning,
                  measure: one(peer),
                })),
              },
              this.log,
            );
            this.add(outcome);
            const rates = outcome.cases.find((one) => one.metric === 'throughput')?.oursRuns ?? [];
            if (percent === 0) lossFree.push(...rates);
            else if (lossFree.length > 0 && rates.length > 0)
              this.addOwnRatio(size, percent, rates, lossFree);
          }
        }
      });
    } finally {
      this.hosts.detachLoss();
    }
  }
  // What loss leaves of our own rate.
  private addOwnRatio(size: number, percent: number, rates: number[], lossFree: number[]): void {
    const template = this.outcome.cases.findLast(
      (one) =>
        one.suite === 'loss' &&
        one.sizeBytes === size &&
        one.lossPercent === percent &&
        one.metric === 'throughput',
    );
    if (!template) return;
    const peerValue = [...lossFree].sort((x, y) => x - y)[lossFree.length >> 1] as number;
    this.outcome.cases.push({
      ...template,
      suite: 'loss-against-own-rate',
      peer: 'outrigger',
      peerTuning: 'no loss',
      peerValue,
      peerRuns: lossFree,
      ratio: Number((template.ours / peerValue).toPrecision(4)),
      runs: rates.length,
    });
  }

  async idleSuite(): Promise<void> {
    for (const streams of this.plan.idle.streams) {
      // Fresh drivers: memory must not hold what an earlier suite left.
      await this.withFleet(async (fleet, engine) => {
        const measure = (contender: Contender) => async (): Promise<Values> => {
          const idleness = await engine.idle(
            await fleet.activate(contender),
            streams,
            this.plan.idle.measureMs,
          );
          return { idleCpu: idleness.driverCpuPercent, rss: idleness.rssMb, pss: idleness.pssMb };
        };
        const peer = aeron('default', {});
        await this.compare({
          path: 'engine',
          mtu: 1500,
          sizeBytes: 0,
          lossPercent: 0,
          rounds: 1,
          ours: [
            {
              name: 'mmsg',
              suite: `idle-${streams}-streams`,
              backend: 'mmsg',
              measure: measure(ours('mmsg', false)),
            },
          ],
          peers: [{ name: peer.name, peer: 'aeron', peerTuning: 'default', measure: measure(peer) }],
        });
      });
    }
  }
}
