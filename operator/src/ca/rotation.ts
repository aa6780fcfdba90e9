// SPDX-License-Identifier: Apache-2.0
// When a CA or a certificate is made anew, and in which order, so that at no moment a client with the bundle that it has meets a server with a
// certificate that the bundle does not cover. Pure decisions over what is stored and what is observed; manager.ts carries them out.
//
//   [A]      served by A      A is old enough: make B, and only announce it
//   [A B]    served by A      every client has had [A B] for a while: issue the next certificate from B
//   [A B]    served by B      every replica serves it: A goes
//   [B]      served by B
//
// A Secret that was deleted is a CA that somebody wants changed: what is still served goes back beside a new CA, and the change takes its course.
// Certificates are renewed more often, under the CA of the moment, which no client notices. A step may be repeated, and the process may die
// between any two.
import {
  fingerprintOf,
  isIssuedBy,
  issueServing,
  makeAuthority,
  readPair,
  splitBundle,
  type Certificate,
  type KeyPair,
} from './certificates';

export interface RotationPolicy {
  readonly authorityLifeMs: number;
  /** Age from which a CA gets its successor. */
  readonly authorityRenewMs: number;
  readonly servingLifeMs: number;
  readonly servingRenewMs: number;
  /** From when a bundle was seen in all configurations until every API server goes by it. */
  readonly settleMs: number;
}

const kMinuteMs = 60_000;
const kDayMs = 24 * 60 * kMinuteMs;

export type RotationTimes = Pick<RotationPolicy, 'authorityLifeMs' | 'servingLifeMs' | 'settleMs'>;

export const kRotationTimes: RotationTimes = {
  authorityLifeMs: 365 * kDayMs,
  servingLifeMs: 90 * kDayMs,
  // API servers watch webhook configurations and have a new one within a second or two; one that is cut off from etcd longer serves no requests.
  // Kubelets bring a ConfigMap to their pods within two minutes.
  settleMs: 5 * kMinuteMs,
};

/** Both are renewed after two thirds: the last one is left for the change, and for an operator that nobody ran for months. */
export function rotationPolicy(times: RotationTimes): RotationPolicy {
  return {
    ...times,
    authorityRenewMs: Math.floor((times.authorityLifeMs * 2) / 3),
    servingRenewMs: Math.floor((times.servingLifeMs * 2) / 3),
  };
}

/** What the Secret holds. */
export interface CertificateState {
  /** Oldest first: one, or two while the CA changes. */
  readonly authorities: readonly KeyPair[];
  readonly serving: KeyPair;
}

export interface SeenBundle {
  readonly pem: string;
  /** Since when it was seen there unchanged. */
  readonly sinceMs: number;
  /** The object can't be written: its namespace does not let us. */
  readonly refused?: boolean;
}

/** What the world does, as far as anyone looked. */
export interface Observed {
  /** For each object that carries our bundle. Undefined: not seen. */
  readonly bundles: readonly SeenBundle[] | undefined;
  /** Fingerprint of the certificate that each replica shows; undefined for one that could not be asked. */
  readonly served: readonly (string | undefined)[];
}

export type Step =
  | {
      readonly kind: 'none';
      /** When to look again, at the latest. */ readonly afterMs: number;
      readonly reason: string;
    }
  | { readonly kind: 'begin'; readonly reason: string }
  | { readonly kind: 'restore'; readonly served: CertificateState; readonly reason: string }
  | { readonly kind: 'announce'; readonly reason: string }
  | { readonly kind: 'issue'; readonly authority: number; readonly reason: string }
  | { readonly kind: 'retire'; readonly reason: string };

/** What clients must trust: all authorities, the oldest first. */
export function bundleOf({ authorities }: CertificateState): string {
  return authorities.map(({ certificate }) => certificate).join('');
}

/**
 * How long a new CA waits for objects that can't be written. Who looks after such a namespace has an alert and a day to mend it; beyond that it would
 * decide over the certificates of all others: in the end the old CA runs out, and nobody is served.
 */
export const kRefusalGraceMs = kDayMs;

/** Looked at again this often while a change waits for others. */
const kPollMs = 10_000;
const kLongestMs = 60 * kMinuteMs;

function holds(bundle: string, certificate: string): boolean {
  const wanted = fingerprintOf(certificate);
  return splitBundle(bundle).some((each) => fingerprintOf(each) === wanted);
}

function sameNames(left: readonly string[], right: readonly string[]): boolean {
  return left.length === right.length && left.every((name) => right.includes(name));
}

/** The authority that issued what is served, by index; -1 for none of ours. */
function issuerIndex({ authorities, serving }: CertificateState): number {
  return authorities.findIndex(({ certificate }) => isIssuedBy(serving.certificate, certificate));
}

/** Why the serving certificate is made anew, if it is. */
function staleness(
  serving: Certificate | undefined,
  names: readonly string[],
  policy: RotationPolicy,
  nowMs: number,
): string | undefined {
  if (serving === undefined) {
    return 'the serving certificate can not be read';
  }
  if (!sameNames(serving.names, names)) {
    return `it is for ${serving.names.join(', ')}, not for ${names.join(', ')}`;
  }
  // notBefore is the moment of issue less the backdating, which is small against a life.
  return nowMs - serving.notBeforeMs >= policy.servingRenewMs || nowMs >= serving.notAfterMs
    ? `it is from ${new Date(serving.notBeforeMs).toISOString()}`
    : undefined;
}

/** Those that a new CA waits for. */
function awaited({ bundles = [] }: Observed, announcedMs: number, nowMs: number): readonly SeenBundle[] {
  return bundles.filter(({ refused = false }) => !refused || nowMs - announcedMs < kRefusalGraceMs);
}

/** Until all of these have had the certificate for long enough, as far as is seen now: 0 when they have, Infinity when one has it not. */
function settlesInMs(
  certificate: string,
  bundles: readonly SeenBundle[],
  policy: RotationPolicy,
  nowMs: number,
): number {
  const waits = bundles.map(({ pem, sinceMs }) =>
    holds(pem, certificate) ? sinceMs + policy.settleMs - nowMs : Infinity,
  );
  // Not looked is not settled.
  return waits.length === 0 ? Infinity : Math.max(0, ...waits);
}

/** Whether clients can still be served by it. */
function isUsable(state: CertificateState, nowMs: number): boolean {
  const newest = state.authorities.map(readPair).at(-1);
  return newest !== undefined && nowMs < newest.notAfterMs && issuerIndex(state) >= 0;
}

/** @param served what the servers of this process go by: all that is left when nothing is stored. */
export function decide(
  state: CertificateState | undefined,
  names: readonly string[],
  observed: Observed,
  policy: RotationPolicy,
  nowMs: number,
  served?: CertificateState,
): Step {
  if (state === undefined) {
    return served !== undefined && isUsable(served, nowMs)
      ? { kind: 'restore', served, reason: 'the stored certificates were deleted' }
      : { kind: 'begin', reason: 'there are no certificates yet' };
  }
  const authorities = state.authorities.map(readPair);
  const newest = authorities.at(-1);
  if (newest === undefined || authorities.includes(undefined)) {
    return { kind: 'begin', reason: 'the stored CA can not be read' };
  }
  if (nowMs >= newest.notAfterMs) {
    return { kind: 'begin', reason: `the CA expired at ${new Date(newest.notAfterMs).toISOString()}` };
  }
  const issuer = issuerIndex(state);
  const serving = readPair(state.serving);
  const stale = issuer < 0 ? 'none of our CAs issued it' : staleness(serving, names, policy, nowMs);
  const last = authorities.length - 1;

  if (last > 0) {
    return decideWithin(state, { issuer, stale, serving, last, newest }, observed, policy, nowMs);
  }
  if (stale !== undefined) {
    return { kind: 'issue', authority: last, reason: stale };
  }
  if (nowMs - newest.notBeforeMs >= policy.authorityRenewMs) {
    return { kind: 'announce', reason: `the CA is from ${new Date(newest.notBeforeMs).toISOString()}` };
  }
  const nextMs = Math.min(
    newest.notBeforeMs + policy.authorityRenewMs,
    (serving?.notBeforeMs ?? nowMs) + policy.servingRenewMs,
  );
  return {
    kind: 'none',
    afterMs: Math.min(Math.max(nextMs - nowMs, 1000), kLongestMs),
    reason: 'all is young',
  };
}

interface Change {
  readonly issuer: number;
  readonly stale: string | undefined;
  readonly serving: Certificate | undefined;
  readonly last: number;
  readonly newest: Certificate;
}

/** While there are two authorities. */
function decideWithin(
  state: CertificateState,
  { issuer, stale, serving, last, newest }: Change,
  observed: Observed,
  policy: RotationPolicy,
  nowMs: number,
): Step {
  if (issuer !== last) {
    const { certificate } = state.authorities[last] as KeyPair;
    const clients = awaited(observed, newest.notBeforeMs, nowMs);
    const waitMs = settlesInMs(certificate, clients, policy, nowMs);
    if (waitMs === 0) {
      const without = (observed.bundles ?? []).filter(({ pem }) => !holds(pem, certificate)).length;
      const reason =
        without === 0 ? 'every client has the new CA' : `all but ${without} that refuse the new CA have it`;
      return { kind: 'issue', authority: last, reason };
    }
    // Renewed under the old CA meanwhile, if it must be: clients have that one.
    return stale !== undefined
      ? { kind: 'issue', authority: Math.max(issuer, 0), reason: stale }
      : {
          kind: 'none',
          afterMs: Math.min(waitMs, kPollMs),
          reason: 'clients do not have the new CA yet',
        };
  }
  if (stale !== undefined) {
    return { kind: 'issue', authority: last, reason: stale };
  }
  // None at all is no proof: the operator itself is one.
  const all = observed.served.length > 0 && observed.served.every((each) => each === serving?.fingerprint);
  return all
    ? { kind: 'retire', reason: 'every replica serves a certificate of the new CA' }
    : { kind: 'none', afterMs: kPollMs, reason: 'not every replica serves a certificate of the new CA yet' };
}

/** The state after a step. */
export async function carryOut(
  state: CertificateState | undefined,
  step: Exclude<Step, { kind: 'none' }>,
  names: readonly string[],
  policy: RotationPolicy,
  nowMs: number,
): Promise<CertificateState> {
  const serving = { nowMs, lifeMs: policy.servingLifeMs };
  if (step.kind === 'restore') {
    // In the middle of a change there is a new CA already.
    return step.served.authorities.length > 1
      ? step.served
      : carryOut(step.served, { kind: 'announce', reason: step.reason }, names, policy, nowMs);
  }
  if (step.kind === 'begin' || state === undefined) {
    const authority = await makeAuthority({ nowMs, lifeMs: policy.authorityLifeMs });
    return { authorities: [authority], serving: await issueServing(authority, names, serving) };
  }
  switch (step.kind) {
    case 'announce':
      return {
        ...state,
        authorities: [...state.authorities, await makeAuthority({ nowMs, lifeMs: policy.authorityLifeMs })],
      };
    case 'issue': {
      const authority = state.authorities[step.authority] as KeyPair;
      return { ...state, serving: await issueServing(authority, names, serving) };
    }
    case 'retire':
      return { ...state, authorities: state.authorities.slice(-1) };
  }
}
