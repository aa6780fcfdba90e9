// SPDX-License-Identifier: Apache-2.0
// A message that can be checked: sequence number, intended send time, checksum over all of it. Little endian:
// u32 checksum of what follows, u32 magic, f64 sequence, f64 intended time (ns of CLOCK_MONOTONIC, which all processes of a host share).
import { crc32 } from 'node:zlib';

export const kStampBytes = 24;
const kMagic = 0x4f525247;

/** Nanoseconds of CLOCK_MONOTONIC; exact in a double for a hundred days of uptime. */
export function monotonicNs(): number {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1e9 + nanoseconds;
}

/** A payload of the size, to be stamped again and again. */
export function blankPayload(sizeBytes: number): Buffer {
  const payload = Buffer.alloc(sizeBytes);
  for (let i = kStampBytes; i < sizeBytes; i++) {
    payload[i] = (i * 31) & 255;
  }
  payload.writeUInt32LE(kMagic, 4);
  return payload;
}

export function stamp(payload: Buffer, sequence: number, intendedNs: number): void {
  payload.writeDoubleLE(sequence, 8);
  payload.writeDoubleLE(intendedNs, 16);
  payload.writeUInt32LE(crc32(payload.subarray(4)), 0);
}

/** False: not what was sent. */
export function isIntact(payload: Buffer): boolean {
  return (
    payload.length >= kStampBytes &&
    payload.readUInt32LE(4) === kMagic &&
    payload.readUInt32LE(0) === crc32(payload.subarray(4))
  );
}

export function sequenceOf(payload: Buffer): number {
  return payload.readDoubleLE(8);
}

export function intendedNsOf(payload: Buffer): number {
  return payload.readDoubleLE(16);
}
