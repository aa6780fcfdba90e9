// SPDX-License-Identifier: Apache-2.0
// Keeps bulk traffic from starting full garbage collections. Messages are Buffers: hardly any JavaScript heap, a lot of memory outside of it. So the young
// generation fills slowly, what it holds outside counts towards the limit of the old one, and V8 marks the whole heap several times a second: half of
// a busy sidecar's time, measured. A young collection (a millisecond or less, as hardly anything in it lives) frees the same Buffers.
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

type Collect = (options: { type: 'minor' }) => void;

/** Buffers that pass between two young collections, bytes. Far below the some tens of MB at which V8 begins to mark a small heap. */
export const kYoungCollectionBytes = 8 * 1024 * 1024;
/** How far the old generation and what it holds outside may grow over what lived after the last full collection, per cent. V8 takes about 50
 * for a small heap, which is 8 MB for ours of 16. */
const kOldGrowthPercent = 700;

let collect: Collect | undefined;
let passed = 0;

function collector(): Collect {
  // Set at run time rather than at start, so that it works however the process was started.
  setFlagsFromString(`--heap-growing-percent=${kOldGrowthPercent}`);
  setFlagsFromString('--expose-gc');
  return runInNewContext('gc') as Collect;
}

/** To be told of the bytes of every Buffer that was made and will be dropped soon. */
export function buffersPassed(bytes: number): void {
  passed += bytes;
  if (passed < kYoungCollectionBytes) {
    return;
  }
  passed = 0;
  collect ??= collector();
  collect({ type: 'minor' });
}
