// SPDX-License-Identifier: Apache-2.0
// All publish and subscribe streams of the process: admission, reaction to topic changes, drain. No grpc-js types.
import type { Logger } from 'pino';
import type { Config } from '../config/schema';
import type { DirectoryClient } from '../directory/directory_client';
import type { Role } from '../directory/messages';
import type { DriverLink } from '../driver/driver_link';
import type { DuplexStream } from '../grpc/duplex_stream';
import { RpcCode, RpcError } from '../grpc/rpc_error';
import type { TopicTotals } from '../metrics/topic_totals';
import type { DriverPolicy } from '../policy/driver_policy';
import { publicationRoute } from '../topics/channels';
import type { TopicChange, TopicStore } from '../topics/topic_store';
import { Publications } from './publications';
import { PublishSession } from './publish_session';
import { SubscribeSession } from './subscribe_session';
import { draining, topicChanged } from './targets';
import { topicAccess, type TopicAccess } from './topic_access';

export interface MessagingDependencies {
  readonly config: Config;
  readonly topics: TopicStore;
  readonly link: DriverLink;
  readonly totals: TopicTotals;
  readonly log: Logger;
  /** undefined: no cluster; the topics are those of the file. */
  readonly directory?: DirectoryClient | undefined;
  /** undefined: the driver lets its clients do what they like. */
  readonly policy?: DriverPolicy | undefined;
}

export class MessagingService {
  readonly publishers = new Set<PublishSession>();
  readonly subscribers = new Set<SubscribeSession>();
  readonly publications: Publications;
  private readonly access: TopicAccess;
  private drainingNow = false;
  private rejectedStreams = 0;
  private readonly onChange = (change: TopicChange): void => this.topicChanged(change);
  private readonly onRevoked = (change: { topic: string; role: Role; error: RpcError }): void =>
    this.revoked(change);

  constructor(private readonly deps: MessagingDependencies) {
    this.publications = new Publications(deps.link, deps.log, deps.config.flushTimeout);
    this.access = topicAccess(
      deps.topics,
      deps.directory,
      deps.config.allowChannels ? deps.policy : undefined,
    );
    deps.topics.on('change', this.onChange);
    deps.directory?.on('revoked', this.onRevoked);
  }

  get rejected(): number {
    return this.rejectedStreams;
  }

  publish(stream: DuplexStream): void {
    if (this.admit(stream)) {
      const session = new PublishSession(stream, {
        ...this.deps,
        access: this.access,
        publications: this.publications,
        onClosed: (closed) => this.publishers.delete(closed),
      });
      this.publishers.add(session);
      session.start();
    }
  }

  subscribe(stream: DuplexStream): void {
    if (this.admit(stream)) {
      const session = new SubscribeSession(stream, {
        ...this.deps,
        access: this.access,
        onClosed: (closed) => this.subscribers.delete(closed),
      });
      this.subscribers.add(session);
      session.start();
    }
  }

  /**
   * Ends every stream: publishers after their messages left, then subscribers, those of this sidecar's own publishers after the end of their
   * streams. Resolves when all is closed.
   */
  async drain(): Promise<void> {
    this.drainingNow = true;
    const publishers = [...this.publishers];
    const sessions = new Set(
      this.publications.list().flatMap((each) => (each.native === undefined ? [] : [each.native.sessionId])),
    );
    publishers.forEach((session) => session.finish(draining()));
    await Promise.all(publishers.map((session) => session.closed));
    const subscribers = [...this.subscribers];
    await this.untilLocalStreamsEnd(subscribers, sessions);
    subscribers.forEach((session) => session.finish(draining()));
    await Promise.all(subscribers.map((session) => session.released));
  }

  /** What local publishers sent last is on its way to local subscribers. One that grants no credit does not hold up the drain for long. */
  private async untilLocalStreamsEnd(
    subscribers: readonly SubscribeSession[],
    sessions: ReadonlySet<number>,
  ): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const timeout = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, this.deps.config.flushTimeout);
    });
    const all = Promise.all(subscribers.map((session) => session.withoutImagesOf(sessions)));
    await Promise.race([all, timeout]);
    clearTimeout(timer);
  }

  close(): void {
    this.deps.topics.off('change', this.onChange);
    this.deps.directory?.off('revoked', this.onRevoked);
    this.publications.close();
  }

  private admit(stream: DuplexStream): boolean {
    const open = this.publishers.size + this.subscribers.size;
    if (!this.drainingNow && open < this.deps.config.maxStreams) {
      return true;
    }
    this.rejectedStreams++;
    stream.end(
      this.drainingNow
        ? draining()
        : new RpcError(
            RpcCode.RESOURCE_EXHAUSTED,
            `${open} streams are open, maxStreams allows no more; close some or raise maxStreams`,
            { reason: 'TOO_MANY_STREAMS' },
          ),
    );
    return false;
  }

  /** The directory took a permission back, or the topic is gone. */
  private revoked({ topic, role, error }: { topic: string; role: Role; error: RpcError }): void {
    for (const session of [...(role === 'publisher' ? this.publishers : this.subscribers)]) {
      if (session.label === topic) {
        session.finish(error);
      }
    }
  }

  private topicChanged(change: TopicChange): void {
    if (change.redefined) {
      const error = topicChanged(change.name, change.after === undefined);
      for (const session of [...this.publishers, ...this.subscribers]) {
        if (session.label === change.name) {
          session.finish(error);
        }
      }
      return;
    }
    if (change.after !== undefined) {
      const route = publicationRoute(change.after, this.deps.config.termLength);
      this.publications.setDestinations(change.name, route.destinations ?? []);
    }
  }
}
