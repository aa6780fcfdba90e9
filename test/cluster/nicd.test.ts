// SPDX-License-Identifier: Apache-2.0
// outrigger-nicd as the chart brings it: not there unless asked for, and with exactly the rights that it needs.
import { parseAllDocuments } from 'yaml';
import { command, helm } from './kubectl';
import { kChart } from './support/product';

interface Rendered {
  readonly kind: string;
  readonly metadata: { readonly name: string };
  readonly spec?: {
    readonly template?: {
      readonly spec: {
        readonly containers: readonly {
          readonly args: readonly string[];
          readonly securityContext: object;
        }[];
      };
    };
  };
}

async function render(...values: readonly string[]): Promise<readonly Rendered[]> {
  const text = await helm('template', 'outrigger', kChart, ...values.flatMap((each) => ['--set', each]));
  return parseAllDocuments(text)
    .map((each) => each.toJS() as Rendered | null)
    .filter((each) => each !== null);
}

describe('the chart', () => {
  it('brings no nicd unless it is asked for', async () => {
    const objects = await render();
    expect(objects.filter(({ kind }) => kind === 'DaemonSet')).toEqual([]);
  });

  it('adds nothing but the DaemonSet, which has no token, no role, and exactly its capabilities', async () => {
    const names = (objects: readonly Rendered[]) =>
      objects.map(({ kind, metadata }) => `${kind} ${metadata.name}`);
    const without = names(await render());
    const objects = await render('nicd.enabled=true', 'nicd.interface=eth1');
    expect(names(objects).filter((each) => !without.includes(each))).toEqual(['DaemonSet outrigger-nicd']);
    const pod = objects.find(({ kind }) => kind === 'DaemonSet')?.spec?.template?.spec;
    expect(pod).toMatchObject({
      automountServiceAccountToken: false,
      hostNetwork: true,
      hostPID: true,
      volumes: [
        { hostPath: { path: '/run/outrigger-nicd/socket' } },
        { hostPath: { path: '/run/outrigger-nicd/state' } },
        { hostPath: { path: '/sys/fs/bpf', type: 'Directory' } },
      ],
    });
    expect(pod?.containers).toHaveLength(1);
    expect(pod?.containers[0]?.securityContext).toEqual({
      runAsUser: 0,
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      seccompProfile: { type: 'RuntimeDefault' },
      capabilities: { drop: ['ALL'], add: ['BPF', 'NET_RAW', 'NET_ADMIN', 'IPC_LOCK'] },
    });
    expect(pod?.containers[0]?.args).not.toContain('--allow-packet');
    expect(pod?.containers[0]?.args.join(' ')).toContain('--interface eth1 ');
  });

  it('hands out packet sockets only where that is said', async () => {
    const objects = await render('nicd.enabled=true', 'nicd.interface=eth1', 'nicd.allowPacket=true');
    const pod = objects.find(({ kind }) => kind === 'DaemonSet')?.spec?.template?.spec;
    expect(pod?.containers[0]?.args).toContain('--allow-packet');
  });

  it('refuses a nicd without an interface, with the value to set', async () => {
    const { ok, stderr } = await command('helm', [
      'template',
      'outrigger',
      kChart,
      '--set',
      'nicd.enabled=true',
    ]);
    expect(ok).toBe(false);
    expect(stderr).toContain('nicd.interface is empty: name the interface');
  });
});
