// SPDX-License-Identifier: Apache-2.0
// Tokens of pods: those that the API server gives, and those that are made here with the cluster's own key, or another, so that all is right with
// them but one thing.
import { generateKeyPairSync, randomUUID, sign, type KeyObject } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { kubectl } from '../kubectl';

const kState = process.env['CLUSTER_STATE'] ?? '';

export type Claims = Readonly<Record<string, unknown>>;

/** What the API server says of a token. */
export interface Review {
  readonly authenticated?: boolean;
  readonly error?: string;
}

/** What `kubectl create token` gives for the default account. @param more of its options: the pod that it is bound to, ... */
export async function issued(
  namespace: string,
  audience: string,
  ...more: readonly string[]
): Promise<string> {
  const args = ['create', 'token', 'default', '-n', namespace, '--audience', audience, ...more];
  return (await kubectl(args)).trim();
}

export function boundTo(pod: string): readonly string[] {
  return ['--bound-object-kind', 'Pod', '--bound-object-name', pod];
}

/** The private key with which the API server signs tokens. */
export function clusterKey(): string {
  return readFileSync(join(kState, 'pki/service-accounts.key'), 'utf8');
}

export function foreignKey(): KeyObject {
  return generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
}

function decoded(part: string | undefined): Claims {
  return JSON.parse(Buffer.from(part ?? '', 'base64url').toString('utf8')) as Claims;
}

/** A token like the one given, but for some claims and a name of its own, signed again (ES256, RFC 7518, section 3.4). */
export function signedAgain(token: string, claims: Claims, key: string | KeyObject = clusterKey()): string {
  const [head, body] = token.split('.').map((part, index) => (index < 2 ? decoded(part) : {}));
  if (head?.['alg'] !== 'ES256') {
    throw new Error(`the cluster signs tokens by ${String(head?.['alg'])}; this can only ES256`);
  }
  const encoded = [head, { ...body, jti: randomUUID(), ...claims }]
    .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
    .join('.');
  const signature = sign('sha256', Buffer.from(encoded), { key, dsaEncoding: 'ieee-p1363' } as never);
  return `${encoded}.${signature.toString('base64url')}`;
}

/** Times of a token that is good until then. @param untilSeconds from now; negative: it was good for an hour, and that is over. */
export function goodUntil(untilSeconds: number): Claims {
  const exp = Math.floor(Date.now() / 1000) + untilSeconds;
  const from = exp - Math.max(untilSeconds, 0) - 3600;
  return { exp, iat: from, nbf: from };
}

/** Asks the API server itself. */
export async function reviewOf(token: string, audience: string): Promise<Review> {
  const review = {
    apiVersion: 'authentication.k8s.io/v1',
    kind: 'TokenReview',
    spec: { token, audiences: [audience] },
  };
  const answer = await kubectl(['create', '-o', 'json', '-f', '-'], { input: JSON.stringify(review) });
  return (JSON.parse(answer) as { readonly status: Review }).status;
}
