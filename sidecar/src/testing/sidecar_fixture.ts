// SPDX-License-Identifier: Apache-2.0
// A sidecar on a fake driver and a client on its UNIX socket, for tests.
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pino from 'pino';
import { configSchema, type Config } from '../config/schema';
import type { OpenDirectoryStream } from '../directory/transport';
import { startSidecar, type Sidecar } from '../server';
import { FakeDriver } from './fake_native';
import { connectTo, type TestClient } from './grpc_client';

export const kTopics = {
  topics: [
    { name: 'local', streamId: 7, channel: 'aeron:ipc' },
    { name: 'quotes', streamId: 1001, flowControl: 'min', subscribers: ['10.0.0.1:40123'] },
  ],
};

export interface Fixture {
  readonly driver: FakeDriver;
  readonly sidecar: Sidecar;
  readonly client: TestClient;
  readonly folder: string;
  readonly topicsFile: string;
  close(): Promise<void>;
}

export async function startFixture(
  settings: Partial<Record<keyof Config, unknown>> = {},
  driver = new FakeDriver(),
  openDirectory?: OpenDirectoryStream,
): Promise<Fixture> {
  const folder = mkdtempSync(join(tmpdir(), 'outrigger-sidecar-'));
  const topicsFile = join(folder, 'topics.json');
  writeFileSync(topicsFile, JSON.stringify(kTopics));
  const config = configSchema.parse({
    grpcSocket: join(folder, 'grpc.sock'),
    httpListen: '127.0.0.1:0',
    driverDirectory: join(folder, 'driver'),
    topicsFile,
    endpoints: ['10.0.0.1:40123'],
    allowChannels: true,
    drainTimeout: '2s',
    flushTimeout: '1s',
    ...settings,
  });
  const sidecar = await startSidecar(config, {
    native: driver,
    log: pino({ level: 'silent' }),
    ...(openDirectory === undefined ? {} : { openDirectory }),
  }).catch((error: unknown) => {
    rmSync(folder, { recursive: true, force: true });
    throw error;
  });
  if (driver.alive && sidecar.link.state !== 'up') {
    await once(sidecar.link, 'up');
  }
  const client = connectTo(`unix:${sidecar.socket}`);
  return {
    driver,
    sidecar,
    client,
    folder,
    topicsFile,
    close: async () => {
      client.close();
      await sidecar.drain();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** GET of a path of the HTTP server. */
export async function get(fixture: Fixture, path: string): Promise<{ status: number; body: string }> {
  const response = await fetch(`http://${fixture.sidecar.httpAddress}${path}`);
  return { status: response.status, body: await response.text() };
}
