// SPDX-License-Identifier: Apache-2.0
// What tests get as @kubernetes/client-node: see jest_environment.cjs.
module.exports = globalThis.requireOutside.clientNode();
