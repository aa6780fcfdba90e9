// SPDX-License-Identifier: Apache-2.0
// A whole node of a test: our driver and a sidecar process beside it, on one host.
import { once } from 'node:events';
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { startOurs, temporaryDirectory } from '../interop/support/drivers';
import { kRoot } from '../interop/support/jar';
import type { Host } from '../interop/support/hosts';
import { until } from '../interop/support/until';

export interface Topic {
  readonly name: string;
  readonly streamId: number;
  readonly flowControl: 'min' | 'max';
  readonly subscribers: readonly string[];
}

export interface Node {
  /** gRPC targets: the UNIX socket, and TCP on this host's loopback. */
  readonly unix: string;
  readonly tcp: string;
  close(): Promise<void>;
}

export async function startNode(host: Host, endpoint: string, topics: readonly Topic[]): Promise<Node> {
  const folder = temporaryDirectory();
  const driver = startOurs(host, {}, join(folder, 'driver'));
  const topicsFile = join(folder, 'topics.json');
  writeFileSync(topicsFile, JSON.stringify({ topics }));
  const main = join(kRoot, 'build/ts/sidecar/src/main.js');
  if (!existsSync(main)) {
    throw new Error(`${main} is not built: run make build`);
  }
  const socket = join(folder, 'grpc.sock');
  const sidecar = host.spawn(process.execPath, [main], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      PATH: process.env['PATH'],
      OUTRIGGER_DRIVER_DIRECTORY: driver.dir,
      OUTRIGGER_GRPC_SOCKET: socket,
      OUTRIGGER_GRPC_LISTEN: '127.0.0.1:7411',
      OUTRIGGER_HTTP_LISTEN: '127.0.0.1:9464',
      OUTRIGGER_TOPICS_FILE: topicsFile,
      OUTRIGGER_ENDPOINTS: endpoint,
      OUTRIGGER_DRAIN_TIMEOUT: '3s',
    },
  });
  let log = '';
  sidecar.stdout?.on('data', (data: Buffer) => (log += data.toString()));
  sidecar.stderr?.on('data', (data: Buffer) => (log += data.toString()));
  const ended = once(sidecar, 'close');
  await until(`the sidecar serves: ${log}`, () => {
    if (sidecar.exitCode !== null) {
      throw new Error(`the sidecar ended with ${sidecar.exitCode}: ${log}`);
    }
    return existsSync(socket);
  });
  return {
    unix: `unix:${socket}`,
    tcp: '127.0.0.1:7411',
    close: async () => {
      sidecar.kill('SIGTERM');
      const killer = setTimeout(() => sidecar.kill('SIGKILL'), 20_000);
      await ended;
      clearTimeout(killer);
      await driver.close();
      rmSync(folder, { recursive: true, force: true });
      if (sidecar.exitCode !== 0) {
        throw new Error(`the sidecar ended with ${sidecar.exitCode ?? sidecar.signalCode}: ${log}`);
      }
    },
  };
}
