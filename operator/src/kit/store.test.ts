// SPDX-License-Identifier: Apache-2.0
// The cache: indexes, listeners, and events that come late, twice or out of order.
import type { KubeObject } from '../api';
import { Store, type Change } from './store';
import { compareVersions } from './resource_version';

interface Thing extends KubeObject {
  readonly color: string;
}

function thing(name: string, version: number, color = 'red', uid = `uid-${name}`): Thing {
  return { metadata: { namespace: 'a', name, uid, resourceVersion: String(version) }, color };
}

function storeWithLog() {
  const store = new Store<Thing, 'color'>({ color: ({ color }) => [color] });
  const log: string[] = [];
  store.onChange((change: Change<Thing>) => {
    const object = change.kind === 'deleted' ? change.before : change.after;
    log.push(`${change.kind} ${object.metadata.name} ${object.metadata.resourceVersion}`);
  });
  return { store, log };
}

describe('Store', () => {
  it('finds objects by key and by index, through changes', () => {
    const { store } = storeWithLog();
    store.replace([thing('x', 1), thing('y', 2, 'blue')], '2');
    store.observe('MODIFIED', thing('x', 3, 'blue'));
    expect(store.by('color', 'red')).toEqual([]);
    expect(store.by('color', 'blue').map(({ metadata }) => metadata.name)).toEqual(['y', 'x']);
    store.observe('DELETED', thing('y', 4, 'blue'));
    expect(store.by('color', 'blue').map(({ metadata }) => metadata.name)).toEqual(['x']);
    expect(store.get('a/y')).toBeUndefined();
  });

  it('tells only differences when a list replaces what is there', () => {
    const { store, log } = storeWithLog();
    store.replace([thing('same', 1), thing('changed', 2), thing('gone', 3)], '3');
    log.length = 0;
    store.replace([thing('same', 1), thing('changed', 5), thing('new', 6)], '6');
    expect(log).toEqual(['deleted gone 3', 'updated changed 5', 'added new 6']);
  });

  it('ignores an event that came before, so that what was deleted does not come back', () => {
    const { store, log } = storeWithLog();
    store.replace([], '1');
    store.observe('ADDED', thing('x', 2));
    store.observe('DELETED', thing('x', 3));
    expect(store.observe('ADDED', thing('x', 2))).toBe(false);
    expect(store.observe('DELETED', thing('x', 3))).toBe(false);
    expect(log).toEqual(['added x 2', 'deleted x 2']);
  });

  it('ignores events from before a bookmark', () => {
    const { store } = storeWithLog();
    store.replace([], '1');
    store.advance('9');
    expect(store.observe('ADDED', thing('x', 5))).toBe(false);
    expect(store.observe('ADDED', thing('x', 10))).toBe(true);
  });

  it('shows the old object going when a namesake takes its place', () => {
    const { store, log } = storeWithLog();
    store.replace([thing('x', 1, 'red', 'first')], '1');
    store.observe('MODIFIED', thing('x', 5, 'red', 'second')); // the events between got lost
    store.replace([thing('x', 9, 'red', 'third')], '9');
    expect(log).toEqual(['added x 1', 'deleted x 1', 'added x 5', 'deleted x 5', 'added x 9']);
  });

  it('takes what its own writer wrote, and is not taken back by the echo', () => {
    const { store, log } = storeWithLog();
    store.replace([thing('x', 1)], '1');
    store.wrote(thing('x', 3, 'blue'));
    store.observe('MODIFIED', thing('x', 2, 'green')); // another's write, between
    store.observe('MODIFIED', thing('x', 3, 'blue'));
    expect(store.get('a/x')?.color).toBe('blue');
    expect(log).toEqual(['added x 1', 'updated x 3']);
  });

  it('does not let a late answer bring back what was deleted', () => {
    const { store } = storeWithLog();
    store.replace([thing('x', 1)], '1');
    store.observe('DELETED', thing('x', 4));
    store.wrote(thing('x', 3));
    expect(store.size).toBe(0);
  });
});

describe('resource versions', () => {
  it('are ordered as numbers of any length', () => {
    expect(compareVersions('9', '10')).toBeLessThan(0);
    expect(compareVersions('123456789012345678901', '123456789012345678900')).toBeGreaterThan(0);
    expect(compareVersions('7', '7')).toBe(0);
  });

  it('have no order when they are no numbers', () => {
    expect(compareVersions('a', '1')).toBeUndefined();
    expect(compareVersions(undefined, '1')).toBeUndefined();
    expect(compareVersions('0', '1')).toBeUndefined();
  });
});
