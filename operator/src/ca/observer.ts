// SPDX-License-Identifier: Apache-2.0
// What rotation must know of the world before it goes on: since when the bundle is where clients read it, and which certificate each replica
// shows on the wire.
import { connect } from 'node:tls';
import type { Observed } from './rotation';

/** Remembers since when each object carries the bundle that it carries. A new process knows nothing and waits anew: late, never early. */
export class BundleObserver {
  private readonly seen = new Map<string, { pem: string; sinceMs: number }>();
  private complete = false;

  /** All objects that carry the bundle now, by name, with what they carry; an object without one has ''. */
  observe(bundles: ReadonlyMap<string, string>, nowMs: number): void {
    this.complete = bundles.size > 0;
    for (const name of [...this.seen.keys()].filter((each) => !bundles.has(each))) {
      this.seen.delete(name);
    }
    for (const [name, pem] of bundles) {
      if (this.seen.get(name)?.pem !== pem) {
        this.seen.set(name, { pem, sinceMs: nowMs });
      }
    }
  }

  /** @param refused names of the objects that can't be written now */
  bundles(refused: ReadonlySet<string> = new Set()): Observed['bundles'] {
    return this.complete
      ? [...this.seen].map(([name, seen]) => ({ ...seen, refused: refused.has(name) }))
      : undefined;
  }
}

export interface ReplicaAddress {
  readonly host: string;
  readonly port: number;
}

const kProbeTimeoutMs = 2000;

/** Fingerprint of the certificate that a replica shows; undefined when it does not answer. Trusts nothing: it only looks. */
export function servedFingerprint(
  { host, port }: ReplicaAddress,
  timeoutMs = kProbeTimeoutMs,
): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, rejectUnauthorized: false, timeout: timeoutMs });
    const end = (fingerprint: string | undefined): void => {
      socket.destroy();
      resolve(fingerprint);
    };
    socket.once('secureConnect', () => {
      // An object without members when the other side showed none.
      const { fingerprint256 } = socket.getPeerCertificate() as { fingerprint256?: string };
      end(fingerprint256);
    });
    socket.once('timeout', () => end(undefined));
    socket.once('error', () => end(undefined));
    socket.once('close', () => end(undefined));
  });
}

export async function observeReplicas(replicas: readonly ReplicaAddress[]): Promise<Observed['served']> {
  return Promise.all(replicas.map((replica) => servedFingerprint(replica)));
}
