// SPDX-License-Identifier: Apache-2.0
// Topic: a named stream of messages, and who may publish to it and subscribe to it.
import { z } from 'zod';
import { conditionsSchema } from './conditions';
import { labelSelector } from './label_selector';
import type { KubeObject } from './object_meta';
import {
  choice,
  described,
  duration,
  integer,
  kTermLengths,
  listOf,
  mtu,
  objectName,
  withRules,
} from './schema';

/** Ids that the operator gives out are 1 to this: positive, so that they read well and never meet those of hand-made topics below 0. */
export const kMaxAssignedStreamId = 0x7fffffff;

const flowControlSchema = withRules(
  z.strictObject({
    strategy: choice(
      'Max: the fastest subscriber sets the pace and others recover or lose. Min: the slowest does. Tagged: the slowest of those with groupTag does.',
      ['Max', 'Min', 'Tagged'],
    ),
    groupTag: z
      .int()
      .meta({ format: 'int64', description: 'Tag of the receivers that count. With Tagged only.' })
      .optional(),
    groupMinSize: integer(
      'Subscribers that must be there before anything is sent. With Min and Tagged.',
      0,
      1000,
    ).optional(),
    receiverTimeout: duration('Silence after which a subscriber no longer holds the publisher back.', {
      min: '100ms',
      max: '1h',
    }).optional(),
  }),
  [
    {
      rule: "(self.strategy == 'Tagged') == has(self.groupTag)",
      check: ({ strategy, groupTag }) => (strategy === 'Tagged') === (groupTag !== undefined),
      message: 'groupTag goes with strategy Tagged only: set both or neither',
      messageExpression:
        "'strategy is ' + self.strategy + (has(self.groupTag) ? ', but groupTag is set' : ', but groupTag is missing') + '; groupTag goes with strategy Tagged only: set both or neither'",
      refused: [{ strategy: 'Tagged' }, { strategy: 'Min', groupTag: 7 }],
    },
    {
      rule: "!(self.strategy == 'Max' && has(self.groupMinSize))",
      check: ({ strategy, groupMinSize }) => strategy !== 'Max' || groupMinSize === undefined,
      message: 'groupMinSize has no effect with strategy Max; remove it, or set Min',
      refused: [{ strategy: 'Max', groupMinSize: 2 }],
    },
  ],
);

const allowSchema = withRules(
  z.strictObject({
    publish: described('May publish.', z.boolean()).default(false),
    subscribe: described('May subscribe.', z.boolean()).default(false),
    namespaceSelector: labelSelector(
      "Namespaces, by their labels; {} is all of them. Absent: the topic's own namespace.",
    ).optional(),
    serviceAccounts: listOf(objectName('A service account.'), 0, 64)
      .describe('Service accounts in those namespaces. Absent or empty: all of them.')
      .optional(),
  }),
  [
    {
      rule: 'self.publish || self.subscribe',
      check: ({ publish, subscribe }) => publish || subscribe,
      message: 'allows nothing; set publish: true, subscribe: true or both, or remove the entry',
      refused: [{}, { serviceAccounts: ['a'] }],
    },
  ],
);

export const topicSpecSchema = withRules(
  z.strictObject({
    streamId: z
      .int()
      .min(-0x80000000)
      .max(0x7fffffff)
      .meta({
        format: 'int32',
        description:
          "Aeron's stream id, for apps that use Aeron clients directly. Absent: the operator assigns one, in status.streamId. It can't be changed later.",
      })
      .optional(),
    delivery: choice(
      'Reliable: what is lost is sent again, in order, as long as flow control lets it. BestEffort: gaps stay and are reported.',
      ['Reliable', 'BestEffort'],
    ).default('Reliable'),
    flowControl: described(
      "Who sets the pace. Absent: what the publisher's profile says.",
      flowControlSchema,
    ).optional(),
    termLength: choice("Term length. Absent: that of the publisher's profile.", kTermLengths).optional(),
    mtu: mtu("Longest datagram. Absent: that of the publisher's profile.").optional(),
    allow: listOf(allowSchema, 0, 64)
      .describe(
        "Who may open the topic; one entry that allows is enough. Absent: every pod of the topic's namespace may publish and subscribe. Empty: no one.",
      )
      .optional(),
  }),
  [
    {
      rule: 'has(self.streamId) == has(oldSelf.streamId) && (!has(self.streamId) || self.streamId == oldSelf.streamId)',
      // Looks at a change, which only the API server sees.
      check: () => true,
      message:
        'streamId cannot be changed, set or removed later, since open streams would meet strangers; make another Topic',
      refused: [],
    },
  ],
);

export type TopicSpec = z.output<typeof topicSpecSchema>;
export type TopicAllow = z.output<typeof allowSchema>;

export const topicStatusSchema = z.strictObject({
  observedGeneration: z
    .int()
    .min(0)
    .meta({ format: 'int64', description: 'The generation that was judged last.' })
    .optional(),
  streamId: z
    .int()
    .min(-0x80000000)
    .max(0x7fffffff)
    .meta({
      format: 'int32',
      description:
        'The stream id in use: that of spec, or the assigned one. Absent while another topic has it.',
    })
    .optional(),
  publishers: integer('Members that publish.', 0, 0x7fffffff).optional(),
  subscribers: integer('Members that subscribe.', 0, 0x7fffffff).optional(),
  conditions: conditionsSchema.optional(),
});

export type TopicStatus = z.output<typeof topicStatusSchema>;

export interface Topic extends KubeObject {
  readonly spec: TopicSpec;
  readonly status?: TopicStatus;
}
