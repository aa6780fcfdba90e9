// SPDX-License-Identifier: Apache-2.0
// jest's environment for Node, with a way to @kubernetes/client-node: a package of ES modules, which the `require` that tests have can't load.
// undici comes by the same way: it tells errors by their class, and each side has classes of its own.
const { TestEnvironment } = require('jest-environment-node');

module.exports = class extends TestEnvironment {
  constructor(config, context) {
    super(config, context);
    // When they are asked for, since it takes a second; once for all tests of a worker.
    this.global.requireOutside = {
      clientNode: () => require('@kubernetes/client-node'),
      undici: () => require('undici'),
    };
  }
};
