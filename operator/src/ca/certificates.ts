// SPDX-License-Identifier: Apache-2.0
// Makes and reads certificates: a CA of its own and what it issues to our servers. When to make which is rotation.ts.
//
// Node reads and verifies certificates but does not make any; @peculiar/x509 encodes them, over the WebCrypto of Node, so keys and signatures are
// OpenSSL's.
import 'reflect-metadata';
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509CertificateGenerator,
} from '@peculiar/x509';
import { createPrivateKey, randomBytes, webcrypto, X509Certificate, type KeyObject } from 'node:crypto';

/** PEM, both: what a Secret of type kubernetes.io/tls holds. */
export interface KeyPair {
  readonly certificate: string;
  /** PKCS #8. */
  readonly key: string;
}

export interface Validity {
  readonly nowMs: number;
  readonly lifeMs: number;
}

/** P-256 is what every TLS stack takes, also those under FIPS rules; certificates of a few hundred bytes, handshakes of a fraction of RSA's CPU. */
const kKeyAlgorithm = { name: 'ECDSA', namedCurve: 'P-256' } as const;
const kSignature = { name: 'ECDSA', hash: 'SHA-256' } as const;
const kUsages = ['sign', 'verify'] as const;

/** Clocks of nodes differ: a new certificate is valid for those that are behind. */
export const kBackdateMs = 5 * 60_000;

/** RFC 5280, section 4.1.2.2: positive, at most 20 octets, and from a CA at least 64 bits of them random. */
function serialNumber(): string {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] as number) & 0x7f) | 0x40;
  return bytes.toString('hex');
}

function dates({ nowMs, lifeMs }: Validity): { notBefore: Date; notAfter: Date } {
  // Certificates count in seconds.
  const whole = (ms: number): Date => new Date(Math.floor(ms / 1000) * 1000);
  return { notBefore: whole(nowMs - kBackdateMs), notAfter: whole(nowMs + lifeMs) };
}

async function exportedKey(key: webcrypto.CryptoKey): Promise<string> {
  const der = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', key));
  return privateKeyOf(der).export({ type: 'pkcs8', format: 'pem' }).toString();
}

function privateKeyOf(der: Buffer): KeyObject {
  return createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
}

async function importedKey(pem: string): Promise<webcrypto.CryptoKey> {
  const der = createPrivateKey(pem).export({ type: 'pkcs8', format: 'der' });
  return webcrypto.subtle.importKey('pkcs8', der, kKeyAlgorithm, false, ['sign']);
}

/** A CA that signs servers' certificates and nothing else. Its name is its own, so that no client takes one CA for another in a bundle. */
export async function makeAuthority(validity: Validity): Promise<KeyPair> {
  const keys = await webcrypto.subtle.generateKey(kKeyAlgorithm, true, kUsages);
  const certificate = await X509CertificateGenerator.createSelfSigned({
    serialNumber: serialNumber(),
    name: `CN=Outrigger CA ${randomBytes(4).toString('hex')}, O=Outrigger`,
    ...dates(validity),
    keys,
    signingAlgorithm: kSignature,
    extensions: [
      new BasicConstraintsExtension(true, 0, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
      await SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return { certificate: `${certificate.toString('pem')}\n`, key: await exportedKey(keys.privateKey) };
}

/** A server's certificate for these DNS names, no longer than its CA lives. */
export async function issueServing(
  authority: KeyPair,
  names: readonly string[],
  { nowMs, lifeMs }: Validity,
): Promise<KeyPair> {
  const issuer = new X509Certificate(authority.certificate);
  const keys = await webcrypto.subtle.generateKey(kKeyAlgorithm, true, kUsages);
  const leftMs = issuer.validToDate.getTime() - nowMs;
  const certificate = await X509CertificateGenerator.create({
    serialNumber: serialNumber(),
    // RFC 6125, section 6.4.4: clients go by the alternative names; the subject is for people. A common name holds 64 characters.
    subject: 'CN=outrigger, O=Outrigger',
    issuer: issuerName(issuer),
    ...dates({ nowMs, lifeMs: Math.min(lifeMs, leftMs) }),
    publicKey: keys.publicKey,
    signingKey: await importedKey(authority.key),
    signingAlgorithm: kSignature,
    extensions: [
      new BasicConstraintsExtension(false, undefined, true),
      new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
      new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth]),
      new SubjectAlternativeNameExtension(names.map((value) => ({ type: 'dns' as const, value }))),
      await AuthorityKeyIdentifierExtension.create(await publicKeyOf(issuer)),
      await SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return { certificate: `${certificate.toString('pem')}\n`, key: await exportedKey(keys.privateKey) };
}

function publicKeyOf(certificate: X509Certificate): Promise<webcrypto.CryptoKey> {
  const der = certificate.publicKey.export({ type: 'spki', format: 'der' });
  return webcrypto.subtle.importKey('spki', der, kKeyAlgorithm, true, ['verify']);
}

/** Node writes a name one attribute a line, in the order of the certificate; what comes back must be the same bytes. */
function issuerName(issuer: X509Certificate): string {
  return issuer.subject.split('\n').join(', ');
}

/** A certificate as rotation looks at it. */
export interface Certificate {
  /** SHA-256 of it, as `openssl x509 -fingerprint` writes it. */
  readonly fingerprint: string;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  readonly names: readonly string[];
}

/** What a pair says of itself; undefined when it is no certificate, or the key is not that of the certificate. */
export function readPair({ certificate, key }: KeyPair): Certificate | undefined {
  try {
    const read = new X509Certificate(certificate);
    return read.checkPrivateKey(createPrivateKey(key)) ? describe(read) : undefined;
  } catch {
    return undefined;
  }
}

function describe(certificate: X509Certificate): Certificate {
  const names = certificate.subjectAltName?.split(', ') ?? [];
  return {
    fingerprint: certificate.fingerprint256,
    notBeforeMs: certificate.validFromDate.getTime(),
    notAfterMs: certificate.validToDate.getTime(),
    names: names.filter((name) => name.startsWith('DNS:')).map((name) => name.slice('DNS:'.length)),
  };
}

/** True when the authority signed it; the signature is verified, not only the names. */
export function isIssuedBy(certificate: string, authority: string): boolean {
  try {
    const issued = new X509Certificate(certificate);
    const issuer = new X509Certificate(authority);
    return issued.checkIssued(issuer) && issued.verify(issuer.publicKey);
  } catch {
    return false;
  }
}

/** The certificates of a bundle, each PEM by itself. */
export function splitBundle(bundle: string): readonly string[] {
  return bundle.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----\n?/g) ?? [];
}

export function fingerprintOf(certificate: string): string | undefined {
  try {
    return new X509Certificate(certificate).fingerprint256;
  } catch {
    return undefined;
  }
}

/** Names under which pods and the API server reach a Service. */
export function serviceNames(
  service: string,
  namespace: string,
  clusterDomain = 'cluster.local',
): readonly string[] {
  return [
    `${service}.${namespace}.svc`,
    `${service}.${namespace}.svc.${clusterDomain}`,
    `${service}.${namespace}`,
    service,
  ];
}
