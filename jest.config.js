// SPDX-License-Identifier: Apache-2.0
// Four projects: `unit` stands beside the code, `e2e` under test/ needs the build, `dockerfile` an engine's images, `cluster` a Kubernetes cluster around it.
// jest's own `require` knows no ES modules: client-node comes by way of the environment.
const common = {
  testEnvironment: '<rootDir>/test/support/jest_environment.cjs',
  cacheDirectory: '<rootDir>/build/jest-cache',
  transform: { '^.+\\.ts$': ['ts-jest', { tsconfig: 'tsconfig.json', diagnostics: false }] },
  modulePathIgnorePatterns: ['<rootDir>/build/'],
  moduleNameMapper: {
    '^@kubernetes/client-node$': '<rootDir>/test/support/client_node.cjs',
    '^undici$': '<rootDir>/test/support/undici.cjs',
  },
};
module.exports = {
  projects: [
    {
      ...common,
      displayName: 'unit',
      testMatch: ['<rootDir>/sidecar/**/*.test.ts', '<rootDir>/clients/**/*.test.ts', '<rootDir>/operator/**/*.test.ts'],
    },
    {
      ...common,
      displayName: 'e2e',
      testMatch: ['<rootDir>/test/**/*.test.ts'],
      testPathIgnorePatterns: ['/node_modules/', '<rootDir>/test/cluster/', '<rootDir>/test/image/engine/'],
    },
    // Of images that a container engine made: scripts/test dockerfile.
    { ...common, displayName: 'dockerfile', testMatch: ['<rootDir>/test/image/engine/*.test.ts'] },
    // Inside test/cluster/run only: a real cluster is there.
    { ...common, displayName: 'cluster', testMatch: ['<rootDir>/test/cluster/**/*.test.ts'] },
  ],
};
