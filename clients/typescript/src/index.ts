// SPDX-License-Identifier: Apache-2.0
// What the package exports.
export { kDefaultAddress, OutriggerClient, type ClientOptions } from './client';
export { Publisher, type PublisherEvents, type PublisherOptions, type PublisherStats } from './publisher';
export {
  Subscription,
  type Message,
  type Reconnecting,
  type Reopened,
  type SubscriptionEvent,
  type SubscriptionEvents,
  type SubscriptionItem,
  type SubscriptionOptions,
} from './subscription';
export type { Receipt } from './batches';
export type { ReconnectOptions } from './backoff';
export type {
  BackPressure,
  Gap,
  GapReason,
  ImageAvailable,
  ImageEnd,
  ImageUnavailable,
  Lagging,
  MessageBatch,
  PublisherInfo,
  SlowPolicy,
  Target,
} from './codec';
export * from './errors';
