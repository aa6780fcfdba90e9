// SPDX-License-Identifier: Apache-2.0
// The queue: one worker a key, no key lost, failures again and later each time.
import { kSystemClock } from '../base/clock';
import { seeded, pick, testSeeds } from '../testing/seeded';
import { ApiError } from './api_error';
import { WorkQueue, type Again, type WorkQueueOptions } from './work_queue';

type Process = WorkQueueOptions['process'];

function queueOf(process: Process, options: Partial<WorkQueueOptions> = {}): WorkQueue {
  const queue = new WorkQueue({
    process,
    concurrency: 4,
    metrics: { depth: () => undefined, reconciled: () => undefined },
    clock: kSystemClock,
    random: () => 0.5,
    backoff: { baseMs: 1, maxMs: 4 },
    onFailure: () => undefined,
    ...options,
  });
  return queue;
}

function done(): Promise<Again | undefined> {
  return Promise.resolve(undefined);
}

interface Gate {
  readonly opened: Promise<void>;
  readonly open: () => void;
}

function gate(): Gate {
  let open: () => void = () => undefined;
  const opened = new Promise<void>((resolve) => (open = resolve));
  return { opened, open };
}

describe('WorkQueue', () => {
  it('takes a key once, however often it is added before it is begun', async () => {
    const seen: string[] = [];
    const queue = queueOf((key) => (seen.push(key), done()));
    ['a', 'b', 'a', 'a'].forEach((key) => queue.add(key));
    queue.start();
    await queue.settled();
    expect(seen).toEqual(['a', 'b']);
  });

  it('looks again at a key that was added while it was worked on, and never with two workers', async () => {
    const held = gate();
    const seen: string[] = [];
    let atOnce = 0;
    const queue = queueOf(async (key) => {
      expect(++atOnce).toBe(1);
      seen.push(key);
      if (seen.length === 1) {
        queue.add('a');
        queue.add('a');
        await held.opened;
      }
      atOnce--;
      return undefined;
    });
    queue.add('a');
    queue.start();
    held.open();
    await queue.settled();
    expect(seen).toEqual(['a', 'a']);
  });

  it('works on so many keys at once and no more', async () => {
    const held = gate();
    let atOnce = 0;
    let most = 0;
    const queue = queueOf(
      async () => {
        most = Math.max(most, ++atOnce);
        await held.opened;
        atOnce--;
        return undefined;
      },
      { concurrency: 2 },
    );
    ['a', 'b', 'c'].forEach((key) => queue.add(key));
    queue.start();
    expect(queue.depth).toBe(1);
    held.open();
    await queue.settled();
    expect(most).toBe(2);
  });

  it('tries a failure again until it works, and counts its failures', async () => {
    const failures: number[] = [];
    let tries = 0;
    const queue = queueOf(() => (++tries < 4 ? Promise.reject(new Error('no')) : done()), {
      onFailure: (_, __, count) => failures.push(count),
    });
    queue.add('a');
    queue.start();
    await queue.settled();
    expect(failures).toEqual([1, 2, 3]);
    expect(tries).toBe(4);
  });

  it('waits longer after each failure, up to the longest wait, and as long as the server asks', () => {
    const waits: number[] = [];
    const spy = jest.spyOn(globalThis, 'setTimeout').mockImplementation(((_: () => void, ms: number) => {
      waits.push(ms);
      return 0;
    }) as never);
    const queue = queueOf(done, { random: () => 1, backoff: { baseMs: 100, maxMs: 500 } });
    const retry = (error: Error): void => {
      (queue as unknown as { retry: (key: string, error: Error) => void }).retry('a', error);
      (queue as unknown as { timers: Map<string, unknown> }).timers.clear();
    };
    for (let i = 0; i < 4; i++) retry(new Error('no'));
    retry(new ApiError(429, '', 'busy', 7000));
    spy.mockRestore();
    expect(waits).toEqual([100, 200, 400, 500, 7000]);
  });

  it('looks again after the time that the work asked for, the earliest of several', async () => {
    const seen: string[] = [];
    const second = gate();
    const queue = queueOf((key) => {
      seen.push(key);
      if (seen.length === 2) second.open();
      return Promise.resolve(seen.length === 1 ? { afterMs: 1 } : undefined);
    });
    queue.addAfter('a', 0);
    queue.addAfter('a', 3_600_000);
    queue.start();
    await second.opened;
    expect(seen).toEqual(['a', 'a']);
    await queue.stop(0);
  });

  it('stops when what runs has ended, begins nothing more, and tells work that takes too long to end', async () => {
    const seen: string[] = [];
    const queue = queueOf(
      async (key, signal) => {
        seen.push(key);
        await new Promise((resolve) => signal.addEventListener('abort', resolve));
        return undefined;
      },
      { concurrency: 1 },
    );
    queue.add('slow');
    queue.add('never');
    queue.start();
    await queue.stop(1);
    queue.add('late');
    expect(seen).toEqual(['slow']);
  });

  it.each(testSeeds(5))(
    'never loses a key nor works on one twice at once, whatever happens (seed %d)',
    async (seed) => {
      const random = seeded(seed);
      const keys = ['a', 'b', 'c', 'd', 'e'];
      const wanted = new Map(keys.map((key) => [key, 0]));
      const reached = new Map(keys.map((key) => [key, -1]));
      const running = new Set<string>();
      const queue = queueOf(
        async (key) => {
          expect(running.has(key)).toBe(false);
          running.add(key);
          const observed = wanted.get(key) as number;
          if (random() < 0.5) await new Promise((resolve) => setImmediate(resolve));
          running.delete(key);
          if (random() < 0.2) throw new Error('by chance');
          reached.set(key, observed);
          return undefined;
        },
        { concurrency: 3, random, perSecond: 5000, burst: 10 },
      );
      queue.start();
      for (let i = 0; i < 500; i++) {
        const key = pick(random, keys);
        wanted.set(key, i);
        queue.add(key);
        if (random() < 0.1) await new Promise((resolve) => setImmediate(resolve));
      }
      await queue.settled();
      for (const key of keys) expect([key, reached.get(key)]).toEqual([key, wanted.get(key)]);
    },
  );
});
