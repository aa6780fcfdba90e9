// SPDX-License-Identifier: Apache-2.0
// Prints every hundredth price of the topic "quotes", and every event, until Ctrl-C.
// In your own project the import is from '@outrigger/client'.
import { OutriggerClient, OutriggerError } from '../../clients/typescript/src';

async function main(): Promise<void> {
  const client = new OutriggerClient();
  const subscription = client.subscribe('quotes', { slowPolicy: 'skip' }); // the newest price matters: skip what we are too slow for
  process.once('SIGINT', () => subscription.close());

  let count = 0;
  for await (const item of subscription.items()) {
    switch (item.kind) {
      case 'batch':
        for (const message of item.messages) {
          if (count++ % 100 === 0) {
            console.log(message.toString());
          }
        }
        break;
      case 'gap': // nothing is missing without one
        console.log(`${item.messages} messages of ${item.sessionId} were skipped: ${item.reason}`);
        break;
      case 'imageAvailable':
        console.log(`publisher ${item.sessionId} at ${item.source}`);
        break;
      case 'imageUnavailable':
        console.log(`publisher ${item.sessionId} is gone: ${item.reason}`);
        break;
      default:
        console.log(item.kind);
    }
  }
  await client.close();
}

main().catch((error: unknown) => {
  console.error(error instanceof OutriggerError ? `${error.name}: ${error.message}` : error);
  process.exitCode = 1;
});
