// SPDX-License-Identifier: Apache-2.0
// Publishes a price a millisecond to the topic "quotes" until Ctrl-C.
// In your own project the import is from '@outrigger/client'.
import { OutriggerClient, OutriggerError } from '../../clients/typescript/src';

async function main(): Promise<void> {
  const client = new OutriggerClient(); // OUTRIGGER_ADDRESS, or the socket of the sidecar beside this app
  const publisher = client.publisher('quotes', { backPressure: 'drop' }); // an old price is worth nothing: never wait for a slow reader

  publisher.on('opened', (info) =>
    console.log(`session ${info.sessionId}, up to ${info.maxMessageBytes} bytes`),
  );
  publisher.on('connected', (yes) => console.log(yes ? 'somebody listens' : 'nobody listens'));
  publisher.on('reconnecting', (error, ms) => console.log(`${error.message}; again in ${Math.round(ms)} ms`));
  publisher.on('failed', (error) => console.error(`${error.name} ${error.reason}: ${error.message}`));

  let price = 1.08;
  const timer = setInterval(() => {
    price += (Math.random() - 0.5) / 1000;
    publisher.send(`EURUSD ${price.toFixed(5)}`);
  }, 1);

  await new Promise((resolve) => process.once('SIGINT', resolve));
  clearInterval(timer);
  await client.close(); // what was published leaves first
  console.log(publisher.stats);
}

main().catch((error: unknown) => {
  console.error(error instanceof OutriggerError ? `${error.name}: ${error.message}` : error);
  process.exitCode = 1;
});
