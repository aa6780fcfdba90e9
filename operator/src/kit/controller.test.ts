// SPDX-License-Identifier: Apache-2.0
// A controller is started and stopped as often as its replica leads: what it works on is of this time and none before.
import { OperatorMetrics } from '../metrics/operator_metrics';
import { kSilent } from '../testing/test_cluster';
import type { ApiClient } from './api_client';
import { Controller, type ControllerDefinition } from './controller';

describe('a controller', () => {
  const context = {
    api: undefined as unknown as ApiClient, // no informer here asks it
    metrics: new OperatorMetrics('test'),
    log: kSilent,
  };
  let change: (key: string) => void;
  let done: string[];
  let sync: () => void;
  let synced: Promise<void>;

  function definition(reconcile: ControllerDefinition['reconcile']): ControllerDefinition {
    return {
      name: 'test',
      permissions: [],
      sources: [{ synced, connect: (add) => (change = add) }],
      initialKeys: () => ['initial'],
      reconcile,
    };
  }

  const noting: ControllerDefinition['reconcile'] = (key) => {
    done.push(key);
    return Promise.resolve(undefined);
  };

  beforeEach(() => {
    done = [];
    synced = new Promise((resolve) => (sync = resolve));
  });

  it('begins with all keys each time that it is started, and takes none between', async () => {
    sync();
    const controller = new Controller(context, definition(noting));
    change('too early');
    for (const key of ['first', 'second']) {
      await controller.start();
      change(key);
      await controller.settled();
      await controller.stop();
      change('between');
    }
    expect(done).toEqual(['initial', 'first', 'initial', 'second']);
  });

  it('that is stopped before its sources are synced never begins', async () => {
    const controller = new Controller(context, definition(noting));
    const starting = controller.start();
    await controller.stop();
    sync();
    await starting;
    await controller.settled();
    expect(done).toEqual([]);
  });

  it('that was stopped and started before its sources are synced begins once', async () => {
    const controller = new Controller(context, definition(noting));
    const first = controller.start();
    await controller.stop();
    const second = controller.start();
    sync();
    await Promise.all([first, second]);
    await controller.settled();
    await controller.stop();
    expect(done).toEqual(['initial']);
  });

  it('aborts what is under way when it is stopped without grace, and begins anew after', async () => {
    sync();
    let begun: () => void = () => undefined;
    const waits = new Promise<void>((resolve) => (begun = resolve));
    let times = 0;
    const controller = new Controller(
      context,
      definition((_, signal) => {
        if (++times > 1) {
          return Promise.resolve(undefined);
        }
        begun();
        return new Promise((_resolve, reject) =>
          signal.addEventListener('abort', () => reject(new Error('aborted')), { once: true }),
        );
      }),
    );
    await controller.start();
    await waits;
    await controller.stop(0);
    await controller.start();
    await controller.settled();
    await controller.stop();
    expect(times).toBe(2);
  });
});
