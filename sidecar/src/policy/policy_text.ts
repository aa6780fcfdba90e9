// SPDX-License-Identifier: Apache-2.0
// What the driver is told: rules as the policy file has them (native/src/driver/policy.h). Pure; where rules come from and go to is elsewhere.

/** A publication that may be opened, with the destinations that it may have. */
export interface PublishRule {
  readonly streamId: number;
  readonly channel: string;
  readonly destinations: readonly string[];
}

/** A subscription that may be opened, and the addresses that may publish to it. */
export interface SubscribeRule {
  readonly streamId: number;
  readonly channel: string;
  /** Numeric addresses; 'any' where nobody knows who the publishers are. */
  readonly sources: readonly string[] | 'any';
}

export interface PolicyRules {
  readonly publish: readonly PublishRule[];
  readonly subscribe: readonly SubscribeRule[];
}

/** What the driver compares: all other parameters of a channel are free. As kRouting in native/src/driver/policy.cc. */
const kRouting = new Set([
  'endpoint',
  'control',
  'control-mode',
  'interface',
  'tags',
  'response-endpoint',
  'response-correlation-id',
]);

/** As kMaxChannelUriLength in native/src/net/channel_uri.h. What a rule holds is ASCII, so characters are bytes. */
export const kMaxChannelLength = 4095;

/**
 * A channel as a rule names it: only what says where datagrams go. undefined for one that needs no rule (aeron:ipc), and for one that is no
 * channel: the driver refuses it by itself, and in the file it would be a fault that spoils all other rules.
 */
export function ruleChannel(channel: string): string | undefined {
  const query = /^aeron:udp(?:\?([\x20-\x7e]*))?$/.exec(channel);
  if (query === null) {
    return undefined;
  }
  const parameters = (query[1] ?? '') === '' ? [] : (query[1] as string).split('|');
  const names = parameters.map((each) => each.slice(0, Math.max(each.indexOf('='), 0)));
  if (names.includes('') || new Set(names).size < names.length) {
    return undefined;
  }
  const routing = parameters.filter((_, index) => kRouting.has(names[index] as string));
  const rule = routing.length === 0 ? 'aeron:udp' : `aeron:udp?${routing.join('|')}`;
  return rule.length > kMaxChannelLength ? undefined : rule;
}

/** The text of the file. The same rules give the same text, in whatever order they come. */
export function renderPolicy({ publish, subscribe }: PolicyRules): string {
  const rule = (kind: string, streamId: number, channel: string): string | undefined => {
    const written = ruleChannel(channel);
    return written === undefined ? undefined : `${kind} ${streamId} ${written}`;
  };
  const publishing = new Set<string>();
  for (const { streamId, channel, destinations } of publish) {
    [
      rule('publish', streamId, channel),
      ...destinations.map((each) => rule('destination', streamId, each)),
    ].forEach((line) => line !== undefined && publishing.add(line));
  }
  const sources = new Map<string, Set<string>>();
  for (const each of subscribe) {
    const line = rule('subscribe', each.streamId, each.channel);
    if (line !== undefined) {
      const known = sources.get(line) ?? new Set();
      sources.set(line, known);
      (each.sources === 'any' ? ['any'] : each.sources).forEach((source) => known.add(`source ${source}`));
    }
  }
  const lines = [
    ...[...publishing].sort(),
    ...[...sources]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .flatMap(([line, from]) => [line, ...[...from].sort()]),
  ];
  return ['outrigger-policy 1', ...lines, `end ${lines.length}`, ''].join('\n');
}
