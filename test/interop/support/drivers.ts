// SPDX-License-Identifier: Apache-2.0
// Media drivers of a test: ours as a process of its own, or Aeron's inside a Java peer, configured alike.
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { ChildProcess, SpawnOptions } from 'node:child_process';
import type { Host } from './hosts';
import { nativeProgram, unique, type Peer } from './peer';

export type DriverKind = 'ours' | 'java';

/** With OUTRIGGER_INTEROP_REFERENCE=1 Aeron's driver takes the place of ours: whether a test is right can be told from whether it passes so. */
export const kReference = process.env['OUTRIGGER_INTEROP_REFERENCE'] === '1';

/**
 * What our driver needs for `dpdk` on a host of a test: DPDK's port over the kernel's packet sockets; 4 KiB pages, since hugepages are the whole
 * machine's, and other tests count them.
 */
export const kDpdk = {
  OUTRIGGER_HUGEPAGES: 'false',
  OUTRIGGER_DPDK_ARGS: '--vdev=net_af_packet0,iface=eth0,qdisc_bypass=1,framecnt=4096,blocksz=65536',
} as const;

export interface DriverOptions {
  /** Stock properties, "aeron.image.liveness.timeout": "1s"; ours reads them from the environment under aeronmd's names. */
  readonly properties?: Readonly<Record<string, string>>;
  /** Part of the datagrams lost on the way in and out, 0 to 1. */
  readonly receiveLoss?: number;
  readonly transmitLoss?: number;
  /** Further environment of ours. */
  readonly env?: Readonly<Record<string, string>>;
  readonly spawn?: SpawnOptions;
  /** Parent of the directory. */
  readonly under?: string;
}

export interface Driver {
  readonly kind: DriverKind;
  readonly dir: string;
  /** In order, and all its files are gone. */
  close(): Promise<void>;
}

export interface OurDriver extends Driver {
  readonly child: ChildProcess;
  readonly exited: Promise<void>;
  /** All that it wrote, for messages. */
  output(): string;
}

export function temporaryDirectory(under = '/dev/shm'): string {
  return mkdtempSync(join(under, 'outrigger-interop-'));
}

function environmentName(property: string): string {
  return property.toUpperCase().replaceAll('.', '_');
}

export function startOurs(
  host: Host,
  options: DriverOptions = {},
  dir = join(temporaryDirectory(options.under), 'driver'),
): OurDriver {
  const env: Record<string, string> = {};
  for (const key of ['PATH', 'HOME', 'ASAN_OPTIONS', 'UBSAN_OPTIONS', 'TSAN_OPTIONS']) {
    const value = process.env[key];
    if (value !== undefined) {
      env[key] = value;
    }
  }
  env['AERON_DIR'] = dir;
  for (const [property, value] of Object.entries(options.properties ?? {})) {
    env[environmentName(property)] = value;
  }
  const impair = [
    options.receiveLoss === undefined ? '' : `rx-loss=${options.receiveLoss}`,
    options.transmitLoss === undefined ? '' : `tx-loss=${options.transmitLoss}`,
  ].filter((part) => part !== '');
  if (impair.length > 0) {
    env['OUTRIGGER_IMPAIR'] = [...impair, 'seed=42'].join(',');
  }
  const child = host.spawn(nativeProgram('outrigger-driver'), [], {
    ...options.spawn,
    env: { ...env, ...options.env },
  });
  let text = '';
  const collect = (data: Buffer): void => {
    text = (text + data.toString()).slice(-65536);
  };
  child.stdout?.on('data', collect);
  child.stderr?.on('data', collect);
  const exited = once(child, 'close').then(() => undefined);
  return {
    kind: 'ours',
    dir,
    child,
    exited,
    output: () => text,
    close: async () => {
      child.kill('SIGTERM');
      await exited;
      rmSync(join(dir, '..'), { recursive: true, force: true });
      if (child.exitCode !== 0 && child.signalCode !== 'SIGKILL') {
        throw new Error(`driver ended with ${child.exitCode ?? child.signalCode}: ${text}`);
      }
    },
  };
}

export async function startJava(peer: Peer, options: DriverOptions = {}): Promise<Driver> {
  const parent = temporaryDirectory(options.under);
  const dir = join(parent, 'driver');
  const name = unique('d');
  await peer.request('driver', {
    name,
    dir,
    ...options.properties,
    ...(options.receiveLoss === undefined
      ? {}
      : { 'rx-data-loss': options.receiveLoss, 'rx-control-loss': options.receiveLoss }),
    ...(options.transmitLoss === undefined
      ? {}
      : { 'tx-data-loss': options.transmitLoss, 'tx-control-loss': options.transmitLoss }),
  });
  return {
    kind: 'java',
    dir,
    close: async () => {
      await peer.request('close', { name });
      rmSync(parent, { recursive: true, force: true });
    },
  };
}

/** A driver of either kind; `peer` is a Java peer on the same host. */
export async function startDriver(
  kind: DriverKind,
  host: Host,
  peer: Peer,
  options: DriverOptions = {},
): Promise<Driver> {
  return kind === 'java' || kReference ? startJava(peer, options) : startOurs(host, options);
}
