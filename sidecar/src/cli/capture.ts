// SPDX-License-Identifier: Apache-2.0
// `outrigger capture`: the frames of a raw backend, which the kernel does not see, as a pcapng file. The driver writes the blocks; here they are
// asked for, counted and put into a file.
import { createWriteStream } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import type { Writable } from 'node:stream';
import { CliError, kExit, unavailable } from './exit';
import { onInterrupt } from './interrupt';
import { grouped, json, type Out } from './output';
import type { DirectoryOptions } from './tools';

export interface CaptureOptions extends DirectoryOptions {
  /** "-": standard output. */
  readonly output: string;
  readonly snaplen: number;
  readonly count?: number;
  /** Milliseconds. */
  readonly duration?: number;
}

const kPacketBlock = 6;
const kStatisticsBlock = 5;
const kDroppedOption = 5;

/** Follows the blocks of a pcapng stream of a little-endian machine: how many packets, and what was dropped. */
export class BlockCounter {
  packets = 0;
  dropped = 0;
  private rest: Buffer = Buffer.alloc(0);

  add(bytes: Buffer): void {
    let data = this.rest.length === 0 ? bytes : Buffer.concat([this.rest, bytes]);
    while (data.length >= 8) {
      const length = data.readUInt32LE(4);
      if (data.length < length) {
        break;
      }
      const type = data.readUInt32LE(0);
      if (type === kPacketBlock) {
        this.packets++;
      } else if (type === kStatisticsBlock) {
        this.dropped += this.droppedOf(data.subarray(20, length - 4));
      }
      data = data.subarray(length);
    }
    this.rest = data;
  }

  private droppedOf(options: Buffer): number {
    for (let at = 0; at + 4 <= options.length;) {
      const code = options.readUInt16LE(at);
      const length = options.readUInt16LE(at + 2);
      if (code === kDroppedOption) {
        return Number(options.readBigUInt64LE(at + 4));
      }
      at += 4 + ((length + 3) & ~3);
    }
    return 0;
  }
}

function open(directory: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ path: join(directory, 'capture.sock'), allowHalfOpen: true });
    socket.once('connect', () => resolve(socket));
    socket.once('error', (error: NodeJS.ErrnoException) =>
      reject(
        unavailable(
          error.code === 'EACCES'
            ? `${directory}: no permission to capture; run this as the driver's user or in its group`
            : `${directory}: no driver that can capture runs here (${error.message})`,
        ),
      ),
    );
  });
}

/** The line that answers, and what came behind it. */
function answerOf(socket: Socket): Promise<{ line: string; rest: Buffer }> {
  return new Promise((resolve, reject) => {
    let data: Buffer = Buffer.alloc(0);
    const done = (line: string, rest: Buffer): void => {
      socket.off('data', onData).off('end', onEnd).off('error', reject);
      resolve({ line, rest });
    };
    const onData = (bytes: Buffer): void => {
      data = Buffer.concat([data, bytes]);
      const end = data.indexOf('\n');
      if (end >= 0) {
        socket.pause();
        done(data.subarray(0, end).toString(), data.subarray(end + 1));
      }
    };
    const onEnd = (): void => done('error: the driver ended', Buffer.alloc(0));
    socket.on('data', onData).once('end', onEnd).once('error', reject);
  });
}

function target(output: string): Promise<Writable> {
  return new Promise((resolve, reject) => {
    if (output === '-') {
      resolve(process.stdout);
      return;
    }
    const file = createWriteStream(output);
    file.once('open', () => resolve(file));
    file.once('error', (error) => reject(new CliError(kExit.failed, `${output}: ${error.message}`)));
  });
}

/** Captures until Ctrl-C, the count or the time is reached, or the driver has nothing more to show. */
export async function capture(options: CaptureOptions, out: Out): Promise<number> {
  const socket = await open(options.dir);
  const interrupt = onInterrupt();
  let timer: NodeJS.Timeout | undefined;
  try {
    socket.write(`capture snaplen=${options.snaplen}\n`);
    const { line, rest } = await answerOf(socket);
    if (line !== 'ok') {
      throw new CliError(kExit.failed, line.replace(/^error: /, ''));
    }
    const to = await target(options.output);
    const counter = new BlockCounter();
    let bytes = 0;
    // The driver then writes what it still has and the statistics, and closes.
    const finish = (): void => void socket.end();
    const take = (data: Buffer): void => {
      bytes += data.length;
      counter.add(data);
      if (!to.write(data)) {
        socket.pause();
        to.once('drain', () => socket.resume());
      }
      if (options.count !== undefined && counter.packets >= options.count) {
        finish();
      }
    };
    const over = new Promise<void>((resolve, reject) => {
      socket.once('end', resolve).once('error', reject);
      to.once('error', (error) => reject(new CliError(kExit.failed, `${options.output}: ${error.message}`)));
    });
    take(rest);
    socket.on('data', take).resume();
    void interrupt.came.then(finish);
    if (options.duration !== undefined) {
      timer = setTimeout(finish, options.duration);
    }
    await over;
    finish();
    if (to !== process.stdout) {
      await new Promise<void>((resolve) => to.end(resolve));
    }
    const summary = { output: options.output, packets: counter.packets, dropped: counter.dropped, bytes };
    if (options.output === '-') {
      process.stderr.write(`${options.json === true ? json(summary) : summaryText(summary)}\n`);
    } else {
      out.line(options.json === true ? json(summary) : summaryText(summary));
    }
    return counter.dropped === 0 ? kExit.ok : kExit.failed;
  } finally {
    clearTimeout(timer);
    interrupt.stop();
    socket.destroy();
  }
}

function summaryText(summary: { output: string; packets: number; dropped: number }): string {
  const dropped =
    summary.dropped === 0
      ? 'none dropped'
      : `${grouped(summary.dropped)} dropped for want of room: a smaller --snaplen leaves more`;
  return `${grouped(summary.packets)} packets in ${summary.output}, ${dropped}`;
}
