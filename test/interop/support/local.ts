// SPDX-License-Identifier: Apache-2.0
// The world of a test on one host: our driver and an unmodified Java client of it.
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { startDriver, type Driver, type DriverOptions } from './drivers';
import { makeHosts, type Host } from './hosts';
import { closeAll } from './pair';
import { Peer, type Client } from './peer';

export interface Local {
  readonly host: Host;
  readonly peer: Peer;
  readonly driver: Driver;
  readonly client: Client;
  close(): Promise<void>;
}

/** In a network namespace, so that ports are its own. */
export async function makeLocal(options: DriverOptions = {}): Promise<Local> {
  const hosts = await makeHosts();
  const peer = await Peer.java(hosts.b);
  const driver = await startDriver('ours', hosts.b, peer, options);
  const client = await peer.client(driver.dir);
  return {
    host: hosts.b,
    peer,
    driver,
    client,
    close: async () => {
      await closeAll(client, driver, peer, hosts);
      rmSync(join(driver.dir, '..'), { recursive: true, force: true });
    },
  };
}
