// SPDX-License-Identifier: Apache-2.0
// status.conditions as functions: what is judged now over what was judged before. Nothing is written here.
import type { Condition } from '../api';
import { timeText } from '../base/clock';

/** A judgement of now. */
export interface Verdict {
  readonly type: string;
  readonly status: Condition['status'];
  readonly reason: string;
  readonly message: string;
}

export interface Transition {
  readonly before: Condition | undefined;
  readonly after: Condition;
}

/** The metav1.Condition limit. */
const kLongestMessage = 32_768;

/**
 * Conditions of now. `generation` is the object's metadata.generation as it was when judging began: what was changed since is not judged yet.
 * The time of transition stays unless the status changes, so that equal verdicts give equal conditions.
 */
export function judged(
  before: readonly Condition[],
  verdicts: readonly Verdict[],
  generation: number | undefined,
  wallMs: number,
): Condition[] {
  return verdicts.map(({ type, status, reason, message }) => {
    const known = before.find((each) => each.type === type);
    return {
      type,
      status,
      ...(generation === undefined ? {} : { observedGeneration: generation }),
      lastTransitionTime: known?.status === status ? known.lastTransitionTime : timeText(wallMs),
      reason,
      message: message.slice(0, kLongestMessage),
    };
  });
}

/** Conditions whose status or reason changed; a new condition counts too. */
export function transitions(before: readonly Condition[], after: readonly Condition[]): Transition[] {
  return after.flatMap((each): Transition[] => {
    const known = before.find(({ type }) => type === each.type);
    return known?.status === each.status && known.reason === each.reason
      ? []
      : [{ before: known, after: each }];
  });
}

export function conditionOf(
  conditions: readonly Condition[] | undefined,
  type: string,
): Condition | undefined {
  return conditions?.find((each) => each.type === type);
}

/** Deep equality of what JSON can say, whatever the order of keys. undefined members count as absent. */
export function sameJson(left: unknown, right: unknown): boolean {
  return canonical(left) === canonical(right);
}

function canonical(value: unknown): string | undefined {
  return JSON.stringify(value, (_, member: unknown) =>
    typeof member === 'object' && member !== null && !Array.isArray(member)
      ? Object.fromEntries(Object.entries(member).sort(([a], [b]) => (a < b ? -1 : 1)))
      : member,
  );
}
