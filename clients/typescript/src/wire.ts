// SPDX-License-Identifier: Apache-2.0
// Protobuf's wire format, as far as the API needs it: varints and length-delimited fields over a Buffer. No messages here.

/** Bytes that the varint of a number below 2^53 takes. */
export function varintLength(value: number): number {
  let length = 1;
  for (let rest = value; rest > 127; rest = Math.floor(rest / 128)) {
    length++;
  }
  return length;
}

/** Writes the varint of a number below 2^53; returns the position after it. */
export function writeVarint(target: Buffer, at: number, value: number): number {
  let position = at;
  let rest = value;
  while (rest > 0x7fffffff) {
    target[position++] = (rest & 127) | 128;
    rest = Math.floor(rest / 128);
  }
  while (rest > 127) {
    target[position++] = (rest & 127) | 128;
    rest >>>= 7;
  }
  target[position++] = rest;
  return position;
}

/** Grows as needed; for small messages only. */
export class ByteWriter {
  private readonly parts: Buffer[] = [];

  varint(field: number, value: number | bigint): this {
    const bytes: number[] = [];
    let rest = BigInt.asUintN(64, BigInt(value)); // int32 and int64 below 0 are ten bytes, as the format wants it
    while (rest > 127n) {
      bytes.push(Number(rest & 127n) | 128);
      rest >>= 7n;
    }
    bytes.push(Number(rest));
    this.parts.push(Buffer.from([field << 3, ...bytes]));
    return this;
  }

  bytes(field: number, body: Uint8Array): this {
    const head = Buffer.alloc(11);
    head[0] = (field << 3) | 2;
    this.parts.push(head.subarray(0, writeVarint(head, 1, body.length)), Buffer.from(body));
    return this;
  }

  text(field: number, value: string): this {
    return this.bytes(field, Buffer.from(value, 'utf8'));
  }

  finish(): Buffer {
    return Buffer.concat(this.parts);
  }
}

/** Reads forward; throws RangeError on bytes that are no protobuf. */
export class ByteReader {
  position = 0;

  constructor(
    private readonly buffer: Buffer,
    private readonly end = buffer.length,
  ) {}

  get done(): boolean {
    return this.position >= this.end;
  }

  /** A varint as a number; what is above 2^53 loses its low bits. */
  uint(): number {
    let value = 0;
    let scale = 1;
    for (let i = 0; i < 10; i++) {
      const byte = this.byte();
      value += (byte & 127) * scale;
      if (byte < 128) {
        return value;
      }
      scale *= 128;
    }
    throw new RangeError('a varint is longer than ten bytes');
  }

  int64(): bigint {
    const start = this.position;
    const small = this.uint();
    if (small <= Number.MAX_SAFE_INTEGER) {
      return BigInt(small);
    }
    this.position = start;
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = this.byte();
      value |= BigInt(byte & 127) << shift;
      if (byte < 128) {
        return BigInt.asIntN(64, value);
      }
    }
  }

  int32(): number {
    let value = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      const byte = this.byte();
      if (shift < 32) {
        value |= (byte & 127) << shift;
      }
      if (byte < 128) {
        return value;
      }
    }
    throw new RangeError('a varint is longer than ten bytes');
  }

  /** A view into the buffer, not a copy. */
  bytes(): Buffer {
    const length = this.uint();
    const start = this.position;
    if (length > this.end - start) {
      throw new RangeError(`a field of ${length} bytes stands ${this.end - start} bytes before the end`);
    }
    this.position = start + length;
    return this.buffer.subarray(start, start + length);
  }

  text(): string {
    return this.bytes().toString('utf8');
  }

  skip(tag: number): void {
    switch (tag & 7) {
      case 0:
        this.uint();
        return;
      case 1:
        this.position += 8;
        break;
      case 2:
        this.bytes();
        return;
      case 5:
        this.position += 4;
        break;
      default:
        throw new RangeError(`wire type ${tag & 7} is none of this API`);
    }
    if (this.position > this.end) {
      throw new RangeError('the message ends inside a field');
    }
  }

  private byte(): number {
    if (this.position >= this.end) {
      throw new RangeError('the message ends inside a varint');
    }
    return this.buffer[this.position++] as number;
  }
}
