// SPDX-License-Identifier: Apache-2.0
// Run with --expose-gc: objects are dropped instead of closed. Arguments: facade, driver directory.
'use strict';
const { batchOf, until, kSubscription } = require('./common.cjs');
const { native } = require(process.argv[2]);
const directory = process.argv[3];
const kPublisherLimit = 1;

const lost = [];
const collect = async () => {
  for (let i = 0; i < 3; i++) {
    global.gc();
    await new Promise((done) => setImmediate(done));
  }
};

async function droppedPublicationsAreClosed(client) {
  const open = () =>
    client.counters().filter((each) => each.typeId === kPublisherLimit && each.ownerId === client.clientId)
      .length;
  for (let i = 0; i < 40; i++) {
    await client.addPublication({ channel: 'aeron:ipc', streamId: 5000 + i, exclusive: i % 2 === 0 });
  }
  const deadline = performance.now() + 20_000;
  while (open() > 0 && performance.now() < deadline) {
    await collect();
    await new Promise((done) => setTimeout(done, 10));
  }
  if (open() > 0) {
    throw new Error(`${open()} dropped publications are still open in the driver`);
  }
}

/** Nobody holds the subscription; it delivers all the same, and what it delivered stays as it was. */
async function droppedSubscriptionsDeliver(client) {
  const kept = [];
  let bytes = 0;
  await client
    .addSubscription({
      ...kSubscription,
      channel: 'aeron:ipc',
      streamId: 6000,
      onResponses: (responses) => {
        for (const response of responses) {
          bytes += response.length;
          kept.push([response, Buffer.from(response)]);
        }
      },
      onEnd: () => undefined,
    })
    .then((subscription) => subscription.addCredit(1e9, 1e12));
  const publication = await client.addPublication({ channel: 'aeron:ipc', streamId: 6000, exclusive: true });
  await until('a connection', () => publication.isConnected);
  let sent = 0;
  for (let round = 0; round < 50; round++) {
    const result = await publication.offerBatchWait(batchOf(round, 100, 300), 0, 10_000);
    sent += result.accepted;
    global.gc();
  }
  await until('all bytes', () => bytes >= sent * 303);
  await collect();
  if (sent !== 5000 || !kept.every(([response, copy]) => response.equals(copy))) {
    throw new Error(`${sent} messages; or the bytes of one changed after it was delivered`);
  }
  return publication;
}

async function memoryStays(client, publication) {
  const round = async () => {
    for (let i = 0; i < 300; i++) {
      publication.offerBatch(batchOf(i, 50, 100));
      const waits = publication.offerBatchWait(batchOf(i, 50, 100), 0, 10_000);
      client.counters();
      client.driver();
      await waits;
    }
    await collect();
    return process.memoryUsage().rss;
  };
  await round();
  const before = await round();
  let after = before;
  for (let i = 0; i < 5; i++) {
    after = await round();
  }
  const grown = (after - before) / 2 ** 20;
  if (grown > 60) {
    throw new Error(`${grown.toFixed(1)} MiB more after five rounds of the same work`);
  }
}

(async () => {
  const client = await native.connect({ directory, onDriverLost: (reason) => lost.push(reason) });
  await droppedPublicationsAreClosed(client);
  const publication = await droppedSubscriptionsDeliver(client);
  await memoryStays(client, publication);
  for (let i = 0; i < 30; i++) {
    const one = await native.connect({ directory, onDriverLost: () => undefined });
    await one.close();
    global.gc();
  }
  await client.close();
  if (lost.length > 0) {
    throw new Error(`lost: ${lost}`);
  }
  process.stdout.write('done\n');
})().catch((error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exitCode = 1;
  setTimeout(() => process.exit(1), 200).unref();
});
