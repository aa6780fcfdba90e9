// SPDX-License-Identifier: Apache-2.0
// A publisher as an app would be one: numbered, stamped, checksummed messages at a rate, through the client library.
import { OutriggerClient } from '../../../../clients/typescript/src';
import { paced } from '../pacer';
import { blankPayload, stamp } from '../payload';
import { kProgressMs, report, runApp, type Commands, type PublisherAppConfig } from './protocol';

const kPatienceMs = 60_000; // under loss a batch may wait long for room; it must not count as refused

async function publish(config: PublisherAppConfig, commands: Commands): Promise<void> {
  const client = new OutriggerClient({ address: config.address });
  const publisher = client.publisher(config.target, { backPressure: 'wait', waitTimeoutMs: kPatienceMs });
  const stopped = new Promise<void>((resolve) => {
    commands.stop.addEventListener('abort', () => resolve());
  });
  await Promise.race([publisher.whenConnected(), stopped]);
  report({ type: 'ready' });
  const payload = blankPayload(config.sizeBytes);
  let sent = 0;
  const timer = setInterval(() => report({ type: 'progress', sent }), kProgressMs);
  await paced({
    rate: config.rate,
    count: Infinity,
    durationMs: config.durationMs,
    signal: commands.stop,
    send: (sequence, intendedNs) => {
      stamp(payload, sequence, intendedNs);
      sent = sequence + 1;
      return publisher.send(payload) ? undefined : publisher.drained();
    },
  });
  await Promise.race([publisher.flush(), stopped]);
  clearInterval(timer);
  const { accepted, refused, unknown, batches } = publisher.stats;
  report({ type: 'done', sent, accepted, refused, unknown, batches });
  await client.close();
}

runApp(publish);
