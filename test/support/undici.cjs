// SPDX-License-Identifier: Apache-2.0
// What tests get as undici: see jest_environment.cjs.
module.exports = globalThis.requireOutside.undici();
