// SPDX-License-Identifier: Apache-2.0
// The way in: one connection to a sidecar, and the publishers and subscriptions on it.
import type { Target } from './codec';
import { ClosedError } from './errors';
import { Publisher, type PublisherOptions } from './publisher';
import { Subscription, type SubscriptionOptions } from './subscription';
import { Channel } from './transport';

export const kDefaultAddress = 'unix:/run/outrigger/outrigger.sock';

export interface ClientOptions {
  /** "unix:/path/to/socket" or "host:port". Default: OUTRIGGER_ADDRESS, else unix:/run/outrigger/outrigger.sock. */
  readonly address?: string;
}

function targetOf(target: Target | string): Target {
  return typeof target === 'string' ? { topic: target } : target;
}

export class OutriggerClient {
  readonly address: string;
  private readonly channel: Channel;
  private readonly publishers = new Set<Publisher>();
  private readonly subscriptions = new Set<Subscription>();
  private closed = false;

  /** Connects when the first publisher or subscription is opened. */
  constructor(options: ClientOptions = {}) {
    this.address = options.address ?? process.env['OUTRIGGER_ADDRESS'] ?? kDefaultAddress;
    this.channel = new Channel(this.address);
  }

  /** A publisher to a topic (by name) or a channel. It opens at once and goes on opening until it can; see ready() and the event "failed". */
  publisher(target: Target | string, options: PublisherOptions = {}): Publisher {
    this.mustBeOpen();
    const publisher = new Publisher(this.channel, targetOf(target), options, (each) =>
      this.publishers.delete(each),
    );
    this.publishers.add(publisher);
    return publisher;
  }

  /** A subscription to a topic (by name) or a channel. */
  subscribe(target: Target | string, options: SubscriptionOptions = {}): Subscription {
    this.mustBeOpen();
    const subscription = new Subscription(this.channel, targetOf(target), options, (each) =>
      this.subscriptions.delete(each),
    );
    this.subscriptions.add(subscription);
    return subscription;
  }

  /** Closes publishers (after their messages), subscriptions and the connection. */
  async close(): Promise<void> {
    this.closed = true;
    await Promise.all([...this.publishers].map((publisher) => publisher.close()));
    [...this.subscriptions].forEach((subscription) => subscription.close());
    this.channel.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  private mustBeOpen(): void {
    if (this.closed) {
      throw new ClosedError('client');
    }
  }
}
