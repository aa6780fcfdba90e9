// SPDX-License-Identifier: Apache-2.0
// Carries out what rotation decides, through narrow interfaces: where the state is kept, what is seen of the world. The leader steps; every
// replica adopts what is stored. No API of Kubernetes here.
import type { Certificate } from './certificates';
import { readPair } from './certificates';
import {
  carryOut,
  decide,
  type CertificateState,
  type Observed,
  type RotationPolicy,
  type Step,
} from './rotation';

export interface StoredState {
  readonly state: CertificateState | undefined;
  /** What a save must still find there; undefined: nothing is stored yet. */
  readonly version: string | undefined;
}

export interface CertificateStore {
  load(signal?: AbortSignal): Promise<StoredState>;
  /** False when someone else wrote since `version`. */
  save(state: CertificateState, version: string | undefined, signal?: AbortSignal): Promise<boolean>;
}

export interface ManagerOptions {
  readonly store: CertificateStore;
  readonly observe: () => Promise<Observed>;
  /** What was stored last as this process saw it, also after it was deleted; undefined: nothing was. */
  readonly served?: () => CertificateState | undefined;
  /** DNS names of the servers. */
  readonly names: readonly string[];
  readonly policy: RotationPolicy;
  readonly now: () => number;
  /** Aborted: nothing more is stored. */
  readonly signal?: AbortSignal;
}

export interface StepResult {
  readonly step: Step;
  /** As stored now. */
  readonly state: CertificateState | undefined;
  /** When to step again, at the latest. */
  readonly afterMs: number;
}

const kAgainMs = 1000;

/** One step of the leader. Rejects when store or world do not answer: nothing has happened then, and the next step begins anew. */
export async function stepCertificates(options: ManagerOptions): Promise<StepResult> {
  const { store, names, policy, now, signal } = options;
  const { state, version } = await store.load(signal);
  const observed = await options.observe();
  const step = decide(state, names, observed, policy, now(), options.served?.());
  if (step.kind === 'none') {
    return { step, state, afterMs: step.afterMs };
  }
  const next = await carryOut(state, step, names, policy, now());
  signal?.throwIfAborted();
  const saved = await store.save(next, version, signal);
  // Who lost the race did nothing: the state of the winner decides anew.
  return { step, state: saved ? next : state, afterMs: kAgainMs };
}

/** When what ends, seconds since 1970: for the metric and its alert. */
export function expiries(
  state: CertificateState | undefined,
): readonly { certificate: string; seconds: number }[] {
  const at = (certificate: string, pair: Certificate | undefined) =>
    pair === undefined ? [] : [{ certificate, seconds: Math.floor(pair.notAfterMs / 1000) }];
  if (state === undefined) {
    return [];
  }
  // While there are two CAs, the newer one is what matters: the older one is on its way out.
  const newest = state.authorities.at(-1);
  return [
    ...at('authority', newest === undefined ? undefined : readPair(newest)),
    ...at('serving', readPair(state.serving)),
  ];
}
