// SPDX-License-Identifier: Apache-2.0
// The connection to the driver: attempts, loss, back-off, close.
import { once } from 'node:events';
import type { ClientOptions, Native, NativeClient } from '../native/types';
import { FakeDriver } from '../testing/fake_native';
import { DriverLink } from './driver_link';

function linkTo(native: Native): DriverLink {
  return new DriverLink({
    native,
    directory: '/dev/shm/x',
    driverTimeoutMs: 1000,
    firstRetryMs: 1,
    longestRetryMs: 4,
  });
}

describe('driver link', () => {
  it('retries with growing pauses until a driver is there', async () => {
    const driver = new FakeDriver();
    driver.alive = false;
    const link = linkTo(driver);
    const pauses: number[] = [];
    link.on('retry', (_reason, retryMs) => {
      pauses.push(retryMs);
      if (pauses.length === 4) {
        driver.revive();
      }
    });
    link.start();
    expect((await once(link, 'up'))[1]).toBe(false);
    expect(pauses).toEqual([1, 2, 4, 4]);
    expect(link.state).toBe('up');
    await link.close();
  });

  it('reports the loss with its reason and connects again', async () => {
    const driver = new FakeDriver();
    const link = linkTo(driver);
    link.start();
    await once(link, 'up');
    const down = once(link, 'down');
    driver.die('heartbeat 12000 ms old');
    expect((await down)[0]).toBe('heartbeat 12000 ms old');
    expect(link.client).toBeUndefined();
    driver.revive();
    expect((await once(link, 'up'))[1]).toBe(true);
    expect(link.stats).toEqual({ connects: 2, losses: 1 });
    await link.close();
  });

  it('survives a driver that dies before the connection is handed over', async () => {
    const driver = new FakeDriver();
    let early: ClientOptions | undefined;
    const native: Native = Object.assign(Object.create(driver) as FakeDriver, {
      connect: async (options: ClientOptions): Promise<NativeClient> => {
        const client = await driver.connect(options);
        if (early === undefined) {
          early = options;
          options.onDriverLost('died at once');
        }
        return client;
      },
    });
    const link = linkTo(native);
    const retry = once(link, 'retry');
    link.start();
    expect((await retry)[0]).toBe('died at once');
    await once(link, 'up');
    await link.close();
  });

  it('stays closed, even when it was connecting', async () => {
    const driver = new FakeDriver();
    const link = linkTo(driver);
    const up = jest.fn();
    link.on('up', up);
    link.start();
    await link.close();
    expect(up).not.toHaveBeenCalled();
    expect(link.state).toBe('closed');
  });
});
