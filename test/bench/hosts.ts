// SPDX-License-Identifier: Apache-2.0
// The two hosts of a measurement: network namespaces with a veth pair between them, and what is changed on the way: MTU, segmentation offload,
// loss on the receiving interface, socket buffer limits. Everything is removed or put back by close().
import { readFileSync, writeFileSync } from 'node:fs';
import { run, tryRun } from './shell';

export interface Host {
  namespace: string;
  interface: string;
  address: string;
}

const SOCKET_LIMITS = ['/proc/sys/net/core/rmem_max', '/proc/sys/net/core/wmem_max'];
const SOCKET_LIMIT_BYTES = 4 * 1024 * 1024;

export class Hosts {
  private readonly restore = new Map<string, string>();
  private lossAttached = false;

  private constructor(
    readonly a: Host,
    readonly b: Host,
  ) {}

  static open(tag: string, mtu: number): Hosts {
    const hosts = new Hosts(
      { namespace: `og${tag}a`, interface: `og${tag}a`, address: '10.117.0.1' },
      { namespace: `og${tag}b`, interface: `og${tag}b`, address: '10.117.0.2' },
    );
    try {
      run('ip', 'netns', 'add', hosts.a.namespace);
      run('ip', 'netns', 'add', hosts.b.namespace);
      run(
        'ip',
        'link',
        'add',
        hosts.a.interface,
        'netns',
        hosts.a.namespace,
        'type',
        'veth',
        'peer',
        'name',
        hosts.b.interface,
        'netns',
        hosts.b.namespace,
      );
      for (const host of [hosts.a, hosts.b]) {
        run('ip', '-n', host.namespace, 'addr', 'add', `${host.address}/24`, 'dev', host.interface);
        run('ip', '-n', host.namespace, 'link', 'set', 'lo', 'up');
        run('ip', '-n', host.namespace, 'link', 'set', host.interface, 'mtu', String(mtu), 'up');
      }
      hosts.raiseSocketLimits();
    } catch (error) {
      hosts.close();
      throw error;
    }
    return hosts;
  }

  // Both contenders ask for 2 MiB socket buffers, which the kernel's usual limit of 208 KiB would cut.
  private raiseSocketLimits(): void {
    for (const file of SOCKET_LIMITS) {
      const before = readFileSync(file, 'utf8').trim();
      if (Number(before) >= SOCKET_LIMIT_BYTES) continue;
      writeFileSync(file, String(SOCKET_LIMIT_BYTES));
      this.restore.set(file, before);
    }
  }

  setMtu(mtu: number): void {
    for (const host of [this.a, this.b])
      run('ip', '-n', host.namespace, 'link', 'set', host.interface, 'mtu', String(mtu));
  }

  // Off: the kernel cuts a train into datagrams before the interface, as for a NIC that can't.
  setSegmentation(on: boolean): void {
    for (const host of [this.a, this.b]) {
      run(
        'ip',
        'netns',
        'exec',
        host.namespace,
        'ethtool',
        '-K',
        host.interface,
        'tx-udp-segmentation',
        on ? 'on' : 'off',
      );
    }
  }

  // Drops percent of the UDP datagrams that arrive at host B, for every contender alike. 0: the program is attached and drops nothing.
  attachLoss(object: string): void {
    run(
      'ip',
      'netns',
      'exec',
      this.b.namespace,
      'ip',
      'link',
      'set',
      'dev',
      this.b.interface,
      'xdpdrv',
      'obj',
      object,
      'sec',
      'xdp',
    );
    this.lossAttached = true;
    this.setLoss(0);
  }
  setLoss(percent: number): void {
    const threshold = percent >= 100 ? 0xffffffff : Math.round((percent / 100) * 2 ** 32);
    const value = Buffer.alloc(12);
    value.writeUInt32LE(threshold, 0);
    value.writeUInt16LE(percent > 0 ? 1 : 0, 4);
    value.writeUInt16LE(percent > 0 ? 65535 : 0, 6);
    run(
      'bpftool',
      'map',
      'update',
      'id',
      String(this.lossMap('loss_config')),
      'key',
      '0',
      '0',
      '0',
      '0',
      'value',
      ...[...value].map(String),
    );
  }
  // Datagrams dropped and kept so far.
  lossCounters(): { dropped: number; kept: number } {
    const entries = JSON.parse(
      run('bpftool', '-j', 'map', 'dump', 'id', String(this.lossMap('loss_counters'))),
    ) as { formatted?: { key: number; values: { value: number }[] } }[];
    const sum = (key: number): number =>
      (entries[key]?.formatted?.values ?? []).reduce((total, cpu) => total + cpu.value, 0);
    return { dropped: sum(0), kept: sum(1) };
  }
  detachLoss(): void {
    if (!this.lossAttached) return;
    run(
      'ip',
      'netns',
      'exec',
      this.b.namespace,
      'ip',
      'link',
      'set',
      'dev',
      this.b.interface,
      'xdpdrv',
      'off',
    );
    this.lossAttached = false;
  }
  private lossMap(name: string): number {
    const link = JSON.parse(
      run('ip', '-n', this.b.namespace, '-j', '-d', 'link', 'show', 'dev', this.b.interface),
    ) as { xdp?: { prog?: { id: number } } }[];
    const program = link[0]?.xdp?.prog?.id;
    if (program === undefined) throw new Error(`no XDP program on ${this.b.interface}`);
    const { map_ids: maps } = JSON.parse(run('bpftool', '-j', 'prog', 'show', 'id', String(program))) as {
      map_ids: number[];
    };
    for (const id of maps) {
      const map = JSON.parse(run('bpftool', '-j', 'map', 'show', 'id', String(id))) as { name?: string };
      if (map.name === name) return id;
    }
    throw new Error(`XDP program ${program} has no map ${name}`);
  }

  close(): void {
    tryRun('ip', 'netns', 'del', this.a.namespace);
    tryRun('ip', 'netns', 'del', this.b.namespace);
    for (const [file, value] of this.restore) writeFileSync(file, value);
    this.restore.clear();
  }
}
