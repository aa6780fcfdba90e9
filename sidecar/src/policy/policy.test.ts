// SPDX-License-Identifier: Apache-2.0
// The driver's policy: which rules topics and channels become, and that the file stands before the driver is asked.
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { get, startFixture, type Fixture } from '../testing/sidecar_fixture';
import { until } from '../testing/until';
import { PolicyFile } from './policy_file';
import { renderPolicy, ruleChannel } from './policy_text';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'outrigger-policy-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const rulesOf = (path: string): string[] => readFileSync(path, 'utf8').trimEnd().split('\n').slice(1, -1);

describe('a rule', () => {
  it('names of a channel what says where datagrams go, and nothing else', () => {
    expect(
      ruleChannel('aeron:udp?control-mode=manual|fc=min|term-length=64k|interface=10.0.0.1|session-id=1'),
    ).toBe('aeron:udp?control-mode=manual|interface=10.0.0.1');
    expect(ruleChannel('aeron:udp?reliable=false')).toBe('aeron:udp');
  });

  it('is none for channels that need none, and for texts that would spoil the file', () => {
    for (const channel of [
      'aeron:ipc',
      'aeron-spy:aeron:udp?endpoint=a:1',
      'aeron:udp?endpoint',
      'aeron:udp?=x',
      'aeron:udp?endpoint=a:1|',
      'aeron:udp?endpoint=a:1|endpoint=b:1',
      'aeron:udp?endpoint=a:1\nsource any',
      'udp://a:1',
    ]) {
      expect(ruleChannel(channel)).toBeUndefined();
    }
  });

  it('stands once however many topics give it, with the sources of all', () => {
    const subscribe = (sources: readonly string[]) => ({
      streamId: 1,
      channel: 'aeron:udp?endpoint=10.0.0.5:1',
      sources,
    });
    expect(
      renderPolicy({
        publish: [
          {
            streamId: 2,
            channel: 'aeron:udp?control-mode=manual',
            destinations: ['aeron:udp?endpoint=10.0.0.9:1'],
          },
          { streamId: 2, channel: 'aeron:udp?control-mode=manual|fc=min', destinations: [] },
        ],
        subscribe: [subscribe(['10.0.0.2', '10.0.0.1']), subscribe(['10.0.0.1', '10.0.0.3'])],
      }),
    ).toBe(
      [
        'outrigger-policy 1',
        'destination 2 aeron:udp?endpoint=10.0.0.9:1',
        'publish 2 aeron:udp?control-mode=manual',
        'subscribe 1 aeron:udp?endpoint=10.0.0.5:1',
        'source 10.0.0.1',
        'source 10.0.0.2',
        'source 10.0.0.3',
        'end 6',
        '',
      ].join('\n'),
    );
    expect(renderPolicy({ publish: [], subscribe: [] })).toBe('outrigger-policy 1\nend 0\n');
  });
});

describe('the policy file', () => {
  it('is made with its folder, for its owner alone to write, and replaced as a whole', () => {
    const path = join(folder, 'own/policy');
    const file = new PolicyFile(path, (message) => {
      throw new Error(message);
    });
    file.set('one');
    const { ino } = statSync(path);
    expect(statSync(path).mode & 0o7777).toBe(0o640);
    expect(statSync(join(folder, 'own')).mode & 0o027).toBe(0);
    file.set('one');
    expect(file.stats).toEqual({ writes: 1, failures: 0 });
    file.set('two');
    expect(readFileSync(path, 'utf8')).toBe('two');
    expect(statSync(path).ino).not.toBe(ino);
    expect(readdirSync(join(folder, 'own'))).toEqual(['policy']);
    file.close();
  });

  it('does not take over the rights of what a crash left', () => {
    const path = join(folder, 'policy');
    writeFileSync(`${path}.new`, 'half', { mode: 0o666 });
    const file = new PolicyFile(path, () => undefined);
    file.set('whole');
    expect(statSync(path).mode & 0o7777).toBe(0o640);
    file.close();
  });

  it('that can not be written is told and written once it can be', async () => {
    const path = join(folder, 'taken/policy');
    writeFileSync(join(folder, 'taken'), 'a file where the folder should be');
    const told: string[] = [];
    const file = new PolicyFile(path, (message) => told.push(message), 5);
    file.set('text');
    expect(told[0]).toContain(path);
    rmSync(join(folder, 'taken'));
    mkdirSync(join(folder, 'taken'));
    await until('it is written', () => file.stats.writes > 0);
    expect(readFileSync(path, 'utf8')).toBe('text');
    file.close();
  });
});

describe('a sidecar with a policy file', () => {
  let fixture: Fixture;
  let path: string;
  beforeEach(async () => {
    path = join(folder, 'policy');
    fixture = await startFixture({ policyFile: path });
  });
  afterEach(() => fixture.close());

  const fileRules = [
    'destination 1001 aeron:udp?endpoint=10.0.0.1:40123',
    'publish 1001 aeron:udp?control-mode=manual',
    'subscribe 1001 aeron:udp?endpoint=10.0.0.1:40123',
    'source any',
  ];

  it('allows the topics of its file to all, from the start and as the file changes', async () => {
    expect(rulesOf(path)).toEqual(fileRules);
    writeFileSync(
      fixture.topicsFile,
      JSON.stringify({ topics: [{ name: 'direct', streamId: 5, channel: 'aeron:udp?endpoint=10.0.0.2:1' }] }),
    );
    await until('the rules follow the file', () => !rulesOf(path).includes(fileRules[0] as string));
    expect(rulesOf(path)).toEqual([
      'publish 5 aeron:udp?endpoint=10.0.0.2:1',
      'subscribe 5 aeron:udp?endpoint=10.0.0.2:1',
      'source any',
    ]);
  });

  it('allows an explicit channel while a stream has it open', async () => {
    const target = { channel: { uri: 'aeron:udp?endpoint=10.0.0.8:1|term-length=64k', streamId: 9 } };
    const stream = fixture.client.publish().write({ open: { target } });
    await stream.next((answer) => answer['opened'] as object);
    expect(rulesOf(path)).toContain('publish 9 aeron:udp?endpoint=10.0.0.8:1');
    stream.stream.end();
    await stream.ended();
    await until('the rule goes', () => rulesOf(path).length === fileRules.length);
    expect(rulesOf(path)).toEqual(fileRules);
  });

  it('counts what it writes', async () => {
    expect((await get(fixture, '/metrics')).body).toMatch(/^outrigger_policy_writes_total 1$/m);
  });
});
