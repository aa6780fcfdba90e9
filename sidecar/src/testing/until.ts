// SPDX-License-Identifier: Apache-2.0
// Awaiting what comes about by itself, in unit tests: bounded, and with a name when it never does.

/** Resolves when the condition holds; rejects with `what` when it does not within `timeoutMs`. */
export async function until(what: string, condition: () => boolean, timeoutMs = 20_000): Promise<void> {
  for (const deadline = performance.now() + timeoutMs; !condition();) {
    if (performance.now() > deadline) {
      throw new Error(`waited ${timeoutMs} ms for: ${what}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
