// SPDX-License-Identifier: Apache-2.0
// Conditions over time: when a transition is one.
import { judged, sameJson, transitions } from './conditions';

const kMinute = 60_000;
const ready = { type: 'Ready', status: 'True', reason: 'Assigned', message: 'all is well' } as const;

describe('judged', () => {
  it('keeps the time of transition while the status stays, whatever else changes', () => {
    const first = judged([], [ready], 1, 0);
    const second = judged(first, [{ ...ready, reason: 'Kept', message: 'still' }], 2, kMinute);
    expect(second).toEqual([
      {
        type: 'Ready',
        status: 'True',
        reason: 'Kept',
        message: 'still',
        observedGeneration: 2,
        lastTransitionTime: '1970-01-01T00:00:00Z',
      },
    ]);
    const third = judged(second, [{ ...ready, status: 'False' }], 2, kMinute);
    expect(third[0]?.lastTransitionTime).toBe('1970-01-01T00:01:00Z');
  });

  it('gives equal conditions for equal verdicts, so that nothing is written', () => {
    const first = judged([], [ready], 1, 0);
    expect(sameJson(judged(first, [ready], 1, kMinute), first)).toBe(true);
  });
});

describe('transitions', () => {
  it('are new conditions, and changes of status or reason, but not of the message', () => {
    const before = judged([], [ready], 1, 0);
    expect(transitions([], before)).toHaveLength(1);
    expect(transitions(before, judged(before, [{ ...ready, message: 'other' }], 1, 0))).toEqual([]);
    expect(transitions(before, judged(before, [{ ...ready, reason: 'Other' }], 1, 0))).toHaveLength(1);
  });
});

describe('sameJson', () => {
  it('looks at values and not at the order of keys or at absent members', () => {
    expect(sameJson({ a: 1, b: [{ c: 2, d: undefined }] }, { b: [{ c: 2 }], a: 1 })).toBe(true);
    expect(sameJson({ a: [1, 2] }, { a: [2, 1] })).toBe(false);
    expect(sameJson(undefined, undefined)).toBe(true);
    expect(sameJson(undefined, {})).toBe(false);
  });
});
