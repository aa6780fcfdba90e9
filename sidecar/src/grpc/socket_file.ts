// SPDX-License-Identifier: Apache-2.0
// The file of a UNIX socket: stale ones go, live ones stay, mode and group are set. Not the server behind it.
import { chmodSync, chownSync, lstatSync, readFileSync, unlinkSync } from 'node:fs';
import { createConnection } from 'node:net';

/** True when a process listens on the socket. */
function isAlive(path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const socket = createConnection(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNREFUSED' || error.code === 'ENOENT') {
        resolve(false);
      } else {
        reject(new Error(`socket ${path}: ${error.message}; it can't be told whether a process uses it`));
      }
    });
  });
}

/** Removes the file a dead process left. Rejects when a process listens there, or when the path is no socket. */
export async function removeStaleSocket(path: string): Promise<void> {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) {
    return;
  }
  if (!stat.isSocket()) {
    throw new Error(
      `grpcSocket ${path}: there is a file that is no socket; remove it or choose another path`,
    );
  }
  if (await isAlive(path)) {
    throw new Error(`grpcSocket ${path}: a process listens there already; stop it or choose another path`);
  }
  unlinkSync(path);
}

/** Number of a group given by name or number. */
export function groupId(group: string, groupFile = '/etc/group'): number {
  if (/^\d+$/.test(group)) {
    return Number(group);
  }
  for (const line of readFileSync(groupFile, 'utf8').split('\n')) {
    const [name, , id] = line.split(':');
    if (name === group && id !== undefined) {
      return Number(id);
    }
  }
  throw new Error(`grpcSocketGroup ${group}: no such group in ${groupFile}; use a known name or a number`);
}

export function protectSocket(path: string, mode: number, group: string): void {
  if (group !== '') {
    chownSync(path, -1, groupId(group));
  }
  chmodSync(path, mode);
}
