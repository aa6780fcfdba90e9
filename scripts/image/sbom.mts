// SPDX-License-Identifier: Apache-2.0
// The bill of materials of an image, CycloneDX 1.6 JSON: every Debian and npm package, and Node. The same contents give the same bytes.
import { createHash } from 'node:crypto';
import type { Contents } from './root.mts';

export interface SbomInput extends Contents {
  readonly version: string;
  readonly variant: string;
  /** Seconds since 1970. */
  readonly epoch: number;
  /** ID and VERSION_ID of os-release: debian, 12. */
  readonly distribution: { readonly id: string; readonly version: string };
}

/** package-url: each part percent-encoded, but for the slashes of a scope. */
function purl(type: string, name: string, version: string, qualifiers = ''): string {
  const encoded = name.split('/').map(encodeURIComponent).join('/');
  return `pkg:${type}/${encoded}@${encodeURIComponent(version)}${qualifiers}`;
}

/** "sha512-…" in base64, as npm writes it, to what CycloneDX has. */
function hashes(integrity: string): object {
  const match = /^sha512-(\S+)/.exec(integrity);
  return match === null
    ? {}
    : { hashes: [{ alg: 'SHA-512', content: Buffer.from(match[1] ?? '', 'base64').toString('hex') }] };
}

function licenses(license: string): object {
  if (license === 'NOASSERTION') return {};
  return {
    licenses: / (OR|AND|WITH) /.test(license) ? [{ expression: license }] : [{ license: { id: license } }],
  };
}

export function sbom({
  version,
  variant,
  epoch,
  distribution,
  packages,
  modules,
  nodeVersion,
}: SbomInput): string {
  const library = (ref: string, rest: object): object => ({
    type: 'library',
    'bom-ref': ref,
    ...rest,
    purl: ref,
  });
  const distro = `distro=${distribution.id}-${distribution.version}`;
  const components = [
    {
      type: 'operating-system',
      'bom-ref': `os:${distribution.id}`,
      name: distribution.id,
      version: distribution.version,
    },
    library(purl('generic', 'node', nodeVersion), { name: 'node', version: nodeVersion, ...licenses('MIT') }),
    ...packages.map((each) =>
      library(
        purl(`deb/${distribution.id}`, each.name, each.version, `?arch=${each.architecture}&${distro}`),
        {
          name: each.name,
          version: each.version,
        },
      ),
    ),
    ...modules.map((each) =>
      library(purl('npm', each.name, each.version), {
        name: each.name,
        version: each.version,
        ...licenses(each.license),
        ...hashes(each.integrity),
      }),
    ),
  ];
  const unique = [
    ...new Map(components.map((each) => [(each as { 'bom-ref': string })['bom-ref'], each])).values(),
  ];
  const name = variant === 'default' ? 'outrigger' : `outrigger-${variant}`;
  const digest = createHash('sha256')
    .update(JSON.stringify([name, version, unique]))
    .digest('hex');
  // RFC 9562, version 8: of what the maker likes, here of the contents.
  const uuid = `${digest.slice(0, 8)}-${digest.slice(8, 12)}-8${digest.slice(13, 16)}-a${digest.slice(17, 20)}-${digest.slice(20, 32)}`;
  const document = {
    bomFormat: 'CycloneDX',
    specVersion: '1.6',
    serialNumber: `urn:uuid:${uuid}`,
    version: 1,
    metadata: {
      timestamp: new Date(epoch * 1000).toISOString(),
      component: { type: 'container', 'bom-ref': name, name, version, ...licenses('Apache-2.0') },
    },
    components: unique,
  };
  return `${JSON.stringify(document, null, 1)}\n`;
}
