// SPDX-License-Identifier: Apache-2.0
// What the driver may do for its clients, from what this sidecar has: topics of the file, topics that it opened in the directory and their
// members, explicit channels that are open. Kept in the policy file before anything of it is asked of the driver.
import type { Logger } from 'pino';
import type { Config } from '../config/schema';
import type { DirectoryClient, Grant } from '../directory/directory_client';
import { topicOf, type Role } from '../directory/messages';
import { publicationRoute, subscriptionRoute } from '../topics/channels';
import type { Topic } from '../topics/schema';
import type { TopicStore } from '../topics/topic_store';
import { PolicyFile } from './policy_file';
import { renderPolicy, type PublishRule, type SubscribeRule } from './policy_text';

export interface DriverPolicyDependencies {
  readonly config: Pick<Config, 'policyFile' | 'endpoints' | 'termLength'>;
  readonly topics: TopicStore;
  readonly directory?: DirectoryClient | undefined;
  readonly log: Logger;
}

interface OpenChannel {
  readonly role: Role;
  readonly uri: string;
  readonly streamId: number;
}

export class DriverPolicy {
  private readonly file: PolicyFile;
  private readonly channels = new Set<OpenChannel>();
  private readonly onLoaded = (error: string | undefined): void => {
    if (error === undefined) {
      this.refresh();
    }
  };
  private readonly onGrants = (): void => this.refresh();

  /** Before whoever else listens to topics and directory: what they open next must stand in the file. */
  constructor(private readonly deps: DriverPolicyDependencies) {
    this.file = new PolicyFile(deps.config.policyFile, (message) => deps.log.error(message));
    deps.topics.on('loaded', this.onLoaded);
    deps.directory?.on('grants', this.onGrants);
  }

  get stats(): PolicyFile['stats'] {
    return this.file.stats;
  }

  /** Writes what is so now; the first call makes the file. */
  refresh(): void {
    const publish: PublishRule[] = [];
    const subscribe: SubscribeRule[] = [];
    for (const topic of this.deps.topics.local()) {
      publish.push(this.publishRule(topic));
      subscribe.push(...this.subscribeRule(topic, 'any')); // a topics file names no publishers
    }
    const { directory } = this.deps;
    for (const { role, state } of directory?.grants() ?? []) {
      const topic = topicOf(state, directory?.ownNetworks ?? new Set());
      if (role === 'publisher') {
        publish.push(this.publishRule(topic));
      } else {
        subscribe.push(...this.subscribeRule(topic, publishersOf(state)));
      }
    }
    for (const { role, uri, streamId } of this.channels) {
      if (role === 'publisher') {
        publish.push({ streamId, channel: uri, destinations: [] });
      } else {
        subscribe.push({ streamId, channel: uri, sources: 'any' });
      }
    }
    this.file.set(renderPolicy({ publish, subscribe }));
  }

  /** An explicit channel that a client of the sidecar opens. Returns what takes it back. */
  open(role: Role, uri: string, streamId: number): () => void {
    const channel = { role, uri, streamId };
    this.channels.add(channel);
    this.refresh();
    return () => {
      if (this.channels.delete(channel)) {
        this.refresh();
      }
    };
  }

  close(): void {
    this.deps.topics.off('loaded', this.onLoaded);
    this.deps.directory?.off('grants', this.onGrants);
    this.file.close();
  }

  private publishRule(topic: Topic): PublishRule {
    const { streamId, channel, destinations } = publicationRoute(topic, this.deps.config.termLength);
    return { streamId, channel, destinations: destinations ?? [] };
  }

  private subscribeRule(topic: Topic, sources: SubscribeRule['sources']): readonly SubscribeRule[] {
    const route = subscriptionRoute(topic, this.deps.config.endpoints);
    return route === undefined ? [] : [{ ...route, sources }];
  }
}

/** A publisher sends from any port, and from the address of whichever network the routes take: all of its own are taken. */
function publishersOf(state: Grant['state']): readonly string[] {
  return state.publishers.flatMap(({ endpoints }) => endpoints.map(({ address }) => address));
}
