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

  it('open the UDP ports that a profile uses unless it says otherwise', () => {
    expect(kValues['udpPorts']).toEqual(defaultProfileSpec().udpPorts);
  });

  it.each([
    ['an unknown key', { ...kValues, replicas: 2 }],
    ['an unknown key inside', changed('operator', { replica: 2 })],
    ['no replica', changed('directory', { replicas: 0 })],
    ['an unknown log level', changed('operator', { logLevel: 'loud' })],
    ['a pull policy in the wrong case', changed('image', { pullPolicy: 'always' })],
    ['a tag with a blank', changed('image', { tag: 'a b' })],
    ['a port beyond the last', changed('udpPorts', { last: 70_000 })],
    ['a namespace that is none', changed('networkPolicy', { namespaces: ['Shop!'] })],
    ['an interface of two words', changed('nicd', { interface: 'eth1 eth2' })],
    ['nobody who may ask nicd', changed('nicd', { allowUids: [] })],
    ['an interval without a unit', changed('monitoring', { interval: '30' })],
    ['a life of days', changed('certificates', { authorityLife: '30d' })],
    ['runbooks that are no address', changed('monitoring', { runbookUrl: 'docs' })],
  ])('refuse %s', (_, values) => {
    expect(valuesSchema.safeParse(values).success).toBe(false);
  });
});
