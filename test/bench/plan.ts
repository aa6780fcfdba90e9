// SPDX-License-Identifier: Apache-2.0
// What each mode of `make bench` measures. `smoke` only shows that everything works, `quick` takes a few minutes, `full` about twenty.
import type { Window } from './engine';

// Every backend against the raw floor of its API.
export interface BackendsPlan {
  rounds: number;
  window: Window;
  throughput: { mtu: number; messages: number[] }[];
  latency: { mtus: number[]; bytes: number; rate: number; window: Window };
  reflectors: boolean;
  // All by default.
  variants?: string[];
}

export interface Plan {
  mode: 'smoke' | 'quick' | 'full';
  rounds: number;
  window: Window;
  // First run of a driver for a size: its JIT is cold, it is thrown away.
  heatMs: number;
  throughput: {
    mtu: number;
    sizes: (number | 'mix')[];
    socket: boolean;
    segmentationOff: boolean;
    defaults: boolean;
  }[];
  rtt: { sizes: number[]; rate: number; window: Window; rounds: number };
  loss: { sizes: number[]; percents: number[]; rounds: number; window: Window };
  idle: { streams: number[]; measureMs: number };
  app:
    | { sizes: number[]; rounds: number; window: Window; languages: ('typescript' | 'go')[]; single: boolean }
    | undefined;
  backends: BackendsPlan;
}

export const PLANS: Record<Plan['mode'], Plan> = {
  smoke: {
    mode: 'smoke',
    rounds: 1,
    window: { warmupMs: 100, measureMs: 300 },
    heatMs: 0,
    throughput: [{ mtu: 1500, sizes: [288], socket: false, segmentationOff: false, defaults: false }],
    rtt: { sizes: [32], rate: 500, window: { warmupMs: 100, measureMs: 300 }, rounds: 1 },
    loss: { sizes: [288], percents: [1], rounds: 1, window: { warmupMs: 100, measureMs: 300 } },
    idle: { streams: [1], measureMs: 200 },
    app: undefined,
    backends: {
      rounds: 1,
      window: { warmupMs: 20, measureMs: 100 },
      throughput: [{ mtu: 1500, messages: [1376] }],
      latency: { mtus: [1500], bytes: 32, rate: 1000, window: { warmupMs: 50, measureMs: 100 } },
      reflectors: true,
    },
  },
  quick: {
    mode: 'quick',
    rounds: 2,
    window: { warmupMs: 400, measureMs: 1500 },
    heatMs: 2500,
    throughput: [{ mtu: 1500, sizes: [288, 1344], socket: false, segmentationOff: true, defaults: false }],
    rtt: { sizes: [32], rate: 5000, window: { warmupMs: 500, measureMs: 2000 }, rounds: 2 },
    loss: { sizes: [288], percents: [0, 10], rounds: 2, window: { warmupMs: 500, measureMs: 1500 } },
    idle: { streams: [1], measureMs: 4000 },
    app: {
      sizes: [288],
      rounds: 2,
      window: { warmupMs: 1000, measureMs: 2000 },
      languages: ['typescript', 'go'],
      single: false,
    },
    backends: {
      rounds: 1,
      window: { warmupMs: 100, measureMs: 300 },
      throughput: [{ mtu: 1500, messages: [64, 1376, 8192] }],
      latency: { mtus: [1500], bytes: 32, rate: 10_000, window: { warmupMs: 100, measureMs: 500 } },
      reflectors: true,
    },
  },
  full: {
    mode: 'full',
    rounds: 3,
    window: { warmupMs: 500, measureMs: 2500 },
    heatMs: 4000,
    throughput: [
      { mtu: 1500, sizes: [32, 288, 1344, 'mix'], socket: true, segmentationOff: true, defaults: true },
      { mtu: 9000, sizes: [288, 1344, 'mix'], socket: false, segmentationOff: false, defaults: false },
    ],
    rtt: { sizes: [32, 288, 1344], rate: 5000, window: { warmupMs: 700, measureMs: 3000 }, rounds: 3 },
    loss: { sizes: [288, 1344], percents: [0, 1, 10], rounds: 2, window: { warmupMs: 700, measureMs: 2500 } },
    idle: { streams: [1, 100], measureMs: 6000 },
    app: {
      sizes: [32, 288, 1344],
      rounds: 2,
      window: { warmupMs: 1000, measureMs: 3000 },
      languages: ['typescript', 'go'],
      single: true,
    },
    backends: {
      rounds: 3,
      window: { warmupMs: 150, measureMs: 400 },
      throughput: [
        { mtu: 1500, messages: [64, 256, 1376, 8192] },
        { mtu: 9000, messages: [256, 1376, 8928, 65_536] },
      ],
      latency: { mtus: [1500, 9000], bytes: 32, rate: 10_000, window: { warmupMs: 150, measureMs: 600 } },
      reflectors: true,
    },
  },
};
