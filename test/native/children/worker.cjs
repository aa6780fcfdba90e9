// SPDX-License-Identifier: Apache-2.0
// Workers that each have a client of their own: half of them end well, the others are terminated or exit in the middle of traffic.
// Arguments: facade, driver directory.
'use strict';
const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads');
const { batchOf, until, kSubscription } = require('./common.cjs');

const kMessages = 20_000;

async function work({ facade, directory, index, ending }) {
  const { native } = require(facade);
  const client = await native.connect({ directory, onDriverLost: () => process.exit(3) });
  let messages = 0;
  const subscription = await client.addSubscription({
    ...kSubscription,
    channel: 'aeron:ipc',
    streamId: 7000 + index,
    onResponses: () => (messages = Number(subscription.stats().messages)),
    onEnd: () => undefined,
  });
  subscription.addCredit(1e9, 1e12);
  const publication = await client.addPublication({
    channel: 'aeron:ipc',
    streamId: 7000 + index,
    exclusive: true,
  });
  await until('a connection', () => publication.isConnected);
  for (let sent = 0; ending !== 'well' || sent < kMessages; sent += 100) {
    await publication.offerBatchWait(batchOf(sent, 100, 200), 0, 10_000);
    if (sent === 2000) {
      parentPort.postMessage('busy');
      if (ending === 'exit') {
        process.exit(0);
      }
    }
  }
  await until('all messages', () => messages === kMessages);
  await subscription.close();
  await client.close();
}

async function main() {
  const [, , facade, directory] = process.argv;
  const endings = ['well', 'terminate', 'exit', 'well', 'terminate', 'exit', 'well', 'terminate'];
  await Promise.all(
    endings.map((ending, index) => {
      const worker = new Worker(__filename, { workerData: { facade, directory, index, ending } });
      worker.on('message', () => ending === 'terminate' && worker.terminate());
      return new Promise((done, fail) => {
        worker.on('error', fail);
        worker.on('exit', (code) => {
          const expected = ending === 'terminate' ? 1 : 0;
          if (code === expected) {
            done();
          } else {
            fail(new Error(`worker ${index} (${ending}) ended with ${code}`));
          }
        });
      });
    }),
  );
  process.stdout.write('done\n');
}

(isMainThread ? main() : work(workerData)).catch((error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exit(1);
});
