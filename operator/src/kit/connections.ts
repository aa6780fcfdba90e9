// SPDX-License-Identifier: Apache-2.0
// Pools of connections to the API server: one for the credentials of now, and those before it until what runs over them has ended. What is sent over
// them is api_client.ts.
import { Agent, ProxyAgent, type Dispatcher } from 'undici';
import type { Credentials } from './auth';

type Secrets = Pick<Credentials, 'tls' | 'proxy'>;

interface Pool {
  readonly key: string;
  readonly dispatcher: Dispatcher;
  /** The latest read of the credentials that brought these. */
  read: number;
  users: number;
}

/** What one request holds of a pool; a pool that others took the place of is closed with the last of them. */
export interface Lease {
  /** The connections for these credentials, or for those of a later read. Called once. */
  readonly from: (secrets: Secrets, read: number) => Dispatcher;
  /** Nothing more is sent or read. May be called again. */
  readonly end: () => void;
}

export class Connections {
  private readonly pools = new Set<Pool>();
  private current: Pool | undefined;
  private reads = 0;
  private isClosed = false;

  /** @param timeoutMs longest time to connect */
  constructor(private readonly timeoutMs: number) {}

  /** The number of a read of the credentials that begins now: reads end in any order, and files change between them. */
  beginRead(): number {
    return ++this.reads;
  }

  lease(): Lease {
    let pool: Pool | undefined;
    return {
      from: (secrets, read) => {
        pool = this.poolFor(secrets, read);
        pool.users++;
        return pool.dispatcher;
      },
      end: () => {
        if (pool !== undefined && --pool.users === 0) {
          this.closeUnused(pool);
        }
        pool = undefined;
      },
    };
  }

  get closed(): boolean {
    return this.isClosed;
  }

  /** Closes all connections, with what runs over them. One that were made afterwards would never be closed. */
  destroy(): void {
    this.isClosed = true;
    this.pools.forEach(({ dispatcher }) => void dispatcher.destroy());
    this.pools.clear();
    this.current = undefined;
  }

  private poolFor({ tls, proxy }: Secrets, read: number): Pool {
    const before = this.current;
    if (before !== undefined && read < before.read) {
      return before;
    }
    const key = JSON.stringify([tls, proxy]);
    if (before?.key === key) {
      before.read = read;
      return before;
    }
    const pool = { key, read, users: 0, dispatcher: makePool({ tls, proxy }, this.timeoutMs) };
    this.pools.add(pool);
    this.current = pool;
    if (before?.users === 0) {
      this.closeUnused(before);
    }
    return pool;
  }

  /** Not earlier: one that is closed takes no request, neither one that was about to be sent; and an undici Agent that is closing can't be destroyed. */
  private closeUnused(pool: Pool): void {
    if (pool !== this.current && this.pools.delete(pool)) {
      void pool.dispatcher.close();
    }
  }
}

function makePool({ tls, proxy }: Secrets, timeoutMs: number): Dispatcher {
  // Probes from 30 s on keep connections alive over load balancers that forget idle ones after 60 s.
  const connect = { ...tls, timeout: timeoutMs, keepAlive: true, keepAliveInitialDelay: 30_000 };
  // HTTP/1.1: a connection that breaks takes one watch with it, not all of them.
  const options = { keepAliveTimeout: 30_000, allowH2: false };
  return proxy === undefined
    ? new Agent({ ...options, connect })
    : new ProxyAgent({ ...options, uri: proxy, requestTls: connect });
}
