// SPDX-License-Identifier: Apache-2.0
// Open-loop pacing: message i is due at start + i / rate, whatever happened to those before. Node's timers know whole milliseconds only, so a
// thread sleeps in microseconds and wakes the event loop.
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { monotonicNs } from './payload';

/** Ends up in the worker as text: it must use nothing from here. */
const kTicker = `
const { parentPort, workerData } = require('node:worker_threads');
const stop = new Int32Array(workerData.stop);
let next = performance.now();
for (;;) {
  next = Math.max(next + workerData.periodMs, performance.now());
  if (Atomics.wait(stop, 0, 0, Math.max(next - performance.now(), 0)) !== 'timed-out') break;
  parentPort.postMessage(0);
}`;

const kShortestPeriodMs = 0.2; // 5000 wakes a second: more would cost the sender's core more than they gain

export interface PacedOptions {
  /** Messages a second; 0: as fast as `send` takes them. */
  readonly rate: number;
  /** Messages; Infinity: until the signal. */
  readonly count: number;
  readonly durationMs: number;
  readonly signal: AbortSignal;
  /** Sends message `sequence`, that was due at `intendedNs`. A promise: wait for it before the next one. */
  readonly send: (sequence: number, intendedNs: number) => Promise<void> | undefined;
}

const kTurn = 512; // messages before the event loop has its turn, without a rate

/** Resolves to the number of messages sent. */
export async function paced(options: PacedOptions): Promise<number> {
  const { rate, count, send } = options;
  const stopped = (): boolean => options.signal.aborted;
  const startNs = monotonicNs();
  const endNs = startNs + options.durationMs * 1e6;
  let sent = 0;
  if (rate === 0) {
    while (sent < count && !stopped() && monotonicNs() < endNs) {
      for (let i = 0; i < kTurn && sent < count; i++) {
        const waiting = send(sent++, monotonicNs());
        if (waiting !== undefined) {
          await waiting;
        }
      }
      await new Promise(setImmediate);
    }
    return sent;
  }
  const intervalNs = 1e9 / rate;
  const total = Math.min(count, Math.floor((rate * options.durationMs) / 1000));
  const stop = new SharedArrayBuffer(4);
  const ticker = new Worker(kTicker, {
    eval: true,
    workerData: { stop, periodMs: Math.max(1000 / rate, kShortestPeriodMs) },
  });
  try {
    while (sent < total && !stopped()) {
      const due = Math.min(Math.floor((monotonicNs() - startNs) / intervalNs) + 1, total);
      while (sent < due && !stopped()) {
        const waiting = send(sent, startNs + sent * intervalNs);
        sent++;
        if (waiting !== undefined) {
          await waiting;
        }
      }
      if (sent < total && !stopped()) {
        await once(ticker, 'message', { signal: options.signal }).catch(() => undefined);
      }
    }
  } finally {
    Atomics.store(new Int32Array(stop), 0, 1);
    Atomics.notify(new Int32Array(stop), 0);
    await ticker.terminate();
  }
  return sent;
}
