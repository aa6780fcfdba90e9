// SPDX-License-Identifier: Apache-2.0
// What a driver says of its backend: the label of its counter, and the note in its directory.
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { CounterSnapshot } from '../native/types';
import { backendOf, readBackendNote, watchBackend, type BackendNote } from './backend';

function counter(typeId: number, label: string): CounterSnapshot {
  return { id: 1, typeId, value: 1n, registrationId: 0n, ownerId: 0n, label, key: Buffer.alloc(112) };
}

const kNote: BackendNote = {
  backend: 'mmsg',
  sinceMs: 1,
  pid: 4711,
  facts: { mode: 'kernel' },
  reason: '',
  notBetter: [{ name: 'xdp', reason: 'lost: program detached' }],
  changes: [],
  threads: { mode: 'shared' },
  settings: { OUTRIGGER_BACKENDS: 'xdp,mmsg' },
};

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'outrigger-backend-test-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** As the driver does it. */
function write(note: BackendNote): void {
  writeFileSync(join(folder, 'backend.json.new'), JSON.stringify(note));
  renameSync(join(folder, 'backend.json.new'), join(folder, 'backend.json'));
}

describe("a driver's label of its backend", () => {
  it('gives name, mode, interface and why none is better', () => {
    expect(
      backendOf([
        counter(0, 'Bytes sent backend=wrong'),
        counter(
          40_001,
          'outrigger: backend=xdp mode="native copy" interface="eth0" impair=loss=0.1 not better because: dpdk: not built; x',
        ),
      ]),
    ).toEqual({ name: 'xdp', mode: 'native copy', interface: 'eth0', reason: 'dpdk: not built; x' });
  });

  it('gives empty texts for a driver that has none', () => {
    expect(backendOf([counter(0, 'Bytes sent')])).toEqual({ name: '', mode: '', interface: '', reason: '' });
    expect(backendOf([counter(40_001, 'outrigger: backend=socket')])).toMatchObject({
      name: 'socket',
      mode: '',
    });
  });
});

describe("a driver's note of its backend", () => {
  it('is read when there is one, and refused by name when it is none', () => {
    expect(readBackendNote(folder)).toBeUndefined();
    write(kNote);
    expect(readBackendNote(folder)).toEqual(kNote);
    writeFileSync(join(folder, 'backend.json'), '{"backend":1}');
    expect(() => readBackendNote(folder)).toThrow(join(folder, 'backend.json'));
  });

  it('tells each change once, and none of before', async () => {
    const change = (atMs: number) => ({ atMs, from: 'xdp', to: 'mmsg', reason: `the ${atMs}th` });
    write({ ...kNote, changes: [change(1)] });
    const seen: string[] = [];
    let told: () => void = () => undefined;
    const watching = watchBackend(folder, ({ reason }) => {
      seen.push(reason);
      told();
    });
    const next = new Promise<void>((resolve) => (told = resolve));
    write({ ...kNote, changes: [change(1), change(2)] });
    await next;
    const last = new Promise<void>((resolve) => (told = resolve));
    write({ ...kNote, changes: [change(1), change(2), change(3)] });
    await last;
    watching.close();
    expect(seen).toEqual(['the 2th', 'the 3th']);
  });

  it('of a directory that is not there is not watched', () => {
    watchBackend(join(folder, 'none'), () => undefined).close();
  });
});
