// SPDX-License-Identifier: Apache-2.0
// Answers of outrigger.v1.AdminService as plain objects. No grpc-js types.
import type { Config } from '../config/schema';
import type { DirectoryClient } from '../directory/directory_client';
import type { BackendInfo } from '../driver/backend';
import type { DriverLink } from '../driver/driver_link';
import { driverAway, fromNative } from '../messaging/targets';
import { memberPaths, type MemberPath } from '../messaging/member_paths';
import type { MessagingService } from '../messaging/messaging_service';
import type { TopicTotals } from '../metrics/topic_totals';
import type { CounterSnapshot, NativeClient } from '../native/types';
import type { Topic } from '../topics/schema';
import type { TopicStore } from '../topics/topic_store';

export interface AdminDependencies {
  readonly config: Config;
  readonly version: string;
  readonly startedMs: number;
  readonly link: DriverLink;
  readonly topics: TopicStore;
  /** undefined: no cluster. */
  readonly directory?: DirectoryClient | undefined;
  readonly messaging: MessagingService;
  readonly totals: TopicTotals;
  readonly isDraining: () => boolean;
  readonly isLeaving: () => boolean;
  readonly backend: () => BackendInfo;
  readonly leave: () => void;
  readonly drain: () => void;
}

export type AdminMethod = () => object;

const kStates = {
  connecting: 'DRIVER_STATE_CONNECTING',
  up: 'DRIVER_STATE_UP',
  closed: 'DRIVER_STATE_CLOSED',
} as const;

/** Type of the counters that say when a destination was heard of last (native/src/cnc/counters.h). */
const kDestinationType = 40_003;

function directoryStatus(directory: DirectoryClient | undefined): object {
  if (directory === undefined) {
    return {};
  }
  const { self } = directory;
  return {
    directoryState: directory.connected ? 'DIRECTORY_STATE_UP' : 'DIRECTORY_STATE_CONNECTING',
    directoryError: directory.connected ? '' : directory.lastReason,
    pod: self === undefined ? '' : `${self.namespace}/${self.pod}`,
    node: self?.node ?? '',
  };
}

/** When each destination was heard of last, by its registration. All counters of the driver are read for it. */
function heardOf({ link }: AdminDependencies): ReadonlyMap<bigint, bigint> {
  let counters: readonly CounterSnapshot[] = [];
  try {
    counters = link.client?.counters() ?? [];
  } catch {
    counters = []; // the driver went away this moment
  }
  return new Map(
    counters
      .filter(({ typeId }) => typeId === kDestinationType)
      .map(({ registrationId, value }) => [registrationId, value]),
  );
}

function membersOf(
  deps: AdminDependencies,
  topic: Topic,
  heardNs: ReadonlyMap<bigint, bigint>,
): readonly MemberPath[] {
  const { directory, messaging } = deps;
  const remote = !deps.topics.isLocal(topic.name);
  return memberPaths({
    topic,
    state: remote ? directory?.state(topic.name) : undefined,
    self: directory?.self,
    networks: directory?.ownNetworks ?? new Set<string>(),
    endpoints: deps.config.endpoints,
    publications: messaging.publications.list().filter((each) => each.label === topic.name),
    subscriptions: [...messaging.subscribers].filter((each) => each.label === topic.name),
    heardNs,
    nowNs: process.hrtime.bigint(),
  });
}

export function adminMethods(deps: AdminDependencies): Readonly<Record<string, AdminMethod>> {
  const ask = <T>(question: (client: NativeClient) => T): T => {
    const client = deps.link.client;
    if (client === undefined) {
      throw driverAway(deps.link.lastReason);
    }
    try {
      return question(client);
    } catch (error) {
      throw fromNative(error);
    }
  };
  return {
    GetStatus: () => {
      let driver;
      try {
        driver = deps.link.client?.driver();
      } catch {
        driver = undefined; // it went away this moment: the link reports it next
      }
      const backend = deps.backend();
      return {
        version: deps.version,
        pid: process.pid,
        uptimeMs: Date.now() - deps.startedMs,
        driverState: kStates[deps.link.state],
        driverError: deps.link.client === undefined ? deps.link.lastReason : '',
        driverDirectory: deps.config.driverDirectory,
        driverPid: driver?.pid ?? 0,
        driverStartMs: driver?.startMs ?? 0,
        driverHeartbeatAgeMs: driver?.heartbeatAgeMs ?? 0,
        backend: backend.name,
        backendMode: backend.mode,
        backendInterface: backend.interface,
        backendReason: backend.reason,
        draining: deps.isDraining(),
        leaving: deps.isLeaving(),
        topicsError: deps.topics.error ?? '',
        driverLosses: deps.link.stats.losses,
        endpoints: deps.config.endpoints,
        ...directoryStatus(deps.directory),
      };
    },
    ListTopics: () => {
      const heardNs = heardOf(deps);
      return {
        topics: deps.topics.list().map((topic) => {
          const totals = deps.totals.of(topic.name);
          return {
            name: topic.name,
            streamId: topic.streamId,
            flowControl: topic.flowControl,
            reliable: topic.reliable,
            termLength: topic.termLength ?? 0,
            mtu: topic.mtu ?? 0,
            channel: topic.channel ?? '',
            subscribers: topic.subscribers ?? [],
            publishStreams: totals.publishStreams,
            subscribeStreams: totals.subscribeStreams,
            publishedMessages: totals.publishedMessages,
            deliveredMessages: totals.deliveredMessages,
            members: membersOf(deps, topic, heardNs),
          };
        }),
      };
    },
    ListStreams: () => ({
      publishers: [...deps.messaging.publishers].map((session) => {
        const shared = session.shared;
        const native = shared?.native;
        const position = native?.position();
        return {
          topic: session.label,
          peer: session.peer,
          channel: shared?.route.channel ?? '',
          streamId: shared?.route.streamId ?? 0,
          sessionId: native?.sessionId ?? 0,
          exclusive: shared?.exclusive ?? false,
          connected: native?.isConnected ?? false,
          position: (position?.position ?? 0n).toString(),
          limit: (position?.limit ?? 0n).toString(),
          messages: session.figures.messages,
          bytes: session.figures.bytes,
          destinations: [...(shared?.applied.keys() ?? [])],
        };
      }),
      subscribers: [...deps.messaging.subscribers].map((session) => ({
        topic: session.label,
        peer: session.peer,
        streamId: session.streamId,
        slowPolicy: session.policy,
        images: session.imageCount,
        ...session.figures,
      })),
    }),
    ListCounters: () => ({
      counters: ask((client) => client.counters()).map((counter) => ({
        id: counter.id,
        typeId: counter.typeId,
        value: counter.value.toString(),
        label: counter.label,
        registrationId: counter.registrationId.toString(),
        ownerId: counter.ownerId.toString(),
      })),
    }),
    ListErrors: () => ({ errors: ask((client) => client.errors()) }),
    ListLosses: () => ({
      losses: ask((client) => client.losses()).map((loss) => ({
        ...loss,
        observations: loss.observations.toString(),
        bytesLost: loss.bytesLost.toString(),
      })),
    }),
    Leave: () => {
      deps.leave();
      return { streams: deps.messaging.publishers.size + deps.messaging.subscribers.size };
    },
    Drain: () => {
      deps.drain();
      return { timeoutMs: deps.config.drainTimeout };
    },
  };
}
