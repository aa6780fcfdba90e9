// SPDX-License-Identifier: Apache-2.0
// A TypeScript application under measurement, on the project's client library: `pub` sends checked messages as fast as it may, `sub` checks
// and counts them in a window of time. The counterpart in Go is in test/bench/go.
import { readFileSync } from 'node:fs';
import { OutriggerClient } from '../../../clients/typescript/src';

const kHead = 8;
const kTail = 4;
const kRotations = 512;
const kBodyCheckInterval = 16;
const kTicksPerSecond = 100;
const kMaxSize = 64 * 1024;
// Messages handed over between two looks for a signal or an answer.
const kBurst = 512;

// sequence, size, body that follows from the sequence, closing word of both. The pattern is made of the sequence alone, so that publisher and
// subscriber, which are two processes, have the same.
const pattern = Buffer.alloc(kMaxSize + kRotations * 8);
for (let i = 0; i + 4 <= pattern.length; i += 4) pattern.writeUInt32LE(Math.imul(i + 1, 0x9e3779b1) >>> 0, i);

const bodyAt = (sequence: number): number => (sequence % kRotations) * 8;
const closing = (sequence: number, size: number): number => (Math.imul(sequence, 0x9e3779b1) ^ size) >>> 0;

function fill(message: Buffer, sequence: number): void {
  const size = message.length;
  message.writeUInt32LE(sequence, 0);
  message.writeUInt32LE(size, 4);
  const at = bodyAt(sequence);
  pattern.copy(message, kHead, at, at + size - kHead - kTail);
  message.writeUInt32LE(closing(sequence, size), size - kTail);
}

function matches(message: Buffer): boolean {
  const size = message.length;
  if (size < kHead + kTail || message.readUInt32LE(4) !== size) return false;
  const sequence = message.readUInt32LE(0);
  if (message.readUInt32LE(size - kTail) !== closing(sequence, size)) return false;
  if (sequence % kBodyCheckInterval !== 0) return true;
  const at = bodyAt(sequence);
  const bodyLength = size - kHead - kTail;
  return message.compare(pattern, at, at + bodyLength, kHead, size - kTail) === 0;
}

function readCpu(list: string): Record<string, number> {
  const seconds: Record<string, number> = {};
  for (const entry of list.split(',').filter((one) => one !== '')) {
    const [name = '', pid = ''] = entry.split('=');
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    seconds[name] = (Number(fields[11]) + Number(fields[12])) / kTicksPerSecond;
  }
  return seconds;
}

const say = (line: object): void => {
  process.stdout.write(`${JSON.stringify(line)}\n`);
};

interface Settings {
  address: string;
  topic: string;
  size: number;
  batch: number;
  warmupMs: number;
  measureMs: number;
  cpu: string;
}

async function publish(settings: Settings): Promise<void> {
  const client = new OutriggerClient({ address: settings.address });
  const publisher = client.publisher(settings.topic, {
    backPressure: 'wait',
    waitTimeoutMs: 30_000,
    exclusive: true,
    ...(settings.batch > 0 ? { maxBatchMessages: settings.batch } : {}),
  });
  const stop = new AbortController();
  process.on('SIGTERM', () => stop.abort());
  await publisher.ready();
  say({ event: 'ready' });
  await new Promise((resolve) => process.stdin.once('data', resolve)); // the subscriber is there
  await publisher.whenConnected();
  const message = Buffer.alloc(settings.size);
  let sent = 0;
  while (!stop.signal.aborted) {
    let room = true;
    for (let i = 0; i < kBurst && room; ++i) {
      fill(message, sent++);
      room = publisher.send(message); // copies
    }
    await (room ? new Promise((resolve) => setImmediate(resolve)) : publisher.drained());
  }
  await client.close();
  const { accepted, refused, dropped, unknown } = publisher.stats;
  say({ sent, accepted, refused, dropped, unknown });
}

async function subscribe(settings: Settings): Promise<void> {
  const client = new OutriggerClient({ address: settings.address });
  const subscription = client.subscribe(settings.topic, { windowMessages: 1 << 20, windowBytes: 64 << 20 });
  let gaps = 0;
  subscription.on('event', (event) => {
    if (event.kind === 'gap') ++gaps;
  });
  await subscription.ready();
  say({ event: 'ready' });
  let expected = 0;
  let messages = 0;
  let bytes = 0;
  let lost = 0;
  let outOfOrder = 0;
  let corrupt = 0;
  let first = 0;
  let begin = 0;
  let before = { messages: 0, bytes: 0, cpu: {} as Record<string, number> };
  for await (const batch of subscription.batches()) {
    for (const message of batch.messages) {
      if (!matches(message)) {
        ++corrupt;
        continue;
      }
      const sequence = message.readUInt32LE(0);
      if (sequence < expected) {
        ++outOfOrder;
        continue;
      }
      lost += sequence - expected;
      expected = sequence + 1;
      ++messages;
      bytes += message.length;
    }
    const now = performance.now();
    if (first === 0) first = now;
    else if (begin === 0) {
      if (now - first < settings.warmupMs) continue;
      before = { messages, bytes, cpu: readCpu(settings.cpu) };
      begin = performance.now();
    } else if (now - begin >= settings.measureMs) {
      const after = readCpu(settings.cpu);
      const cpuSeconds = Object.fromEntries(
        Object.entries(after).map(([name, value]) => [name, value - (before.cpu[name] ?? 0)]),
      );
      say({
        messages: messages - before.messages,
        bytes: bytes - before.bytes,
        seconds: (now - begin) / 1000,
        lost: lost + gaps,
        outOfOrder,
        corrupt,
        total: messages,
        cpuSeconds,
      });
      break;
    }
  }
  await client.close();
}

function settingsFrom(argv: string[]): Settings {
  const value = (key: string, fallback: string): string => {
    const at = argv.indexOf(`--${key}`);
    return at < 0 ? fallback : (argv[at + 1] ?? fallback);
  };
  return {
    address: value('address', ''),
    topic: value('topic', 'bench'),
    size: Number(value('size', '288')),
    batch: Number(value('batch', '0')),
    warmupMs: Number(value('warmup-ms', '1000')),
    measureMs: Number(value('measure-ms', '2000')),
    cpu: value('cpu', ''),
  };
}

const role = process.argv[2];
const settings = settingsFrom(process.argv.slice(3));
(role === 'pub' ? publish(settings) : subscribe(settings)).then(
  () => process.exit(0),
  (error: unknown) => {
    process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
    process.exit(2);
  },
);
