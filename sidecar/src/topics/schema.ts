// SPDX-License-Identifier: Apache-2.0
// What a topics file may hold, and how it is checked. Not how it is watched, and not what channels a topic becomes.
import { parse as parseYaml } from 'yaml';
import { z } from 'zod';
import { nearest } from '../base/nearest';
import { formatSize, parseSize } from '../config/units';
import { kHostPort } from '../config/schema';

const kMinTermLength = 64 * 1024;
const kMaxTermLength = 1024 ** 3;
const kMinMtu = 64; // a header and one aligned frame
const kMaxMtu = 65_504; // longest UDP payload, rounded down to the frame alignment of 32

const termLength = z.unknown().transform((value, context): number => {
  const bytes = parseSize(value);
  if (
    bytes === undefined ||
    bytes < kMinTermLength ||
    bytes > kMaxTermLength ||
    !Number.isInteger(Math.log2(bytes))
  ) {
    context.addIssue({
      code: 'custom',
      message: `is ${JSON.stringify(value)}; allowed: a power of two, ${formatSize(kMinTermLength)} to ${formatSize(kMaxTermLength)}`,
    });
    return z.NEVER;
  }
  return bytes;
});

const mtu = z.unknown().transform((value, context): number => {
  const bytes = parseSize(value);
  if (bytes === undefined || bytes < kMinMtu || bytes > kMaxMtu || bytes % 32 !== 0) {
    context.addIssue({
      code: 'custom',
      message: `is ${JSON.stringify(value)}; allowed: a multiple of 32, ${kMinMtu} to ${kMaxMtu}`,
    });
    return z.NEVER;
  }
  return bytes;
});

const kTopicShape = {
  name: z.string().regex(/^[A-Za-z0-9._/-]{1,255}$/, 'must be 1 to 255 of A-Z a-z 0-9 . _ / -'),
  streamId: z.int().min(-2147483648).max(2147483647),
  flowControl: z.enum(['max', 'min']).default('max'),
  reliable: z.boolean().default(true),
  termLength: termLength.optional(),
  mtu: mtu.optional(),
  channel: z
    .string()
    .regex(
      /^aeron:(udp|ipc)(\?.*)?$/,
      'must be a channel such as "aeron:ipc" or "aeron:udp?endpoint=10.0.0.7:40123"',
    )
    .optional(),
  subscribers: z
    .array(
      z
        .string()
        .regex(kHostPort, 'must be host:port')
        .refine((each) => !each.endsWith(':0'), 'must have a port above 0'),
    )
    .optional(),
};

const topicSchema = z.strictObject(kTopicShape);
const topicsSchema = z.strictObject({ topics: z.array(topicSchema) });

/** One topic as its file, or the directory, says it. */
export interface Topic {
  readonly name: string;
  readonly streamId: number;
  /** "max" or "min"; from the directory, anything that the `fc` parameter of a channel may say. */
  readonly flowControl: string;
  readonly reliable: boolean;
  readonly termLength?: number;
  readonly mtu?: number;
  /** An explicit channel, instead of `subscribers`. */
  readonly channel?: string;
  /** Endpoints of the drivers of all subscribers. */
  readonly subscribers?: readonly string[];
}

/** The topics file can't be used; each problem names the place, the value and the fix. */
export class TopicsError extends Error {
  constructor(readonly problems: readonly string[]) {
    super(problems.join('; '));
    this.name = 'TopicsError';
  }
}

function valueAt(document: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>(
    (value, key) =>
      typeof value === 'object' && value !== null ? (value as Record<PropertyKey, unknown>)[key] : undefined,
    document,
  );
}

function placeOf(document: unknown, path: readonly PropertyKey[]): string {
  if (path[0] !== 'topics' || typeof path[1] !== 'number') {
    return path.length === 0 ? 'topics file' : path.join('.');
  }
  const name = valueAt(document, [...path.slice(0, 2), 'name']);
  const topic = typeof name === 'string' ? `topic "${name}"` : `topics[${path[1]}]`;
  return path.length === 2 ? topic : `${topic}, ${path.slice(2).join('.')}`;
}

function describe(document: unknown, issue: z.core.$ZodIssue): string[] {
  const place = placeOf(document, issue.path);
  if (issue.code === 'unrecognized_keys') {
    const known = issue.path.length === 0 ? ['topics'] : Object.keys(kTopicShape);
    return issue.keys.map((key) => `${place}: unknown key ${key}; did you mean ${nearest(key, known)}?`);
  }
  const value = valueAt(document, issue.path);
  if (issue.code === 'custom') {
    return [
      `${place} ${issue.message.startsWith('is ') ? issue.message : `is ${JSON.stringify(value)}: ${issue.message}`}`,
    ];
  }
  return [`${place} is ${value === undefined ? 'missing' : JSON.stringify(value)}: ${issue.message}`];
}

/** Topics of a file's text (YAML or JSON), by name. Throws TopicsError. An empty file is no topics. */
export function parseTopics(text: string): ReadonlyMap<string, Topic> {
  let document: unknown;
  try {
    document = parseYaml(text);
  } catch (error) {
    throw new TopicsError([(error as Error).message.trim()]);
  }
  if (document === null || document === undefined) {
    return new Map();
  }
  const result = topicsSchema.safeParse(document);
  if (!result.success) {
    throw new TopicsError(result.error.issues.flatMap((issue) => describe(document, issue)));
  }
  const problems: string[] = [];
  const topics = new Map<string, Topic>();
  for (const topic of result.data.topics) {
    if (topics.has(topic.name)) {
      problems.push(`topic "${topic.name}" stands twice; each name may stand once`);
    }
    if ((topic.channel === undefined) === (topic.subscribers === undefined)) {
      problems.push(
        `topic "${topic.name}" has ${topic.channel === undefined ? 'neither channel nor' : 'both channel and'} subscribers; it needs one of them`,
      );
    }
    // Without the undefined members: absent and undefined differ for readers of the interface.
    topics.set(topic.name, JSON.parse(JSON.stringify(topic)) as Topic);
  }
  if (problems.length > 0) {
    throw new TopicsError(problems);
  }
  return topics;
}

/** True when streams that are open must start anew: everything but the members changed. */
export function isRedefined(before: Topic, after: Topic): boolean {
  const rest = ({ subscribers, ...others }: Topic): string =>
    JSON.stringify([others, subscribers === undefined], (_, value: unknown) =>
      typeof value === 'object' && value !== null && !Array.isArray(value)
        ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
        : value,
    );
  return rest(before) !== rest(after);
}
