// SPDX-License-Identifier: Apache-2.0
// Which members of a slice are still there. A pure function of the slice and the time.
import { leaseEndMs, type Member, type TopicEndpointSlice } from '../api';

export interface LeaseVerdict {
  readonly kept: readonly Member[];
  readonly expired: readonly Member[];
  /** When the next lease ends, milliseconds since 1970; undefined when there is none. */
  readonly nextMs: number | undefined;
}

/**
 * Members whose lease is over at `nowMs`. After an outage of the operator no lease was renewed although the members are alive, so each lease counts
 * from `sinceMs`, when this replica began to lead, at least: members then have a whole lease to be heard of.
 */
export function judgeLeases(slice: TopicEndpointSlice, nowMs: number, sinceMs: number): LeaseVerdict {
  const endOf = ({ lease }: Member): number =>
    Math.max(leaseEndMs(lease), sinceMs + lease.durationSeconds * 1000);
  const { members } = slice.spec;
  const kept = members.filter((member) => endOf(member) > nowMs);
  return {
    kept,
    expired: members.filter((member) => endOf(member) <= nowMs),
    nextMs: kept.length === 0 ? undefined : Math.min(...kept.map(endOf)),
  };
}
