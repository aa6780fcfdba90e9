// SPDX-License-Identifier: Apache-2.0
// From a topic to Aeron channels: what a publisher and what a subscriber opens.
import type { Topic } from './schema';

export interface PublicationRoute {
  readonly channel: string;
  readonly streamId: number;
  /** Destinations of a manual multi-destination publication; undefined when the channel says it all. */
  readonly destinations: readonly string[] | undefined;
}

export interface SubscriptionRoute {
  readonly channel: string;
  readonly streamId: number;
}

/** Appends parameters that the channel does not have yet. */
export function withParameters(
  channel: string,
  parameters: Readonly<Record<string, string | number | undefined>>,
): string {
  const question = channel.indexOf('?');
  const present = new Set(
    question < 0
      ? []
      : channel
          .slice(question + 1)
          .split('|')
          .map((each) => each.split('=', 1)[0]),
  );
  const added = Object.entries(parameters)
    .filter(([key, value]) => value !== undefined && !present.has(key))
    .map(([key, value]) => `${key}=${value}`)
    .join('|');
  if (added === '') {
    return channel;
  }
  return question < 0 ? `${channel}?${added}` : `${channel}${channel.endsWith('?') ? '' : '|'}${added}`;
}

export function destinationOf(subscriber: string): string {
  return `aeron:udp?endpoint=${subscriber}`;
}

export function publicationRoute(topic: Topic, defaultTermLength: number): PublicationRoute {
  const buffers = { 'term-length': topic.termLength ?? defaultTermLength, mtu: topic.mtu };
  if (topic.channel !== undefined) {
    const udp = topic.channel.startsWith('aeron:udp');
    // Flow control of a unicast channel is always that of its one receiver, so only what groups receivers is worth saying.
    const fc = udp && topic.flowControl !== 'max' ? topic.flowControl : undefined;
    return {
      channel: withParameters(topic.channel, { ...buffers, fc }),
      streamId: topic.streamId,
      destinations: undefined,
    };
  }
  return {
    channel: withParameters('aeron:udp?control-mode=manual', { fc: topic.flowControl, ...buffers }),
    streamId: topic.streamId,
    destinations: (topic.subscribers ?? []).map(destinationOf),
  };
}

/** undefined when the topic has subscribers but this sidecar has no endpoint to receive on. */
export function subscriptionRoute(
  topic: Topic,
  ownEndpoints: readonly string[],
): SubscriptionRoute | undefined {
  const reliable = topic.reliable ? undefined : 'false';
  if (topic.channel !== undefined) {
    const channel = topic.channel.startsWith('aeron:udp')
      ? withParameters(topic.channel, { reliable })
      : topic.channel;
    return { channel, streamId: topic.streamId };
  }
  const endpoint = ownEndpoints.find((each) => topic.subscribers?.includes(each)) ?? ownEndpoints[0];
  return endpoint === undefined
    ? undefined
    : { channel: withParameters(destinationOf(endpoint), { reliable }), streamId: topic.streamId };
}
