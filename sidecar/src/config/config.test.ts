// SPDX-License-Identifier: Apache-2.0
// What a person gets to see for right and for wrong settings.
import { renderConfigHelp, renderConfigTable } from './docs';
import { ConfigError, loadConfig } from './load';
import { configSchema, kConfigKeys } from './schema';
import { formatDuration, formatSize, parseDuration, parseSize } from './units';

function problemsOf(sources: Parameters<typeof loadConfig>[0]): readonly string[] {
  try {
    loadConfig(sources);
  } catch (error) {
    if (error instanceof ConfigError) {
      return error.problems;
    }
    throw error;
  }
  return [];
}

const file = (text: string) => ({ argv: ['--config', '/c.yaml'], readFile: () => text });

describe('configuration', () => {
  it('has a default for every key', () => {
    const config = loadConfig();
    expect(config.grpcSocketMode).toBe(0o660);
    expect(config.termLength).toBe(2 * 1024 * 1024);
    expect(Object.keys(config).sort()).toEqual([...kConfigKeys].sort());
  });

  it('takes flags over the environment over the file', () => {
    const sources = {
      argv: ['--config=/c.yaml', '--log-level', 'error'],
      env: { OUTRIGGER_LOG_LEVEL: 'warn', OUTRIGGER_DRAIN_TIMEOUT: '7s' },
      readFile: () => 'logLevel: debug\ndrainTimeout: 1s\nflushTimeout: 250ms\nendpoints: [10.0.0.1:40123]\n',
    };
    expect(loadConfig(sources)).toMatchObject({
      logLevel: 'error',
      drainTimeout: 7000,
      flushTimeout: 250,
      endpoints: ['10.0.0.1:40123'],
    });
  });

  it('reads JSON as well as YAML', () => {
    expect(loadConfig(file('{"maxBatchBytes": "64KiB", "allowChannels": true}'))).toMatchObject({
      maxBatchBytes: 65536,
      allowChannels: true,
    });
  });

  it('takes AERON_DIR unless its own key is set', () => {
    expect(loadConfig({ env: { AERON_DIR: '/dev/shm/a' } }).driverDirectory).toBe('/dev/shm/a');
    expect(
      loadConfig({ env: { AERON_DIR: '/dev/shm/a', OUTRIGGER_DRIVER_DIRECTORY: '/dev/shm/b' } })
        .driverDirectory,
    ).toBe('/dev/shm/b');
  });

  it('names key, value and what is allowed for a bad value, in each source', () => {
    expect(problemsOf(file('termLength: 3MiB'))).toEqual([
      'termLength in /c.yaml: "3MiB" is not such a size; allowed: a power of two, 64KiB to 1GiB',
    ]);
    expect(problemsOf({ env: { OUTRIGGER_DRAIN_TIMEOUT: 'soon' } })).toEqual([
      'OUTRIGGER_DRAIN_TIMEOUT in the environment: "soon" is not such a duration, a number with ms, s, m or h; allowed: 0ms to 1h',
    ]);
    expect(problemsOf({ argv: ['--log-level', 'loud'] })).toEqual([
      'flag --log-level: "loud" is not one of the choices; allowed: trace, debug, info, warn, error, fatal, silent',
    ]);
  });

  it('names the nearest known key for a typo, in each source', () => {
    expect(problemsOf(file('drainTimeuot: 5s'))).toEqual([
      'drainTimeuot in /c.yaml: unknown; did you mean drainTimeout?',
    ]);
    expect(problemsOf({ env: { OUTRIGGER_TOPIC_FILE: '/t' } })).toEqual([
      'OUTRIGGER_TOPIC_FILE in the environment: unknown; did you mean OUTRIGGER_TOPICS_FILE?',
    ]);
    expect(problemsOf({ argv: ['--grpc-sokcet=/s'] })).toEqual([
      'flag --grpc-sokcet: unknown; did you mean --grpc-socket?',
    ]);
  });

  it('reports every problem at once', () => {
    expect(
      problemsOf({ argv: ['--max-streams', '0', '--nope=1', 'stray'], env: { OUTRIGGER_LOG_LEVEL: 'x' } }),
    ).toHaveLength(4);
  });

  it('leaves names of the driver alone', () => {
    expect(
      problemsOf({
        env: { OUTRIGGER_BACKENDS: 'xdp,mmsg', OUTRIGGER_INTERFACE: 'eth0', OUTRIGGER_DRIVER_CORES: '2' },
      }),
    ).toEqual([]);
  });

  it('refuses a remote gRPC address unless it is allowed', () => {
    expect(problemsOf({ argv: ['--grpc-listen', '0.0.0.0:50051'] })[0]).toContain(
      'grpcAllowRemote: true (--grpc-allow-remote)',
    );
    expect(problemsOf({ argv: ['--grpc-socket='] })).toEqual([
      'flag --grpc-socket: empty, and grpcListen too; allowed: at least one of them set (--grpc-socket, --grpc-listen), or nobody can reach the sidecar',
    ]);
    expect(
      loadConfig({ argv: ['--grpc-listen', '0.0.0.0:50051', '--grpc-allow-remote'] }).grpcAllowRemote,
    ).toBe(true);
    expect(loadConfig({ argv: ['--grpc-listen=[::1]:50051'] }).grpcListen).toBe('[::1]:50051');
  });

  it('says what is wrong with a file that is no map or no YAML or absent', () => {
    expect(problemsOf(file('- a'))[0]).toContain('must be a map');
    expect(problemsOf(file('a: [1'))[0]).toContain('/c.yaml');
    expect(problemsOf({ argv: ['--config', '/nonexistent/c.yaml'] })[0]).toContain('ENOENT');
  });

  it('says that a flag lacks its value', () => {
    expect(problemsOf({ argv: ['--log-level'] })[0]).toContain('--log-level <value>');
    expect(problemsOf({ argv: ['--drain-timeout'] })[0]).toContain('allowed: 0ms to 1h');
  });

  it('documents every key in help and table', () => {
    for (const key of kConfigKeys) {
      expect(configSchema.shape[key].meta()).toMatchObject({
        meaning: expect.stringMatching(/\.$/),
        allowed: expect.any(String),
      });
      expect(renderConfigTable()).toContain(`\`${key}\``);
    }
    expect(renderConfigHelp()).toContain(
      '--drain-timeout <duration>   file: drainTimeout   env: OUTRIGGER_DRAIN_TIMEOUT',
    );
  });
});

describe('units', () => {
  it('reads sizes and durations and writes them back', () => {
    expect([
      parseSize('64KiB'),
      parseSize('1.5MiB'),
      parseSize('4k'),
      parseSize(12),
      parseSize('1KB'),
    ]).toEqual([65536, 1572864, 4096, 12, 1000]);
    expect([parseDuration('5s'), parseDuration('250'), parseDuration('2m'), parseDuration('0.5h')]).toEqual([
      5000, 250, 120000, 1800000,
    ]);
    expect([formatSize(65536), formatSize(1000), formatDuration(1500), formatDuration(60000)]).toEqual([
      '64KiB',
      '1000',
      '1500ms',
      '1m',
    ]);
  });

  it('refuses what is neither', () => {
    expect([parseSize('-1'), parseSize('1XiB'), parseSize(1.5), parseSize(null), parseSize('0.3')]).toEqual(
      Array(5).fill(undefined),
    );
    expect([parseDuration('5 parsecs'), parseDuration(-1), parseDuration(true)]).toEqual(
      Array(3).fill(undefined),
    );
  });
});
