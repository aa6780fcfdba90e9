// SPDX-License-Identifier: Apache-2.0
// Counting the blocks of a capture while they pass, however they are cut.
import { BlockCounter } from './capture';

function block(type: number, body: Buffer): Buffer {
  const length = body.length + 12;
  const bytes = Buffer.alloc(length);
  bytes.writeUInt32LE(type, 0);
  bytes.writeUInt32LE(length, 4);
  body.copy(bytes, 8);
  bytes.writeUInt32LE(length, length - 4);
  return bytes;
}

/** Statistics of an interface: received (option 4) and dropped (option 5). */
function statistics(dropped: bigint): Buffer {
  const body = Buffer.alloc(12 + 12 + 12 + 4);
  body.writeUInt16LE(4, 12);
  body.writeUInt16LE(8, 14);
  body.writeBigUInt64LE(99n, 16);
  body.writeUInt16LE(5, 24);
  body.writeUInt16LE(8, 26);
  body.writeBigUInt64LE(dropped, 28);
  return block(5, body);
}

describe('the counter of blocks', () => {
  const file = Buffer.concat([
    block(0x0a0d0d0a, Buffer.alloc(16)),
    block(1, Buffer.alloc(8)),
    block(6, Buffer.alloc(120)),
    block(6, Buffer.alloc(24)),
    statistics(7n),
    statistics(3n),
    block(6, Buffer.alloc(20)),
  ]);

  it.each([1, 3, 16, 1000])('finds packets and drops in pieces of %i bytes', (size) => {
    const counter = new BlockCounter();
    for (let at = 0; at < file.length; at += size) {
      counter.add(file.subarray(at, at + size));
    }
    expect(counter).toMatchObject({ packets: 3, dropped: 10 });
  });
});
