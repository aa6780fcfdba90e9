// SPDX-License-Identifier: Apache-2.0
// An OCI image (image-spec 1.1) as one archive: layers, configuration, manifest, index. What is in it comes from the caller.
import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import type { ImageConfig } from './dockerfile.mts';
import { tar, type Entry } from './tar.mts';

export interface Layer {
  readonly comment: string;
  /** Not compressed. */
  readonly archive: Buffer;
}

export interface Image {
  /** As `ctr images import` names it: localhost/outrigger:dev. */
  readonly reference: string;
  readonly config: ImageConfig;
  readonly layers: readonly Layer[];
  /** Seconds since 1970. */
  readonly epoch: number;
  readonly architecture: string;
}

export interface Written {
  /** Of the manifest: what a registry would call the image by. */
  readonly digest: string;
  readonly compressedBytes: number;
  readonly unpackedBytes: number;
}

const kTypes = {
  layer: 'application/vnd.oci.image.layer.v1.tar+gzip',
  config: 'application/vnd.oci.image.config.v1+json',
  manifest: 'application/vnd.oci.image.manifest.v1+json',
  index: 'application/vnd.oci.image.index.v1+json',
} as const;

function sha256(data: Buffer): string {
  return createHash('sha256').update(data).digest('hex');
}

export function writeImage(path: string, image: Image): Written {
  const blobs = new Map<string, Buffer>();
  const blob = (mediaType: string, data: Buffer): { mediaType: string; digest: string; size: number } => {
    const digest = sha256(data);
    blobs.set(digest, data);
    return { mediaType, digest: `sha256:${digest}`, size: data.length };
  };
  const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));
  const created = new Date(image.epoch * 1000).toISOString();
  const layers = image.layers.map(({ archive }) => blob(kTypes.layer, gzipSync(archive, { level: 6 })));
  const config = blob(
    kTypes.config,
    json({
      created,
      architecture: image.architecture,
      os: 'linux',
      config: image.config,
      rootfs: { type: 'layers', diff_ids: image.layers.map(({ archive }) => `sha256:${sha256(archive)}`) },
      history: image.layers.map(({ comment }) => ({ created, created_by: 'make image', comment })),
    }),
  );
  const manifest = blob(
    kTypes.manifest,
    json({ schemaVersion: 2, mediaType: kTypes.manifest, config, layers, annotations: image.config.Labels }),
  );
  const index = {
    schemaVersion: 2,
    mediaType: kTypes.index,
    manifests: [
      {
        ...manifest,
        platform: { architecture: image.architecture, os: 'linux' },
        annotations: {
          'io.containerd.image.name': image.reference,
          'org.opencontainers.image.ref.name': image.reference.split(':').at(-1),
        },
      },
    ],
  };
  const file = (name: string, data: Buffer): Entry => ({ path: name, type: 'file', mode: 0o644, data });
  const entries: Entry[] = [
    file('oci-layout', json({ imageLayoutVersion: '1.0.0' })),
    file('index.json', json(index)),
    { path: 'blobs', type: 'folder', mode: 0o755 },
    { path: 'blobs/sha256', type: 'folder', mode: 0o755 },
    ...[...blobs]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([digest, data]) => file(`blobs/sha256/${digest}`, data)),
  ];
  writeFileSync(path, tar(entries, image.epoch));
  return {
    digest: manifest.digest,
    compressedBytes: layers.reduce((sum, { size }) => sum + size, 0),
    unpackedBytes: image.layers.reduce((sum, { archive }) => sum + archive.length, 0),
  };
}
