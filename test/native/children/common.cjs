// SPDX-License-Identifier: Apache-2.0
// What the child processes and workers of the addon's tests share. Plain JavaScript: they run without jest. The facade is handed to them compiled.
'use strict';

/** PublishRequest{batch{sequence, messages}} by hand, messages of one length below 16384. */
function batchOf(sequence, count, length) {
  const message = Buffer.alloc(length, sequence & 0x7f);
  const header =
    length < 128 ? Buffer.from([0x12, length]) : Buffer.from([0x12, (length & 0x7f) | 0x80, length >> 7]);
  const body = Buffer.concat([
    Buffer.from([0x08, sequence & 0x7f]),
    ...Array.from({ length: count }, () => [header, message]).flat(),
  ]);
  const prefix = [0x12];
  let rest = body.length;
  while (rest > 127) {
    prefix.push((rest & 0x7f) | 0x80);
    rest >>= 7;
  }
  return Buffer.concat([Buffer.from([...prefix, rest]), body]);
}

async function until(what, condition, timeoutMs = 20_000) {
  const deadline = performance.now() + timeoutMs;
  while (!condition()) {
    if (performance.now() > deadline) {
      throw new Error(`waited ${timeoutMs} ms for: ${what}`);
    }
    await new Promise((done) => setTimeout(done, 2));
  }
}

const kSubscription = { slowPolicy: 'BLOCK', disconnectAfterMs: 1000, maxBatchBytes: 65_536 };

module.exports = { batchOf, until, kSubscription };
