// SPDX-License-Identifier: Apache-2.0
// Aeron's own tools, out of its jar, read the files of our driver: AeronStat, ErrorStat, LossStat, BacklogStat, StreamStat, DriverTool.
import { once } from 'node:events';
import { kReference, type OurDriver } from './support/drivers';
import { javaArguments, javaPeerFolder } from './support/jar';
import { makeLocal, type Local } from './support/local';
import { exchange, nextPort } from './support/pair';
import { until } from './support/until';

jest.setTimeout(120_000);

let local: Local;
let session: number;
let channel: string;
let position: number;
beforeAll(async () => {
  local = await makeLocal({ receiveLoss: 0.1 });
  channel = `aeron:udp?endpoint=${local.host.ipv4}:${nextPort()}|term-length=256k`;
  const subscription = await local.client.subscription(channel, 5);
  const publication = await local.client.publication(channel, 5);
  session = publication.opened.session;
  ({ position } = await exchange({ publication, subscriptions: [subscription], count: 3_000, size: 'mix' }));
  await local.client.publication('aeron:udp?endpoint=no.such.host.invalid:1', 5).catch(() => undefined);
});
afterAll(async () => {
  await local.close();
});

async function tool(
  name: string,
  properties: readonly string[] = [],
  args: readonly string[] = [],
): Promise<string> {
  const jars = await javaPeerFolder();
  const child = local.host.spawn(
    'java',
    [
      ...javaArguments(jars),
      `-Daeron.dir=${local.driver.dir}`,
      ...properties,
      `io.aeron.samples.${name}`,
      ...args,
    ],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  );
  let output = '';
  child.stdout?.on('data', (data: Buffer) => (output += data.toString()));
  child.stderr?.on('data', (data: Buffer) => (output += data.toString()));
  const [code] = (await once(child, 'close')) as [number | null];
  expect({ name, code, output: code === 0 ? '' : output }).toEqual({ name, code: 0, output: '' });
  return output;
}

test('AeronStat shows counters of system and streams', async () => {
  const output = await tool('AeronStat', [], ['watch=false']);
  expect(output).toContain(`${session} 5 ${channel}`);
  expect(output).toMatch(/NAKs sent/);
  expect(output).toMatch(/client-heartbeat/);
});

test('StreamStat and BacklogStat find both ends of the stream', async () => {
  const streams = await tool('StreamStat');
  expect(streams).toContain(`sessionId=${session} streamId=5`);
  // The publisher's position is sampled once a second, as the tool says; until then it knows no backlog.
  let backlog = '';
  await until('the position of the publisher is sampled', async () => {
    backlog = await tool('BacklogStat');
    return /sender \d+ has to send 0 bytes/.test(backlog);
  });
  expect(backlog).toContain(`sessionId=${session}`);
  expect(backlog).toContain(`for publisher`);
  expect(backlog).toMatch(new RegExp(`receiver \\d+ is at position ${position}`));
  expect(backlog).toMatch(/subscriber \d+ has 0 backlog bytes/);
});

test('LossStat shows the losses that were repaired', async () => {
  let output = '';
  await until('the loss report has the stream', async () => {
    output = await tool('LossStat');
    return output.includes(`${session}`);
  });
  expect(output).toContain(channel.split('|')[0]);
});

test('ErrorStat shows the distinct errors', async () => {
  const output = await tool('ErrorStat');
  expect(output).toContain('no.such.host.invalid');
  expect(output).toMatch(/distinct errors observed/);
});

test('DriverTool finds the driver and its process', async () => {
  const pid = (kReference ? local.peer.child : (local.driver as OurDriver).child).pid;
  expect(await tool('DriverTool')).toMatch(new RegExp(`Version: 512, PID: ${pid}\\n`));
});
