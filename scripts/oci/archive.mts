// SPDX-License-Identifier: Apache-2.0
// An OCI image archive with one layer from a folder: no container engine, no registry, no base image. The same files give the same digest,
// since times, owners and order are fixed. What is in the folder is the caller's business. Image Layout Specification 1.1.
import { execFileSync } from 'node:child_process';
import { createHash, type Hash } from 'node:crypto';
import {
  createReadStream,
  createWriteStream,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { PassThrough, type Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';

export interface ImageOptions {
  /** Name with tag, as in `localhost/outrigger:dev`. */
  readonly name: string;
  /** Folder that becomes the file system. */
  readonly root: string;
  /** The archive to write. */
  readonly out: string;
  readonly entrypoint: readonly string[];
  readonly command?: readonly string[];
  /** NAME=value. */
  readonly env?: readonly string[];
  /** uid:gid. */
  readonly user: string;
  readonly workingDirectory?: string;
  readonly labels?: Readonly<Record<string, string>>;
}

const kArchitectures: Readonly<Record<string, string>> = { x64: 'amd64', arm64: 'arm64' };

interface Blob {
  readonly digest: string;
  readonly size: number;
}

function hashing(hash: Hash): PassThrough {
  const through = new PassThrough();
  through.on('data', (chunk: Buffer) => hash.update(chunk));
  return through;
}

async function digestOf(stream: Readable): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of stream) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

/** Writes the archive and answers the digest of its manifest. */
export async function writeImage(options: ImageOptions): Promise<string> {
  const work = mkdtempSync(join(tmpdir(), 'outrigger-oci-'));
  try {
    const blobs = join(work, 'blobs', 'sha256');
    mkdirSync(blobs, { recursive: true });
    const put = (document: object): Blob => {
      const bytes = Buffer.from(JSON.stringify(document));
      const digest = createHash('sha256').update(bytes).digest('hex');
      writeFileSync(join(blobs, digest), bytes);
      return { digest: `sha256:${digest}`, size: bytes.length };
    };

    const layer = join(work, 'layer.tar');
    const fixed = [
      '--sort=name',
      '--mtime=@0',
      '--owner=0',
      '--group=0',
      '--numeric-owner',
      '--format=posix',
    ];
    // posix headers carry times of access and change unless told not to.
    execFileSync('tar', [
      ...fixed,
      '--pax-option=delete=atime,delete=ctime',
      '-C',
      resolve(options.root),
      '-cf',
      layer,
      '.',
    ]);
    const diffId = await digestOf(createReadStream(layer));
    const packed = createHash('sha256');
    const gzip = createGzip({ level: 6 });
    await pipeline(createReadStream(layer), gzip, hashing(packed), createWriteStream(join(work, 'layer')));
    rmSync(layer);
    const digest = packed.digest('hex');
    renameSync(join(work, 'layer'), join(blobs, digest));

    const config = put({
      created: '1970-01-01T00:00:00Z',
      architecture: kArchitectures[process.arch] ?? process.arch,
      os: 'linux',
      config: {
        User: options.user,
        Env: ['PATH=/usr/local/bin:/usr/bin:/bin', ...(options.env ?? [])],
        Entrypoint: options.entrypoint,
        ...(options.command === undefined ? {} : { Cmd: options.command }),
        WorkingDir: options.workingDirectory ?? '/',
        Labels: options.labels ?? {},
      },
      rootfs: { type: 'layers', diff_ids: [`sha256:${diffId}`] },
      history: [{ created: '1970-01-01T00:00:00Z', created_by: 'make image' }],
    });
    const manifest = put({
      schemaVersion: 2,
      mediaType: 'application/vnd.oci.image.manifest.v1+json',
      config: { mediaType: 'application/vnd.oci.image.config.v1+json', ...config },
      layers: [
        {
          mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
          digest: `sha256:${digest}`,
          size: statSync(join(blobs, digest)).size,
        },
      ],
    });
    writeFileSync(join(work, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
    const index = {
      schemaVersion: 2,
      mediaType: 'application/vnd.oci.image.index.v1+json',
      manifests: [
        {
          mediaType: 'application/vnd.oci.image.manifest.v1+json',
          ...manifest,
          platform: { architecture: kArchitectures[process.arch] ?? process.arch, os: 'linux' },
          annotations: {
            'io.containerd.image.name': options.name,
            'org.opencontainers.image.ref.name': options.name.slice(options.name.lastIndexOf(':') + 1),
          },
        },
      ],
    };
    writeFileSync(join(work, 'index.json'), JSON.stringify(index));
    mkdirSync(dirname(resolve(options.out)), { recursive: true });
    const beside = join(dirname(resolve(options.out)), `.${basename(options.out)}`);
    execFileSync('tar', [
      ...fixed.slice(0, -1),
      '-C',
      work,
      '-cf',
      beside,
      'oci-layout',
      'index.json',
      'blobs',
    ]);
    renameSync(beside, resolve(options.out));
    return manifest.digest;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}
