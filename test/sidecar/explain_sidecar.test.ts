// SPDX-License-Identifier: Apache-2.0
// `outrigger explain --sidecar` over real drivers and sidecars: which members of a topic answer, and which do not.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import type { ReportedTopic } from '../../sidecar/src/cli/sidecar_answer';
import { Cluster, freePort, until } from './support';

jest.setTimeout(120_000);

const kCommand = join(__dirname, '../../bin/outrigger');

let cluster: Cluster;
beforeEach(() => {
  cluster = new Cluster();
});
afterEach(() => cluster.stop());

function explain(node: { directory: string; socket: string }, ...more: readonly string[]) {
  const args = ['explain', '--sidecar', '-d', node.directory, '-a', `unix:${node.socket}`, ...more];
  const { status, stdout, stderr } = spawnSync(kCommand, args, { encoding: 'utf8' });
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  return stdout;
}

function topicOf(node: { directory: string; socket: string }): ReportedTopic | undefined {
  const { sidecar } = JSON.parse(explain(node, '--json')) as { sidecar: { topics: ReportedTopic[] } };
  return sidecar.topics.find(({ name }) => name === 'quotes');
}

describe('outrigger explain --sidecar', () => {
  it('tells a subscriber that answers from one that never did, and from one that went silent', async () => {
    const [from, to] = await cluster.add(2);
    if (from === undefined || to === undefined) {
      throw new Error('two nodes were asked for');
    }
    const nobody = `127.0.0.1:${await freePort()}`;
    cluster.writeTopics([{ name: 'quotes', streamId: 7, subscribers: [to.endpoint, nobody] }]);
    from.start();
    to.start();
    const subscription = to.client.subscribe({ topic: 'quotes' });
    const reading = (async () => {
      const items = subscription[Symbol.asyncIterator]();
      while ((await items.next()).done !== true) continue;
    })().catch(() => undefined);
    const publisher = from.client.publisher('quotes');
    const pathTo = (endpoint: string) =>
      topicOf(from)?.members.find(({ address, port }) => `${address}:${port}` === endpoint)?.to;
    await until('the subscriber answers', () => pathTo(to.endpoint)?.state === 'PATH_STATE_CONNECTED');
    expect(pathTo(nobody)).toEqual({
      state: 'PATH_STATE_NOT_CONNECTED',
      reason: expect.stringContaining(`nothing has ever come back from ${nobody}`) as string,
    });
    expect(topicOf(from)).toMatchObject({ publishStreams: 1, subscribeStreams: 0 });
    expect(explain(from)).toMatch(/^topic quotes, stream 7: publishes \(1 streams\)$/m);
    await to.driver.signal('SIGKILL');
    await until('it is silent', () => pathTo(to.endpoint)?.reason.includes('has been silent for') === true);
    await publisher.close();
    await to.client.close();
    await reading;
  });

  it('says so where no sidecar answers', async () => {
    const [node] = await cluster.add(1);
    if (node === undefined) {
      throw new Error('a node was asked for');
    }
    cluster.writeTopics([]);
    node.driver.start();
    const said = explain(node);
    expect(said).toContain(`the sidecar: no sidecar answers at unix:${node.socket}`);
  });
});
