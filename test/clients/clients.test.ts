// SPDX-License-Identifier: Apache-2.0
// gRPC clients in Python and Go publish on one host and subscribe on another, through sidecars and drivers, over UNIX sockets and TCP. Every
// message is numbered and checksummed by the clients themselves.
import { makeHosts, type HostPair } from '../interop/support/hosts';
import { closeAll } from '../interop/support/pair';
import { startClient } from './client_run';
import { startNode, type Node } from './sidecars';
import { goClient, pythonClient, type ClientProgram } from './toolchains';

jest.setTimeout(120_000);

let hosts: HostPair;
let publishing: Node;
let subscribing: Node;
const programs = new Map<string, ClientProgram>();
const program = (language: 'Python' | 'Go'): ClientProgram => {
  const found = programs.get(language);
  if (found === undefined) {
    throw new Error(`no client in ${language}`);
  }
  return found;
};

beforeAll(async () => {
  for (const made of [await pythonClient(), await goClient()]) {
    programs.set(made.language, made);
  }
  hosts = await makeHosts();
  const topics = ['first', 'second', 'third', 'fourth', 'shared'].map((name, i) => ({
    name,
    streamId: 100 + i,
    flowControl: 'min' as const,
    subscribers: [`${hosts.b.ipv4}:40123`],
  }));
  publishing = await startNode(hosts.a, `${hosts.a.ipv4}:40123`, topics);
  subscribing = await startNode(hosts.b, `${hosts.b.ipv4}:40123`, topics);
}, 600_000); // the first time packages are fetched and built
afterAll(async () => {
  await closeAll(publishing, subscribing, hosts);
});

describe.each([
  { from: 'Python', to: 'Go', through: 'unix', topic: 'first' },
  { from: 'Go', to: 'Python', through: 'unix', topic: 'second' },
  { from: 'Python', to: 'Go', through: 'tcp', topic: 'third' },
  { from: 'Go', to: 'Python', through: 'tcp', topic: 'fourth' },
] as const)('from $from to $to through $through', ({ from, to, through, topic }) => {
  test('every message of a topic arrives once, in order and whole', async () => {
    const count = 20_000;
    const subscriber = startClient(hosts.b, program(to), 'subscribe', {
      target: subscribing[through],
      topic,
      count,
    });
    await subscriber.line('opened');
    const publisher = startClient(hosts.a, program(from), 'publish', {
      target: publishing[through],
      topic,
      count,
      batch: 100,
    });
    expect(await publisher.line('done')).toMatchObject({ accepted: count, batches: count / 100 });
    expect(await subscriber.line('done')).toEqual({
      event: 'done',
      received: count,
      outOfOrder: 0,
      corrupt: 0,
      gaps: 0,
      publishers: 1,
    });
  });
});

test('publishers and subscribers of both languages share a topic: each subscriber gets all of both', async () => {
  const count = 5_000;
  const topic = 'shared';
  const subscribers = (['Python', 'Go'] as const).map((language) =>
    startClient(hosts.b, program(language), 'subscribe', {
      target: language === 'Go' ? subscribing.tcp : subscribing.unix,
      topic,
      count: 2 * count,
    }),
  );
  for (const subscriber of subscribers) {
    await subscriber.line('opened');
  }
  const publishers = (['Python', 'Go'] as const).map((language, i) =>
    startClient(hosts.a, program(language), 'publish', {
      target: language === 'Python' ? publishing.tcp : publishing.unix,
      topic,
      count,
      seed: i + 1,
    }),
  );
  for (const publisher of publishers) {
    expect(await publisher.line('done')).toMatchObject({ accepted: count });
  }
  for (const subscriber of subscribers) {
    expect(await subscriber.line('done')).toMatchObject({
      received: 2 * count,
      outOfOrder: 0,
      corrupt: 0,
      gaps: 0,
      publishers: 2,
    });
  }
});

test.each(['Python', 'Go'] as const)('a %s client reads the details of an error', async (language) => {
  for (const target of [publishing.unix, publishing.tcp]) {
    const client = startClient(hosts.a, program(language), 'refused', { target, topic: 'frist' });
    const refused = await client.line('refused');
    expect(String(refused['code']).replace('_', '').toLowerCase()).toBe('notfound');
    expect(refused).toMatchObject({ reason: 'UNKNOWN_TOPIC', domain: 'outrigger.dev' });
    // It names what was asked for, and the nearest there is.
    expect(String(refused['message'])).toMatch(/frist.*first/);
  }
});
