// SPDX-License-Identifier: Apache-2.0
// Ends in the middle of traffic, with everything open. Arguments: facade, driver directory, how: exit, throw or promise.
'use strict';
const { batchOf, until, kSubscription } = require('./common.cjs');
const { native } = require(process.argv[2]);
const [, , , directory, how] = process.argv;

(async () => {
  const client = await native.connect({ directory, onDriverLost: () => undefined });
  let bursts = 0;
  const subscription = await client.addSubscription({
    ...kSubscription,
    channel: 'aeron:ipc',
    streamId: 8000,
    onResponses: () => {
      if (++bursts === 20) {
        process.stdout.write('busy\n');
        if (how === 'exit') {
          process.exit(7);
        }
        throw new Error('thrown by a callback');
      }
    },
    onEnd: () => undefined,
  });
  subscription.addCredit(1e9, 1e12);
  const publication = await client.addPublication({ channel: 'aeron:ipc', streamId: 8000, exclusive: false });
  await until('a connection', () => publication.isConnected);
  for (;;) {
    void publication.drained(60_000);
    await publication.offerBatchWait(batchOf(1, 100, 200), 0, 10_000);
    await new Promise((done) => setImmediate(done));
  }
})();
