// SPDX-License-Identifier: Apache-2.0
// The world of a test over the network: Aeron's Java driver on host A, ours on host B, an unmodified Java client on each.
import { startDriver, type Driver, type DriverKind, type DriverOptions, type OurDriver } from './drivers';
import { makeHosts, type Family, type Host, type HostPair } from './hosts';
import {
  Peer,
  type Client,
  type Publication,
  type SendResult,
  type Subscription,
  type SubscriptionSeen,
} from './peer';

export interface Side {
  readonly name: string;
  readonly host: Host;
  readonly peer: Peer;
  readonly driver: Driver;
  readonly client: Client;
}

export interface Pair {
  readonly hosts: HostPair;
  /** Aeron's driver. */
  readonly java: Side;
  /** Ours. */
  readonly ours: Side;
  close(): Promise<void>;
}

export type Direction = 'java to ours' | 'ours to java';
export const kDirections: readonly Direction[] = ['java to ours', 'ours to java'];

export interface PairOptions {
  readonly java?: DriverOptions;
  readonly ours?: DriverOptions;
}

/** Everything that is shared by the pairs of a file: making hosts and JVMs is what takes time. */
export interface Machines {
  readonly hosts: HostPair;
  readonly a: Peer;
  readonly b: Peer;
  close(): Promise<void>;
}

export async function makeMachines(): Promise<Machines> {
  const hosts = await makeHosts();
  const [a, b] = await Promise.all([Peer.java(hosts.a), Peer.java(hosts.b)]);
  return {
    hosts,
    a,
    b,
    close: async () => {
      await closeAll(a, b, hosts);
    },
  };
}

/** A client of a driver that was just started; a failure tells what that said, and nothing of it stays. */
export async function clientOf(peer: Peer, driver: Driver): Promise<Client> {
  try {
    return await peer.client(driver.dir);
  } catch (error) {
    const said = (driver as Partial<OurDriver>).output?.() ?? '';
    await driver.close().catch(() => undefined);
    throw new Error(`${(error as Error).message}; driver ${driver.kind}: ${said}`, { cause: error });
  }
}

export interface ClosableSide extends Side {
  close(): Promise<void>;
}

export async function makeSideOn(
  host: Host,
  peer: Peer,
  kind: DriverKind,
  options: DriverOptions = {},
): Promise<ClosableSide> {
  const driver = await startDriver(kind, host, peer, options);
  const client = await clientOf(peer, driver);
  return { name: kind, host, peer, driver, client, close: () => closeAll(client, driver) };
}

/** Aeron's driver is at home on host A, ours on host B. */
export function makeSide(
  kind: DriverKind,
  { hosts, a, b }: Machines,
  options: DriverOptions = {},
): Promise<ClosableSide> {
  return kind === 'java' ? makeSideOn(hosts.a, a, kind, options) : makeSideOn(hosts.b, b, kind, options);
}

export async function makePair(machines: Machines, options: PairOptions = {}): Promise<Pair> {
  const java = await makeSide('java', machines, options.java);
  const ours = await makeSide('ours', machines, options.ours).catch(async (error: unknown) => {
    await java.close();
    throw error;
  });
  return {
    hosts: machines.hosts,
    java,
    ours,
    close: async () => {
      await closeAll(java.client, ours.client, java.driver, ours.driver);
    },
  };
}

export function ends(pair: Pair, direction: Direction): { from: Side; to: Side } {
  return direction === 'java to ours'
    ? { from: pair.java, to: pair.ours }
    : { from: pair.ours, to: pair.java };
}

let lastPort = 20000;
export const nextPort = (): number => ++lastPort;

export function endpoint(to: Pick<Side, 'host'>, family: Family, port = nextPort()): string {
  return `${to.host.address(family)}:${port}`;
}

/** Exactly the messages 0 to count - 1 arrived, in order, each byte of each as it was sent, from one publisher. */
export function expectExactly(seen: SubscriptionSeen, count: number): void {
  expect(
    seen.images.map(({ first, next, count: messages, outOfOrder, corrupt }) => ({
      first,
      next,
      messages,
      outOfOrder,
      corrupt,
    })),
  ).toEqual([{ first: 0, next: count, messages: count, outOfOrder: 0, corrupt: 0 }]);
}

export interface Exchange {
  readonly publication: Publication;
  readonly subscriptions: readonly Subscription[];
  readonly count: number;
  readonly size: number | 'max' | 'payload' | 'mix';
  readonly claim?: boolean;
}

/** Sends and waits until every subscription has it all; says how the sending went. */
export async function exchange({
  publication,
  subscriptions,
  count,
  size,
  claim = false,
}: Exchange): Promise<SendResult> {
  await publication.until({ connected: true });
  for (const subscription of subscriptions) {
    await subscription.until({ images: 1 });
  }
  const result = await publication.send(count, { size, claim });
  for (const subscription of subscriptions) {
    await subscription.until({ count });
    expectExactly(await subscription.status(), count);
  }
  return result;
}

/** What a test makes one after the other; `close` ends it in the reverse order, however far the making came. */
export class Made {
  private readonly made: { close(): Promise<unknown> }[] = [];

  async add<T extends { close(): Promise<unknown> }>(one: T | Promise<T>): Promise<T> {
    const done = await one;
    this.made.push(done);
    return done;
  }

  close(): Promise<void> {
    return closeAll(...this.made.splice(0).reverse());
  }
}

/** In this order; the last ones also when an earlier one fails, whose error is thrown at the end. */
export async function closeAll(...closables: readonly { close(): Promise<unknown> }[]): Promise<void> {
  const errors: unknown[] = [];
  for (const closable of closables) {
    await closable.close().catch((error: unknown) => errors.push(error));
  }
  if (errors.length > 0) {
    throw errors[0];
  }
}
