// SPDX-License-Identifier: Apache-2.0
// The operator's settings: where they come from, and what a mistake says.
import { loadOperatorConfig, renderOperatorHelp } from './load';

const problemsOf = (argv: readonly string[], env: Record<string, string> = {}): string => {
  try {
    loadOperatorConfig(argv, env);
    return '';
  } catch (error) {
    return (error as Error).message;
  }
};

describe('the settings of the operator', () => {
  it('come from flags over environment over defaults', () => {
    const env = {
      OUTRIGGER_OPERATOR_LOG_LEVEL: 'debug',
      OUTRIGGER_OPERATOR_LEASE_NAME: 'mine',
      PATH: '/bin',
    };
    expect(loadOperatorConfig(['--log-level=warn', '--lease-duration', '30s'], env)).toMatchObject({
      logLevel: 'warn',
      leaseName: 'mine',
      leaseDuration: 30_000,
      renewDeadline: 10_000,
      leaderElection: true,
    });
  });

  it('take a switch without a value as true, and with one as that', () => {
    expect(loadOperatorConfig(['--leader-election', 'false'], {}).leaderElection).toBe(false);
    expect(loadOperatorConfig(['--leader-election', '--log-level', 'info'], {}).leaderElection).toBe(true);
  });

  it.each<[string, readonly string[], Record<string, string>, RegExp]>([
    ['an unknown flag', ['--lease-nam', 'x'], {}, /flag --lease-nam: unknown; did you mean --lease-name\?/],
    [
      'an unknown variable',
      [],
      { OUTRIGGER_OPERATOR_LOGLEVEL: 'x' },
      /OUTRIGGER_OPERATOR_LOGLEVEL in the environment: unknown; did you mean OUTRIGGER_OPERATOR_LOG_LEVEL\?/,
    ],
    ['a flag without value', ['--lease-name'], {}, /flag --lease-name: has no value/],
    ['an argument', ['start'], {}, /argument "start": not expected/],
    [
      'a value out of range',
      ['--requests-per-second', '0'],
      {},
      /flag --requests-per-second: "0" is not such a whole number; allowed: 1 to 10000/,
    ],
    [
      'times that allow two leaders',
      ['--renew-deadline', '20s'],
      {},
      /leaseDuration \(flag --lease-duration\) 15s, renewDeadline \(flag --renew-deadline\) 20s, .*: each must be longer than the next, or two replicas could lead at once/,
    ],
    [
      'a certificate that outlives its CA',
      ['--serving-life', '8761h'],
      {},
      /servingLife \(flag --serving-life\) 8761h is longer than authorityLife \(flag --authority-life\) 8760h: .*; shorten the first, 24h to 87600h, or prolong the second, 168h to 87600h/,
    ],
    [
      'a webhook that does not know what to inject',
      ['--webhook-listen', '0.0.0.0:8443'],
      {},
      /flag --webhook-listen: the webhook needs sidecarImage; set --sidecar-image or OUTRIGGER_OPERATOR_SIDECAR_IMAGE/,
    ],
  ])('refuse %s', (_, argv, env, message) => {
    expect(problemsOf(argv, env)).toMatch(message);
  });

  it('report every problem at once', () => {
    expect(problemsOf(['--log-level', 'loud', '--lease-nam'])).toMatch(/2 problems:/);
  });

  it('are all in --help', () => {
    expect(renderOperatorHelp()).toMatch(/--http-listen <host:port> {3}env: OUTRIGGER_OPERATOR_HTTP_LISTEN/);
  });
});
