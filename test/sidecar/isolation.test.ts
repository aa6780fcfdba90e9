// SPDX-License-Identifier: Apache-2.0
// The edges of what driver, sidecar and apps share: three users of one group, and a memory volume that is full. Needs `make build` and root.
import { execFileSync } from 'node:child_process';
import { chmodSync, chownSync, cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { makeHosts } from '../interop/support/hosts';
import { javaPeerFolder } from '../interop/support/jar';
import { Peer } from '../interop/support/peer';
import { Collector, Node, freePort, numbered, othersReach, until } from './support';

jest.setTimeout(120_000);

const isRoot = process.getuid?.() === 0;
// Numbers that no system has accounts for; one group for all, as a pod's fsGroup.
const [kDriverUser, kSidecarUser, kAppUser, kGroup] = [64_131, 64_132, 64_133, 64_135];

function as(user: number): string[] {
  return ['setpriv', '--reuid', `${user}`, '--regid', `${kGroup}`, '--clear-groups', '--pdeathsig', 'KILL'];
}

describe('three users of one group', () => {
  (isRoot && othersReach(__dirname) ? it : it.skip)(
    'driver, sidecar and a Java client exchange messages over shared memory',
    async () => {
      const jars = mkdtempSync(join(tmpdir(), 'outrigger-isolation-jars-'));
      const node = new Node(
        'users',
        `127.0.0.1:${await freePort()}`,
        '',
        [],
        {},
        {
          driver: as(kDriverUser),
          sidecar: as(kSidecarUser),
        },
      );
      const hosts = await makeHosts();
      try {
        cpSync(await javaPeerFolder(), jars, { recursive: true });
        chmodSync(jars, 0o755);
        chownSync(node.folder, kDriverUser, kGroup);
        chmodSync(node.folder, 0o2770);
        node.start();
        const inGroup = {
          ...hosts.b,
          spawn: (command: string, args: readonly string[], options: Parameters<typeof hosts.b.spawn>[2]) =>
            hosts.b.spawn('setpriv', [...as(kAppUser).slice(1), command, ...args], options),
        };
        const channel = 'aeron:ipc?term-length=64k';
        const target = { channel, streamId: 71 };
        const subscription = node.client.subscribe(target);
        let received = 0;
        const reading = (async (): Promise<void> => {
          for await (const batch of subscription.batches()) {
            received += batch.messages.length;
          }
        })();
        await subscription.ready();
        const peer = await Peer.java(inGroup, { cwd: '/' }, jars);
        const java = await peer.client(node.directory);
        const publication = await java.publication(channel, 71);
        expect((await publication.send(500, { size: 100 })).sent).toBe(500);
        await until('all messages of the Java client', () => received >= 500);
        expect(received).toBe(500);
        subscription.close();
        await reading;
        await publication.close();
        await java.close();
        await peer.close();
      } finally {
        await node.stop();
        await hosts.close();
        rmSync(jars, { recursive: true, force: true });
      }
    },
  );
});

describe('a full memory volume', () => {
  (isRoot ? it : it.skip)(
    'is back pressure to a gRPC publisher; sidecar and driver live, and all goes on when there is room',
    async () => {
      const endpoint = `127.0.0.1:${await freePort()}`;
      const node = new Node('full', endpoint, '');
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=16m', 'outrigger-sidecar-test', node.folder]);
      try {
        node.start();
        const channel = `aeron:udp?endpoint=${endpoint}`;
        const collector = new Collector(node.client.subscribe({ channel, streamId: 5 }));
        await collector.subscription.ready();
        const publisher = node.client.publisher({ channel: `${channel}|term-length=1m`, streamId: 5 });
        await publisher.whenConnected();
        let sent = 0;
        let refused = false;
        const sendOne = async (): Promise<boolean> =>
          publisher.publish(numbered(1, sent, 1000)).then(
            () => {
              sent++;
              return true;
            },
            () => false,
          );
        for (let i = 0; i < 50; i++) {
          expect(await sendOne()).toBe(true);
        }
        // Everything that is left, by another's hand: most of both logs has no memory yet.
        execFileSync('sh', ['-c', 'dd if=/dev/zero of="$0/ballast" bs=64k 2>/dev/null || true', node.folder]);
        for (let i = 0; i < 10_000 && !refused; i++) {
          refused = !(await sendOne());
        }
        expect(refused).toBe(true);
        expect(() => process.kill(node.driver.pid, 0)).not.toThrow();
        expect(() => process.kill(node.sidecar.pid, 0)).not.toThrow();
        rmSync(join(node.folder, 'ballast'));
        await until('room', sendOne);
        for (let i = 0; i < 3000; i++) {
          await until('room', sendOne);
        }
        await until('all messages', () => collector.messages >= sent);
        collector.expectClean(1, sent);
        await publisher.close();
        collector.subscription.close();
        await collector.over;
      } finally {
        await node.client.close();
        await node.sidecar.signal('SIGTERM');
        await node.driver.signal('SIGTERM');
        execFileSync('umount', ['-l', node.folder]);
        rmSync(node.folder, { recursive: true, force: true });
      }
    },
  );
});
