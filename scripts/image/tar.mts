// SPDX-License-Identifier: Apache-2.0
// Tar archives of a folder, the same bytes for the same content wherever and by whomever it is packed: sorted, one time stamp, owner root, no
// extended attributes (so no file capabilities), no setuid. POSIX.1-1988 "ustar"; a path that does not fit gets a pax header.
import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';

export interface Entry {
  /** Relative, without a slash at the end. */
  readonly path: string;
  readonly mode: number;
  readonly type: 'file' | 'folder' | 'link';
  readonly data?: Buffer;
  /** Target of a symbolic link. */
  readonly target?: string;
}

const kBlock = 512;
const kTypeFlags = { file: '0', folder: '5', link: '2' } as const;

function padded(data: Buffer): Buffer[] {
  const rest = data.length % kBlock;
  return rest === 0 ? [data] : [data, Buffer.alloc(kBlock - rest)];
}

/** Prefix and name of a ustar header; undefined when the path fits into no split. */
function split(path: string): { prefix: string; name: string } | undefined {
  if (Buffer.byteLength(path) <= 100) return { prefix: '', name: path };
  for (let i = path.indexOf('/'); i >= 0; i = path.indexOf('/', i + 1)) {
    const [prefix, name] = [path.slice(0, i), path.slice(i + 1)];
    if (Buffer.byteLength(prefix) <= 155 && name !== '' && Buffer.byteLength(name) <= 100)
      return { prefix, name };
  }
  return undefined;
}

interface Header {
  readonly name: string;
  readonly prefix: string;
  readonly mode: number;
  readonly size: number;
  readonly flag: string;
  readonly target: string;
  readonly epoch: number;
}

function header({ name, prefix, mode, size, flag, target, epoch }: Header): Buffer {
  const block = Buffer.alloc(kBlock);
  const octal = (value: number, at: number, length: number): void =>
    void block.write(`${value.toString(8).padStart(length - 1, '0')}\0`, at, 'latin1');
  block.write(name, 0);
  octal(mode, 100, 8);
  octal(0, 108, 8);
  octal(0, 116, 8);
  octal(size, 124, 12);
  octal(epoch, 136, 12);
  block.write(' '.repeat(8), 148, 'latin1');
  block.write(flag, 156, 'latin1');
  block.write(target, 157);
  block.write('ustar\0' + '00', 257, 'latin1');
  octal(0, 329, 8);
  octal(0, 337, 8);
  block.write(prefix, 345);
  let sum = 0;
  for (const byte of block) sum += byte;
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return block;
}

/** A pax record says its own length, decimal, with it. */
function paxRecord(key: string, value: string): string {
  const body = ` ${key}=${value}\n`;
  let length = Buffer.byteLength(body);
  while (length !== Buffer.byteLength(`${length}${body}`)) length = Buffer.byteLength(`${length}${body}`);
  return `${length}${body}`;
}

/** The archive; entries as they come. */
export function tar(entries: Iterable<Entry>, epoch: number): Buffer {
  const blocks: Buffer[] = [];
  for (const { path, mode, type, data, target } of entries) {
    const full = type === 'folder' ? `${path}/` : path;
    const place = split(full);
    const size = data?.length ?? 0;
    const long: string[] = [];
    if (place === undefined) long.push(paxRecord('path', full));
    if (Buffer.byteLength(target ?? '') > 100) long.push(paxRecord('linkpath', target ?? ''));
    if (long.length > 0) {
      const records = Buffer.from(long.join(''));
      const pax = {
        name: 'pax',
        prefix: '',
        mode: 0o644,
        size: records.length,
        flag: 'x',
        target: '',
        epoch,
      };
      blocks.push(header(pax), ...padded(records));
    }
    const { name, prefix } = place ?? { name: full.slice(0, 100), prefix: '' };
    const link = (target ?? '').slice(0, 100);
    blocks.push(header({ name, prefix, mode, size, flag: kTypeFlags[type], target: link, epoch }));
    if (data !== undefined) blocks.push(...padded(data));
  }
  return Buffer.concat([...blocks, Buffer.alloc(2 * kBlock)]);
}

/** The sticky bit stays, for folders like /tmp; setgid and write permission of a group do not. */
export function folderMode(mode: number): number {
  return (mode & 0o1000) === 0 ? 0o755 : 0o1777;
}

export function fileMode(mode: number): number {
  return (mode & 0o111) === 0 ? 0o644 : 0o755;
}

/** Everything under a folder, sorted by path, folders before what is in them. Devices, sockets and the like are refused. */
export function* entriesOf(root: string, wanted: (path: string) => boolean, folder = ''): Generator<Entry> {
  for (const name of readdirSync(join(root, folder)).sort()) {
    const path = folder === '' ? name : `${folder}/${name}`;
    const stat = lstatSync(join(root, path));
    if (stat.isDirectory()) {
      const inside = [...entriesOf(root, wanted, path)];
      if (inside.length > 0 || wanted(path)) {
        yield { path, type: 'folder', mode: folderMode(stat.mode) };
        yield* inside;
      }
    } else if (wanted(path)) {
      if (stat.isSymbolicLink()) {
        yield { path, type: 'link', mode: 0o777, target: readlinkSync(join(root, path)) };
      } else if (stat.isFile()) {
        yield { path, type: 'file', mode: fileMode(stat.mode), data: readFileSync(join(root, path)) };
      } else {
        throw new Error(`${path} is no file, folder or link: it can't be in an image`);
      }
    }
  }
}
