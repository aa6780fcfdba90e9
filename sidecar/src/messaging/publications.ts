// SPDX-License-Identifier: Apache-2.0
// Publications of the driver, shared by the publish streams of a target and counted. Keeps their destinations equal to the topic's members
// and opens them anew when the driver comes back. Knows nothing of batches or policies.
import type { Logger } from 'pino';
import type { DriverLink } from '../driver/driver_link';
import type { PublishOpenedMessage } from '../grpc/codec';
import type { RpcError } from '../grpc/rpc_error';
import type { NativeClient, NativePublication } from '../native/types';
import type { PublicationRoute } from '../topics/channels';
import { driverAway, fromNative } from './targets';

export interface PublicationListener {
  onConnected(connected: boolean): void;
  /** The driver came back: a new session, positions from its start. */
  onReopened(opened: PublishOpenedMessage): void;
  /** The driver came back and refused; the stream can't go on. */
  onFailed(error: RpcError): void;
}

/** How often the connection state is looked at; the facade has no event for it. */
const kConnectionPollMs = 50;
/** A destination that was refused (a name that does not resolve yet) is tried again this often. */
const kDestinationRetryMs = 2000;

function openedOf(publication: NativePublication): PublishOpenedMessage {
  return {
    sessionId: publication.sessionId,
    streamId: publication.streamId,
    maxMessageBytes: publication.maxMessageBytes,
    maxPayloadBytes: publication.maxPayloadBytes,
  };
}

/** One publication and the streams on it. */
export class SharedPublication {
  native: NativePublication | undefined;
  readonly listeners = new Set<PublicationListener>();
  /** Destinations that the driver has, with their registration ids. */
  readonly applied = new Map<string, bigint>();
  desired: readonly string[];
  connected = false;
  opening: Promise<void> = Promise.resolve();
  /** Destination changes follow one another. */
  changes: Promise<void> = Promise.resolve();
  retryAt = 0;

  constructor(
    readonly key: string | undefined,
    readonly label: string,
    readonly route: PublicationRoute,
    readonly exclusive: boolean,
  ) {
    this.desired = route.destinations ?? [];
  }

  get opened(): PublishOpenedMessage {
    return openedOf(this.native as NativePublication);
  }
}

export class Publications {
  private readonly shared = new Map<string, SharedPublication>();
  private readonly all = new Set<SharedPublication>();
  private timer: NodeJS.Timeout | undefined;
  private readonly onDown = (): void => this.driverLost();
  private readonly onUp = (client: NativeClient): void => this.reopenAll(client);

  constructor(
    private readonly link: DriverLink,
    private readonly log: Logger,
    private readonly flushTimeoutMs: number,
  ) {
    link.on('down', this.onDown);
    link.on('up', this.onUp);
  }

  /** A publication of the route, shared unless exclusive. Rejects with RpcError. */
  async acquire(
    label: string,
    route: PublicationRoute,
    exclusive: boolean,
    listener: PublicationListener,
  ): Promise<SharedPublication> {
    const client = this.link.client;
    if (client === undefined) {
      throw driverAway(this.link.lastReason);
    }
    const key = exclusive
      ? undefined
      : `${route.streamId} ${route.channel} ${route.destinations === undefined ? '' : label}`;
    let publication = key === undefined ? undefined : this.shared.get(key);
    if (publication === undefined) {
      publication = new SharedPublication(key, label, route, exclusive);
      this.all.add(publication);
      if (key !== undefined) {
        this.shared.set(key, publication);
      }
      publication.opening = this.open(publication, client);
    }
    publication.listeners.add(listener);
    try {
      await publication.opening;
    } catch (error) {
      publication.listeners.delete(listener);
      this.forget(publication);
      throw fromNative(error);
    }
    if (publication.native === undefined) {
      publication.listeners.delete(listener);
      if (publication.listeners.size === 0) {
        this.forget(publication);
      }
      throw driverAway(this.link.lastReason);
    }
    this.timer ??= setInterval(() => this.poll(), kConnectionPollMs).unref();
    return publication;
  }

  /** The stream is done. The last one flushes and closes the publication: subscribers see the end of the stream. */
  async release(publication: SharedPublication, listener: PublicationListener): Promise<void> {
    publication.listeners.delete(listener);
    if (publication.listeners.size > 0) {
      return;
    }
    this.forget(publication);
    await publication.changes;
    const native = publication.native;
    publication.native = undefined;
    if (native === undefined) {
      return;
    }
    try {
      await native.drained(this.flushTimeoutMs);
      await native.close();
    } catch (error) {
      this.log.debug({ topic: publication.label, err: error }, 'closing a publication failed');
    }
  }

  /** Its stream positions are used up: the next one to open the target gets a new publication. */
  retire(publication: SharedPublication): void {
    if (publication.key !== undefined && this.shared.get(publication.key) === publication) {
      this.shared.delete(publication.key);
    }
  }

  /** The members of a topic changed: its open publications follow. */
  setDestinations(label: string, destinations: readonly string[]): void {
    for (const publication of this.all) {
      if (publication.label === label && publication.route.destinations !== undefined) {
        publication.desired = destinations;
        void this.reconcile(publication);
      }
    }
  }

  list(): readonly SharedPublication[] {
    return [...this.all];
  }

  close(): void {
    clearInterval(this.timer);
    this.link.off('down', this.onDown);
    this.link.off('up', this.onUp);
  }

  private forget(publication: SharedPublication): void {
    this.retire(publication);
    this.all.delete(publication);
    if (this.all.size === 0) {
      clearInterval(this.timer);
      this.timer = undefined;
    }
  }

  private async open(publication: SharedPublication, client: NativeClient): Promise<void> {
    const native = await client.addPublication({
      channel: publication.route.channel,
      streamId: publication.route.streamId,
      exclusive: publication.exclusive,
    });
    if (this.link.client !== client) {
      return; // lost meanwhile; the next connection opens it
    }
    if (!this.all.has(publication)) {
      await native.close(); // its last stream left meanwhile
      return;
    }
    publication.native = native;
    publication.applied.clear();
    await this.reconcile(publication);
  }

  private reconcile(publication: SharedPublication): Promise<void> {
    publication.changes = publication.changes.then(() => this.applyDestinations(publication));
    return publication.changes;
  }

  private async applyDestinations(publication: SharedPublication): Promise<void> {
    const native = publication.native;
    if (native === undefined) {
      return;
    }
    publication.retryAt = 0;
    const change = async <T>(
      uri: string,
      action: () => Promise<T>,
      done: (result: T) => void,
    ): Promise<void> => {
      try {
        done(await action());
      } catch (error) {
        publication.retryAt = Date.now() + kDestinationRetryMs;
        this.log.warn(
          { topic: publication.label, destination: uri, err: error },
          'a destination could not be changed; trying again',
        );
      }
    };
    const wanted = new Set(publication.desired);
    for (const uri of [...publication.applied.keys()].filter((each) => !wanted.has(each))) {
      await change(
        uri,
        () => native.removeDestination(uri),
        () => publication.applied.delete(uri),
      );
    }
    for (const uri of [...wanted].filter((each) => !publication.applied.has(each))) {
      await change(
        uri,
        () => native.addDestination(uri),
        (registrationId) => publication.applied.set(uri, registrationId),
      );
    }
  }

  private poll(): void {
    for (const publication of this.all) {
      const connected = publication.native?.isConnected ?? false;
      if (connected !== publication.connected) {
        publication.connected = connected;
        publication.listeners.forEach((listener) => listener.onConnected(connected));
      }
      if (publication.retryAt !== 0 && Date.now() >= publication.retryAt) {
        void this.reconcile(publication);
      }
    }
  }

  private driverLost(): void {
    for (const publication of this.all) {
      publication.native = undefined;
      publication.applied.clear();
      if (publication.connected) {
        publication.connected = false;
        publication.listeners.forEach((listener) => listener.onConnected(false));
      }
    }
  }

  private reopenAll(client: NativeClient): void {
    for (const publication of this.all) {
      if (publication.native !== undefined) {
        continue;
      }
      publication.opening = this.open(publication, client);
      publication.opening.then(
        () => {
          if (publication.native !== undefined) {
            const opened = publication.opened;
            publication.listeners.forEach((listener) => listener.onReopened(opened));
          }
        },
        (error: unknown) => {
          if (this.link.client === client) {
            publication.listeners.forEach((listener) => listener.onFailed(fromNative(error)));
          }
        },
      );
    }
  }
}
