// SPDX-License-Identifier: Apache-2.0
// Topics files: what is accepted, what is said about bad ones, and that changes are noticed however they are made.
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { publicationRoute, subscriptionRoute, withParameters } from './channels';
import { parseTopics, TopicsError, type Topic } from './schema';
import { TopicStore } from './topic_store';

const kTwo = `
topics:
  - {name: quotes, streamId: 1001, flowControl: min, termLength: 1MiB, subscribers: ["10.0.0.1:40123", "[fd00::2]:40123"]}
  - {name: local, streamId: 7, channel: "aeron:ipc"}
`;

function problemsOf(text: string): readonly string[] {
  try {
    parseTopics(text);
  } catch (error) {
    if (error instanceof TopicsError) {
      return error.problems;
    }
    throw error;
  }
  return [];
}

describe('topics file', () => {
  it('gives topics with defaults', () => {
    const topics = parseTopics(kTwo);
    expect(topics.get('quotes')).toEqual({
      name: 'quotes',
      streamId: 1001,
      flowControl: 'min',
      reliable: true,
      termLength: 1048576,
      subscribers: ['10.0.0.1:40123', '[fd00::2]:40123'],
    });
    expect(topics.get('local')).toEqual({
      name: 'local',
      streamId: 7,
      flowControl: 'max',
      reliable: true,
      channel: 'aeron:ipc',
    });
    expect(parseTopics('').size).toBe(0);
  });

  it('names the topic, the key, the value and what is allowed', () => {
    expect(problemsOf('topics: [{name: a, streamId: 1, channel: "aeron:ipc", termLength: 3000}]')).toEqual([
      'topic "a", termLength is 3000; allowed: a power of two, 64KiB to 1GiB',
    ]);
    expect(problemsOf('topics: [{name: a, streamId: 1, chanel: "aeron:ipc"}]')[0]).toBe(
      'topic "a": unknown key chanel; did you mean channel?',
    );
    expect(problemsOf('topics: [{name: a, streamId: x, channel: "aeron:ipc"}]')[0]).toContain(
      'topic "a", streamId is "x"',
    );
    expect(problemsOf('topics: [{name: a, streamId: 1, channel: "udp://x"}]')[0]).toContain('aeron:ipc');
    expect(problemsOf('topics: [{name: a, streamId: 1, channel: "aeron:ipc", mtu: 1400}]')[0]).toContain(
      'multiple of 32',
    );
    expect(problemsOf('topics: [{name: a, streamId: 1, subscribers: ["10.0.0.1"]}]')[0]).toContain(
      'host:port',
    );
    expect(problemsOf('topics: [{streamId: 1, channel: "aeron:ipc"}]')[0]).toContain(
      'topics[0], name is missing',
    );
    expect(problemsOf('topcis: []').join()).toContain('did you mean topics');
    expect(problemsOf('topics: [')[0]).not.toBe('');
  });

  it('refuses a name twice, and a topic with neither or both kinds of route', () => {
    expect(
      problemsOf(
        'topics: [{name: a, streamId: 1, channel: "aeron:ipc"}, {name: a, streamId: 2, channel: "aeron:ipc"}]',
      )[0],
    ).toContain('stands twice');
    expect(problemsOf('topics: [{name: a, streamId: 1}]')[0]).toContain('neither channel nor subscribers');
    expect(
      problemsOf('topics: [{name: a, streamId: 1, channel: "aeron:ipc", subscribers: []}]')[0],
    ).toContain('both channel and subscribers');
  });
});

describe('channels of a topic', () => {
  const topic = parseTopics(kTwo).get('quotes') as Topic;

  it('makes a publisher a manual multi-destination publication with one destination per subscriber', () => {
    expect(publicationRoute(topic, 65536)).toEqual({
      channel: 'aeron:udp?control-mode=manual|fc=min|term-length=1048576',
      streamId: 1001,
      destinations: ['aeron:udp?endpoint=10.0.0.1:40123', 'aeron:udp?endpoint=[fd00::2]:40123'],
    });
  });

  it('makes a subscriber bind the own endpoint that is among the subscribers, else the first', () => {
    expect(subscriptionRoute(topic, ['192.168.0.9:1', '[fd00::2]:40123'])?.channel).toBe(
      'aeron:udp?endpoint=[fd00::2]:40123',
    );
    expect(subscriptionRoute({ ...topic, reliable: false }, ['192.168.0.9:1'])?.channel).toBe(
      'aeron:udp?endpoint=192.168.0.9:1|reliable=false',
    );
    expect(subscriptionRoute(topic, [])).toBeUndefined();
  });

  it('takes an explicit channel as it is, adding only what it does not say', () => {
    const local = parseTopics(kTwo).get('local') as Topic;
    expect(publicationRoute(local, 65536)).toEqual({
      channel: 'aeron:ipc?term-length=65536',
      streamId: 7,
      destinations: undefined,
    });
    expect(subscriptionRoute(local, [])).toEqual({ channel: 'aeron:ipc', streamId: 7 });
    expect(withParameters('aeron:udp?endpoint=a:1|mtu=1408', { mtu: 8192, fc: undefined })).toBe(
      'aeron:udp?endpoint=a:1|mtu=1408',
    );
  });
});

describe('topic store', () => {
  let folder: string;
  let store: TopicStore;
  const write = (name: string, text: string): string => {
    const path = join(folder, name);
    writeFileSync(path, text);
    return path;
  };
  const one = (streamId: number, subscribers: string[]): string =>
    JSON.stringify({ topics: [{ name: 'a', streamId, subscribers }] });

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'outrigger-topics-'));
  });
  afterEach(() => {
    store.close();
    rmSync(folder, { recursive: true, force: true });
  });

  it('refuses to start with a bad file and names it', () => {
    store = new TopicStore(write('t.yaml', 'topics: 1'));
    expect(() => store.start()).toThrow(/t\.yaml/);
  });

  it('notices an atomic rename and tells members from redefinitions', async () => {
    const path = write('t.json', one(1, ['10.0.0.1:1']));
    store = new TopicStore(path, 20);
    store.start();
    const changed = once(store, 'change');
    renameSync(write('new', one(1, ['10.0.0.1:1', '10.0.0.2:1'])), path);
    expect((await changed)[0]).toMatchObject({ name: 'a', redefined: false });
    const redefined = once(store, 'change');
    renameSync(write('new', one(2, [])), path);
    expect((await redefined)[0]).toMatchObject({ name: 'a', redefined: true, after: { streamId: 2 } });
  });

  it('notices the symlink swap of a ConfigMap volume', async () => {
    for (const [version, streamId] of [
      ['v1', 1],
      ['v2', 2],
    ] as const) {
      mkdirSync(join(folder, version));
      write(`${version}/t.json`, one(streamId, []));
    }
    symlinkSync('v1', join(folder, '..data'));
    symlinkSync('..data/t.json', join(folder, 't.json'));
    store = new TopicStore(join(folder, 't.json'), 20);
    store.start();
    expect(store.get('a')?.streamId).toBe(1);
    const changed = once(store, 'change');
    symlinkSync('v2', join(folder, '..data_tmp'));
    renameSync(join(folder, '..data_tmp'), join(folder, '..data'));
    await changed;
    expect(store.get('a')?.streamId).toBe(2);
  });

  it('keeps the old topics when the new file is bad, says so, and recovers', async () => {
    const path = write('t.json', one(1, []));
    store = new TopicStore(path, 20);
    store.start();
    const refused = once(store, 'loaded');
    renameSync(write('new', 'topics: nonsense'), path);
    expect((await refused)[0]).toContain('topics');
    expect(store.get('a')?.streamId).toBe(1);
    expect(store.error).toBeDefined();
    expect(store.stats).toEqual({ loads: 1, failures: 1 });
    const taken = once(store, 'loaded');
    renameSync(write('new', one(3, [])), path);
    expect((await taken)[0]).toBeUndefined();
    expect(store.get('a')?.streamId).toBe(3);
    expect(store.error).toBeUndefined();
  });

  it('keeps the topics when the file goes away', async () => {
    const path = write('t.json', one(1, []));
    store = new TopicStore(path, 20);
    store.start();
    const gone = once(store, 'loaded');
    rmSync(path);
    expect((await gone)[0]).toContain('ENOENT');
    expect(store.get('a')).toBeDefined();
  });
});
