// SPDX-License-Identifier: Apache-2.0
// Reads an OCI archive as an engine does, checking every digest, without a look at what wrote it.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';

export interface TarEntry {
  readonly path: string;
  readonly type: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly target: string;
  readonly data: Buffer;
  /** Keys of pax records. */
  readonly pax: readonly string[];
}

function text(block: Buffer, from: number, length: number): string {
  const field = block.subarray(from, from + length);
  const end = field.indexOf(0);
  return field.subarray(0, end < 0 ? length : end).toString();
}

function octal(block: Buffer, from: number, length: number): number {
  return parseInt(text(block, from, length).trim(), 8);
}

export function* readTar(archive: Buffer): Generator<TarEntry> {
  let pax = new Map<string, string>();
  for (let at = 0; at + 512 <= archive.length && archive[at] !== 0;) {
    const block = archive.subarray(at, at + 512);
    const sum = block.reduce((total, byte, i) => total + (i >= 148 && i < 156 ? 32 : byte), 0);
    if (sum !== octal(block, 148, 8)) {
      throw new Error(`bad checksum of the header at ${at}`);
    }
    const size = octal(block, 124, 12);
    const data = archive.subarray(at + 512, at + 512 + size);
    const type = text(block, 156, 1);
    at += 512 + Math.ceil(size / 512) * 512;
    if (type === 'x') {
      pax = new Map(
        [...data.toString().matchAll(/\d+ ([^=]+)=([^\n]*)\n/g)].map(([, key = '', value = '']) => [
          key,
          value,
        ]),
      );
      continue;
    }
    const prefix = text(block, 345, 155);
    const name = text(block, 0, 100);
    yield {
      path: (pax.get('path') ?? (prefix === '' ? name : `${prefix}/${name}`)).replace(/\/$/, ''),
      type,
      // Some writers put the type there too, as in st_mode.
      mode: octal(block, 100, 8) & 0o7777,
      uid: octal(block, 108, 8),
      gid: octal(block, 116, 8),
      target: pax.get('linkpath') ?? text(block, 157, 100),
      data,
      pax: [...pax.keys()],
    };
    pax = new Map();
  }
}

interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly annotations?: Readonly<Record<string, string>>;
}

export interface ImageArchive {
  readonly digest: string;
  readonly annotations: Readonly<Record<string, string>>;
  readonly config: {
    readonly User: string;
    readonly Env: readonly string[];
    readonly Entrypoint: readonly string[];
    readonly Cmd: readonly string[];
    readonly Labels: Readonly<Record<string, string>>;
  };
  readonly layers: readonly (readonly TarEntry[])[];
}

function sha256(data: Buffer): string {
  return `sha256:${createHash('sha256').update(data).digest('hex')}`;
}

export function readImage(path: string): ImageArchive {
  const files = new Map([...readTar(readFileSync(path))].map((entry) => [entry.path, entry.data]));
  const blob = ({ digest, size }: Descriptor): Buffer => {
    const data = files.get(`blobs/${digest.replace(':', '/')}`);
    if (data?.length !== size || sha256(data) !== digest) {
      throw new Error(`blob ${digest} is missing or is another`);
    }
    return data;
  };
  const json = <T>(data: Buffer | undefined): T => JSON.parse(String(data)) as T;
  const [top] = json<{ manifests: Descriptor[] }>(files.get('index.json')).manifests as [Descriptor];
  const manifest = json<{ config: Descriptor; layers: Descriptor[] }>(blob(top));
  const config = json<{ config: ImageArchive['config']; rootfs: { diff_ids: string[] } }>(
    blob(manifest.config),
  );
  const layers = manifest.layers.map((layer, i) => {
    const archive = gunzipSync(blob(layer));
    if (sha256(archive) !== config.rootfs.diff_ids[i]) {
      throw new Error(`layer ${i} is not what its diff_id says`);
    }
    return [...readTar(archive)];
  });
  return { digest: top.digest, annotations: top.annotations ?? {}, config: config.config, layers };
}
