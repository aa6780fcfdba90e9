// SPDX-License-Identifier: Apache-2.0
// The state of the certificates as the data of a Secret of type kubernetes.io/tls, and back.
import type { KeyPair } from './certificates';
import { bundleOf, type CertificateState } from './rotation';

/** Values in base64, as the API carries them. */
export type SecretData = Readonly<Record<string, string>>;

export const kSecretType = 'kubernetes.io/tls';

const kMaxAuthorities = 2;

function encoded(text: string): string {
  return Buffer.from(text).toString('base64');
}

export function secretData(state: CertificateState): SecretData {
  const authorities = state.authorities.flatMap(({ certificate, key }, i) => [
    [`authority-${i}.crt`, encoded(certificate)],
    [`authority-${i}.key`, encoded(key)],
  ]);
  return {
    'tls.crt': encoded(state.serving.certificate),
    'tls.key': encoded(state.serving.key),
    // For whoever mounts the Secret to trust us, and for people.
    'ca.crt': encoded(bundleOf(state)),
    ...(Object.fromEntries(authorities) as SecretData),
  };
}

function pairOf(data: SecretData, certificate: string, key: string): KeyPair | undefined {
  const read = (name: string): string | undefined =>
    data[name] === undefined ? undefined : Buffer.from(data[name], 'base64').toString('utf8');
  const pair = { certificate: read(certificate), key: read(key) };
  return pair.certificate === undefined || pair.key === undefined
    ? undefined
    : { certificate: pair.certificate, key: pair.key };
}

/** Undefined when the Secret holds no state; what the certificates are worth, rotation says. */
export function stateOf(data: SecretData | undefined): CertificateState | undefined {
  if (data === undefined) {
    return undefined;
  }
  const serving = pairOf(data, 'tls.crt', 'tls.key');
  const authorities = Array.from({ length: kMaxAuthorities }, (_, i) =>
    pairOf(data, `authority-${i}.crt`, `authority-${i}.key`),
  ).filter((each) => each !== undefined);
  return serving === undefined || authorities.length === 0 ? undefined : { serving, authorities };
}
