// SPDX-License-Identifier: Apache-2.0
// From the target of an open request to a route, or to an error that says how to mend it.
import { nearest } from '../base/nearest';
import type { Config } from '../config/schema';
import type { TargetMessage } from '../grpc/codec';
import { invalidArgument, RpcCode, RpcError } from '../grpc/rpc_error';
import { kChannelLabel } from '../metrics/topic_totals';
import type { NativeError } from '../native/types';
import {
  publicationRoute,
  subscriptionRoute,
  withParameters,
  type PublicationRoute,
  type SubscriptionRoute,
} from '../topics/channels';
import type { Topic } from '../topics/schema';
import type { TopicStore } from '../topics/topic_store';

export interface ResolvedTarget {
  /** undefined for an explicit channel. */
  readonly topic: Topic | undefined;
  readonly channel: { readonly uri: string; readonly streamId: number } | undefined;
  /** For metrics. */
  readonly label: string;
}

export function resolveTarget(
  target: TargetMessage | undefined,
  topics: TopicStore,
  config: Pick<Config, 'allowChannels'>,
): ResolvedTarget {
  const channel = target?.channel;
  if (channel !== undefined) {
    if (!config.allowChannels) {
      throw new RpcError(
        RpcCode.PERMISSION_DENIED,
        `channel "${channel.uri}" refused: this sidecar serves topics only; set allowChannels: true to allow channels`,
        {
          reason: 'CHANNELS_NOT_ALLOWED',
          metadata: { channel: channel.uri },
        },
      );
    }
    if (!channel.uri.startsWith('aeron:')) {
      throw invalidArgument(
        'target.channel.uri',
        `is "${channel.uri}"; it must be an Aeron channel such as "aeron:ipc" or "aeron:udp?endpoint=10.0.0.7:40123"`,
      );
    }
    return { topic: undefined, channel, label: kChannelLabel };
  }
  const name = target?.topic;
  if (name === undefined || name === '') {
    throw invalidArgument('target', 'is missing; set target.topic to the name of a topic, or target.channel');
  }
  const topic = topics.get(name);
  if (topic === undefined) {
    const near = nearest(
      name,
      topics.list().map((each) => each.name),
    );
    const hint =
      near === undefined ? 'this sidecar has no topics; see topicsFile' : `did you mean "${near}"?`;
    throw new RpcError(RpcCode.NOT_FOUND, `topic "${name}" does not exist; ${hint}`, {
      reason: 'UNKNOWN_TOPIC',
      metadata: near === undefined ? { topic: name } : { topic: name, nearest: near },
    });
  }
  return { topic, channel: undefined, label: name };
}

export function routeForPublisher(
  target: ResolvedTarget,
  config: Pick<Config, 'termLength'>,
): PublicationRoute {
  if (target.topic !== undefined) {
    return publicationRoute(target.topic, config.termLength);
  }
  const { uri, streamId } = target.channel as { uri: string; streamId: number };
  return {
    channel: withParameters(uri, { 'term-length': config.termLength }),
    streamId,
    destinations: undefined,
  };
}

export function routeForSubscriber(
  target: ResolvedTarget,
  config: Pick<Config, 'endpoints'>,
): SubscriptionRoute {
  if (target.topic === undefined) {
    const { uri, streamId } = target.channel as { uri: string; streamId: number };
    return { channel: uri, streamId };
  }
  const route = subscriptionRoute(target.topic, config.endpoints);
  if (route === undefined) {
    throw new RpcError(
      RpcCode.FAILED_PRECONDITION,
      `topic "${target.label}" can't be received: this sidecar has no endpoint; set endpoints to the host:port that the topic lists for it`,
      {
        reason: 'NO_ENDPOINT',
        metadata: { topic: target.label },
      },
    );
  }
  return route;
}

export function driverAway(reason: string): RpcError {
  return new RpcError(RpcCode.UNAVAILABLE, `the driver is away: ${reason}; retry`, {
    reason: 'DRIVER_UNAVAILABLE',
  });
}

export function notOpened(timeoutMs: number): RpcError {
  return new RpcError(
    RpcCode.DEADLINE_EXCEEDED,
    `no open request came within ${timeoutMs} ms; send it first on every stream (openTimeout)`,
    { reason: 'NOT_OPENED' },
  );
}

export function draining(): RpcError {
  return new RpcError(RpcCode.UNAVAILABLE, 'this sidecar is shutting down; connect again', {
    reason: 'DRAINING',
  });
}

export function topicChanged(name: string, removed: boolean): RpcError {
  return removed
    ? new RpcError(RpcCode.NOT_FOUND, `topic "${name}" was removed`, {
        reason: 'TOPIC_REMOVED',
        metadata: { topic: name },
      })
    : new RpcError(RpcCode.UNAVAILABLE, `topic "${name}" was redefined; open the stream again`, {
        reason: 'TOPIC_REDEFINED',
        metadata: { topic: name },
      });
}

/** Aeron error codes that say the request itself is at fault (INVALID_CHANNEL, MALFORMED_COMMAND, NOT_SUPPORTED, UNKNOWN_HOST). */
const kRequestFaults = new Set([1, 7, 8, 9]);
const kStorageSpace = 12;
const kResourceTemporarilyUnavailable = 10;

/** An RPC error for what the native client threw. */
export function fromNative(error: unknown): RpcError {
  if (error instanceof RpcError) {
    return error;
  }
  const message = (error as Error).message;
  if (!(error instanceof Error) || (error as Partial<NativeError>).name !== 'NativeError') {
    return new RpcError(RpcCode.INTERNAL, `unexpected: ${message}`, { reason: 'INTERNAL' });
  }
  const { code, driverErrorCode } = error as unknown as Pick<NativeError, 'code' | 'driverErrorCode'>;
  const metadata = driverErrorCode === undefined ? {} : { driverErrorCode: `${driverErrorCode}` };
  switch (code) {
    case 'INVALID_ARGUMENT':
      return new RpcError(RpcCode.INVALID_ARGUMENT, message, { reason: 'INVALID_REQUEST', metadata });
    case 'DRIVER_REFUSED':
      if (driverErrorCode === kStorageSpace || driverErrorCode === kResourceTemporarilyUnavailable) {
        return new RpcError(RpcCode.RESOURCE_EXHAUSTED, message, { reason: 'DRIVER_RESOURCES', metadata });
      }
      return new RpcError(
        kRequestFaults.has(driverErrorCode ?? 0) ? RpcCode.INVALID_ARGUMENT : RpcCode.FAILED_PRECONDITION,
        message,
        { reason: 'DRIVER_REFUSED', metadata },
      );
    case 'DRIVER_UNAVAILABLE':
    case 'CLOSED':
    case 'TIMEOUT':
      return new RpcError(RpcCode.UNAVAILABLE, message, {
        reason: code === 'TIMEOUT' ? 'DRIVER_TIMEOUT' : 'DRIVER_UNAVAILABLE',
        metadata,
      });
  }
}
