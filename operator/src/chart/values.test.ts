// SPDX-License-Identifier: Apache-2.0
// The chart's own values fit its schema and the product's defaults; what would change nothing silently is refused.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { defaultProfileSpec } from '../api/sidecar_profile';
import { valuesSchema } from './values';

type Values = Record<string, Record<string, unknown>>;

const kValues = parse(
  readFileSync(join(__dirname, '../../../charts/outrigger/values.yaml'), 'utf8'),
) as Values;

function changed(part: string, change: object): unknown {
  return { ...kValues, [part]: { ...kValues[part], ...change } };
}

describe('the values of the chart', () => {
  it('fit their own schema', () => {
    expect(valuesSchema.safeParse(kValues).error?.issues ?? []).toEqual([]);
  });

  it('open the ports that a profile uses unless it says otherwise', () => {
    expect(kValues['udpPorts']).toEqual(defaultProfileSpec().udpPorts);
    expect(kValues['metricsPort']).toBe(defaultProfileSpec().metricsPort);
  });

  it.each([
    ['an unknown key', { ...kValues, replicas: 2 }],
    ['an unknown key inside', changed('operator', { replica: 2 })],
    ['no replica', changed('directory', { replicas: 0 })],
    ['an unknown log level', changed('operator', { logLevel: 'loud' })],
    ['a request every two seconds', changed('operator', { requestsPerSecond: 0.5 })],
    ['a stop in hours, which the chart does not add up', changed('directory', { stopTimeout: '1h' })],
    ['a lease without its other times', changed('operator', { leaderElection: { leaseDuration: '15s' } })],
    ['an election where nobody leads', changed('directory', { leaderElection: {} })],
    ['a family that is none', changed('injection', { ipFamily: 'both' })],
    ['a pull policy in the wrong case', changed('image', { pullPolicy: 'always' })],
    ['a tag with a blank', changed('image', { tag: 'a b' })],
    ['a port beyond the last', changed('udpPorts', { last: 70_000 })],
    ['a port for metrics that is none', { ...kValues, metricsPort: 0 }],
    ['a namespace that is none', changed('networkPolicy', { namespaces: ['Shop!'] })],
    ['an interface of two words', changed('nicd', { interface: 'eth1 eth2' })],
    ['nobody who may ask nicd', changed('nicd', { allowUids: [] })],
    ['an interval without a unit', changed('monitoring', { interval: '30' })],
    ['a life of days', changed('certificates', { authorityLife: '30d' })],
    ['a CA of less than a week', changed('certificates', { authorityLife: '167h' })],
    ['a CA of more than ten years', changed('certificates', { authorityLife: '87601h' })],
    ['a certificate of less than a day', changed('certificates', { servingLife: '23h' })],
    ['a CA that is served in less than a second', changed('certificates', { settle: '0s' })],
    ['a CA that waits for more than a day', changed('certificates', { settle: '1441m' })],
    ["a lease in hours, which nicd's flag does not know", changed('nicd', { lease: '1h' })],
    ['a lease below 100 ms', changed('nicd', { lease: '99ms' })],
    ['a lease above an hour', changed('nicd', { lease: '61m' })],
    ['claims in a folder that is no path', changed('nicd', { claims: 'claims' })],
    ['runbooks that are no address', changed('monitoring', { runbookUrl: 'docs' })],
  ])('refuse %s', (_, values) => {
    expect(valuesSchema.safeParse(values).success).toBe(false);
  });

  it.each([
    [
      'the shortest lives',
      changed('certificates', { authorityLife: '168h', servingLife: '24h', settle: '1s' }),
    ],
    [
      'the longest',
      changed('certificates', { authorityLife: '87600h', servingLife: '87600h', settle: '24h' }),
    ],
    ['the shortest lease', changed('nicd', { lease: '100ms' })],
    ['the longest', changed('nicd', { lease: '60m' })],
    ['a folder of claims', changed('nicd', { claims: '/run/outrigger-nicd/claims' })],
  ])('take %s', (_, values) => {
    expect(valuesSchema.safeParse(values).error?.issues ?? []).toEqual([]);
  });
});
