// SPDX-License-Identifier: Apache-2.0
// What a sidecar says of the way to each member, from what directory, driver and images told it.
import type { Member, TopicState } from '../directory/messages';
import { memberPaths, type MemberPathsInput } from './member_paths';

const kSecond = 1_000_000_000n;
const kNow = 100n * kSecond;

function member(pod: string, address: string, more: Partial<Member> = {}): Member {
  return {
    instanceId: `i-${pod}`,
    pod: `shop/${pod}`,
    node: 'node2',
    endpoints: [{ network: 'pod', address, port: 40_200, mtu: 1500 }],
    ...more,
  };
}

const kSelf = member('me', '10.0.0.1', { node: 'node1' });

function input(
  members: Partial<Pick<TopicState, 'subscribers' | 'publishers'>>,
  more: Partial<MemberPathsInput> = {},
): MemberPathsInput {
  return {
    topic: { name: 'orders', streamId: 1, flowControl: 'min', reliable: true },
    state: {
      topic: 'orders',
      streamId: 1,
      flowControl: 'min',
      reliable: true,
      termLength: 0,
      mtu: 0,
      subscribers: [],
      publishers: [],
      ...members,
    },
    self: { namespace: 'shop', pod: 'me', node: 'node1', leaseMs: 1, heartbeatMs: 1 },
    networks: new Set(['pod']),
    endpoints: ['10.0.0.1:40200'],
    publications: [],
    subscriptions: [],
    heardNs: new Map(),
    nowNs: kNow,
    ...more,
  };
}

function publication(...destinations: readonly string[]): MemberPathsInput['publications'][number] {
  return {
    native: {},
    applied: new Map(destinations.map((each, i) => [`aeron:udp?endpoint=${each}`, BigInt(i + 1)])),
  };
}

describe('members and the way to each', () => {
  it('are this sidecar, those of its node and the others, each with its roles and place', () => {
    const near = member('near', '10.0.0.2', { node: 'node1' });
    const far = member('far', '10.0.0.3');
    expect(memberPaths(input({ subscribers: [near, kSelf], publishers: [far, near] }))).toEqual([
      expect.objectContaining({
        pod: 'shop/far',
        self: false,
        sameNode: false,
        publishes: true,
        subscribes: false,
      }),
      expect.objectContaining({
        pod: 'shop/me',
        self: true,
        sameNode: true,
        publishes: false,
        subscribes: true,
      }),
      {
        pod: 'shop/near',
        node: 'node1',
        publishes: true,
        subscribes: true,
        self: false,
        sameNode: true,
        network: 'pod',
        address: '10.0.0.2',
        port: 40_200,
        mtu: 1500,
      },
    ]);
  });

  it.each([
    ['answered just now', kNow - kSecond, 'PATH_STATE_CONNECTED', ''],
    [
      'is silent',
      kNow - 23n * kSecond,
      'PATH_STATE_NOT_CONNECTED',
      '10.0.0.3:40200 has been silent for 23 s',
    ],
    ['never answered', 0n, 'PATH_STATE_NOT_CONNECTED', 'nothing has ever come back from 10.0.0.3:40200'],
    ['is not counted by the driver', undefined, 'PATH_STATE_UNSPECIFIED', 'the driver does not tell'],
  ])('say of a subscriber that it %s', (_, heard, state, reason) => {
    const [far] = memberPaths(
      input(
        { subscribers: [member('far', '10.0.0.3')] },
        {
          publications: [publication('10.0.0.9:1', '10.0.0.3:40200')],
          heardNs: new Map(heard === undefined ? [] : [[2n, heard]]),
        },
      ),
    );
    expect(far?.to).toEqual({ state, reason: reason === '' ? '' : expect.stringContaining(reason) });
    expect(far?.from).toBeUndefined();
  });

  it('take the best of several publications of one topic', () => {
    const [far] = memberPaths(
      input(
        { subscribers: [member('far', '10.0.0.3')] },
        {
          publications: [
            { native: {}, applied: new Map([['aeron:udp?endpoint=10.0.0.3:40200', 5n]]) },
            { native: {}, applied: new Map([['aeron:udp?endpoint=10.0.0.3:40200', 6n]]) },
          ],
          heardNs: new Map([
            [5n, 0n],
            [6n, kNow],
          ]),
        },
      ),
    );
    expect(far?.to?.state).toBe('PATH_STATE_CONNECTED');
  });

  it('say that the driver is away, that it refused a destination, and that no network is shared', () => {
    const subscribers = [member('far', '10.0.0.3')];
    const reasonOf = (more: Partial<MemberPathsInput>): string =>
      memberPaths(input({ subscribers }, more))[0]?.to?.reason ?? '';
    expect(reasonOf({ publications: [{ native: undefined, applied: new Map() }] })).toContain(
      'driver is away',
    );
    expect(reasonOf({ publications: [publication()] })).toContain(
      'has not taken the destination 10.0.0.3:40200',
    );
    expect(reasonOf({ publications: [publication()], networks: new Set(['fast']) })).toBe(
      'no network in common: it receives on pod, this sidecar on fast',
    );
  });

  it.each([
    ['10.0.0.3:51234', 'PATH_STATE_CONNECTED'],
    ['10.0.0.33:51234', 'PATH_STATE_NOT_CONNECTED'],
  ])('know a publisher by the address that its stream comes from: %s', (source, state) => {
    const [far] = memberPaths(
      input({ publishers: [member('far', '10.0.0.3')] }, { subscriptions: [{ sources: [source] }] }),
    );
    expect(far?.from?.state).toBe(state);
    expect(far?.to).toBeUndefined();
  });

  it('know a publisher on IPv6', () => {
    const [far] = memberPaths(
      input({ publishers: [member('far', 'fd00::3')] }, { subscriptions: [{ sources: ['[fd00::3]:4000'] }] }),
    );
    expect(far?.from?.state).toBe('PATH_STATE_CONNECTED');
  });

  it('of a topics file are its subscribers', () => {
    const paths = memberPaths(
      input(
        {},
        {
          state: undefined,
          topic: {
            name: 'q',
            streamId: 1,
            flowControl: 'max',
            reliable: true,
            subscribers: ['10.0.0.1:40200', '[fd00::2]:4000'],
          },
          publications: [publication('[fd00::2]:4000')],
          heardNs: new Map([[1n, kNow]]),
        },
      ),
    );
    expect(paths.map(({ self, address, port, to }) => [self, address, port, to?.state])).toEqual([
      [true, '10.0.0.1', 40_200, 'PATH_STATE_NOT_CONNECTED'],
      [false, 'fd00::2', 4000, 'PATH_STATE_CONNECTED'],
    ]);
  });
});
