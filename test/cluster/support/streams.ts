// SPDX-License-Identifier: Apache-2.0
// Apps that publish and subscribe for as long as a test does something to the cluster around them, and the account of their numbered messages at
// the end. What they say is read on their nodes, so that it can be read while the API server is away.
import { kSidecarName } from '../../../operator/src/webhook/layout';
import { apply, until } from '../kubectl';
import { containerOf, logOnNode, signalContainer, type ContainerHandle } from './nodes';
import { summaryIn, type Pods, type Published, type Received } from './pods';
import type { NodeName } from './product';

/** What became of one publisher's session in one subscriber, between an event "image available" and the next or the end. */
interface SessionReport {
  readonly sessionId: number;
  readonly first: number;
  readonly last: number;
  readonly received: number;
}

export interface SubscriberAccount extends Received {
  readonly sessions: readonly SessionReport[];
}

export interface PublisherAccount extends Published {
  readonly sessions: readonly number[];
}

/** A line of `outrigger sub --json`. */
interface Line {
  readonly type?: string;
  readonly sessionId?: number;
}

/** Lines of a log that a failure shows. */
const kToldLines = 8;

interface Member {
  readonly node: NodeName;
  readonly handle: ContainerHandle;
}

export class Streams {
  private readonly members = new Map<string, Member>();

  constructor(
    private readonly pods: Pods,
    private readonly topic: string,
    /** Messages a second of each publisher. */
    private readonly rate: number,
  ) {}

  /** Makes the topic and the apps; resolves when every subscriber receives every publisher. */
  async start(
    publishers: Readonly<Record<string, NodeName>>,
    subscribers: Readonly<Record<string, NodeName>>,
  ): Promise<void> {
    const { pods, topic } = this;
    await apply({
      apiVersion: 'outrigger.dev/v1alpha1',
      kind: 'Topic',
      metadata: { name: topic, namespace: pods.namespace },
      // A subscriber that is gone holds the others back for so long; publishers wait longer than that.
      spec: { flowControl: { strategy: 'Min', receiverTimeout: '2s' } },
    });
    const pacing = ['--rate', `${this.rate}`];
    await pods.start(
      ...Object.entries(subscribers).map(([name, node]) => pods.subscriber(name, node, topic)),
      ...Object.entries(publishers).map(([name, node]) => pods.publisher(name, node, topic, pacing)),
    );
    for (const [name, node] of [...Object.entries(publishers), ...Object.entries(subscribers)]) {
      this.members.set(name, { node, handle: await containerOf(pods.namespace, name, 'app') });
    }
    const count = Object.keys(publishers).length;
    for (const name of Object.keys(subscribers)) {
      await until(`${name} receives all publishers`, () => this.liveIn(name).size === count);
    }
  }

  /** All that an app has said. */
  saidBy(name: string): string {
    const { node, handle } = this.member(name);
    return logOnNode(node, handle);
  }

  /** Events of a subscriber so far. */
  eventsOf(name: string): readonly Line[] {
    return linesIn(this.saidBy(name));
  }

  /** Sessions that a subscriber receives now. */
  liveIn(name: string): ReadonlySet<number> {
    return liveSessions(this.eventsOf(name));
  }

  /** Every session that a subscriber ever joined. */
  joinedBy(name: string): ReadonlySet<number> {
    return new Set(
      this.eventsOf(name).flatMap(({ type, sessionId }) =>
        type === 'imageAvailable' && sessionId !== undefined ? [sessionId] : [],
      ),
    );
  }

  /** Tells an app to end, as its kubelet would, and answers its figures. Its pod stays. */
  async end<T extends Published | Received>(name: string): Promise<T> {
    const { handle } = this.member(name);
    signalContainer(handle, 'SIGTERM');
    await this.pods.exitOf(name);
    return summaryIn<T>(this.saidBy(name));
  }

  /** Resolves when subscribers receive nobody any more: publishers have ended, and each stream was read to its end. */
  async silent(...names: readonly string[]): Promise<void> {
    for (const name of names) {
      await until(`${name} has read every stream to its end`, () => this.liveIn(name).size === 0);
    }
  }

  /** A test whose failure tells what each app and its sidecar said last. */
  telling(test: () => Promise<void>): () => Promise<void> {
    return async () => {
      try {
        await test();
      } catch (error) {
        throw new Error(`${(error as Error).message}\n${this.story()}`, { cause: error });
      }
    };
  }

  private story(): string {
    const lastOf = (node: NodeName, handle: ContainerHandle): string => {
      try {
        const lines = logOnNode(node, handle).trimEnd().split('\n').slice(-kToldLines);
        return lines.map((line) => `  ${handle.pod} ${handle.container}: ${line}`).join('\n');
      } catch (error) {
        return `  ${handle.pod} ${handle.container}: ${(error as Error).message}`; // its pod is gone
      }
    };
    return [...this.members.values()]
      .flatMap(({ node, handle }) => [
        lastOf(node, handle),
        lastOf(node, { ...handle, container: kSidecarName }),
      ])
      .join('\n');
  }

  private member(name: string): Member {
    const found = this.members.get(name);
    if (found === undefined) {
      throw new Error(`${name} was not started here`);
    }
    return found;
  }
}

export function linesIn(log: string): readonly Line[] {
  return log.split('\n').flatMap((line) => {
    try {
      return line.startsWith('{') ? [JSON.parse(line) as Line] : [];
    } catch {
      return []; // the last one is not whole yet
    }
  });
}

export function liveSessions(events: readonly Line[]): ReadonlySet<number> {
  const live = new Set<number>();
  for (const { type, sessionId } of events) {
    if (sessionId !== undefined && type === 'imageAvailable') {
      live.add(sessionId);
    } else if (sessionId !== undefined && type === 'imageUnavailable') {
      live.delete(sessionId);
    }
  }
  return live;
}

/** What the contract says of a subscriber, whatever happened: between joining a publisher and its end each number once and in order. */
export function expectUnbroken(account: SubscriberAccount): void {
  const { lost, duplicated, outOfOrder, corrupt } = account;
  expect({ lost, duplicated, outOfOrder, corrupt }).toEqual({
    lost: 0,
    duplicated: 0,
    outOfOrder: 0,
    corrupt: 0,
  });
}

/** And of a publisher that ended in order in its one session: all that it sent arrived, up to the last. */
export function expectWhole(publisher: PublisherAccount, subscriber: SubscriberAccount): void {
  const { accepted, refused, dropped, unknown, sessions } = publisher;
  expect({ refused, dropped, unknown, sessions: sessions.length }).toEqual({
    refused: 0,
    dropped: 0,
    unknown: 0,
    sessions: 1,
  });
  const reports = subscriber.sessions.filter(({ sessionId }) => sessionId === sessions[0]);
  // Joined once: nothing that happened meanwhile interrupted it.
  expect(reports).toHaveLength(1);
  expect(reports[0]?.last).toBe(accepted - 1);
}
