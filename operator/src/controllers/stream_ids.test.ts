// SPDX-License-Identifier: Apache-2.0
// Stream ids: unique, stable, the same whatever the order, and a clear word to who comes second.
import type { Topic } from '../api';
import { pick, seeded, testSeeds } from '../testing/seeded';
import { assignStreamIds, preferredStreamId } from './stream_ids';

function topic(
  name: string,
  born: number,
  ids: { readonly spec?: number; readonly status?: number } = {},
): Topic {
  return {
    metadata: {
      namespace: 'a',
      name,
      creationTimestamp: `2026-01-01T00:00:${String(born).padStart(2, '0')}Z`,
    },
    spec: { delivery: 'Reliable', ...(ids.spec === undefined ? {} : { streamId: ids.spec }) },
    ...(ids.status === undefined ? {} : { status: { streamId: ids.status } }),
  };
}

const claimsOf = (...topics: readonly Topic[]) => Object.fromEntries(assignStreamIds(topics));

describe('assignStreamIds', () => {
  it('gives a topic the id of its name, which is positive', () => {
    const streamId = preferredStreamId('a/quotes');
    expect(claimsOf(topic('quotes', 1))).toEqual({ 'a/quotes': { kind: 'holds', streamId } });
    expect(streamId).toBeGreaterThan(0);
  });

  it('gives the next id when that one is taken', () => {
    const taken = preferredStreamId('a/quotes');
    expect(claimsOf(topic('other', 9, { spec: taken }), topic('quotes', 1))).toEqual({
      'a/other': { kind: 'holds', streamId: taken },
      'a/quotes': { kind: 'holds', streamId: taken + 1 },
    });
  });

  it('leaves an assigned id to its topic when another asks for it later', () => {
    expect(claimsOf(topic('running', 1, { status: 7 }), topic('new', 2, { spec: 7 }))).toEqual({
      'a/running': { kind: 'holds', streamId: 7 },
      'a/new': { kind: 'conflict', streamId: 7, holder: 'a/running' },
    });
  });

  it('leaves an id that two ask for to the older one, and by name when they are of one second', () => {
    expect(
      claimsOf(topic('b', 1, { spec: 7 }), topic('c', 1, { spec: 7 }), topic('a', 2, { spec: 7 })),
    ).toMatchObject({
      'a/b': { kind: 'holds' },
      'a/c': { kind: 'conflict', holder: 'a/b' },
      'a/a': { kind: 'conflict', holder: 'a/b' },
    });
  });

  it('keeps negative ids that are asked for', () => {
    expect(claimsOf(topic('x', 1, { spec: -5 }), topic('y', 2, { spec: -5 }))).toMatchObject({
      'a/x': { kind: 'holds', streamId: -5 },
      'a/y': { kind: 'conflict', holder: 'a/x' },
    });
  });

  it.each(testSeeds(20))(
    'never gives one id twice, whatever the order, and changes nothing when asked again (seed %d)',
    (seed) => {
      const random = seeded(seed);
      const ids = [1, 2, 3, preferredStreamId('a/t0'), preferredStreamId('a/t1')];
      const topics = Array.from({ length: 12 }, (_, i) => {
        const wish = random();
        return topic(
          `t${i}`,
          Math.floor(random() * 5),
          wish < 0.4 ? { spec: pick(random, ids) } : wish < 0.7 ? { status: pick(random, ids) } : {},
        );
      });
      const claims = assignStreamIds(topics);
      const held = [...claims.values()].flatMap((claim) => (claim.kind === 'holds' ? [claim.streamId] : []));
      expect(new Set(held).size).toBe(held.length);
      expect(claims.size).toBe(topics.length);
      const shuffled = [...topics].sort(() => random() - 0.5);
      expect(Object.fromEntries(assignStreamIds(shuffled))).toEqual(Object.fromEntries(claims));
      const settled = topics.map((each): Topic => {
        const claim = claims.get(`a/${each.metadata.name}`);
        return {
          metadata: each.metadata,
          spec: each.spec,
          status: claim?.kind === 'holds' ? { streamId: claim.streamId } : {},
        };
      });
      expect(Object.fromEntries(assignStreamIds(settled))).toEqual(Object.fromEntries(claims));
    },
  );
});
