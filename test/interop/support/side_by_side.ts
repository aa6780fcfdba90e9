// SPDX-License-Identifier: Apache-2.0
// The same rows of tests for several runs, which go through them side by side: for rows that wait for timeouts more than they work.
import { closeAll } from './pair';

/** What each run has, by its name. */
export type Each<T> = Map<string, Promise<T>>;

export function begin<T>(each: Each<T>, name: string, make: () => Promise<T>): void {
  const outcome = make();
  // Who asks for it is told; it may fail before anybody asks.
  outcome.catch(() => undefined);
  each.set(name, outcome);
}

export function of<T>(each: Each<T>, name: string): Promise<T> {
  return each.get(name) ?? Promise.reject(new Error(`${name} was not begun`));
}

/** Those that were made; the others had their say. */
export async function closeMade(each: Each<{ close(): Promise<unknown> }>): Promise<void> {
  const outcomes = await Promise.allSettled(each.values());
  await closeAll(...outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : [])));
}

/** Declares a row: what it does with what a run has. */
export type Row<World> = (what: string, act: (world: World) => Promise<void>) => void;

/** A row is under way in all runs at once, and has a test for each. */
export function rowsFor<World>(names: readonly string[], worlds: Each<World>): Row<World> {
  return (what, act) => {
    describe(what, () => {
      const outcomes: Each<void> = new Map();
      beforeAll(() => {
        for (const name of names) {
          begin(outcomes, name, async () => act(await of(worlds, name)));
        }
      });
      test.each(names)('on %s', (name) => of(outcomes, name));
    });
  };
}
