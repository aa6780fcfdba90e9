// SPDX-License-Identifier: Apache-2.0
// What could spoil the policy for all topics: a channel that the driver does not take, a file that can't be written.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { PolicyFile } from './policy_file';
import { kMaxChannelLength, renderPolicy, ruleChannel } from './policy_text';

/** A channel of so many characters. */
function channelOf(length: number): string {
  const head = 'aeron:udp?endpoint=';
  return head + 'a'.repeat(length - head.length - 2) + ':1';
}

describe('a channel that is too long for the driver', () => {
  it('is measured as the driver does', () => {
    const header = readFileSync(resolve(__dirname, '../../../native/src/net/channel_uri.h'), 'utf8');
    expect(header).toContain(`kMaxChannelUriLength = ${kMaxChannelLength};`);
  });

  it('has no rule, so that those of all others hold', () => {
    expect(ruleChannel(channelOf(kMaxChannelLength))).toHaveLength(kMaxChannelLength);
    expect(ruleChannel(channelOf(kMaxChannelLength + 1))).toBeUndefined();
    const other = { streamId: 2, channel: 'aeron:udp?endpoint=10.0.0.1:1', destinations: [] };
    const long = { streamId: 1, channel: channelOf(kMaxChannelLength + 1), destinations: [] };
    expect(renderPolicy({ publish: [long, other], subscribe: [] })).toBe(
      'outrigger-policy 1\npublish 2 aeron:udp?endpoint=10.0.0.1:1\nend 1\n',
    );
  });

  it('counts without the parameters that no rule names', () => {
    const channel = `aeron:udp?endpoint=10.0.0.1:1|alias=${'x'.repeat(kMaxChannelLength)}`;
    expect(ruleChannel(channel)).toBe('aeron:udp?endpoint=10.0.0.1:1');
  });
});

describe('a policy file that can not be written', () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'outrigger-policy-'));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  it('is told with what follows and what to do', () => {
    const notAFolder = join(folder, 'taken');
    writeFileSync(notAFolder, '');
    const told: string[] = [];
    const file = new PolicyFile(join(notAFolder, 'policy'), (message) => told.push(message), 60_000);
    file.set('rules');
    file.close();
    expect(told).toHaveLength(1);
    expect(told[0]).toContain(`policy file ${join(notAFolder, 'policy')} can't be written: EEXIST`);
    expect(told[0]).toContain('the driver keeps to the one before');
    expect(told[0]).toContain(`let this user write to ${notAFolder}; tried again every 1m`);
    expect(file.stats).toEqual({ writes: 0, failures: 1 });
  });
});
