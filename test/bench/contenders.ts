// SPDX-License-Identifier: Apache-2.0
// The drivers that are measured against each other, two of each, one a host. All of a run's contenders are started once and stay warm (a JIT needs it); the
// ones whose turn it is not are stopped with SIGSTOP, so that their polling costs the measured one nothing.
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Hosts } from './hosts';
import { type Measured, sleep, start } from './shell';

export type Backend = 'socket' | 'mmsg';

export interface Build {
  root: string;
  driver: string;
  benchPrograms: string;
  javaClasspath: string;
}

export interface Contender {
  name: string;
  peer: 'ours' | 'aeron';
  backend: Backend | '';
  // What the results call this setting.
  tuning: string;
  // Our driver: environment. Aeron's: system properties, by the same names in its own spelling.
  settings: Record<string, string>;
  // How the C++ clients on it pass the time: on doorbells where there are some.
  clientIdle: 'doorbell' | 'yield';
}

// 2 MiB socket buffers and receiver windows: what both contenders' manuals recommend for throughput.
const TUNED_OURS = {
  AERON_SOCKET_SO_SNDBUF: '2m',
  AERON_SOCKET_SO_RCVBUF: '2m',
  AERON_RCV_INITIAL_WINDOW_LENGTH: '2m',
};
const TUNED_AERON = {
  'aeron.socket.so_sndbuf': '2m',
  'aeron.socket.so_rcvbuf': '2m',
  'aeron.rcv.initial.window.length': '2m',
};
const YIELDING = {
  'aeron.conductor.idle.strategy': 'org.agrona.concurrent.YieldingIdleStrategy',
  'aeron.sender.idle.strategy': 'org.agrona.concurrent.YieldingIdleStrategy',
  'aeron.receiver.idle.strategy': 'org.agrona.concurrent.YieldingIdleStrategy',
  'aeron.sharednetwork.idle.strategy': 'org.agrona.concurrent.YieldingIdleStrategy',
  'aeron.shared.idle.strategy': 'org.agrona.concurrent.YieldingIdleStrategy',
};

export const LOSS_LINGER = { 'aeron.retransmit.unicast.linger': '100us' };

export function ours(backend: Backend, tuned = true, mtuLength = 0): Contender {
  return {
    name: `outrigger-${backend}${tuned ? '' : '-default'}`,
    peer: 'ours',
    backend,
    tuning: tuned ? 'tuned' : 'default',
    settings: {
      OUTRIGGER_BACKENDS: backend,
      ...(tuned ? TUNED_OURS : {}),
      ...(mtuLength > 0 ? { AERON_MTU_LENGTH: String(mtuLength) } : {}),
    },
    clientIdle: 'doorbell',
  };
}

export type ThreadingMode = 'DEDICATED' | 'SHARED_NETWORK' | 'SHARED';

export function aeron(
  tuning: string,
  options: {
    tuned?: boolean;
    mode?: ThreadingMode;
    yielding?: boolean;
    mtuLength?: number;
    more?: Record<string, string>;
  },
): Contender {
  return {
    name: `aeron-${tuning.replace(/[^a-zA-Z0-9]+/g, '-')}`,
    peer: 'aeron',
    backend: '',
    tuning,
    settings: {
      ...(options.mode ? { 'aeron.threading.mode': options.mode } : {}),
      ...(options.tuned ? TUNED_AERON : {}),
      ...(options.yielding ? YIELDING : {}),
      ...(options.mtuLength ? { 'aeron.mtu.length': String(options.mtuLength) } : {}),
      ...options.more,
    },
    clientIdle: 'yield',
  };
}

export interface Side {
  process: Measured;
  directory: string;
}

export interface DriverPair {
  contender: Contender;
  a: Side;
  b: Side;
  port: number;
}

// Starts and freezes the drivers of a set of contenders.
export class Fleet {
  private readonly pairs = new Map<string, DriverPair>();
  private nextPort = 24100;
  private nextStream = 1001;

  constructor(
    private readonly hosts: Hosts,
    private readonly build: Build,
    private readonly tag: string,
  ) {}

  // A stream id that no run before used: a lingering session can then never be taken for a new one.
  stream(): number {
    return this.nextStream++;
  }

  // The running pair of this contender; every other one is frozen.
  async activate(contender: Contender): Promise<DriverPair> {
    for (const [name, pair] of this.pairs) {
      if (name === contender.name) continue;
      pair.a.process.signal('SIGSTOP');
      pair.b.process.signal('SIGSTOP');
    }
    let pair = this.pairs.get(contender.name);
    if (pair && (pair.a.process.isOver || pair.b.process.isOver)) {
      throw new Error(`driver of ${contender.name} died: ${pair.a.process.errors} ${pair.b.process.errors}`);
    }
    if (pair) {
      pair.a.process.signal('SIGCONT');
      pair.b.process.signal('SIGCONT');
      await sleep(100);
      return pair;
    }
    pair = { contender, a: this.launch(contender, 'a'), b: this.launch(contender, 'b'), port: this.nextPort };
    this.nextPort += 10;
    this.pairs.set(contender.name, pair);
    if (contender.peer === 'aeron') {
      await pair.a.process.next(20_000);
      await pair.b.process.next(20_000);
    } else {
      await sleep(300);
    }
    return pair;
  }

  private launch(contender: Contender, side: 'a' | 'b'): Side {
    const directory = join('/dev/shm', `outrigger-bench-${this.tag}-${contender.name}-${side}`);
    rmSync(directory, { recursive: true, force: true });
    const name = `${contender.name} driver ${side}`;
    const { namespace } = this.hosts[side];
    if (contender.peer === 'ours') {
      const process = start(
        { name, namespace, env: { AERON_DIR: directory, ...contender.settings } },
        this.build.driver,
      );
      return { process, directory };
    }
    const properties = Object.entries(contender.settings).map(([key, value]) => `-D${key}=${value}`);
    const process = start(
      { name, namespace },
      'java',
      '--add-opens',
      'java.base/jdk.internal.misc=ALL-UNNAMED',
      '--add-opens',
      'java.base/sun.nio.ch=ALL-UNNAMED',
      '--add-opens',
      'java.base/java.util=ALL-UNNAMED',
      '-Dagrona.disable.bounds.checks=true', // as its own performance scripts do
      ...properties,
      '-cp',
      this.build.javaClasspath,
      'dev.outrigger.interop.Peer',
      'driver',
      '--dir',
      directory,
    );
    return { process, directory };
  }

  async stop(contender: Contender): Promise<void> {
    const pair = this.pairs.get(contender.name);
    if (!pair) return;
    this.pairs.delete(contender.name);
    await Promise.all([pair.a.process.stop(), pair.b.process.stop()]);
    rmSync(pair.a.directory, { recursive: true, force: true });
    rmSync(pair.b.directory, { recursive: true, force: true });
  }
  async close(): Promise<void> {
    for (const pair of [...this.pairs.values()]) await this.stop(pair.contender);
  }
}
