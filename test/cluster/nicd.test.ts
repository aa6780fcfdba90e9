// SPDX-License-Identifier: Apache-2.0
// outrigger-nicd as the chart brings it: not there unless asked for, with exactly the rights that it needs, and a driver in a pod without any that
// takes its queue from it.
import { parseAllDocuments } from 'yaml';
import { apply, command, get, helm, kubectl, until } from './kubectl';
import { makeNamespace } from './support/pods';
import { kChart, kImage, kNodes, kSystem } from './support/product';

jest.setTimeout(240_000);

interface Rendered {
  readonly kind: string;
  readonly metadata: { readonly name: string };
  readonly spec?: {
    readonly template?: {
      readonly spec: {
        readonly containers: readonly {
          readonly args: readonly string[];
          readonly securityContext: object;
          readonly volumeMounts: readonly object[];
        }[];
        readonly volumes: readonly object[];
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

/** On the nodes; not where nicd has it in its container. */
const kClaims = '/run/outrigger-claims';
const kWithClaims = ['nicd.enabled=true', 'nicd.interface=eth1', `nicd.claims=${kClaims}`];

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
        { hostPath: { path: '/sys/fs/bpf/outrigger', type: 'DirectoryOrCreate' } },
      ],
    });
    expect(pod?.volumes).toHaveLength(3);
    expect(pod?.containers).toHaveLength(1);
    expect(pod?.containers[0]?.securityContext).toEqual({
      runAsUser: 0,
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      seccompProfile: { type: 'RuntimeDefault' },
      capabilities: { drop: ['ALL'], add: ['BPF', 'NET_RAW', 'NET_ADMIN', 'IPC_LOCK'] },
    });
    expect(pod?.containers[0]?.args).not.toContain('--allow-packet');
    expect(pod?.containers[0]?.args).not.toContain('--claims');
    expect(pod?.containers[0]?.args.join(' ')).toContain('--interface eth1 ');
  });

  it('lets nicd read the claims of its node, and not write them', async () => {
    const objects = await render(...kWithClaims);
    const pod = objects.find(({ kind }) => kind === 'DaemonSet')?.spec?.template?.spec;
    expect(pod?.containers[0]?.args.join(' ')).toContain('--claims /run/outrigger-nicd/claims');
    expect(pod?.containers[0]?.volumeMounts).toContainEqual({
      name: 'claims',
      mountPath: '/run/outrigger-nicd/claims',
      readOnly: true,
    });
    expect(pod?.volumes).toContainEqual({
      name: 'claims',
      hostPath: { path: kClaims, type: 'DirectoryOrCreate' },
    });
    expect(pod?.containers[0]?.args).not.toContain('--allow-packet');
  });

  it('hands out packet sockets only where that is said', async () => {
    const objects = await render(...kWithClaims, 'nicd.allowPacket=true');
    const pod = objects.find(({ kind }) => kind === 'DaemonSet')?.spec?.template?.spec;
    expect(pod?.containers[0]?.args).toContain('--allow-packet');
  });

  it('refuses to hand out packet sockets to everybody, with the value to set', async () => {
    const { ok, stderr } = await command('helm', [
      ...['template', 'outrigger', kChart, '--set', 'nicd.enabled=true'],
      ...['--set', 'nicd.interface=eth1', '--set', 'nicd.allowPacket=true'],
    ]);
    expect(ok).toBe(false);
    expect(stderr).toContain('nicd.allowPacket is true and nicd.claims is empty');
    expect(stderr).toContain('set nicd.claims to the folder');
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

const kNamespace = 'nics';

interface DriverOptions {
  readonly backends?: string;
  /** Name of its claim, in a ConfigMap of the same name. */
  readonly claim?: string;
}

/** A driver of its own, as docs/nicd.md has it. */
function driverPod(node: string, { backends = 'xdp,mmsg', claim }: DriverOptions = {}): object {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: `driver-${node}`, namespace: kNamespace },
    spec: {
      nodeName: node,
      automountServiceAccountToken: false,
      terminationGracePeriodSeconds: 5,
      containers: [
        {
          name: 'driver',
          image: kImage,
          imagePullPolicy: 'Never',
          command: ['/usr/bin/outrigger-driver'],
          env: [
            { name: 'AERON_DIR', value: '/dev/shm/driver' },
            { name: 'OUTRIGGER_BACKENDS', value: backends },
            { name: 'OUTRIGGER_NICD_SOCKET', value: '/run/outrigger-nicd/nicd.sock' },
            { name: 'OUTRIGGER_HUGEPAGES', value: 'false' },
            ...(claim === undefined
              ? []
              : [{ name: 'OUTRIGGER_NICD_CLAIM', value: `/etc/outrigger/${claim}` }]),
          ],
          securityContext: {
            runAsNonRoot: true,
            runAsUser: 65532,
            runAsGroup: 65532,
            allowPrivilegeEscalation: false,
            readOnlyRootFilesystem: true,
            capabilities: { drop: ['ALL'] },
            seccompProfile: { type: 'RuntimeDefault' },
          },
          volumeMounts: [
            { name: 'nicd', mountPath: '/run/outrigger-nicd', readOnly: true },
            { name: 'memory', mountPath: '/dev/shm' },
            ...(claim === undefined ? [] : [{ name: 'claim', mountPath: '/etc/outrigger', readOnly: true }]),
          ],
        },
      ],
      volumes: [
        { name: 'nicd', hostPath: { path: '/run/outrigger-nicd/socket', type: 'Directory' } },
        { name: 'memory', emptyDir: { medium: 'Memory', sizeLimit: '128Mi' } },
        ...(claim === undefined ? [] : [{ name: 'claim', configMap: { name: claim } }]),
      ],
    },
  };
}

/** What the agent of a node does: writes the claim into the node's folder. */
function agentPod(node: string, claim: string, text: string): object {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: `agent-${node}`, namespace: kNamespace },
    spec: {
      nodeName: node,
      automountServiceAccountToken: false,
      restartPolicy: 'Never',
      containers: [
        {
          name: 'agent',
          image: kImage,
          imagePullPolicy: 'Never',
          command: [
            '/usr/bin/node',
            '-e',
            `fs.writeFileSync('/claims/${claim}', ${JSON.stringify(text)}, { mode: 0o600 })`,
          ],
          securityContext: { runAsUser: 0 },
          volumeMounts: [{ name: 'claims', mountPath: '/claims' }],
        },
      ],
      volumes: [{ name: 'claims', hostPath: { path: kClaims, type: 'DirectoryOrCreate' } }],
    },
  };
}

interface DriverAnswer {
  readonly backend: string;
  readonly notBetter: readonly { readonly name: string; readonly reason: string }[];
}

async function explain(node: string): Promise<{ readonly driver: DriverAnswer | null }> {
  const inPod = ['exec', `driver-${node}`, '-n', kNamespace, '--'];
  return JSON.parse(
    await kubectl([...inPod, '/usr/bin/outrigger', 'explain', '-d', '/dev/shm/driver', '--json']),
  ) as { driver: DriverAnswer | null };
}

/** Brings nicd to both nodes, or exchanges it; returns when it runs on both. Without operator and directory, which have no part in it. */
async function bringNicd(...values: readonly string[]): Promise<void> {
  const image = ['image.repository=localhost/outrigger', 'image.tag=dev', 'image.pullPolicy=Never'];
  await kubectl(['apply', '--server-side', '-f', '-'], {
    input: await helm(
      ...['template', 'outrigger', kChart, '--namespace', kSystem, '--show-only', 'templates/nicd.yaml'],
      ...[...image, ...values].flatMap((each) => ['--set', each]),
    ),
  });
  const rollout = ['rollout', 'status', 'daemonset/outrigger-nicd', '-n', kSystem, '--timeout=120s'];
  await kubectl(rollout, { timeoutMs: 130_000 });
}

async function exchangeDriver(node: string, options: DriverOptions): Promise<void> {
  await kubectl(['delete', 'pod', `driver-${node}`, '-n', kNamespace, '--grace-period=5', '--timeout=60s']);
  await apply(driverPod(node, options));
  await until(`the driver on ${node}`, async () => (await explain(node)).driver !== null, 90_000);
}

describe("the chart's nicd on both nodes", () => {
  beforeAll(async () => {
    await makeNamespace(kSystem);
    await makeNamespace(kNamespace);
    await bringNicd('nicd.enabled=true', 'nicd.interface=eth1');
  });

  afterAll(async () => {
    await command('kubectl', ['delete', 'daemonset', 'outrigger-nicd', '-n', kSystem, '--wait=false']);
    await command('kubectl', ['delete', 'namespace', kNamespace, '--wait=false']);
  });

  it('is ready', async () => {
    const { status } = await get<{ status: { numberReady: number } }>(
      'daemonset',
      'outrigger-nicd',
      '-n',
      kSystem,
    );
    expect(status.numberReady).toBe(2);
  });

  it('lets a driver in a pod, which has no right and no such interface, open a queue of the NIC', async () => {
    await apply(...kNodes.map((node) => driverPod(node)));
    for (const node of kNodes) {
      await until(`the driver on ${node}`, async () => (await explain(node)).driver !== null, 90_000);
      expect(await explain(node)).toMatchObject({
        driver: {
          backend: 'xdp',
          facts: { by: 'outrigger-nicd at /run/outrigger-nicd/nicd.sock', interface: 'eth1' },
          notBetter: [],
        },
      });
    }
  });

  it('gives the queue to the next pod when this one is gone', async () => {
    const [node] = kNodes;
    await kubectl(['delete', 'pod', `driver-${node}`, '-n', kNamespace, '--grace-period=5', '--timeout=60s']);
    await apply(driverPod(node));
    await until(
      'the next driver has the queue',
      async () => (await explain(node)).driver?.backend === 'xdp',
      90_000,
    );
  });

  it('serves claims alone once it is told where they are, and those with packet = yes a packet socket', async () => {
    const [node] = kNodes;
    const token = 'token = ' + '5a'.repeat(32);
    await bringNicd(...kWithClaims, 'nicd.allowPacket=true');
    await exchangeDriver(node, { backends: 'packet,mmsg' });
    expect((await explain(node)).driver).toMatchObject({
      backend: 'mmsg',
      notBetter: [{ name: 'packet', reason: expect.stringContaining('a claim is needed') as string }],
    });

    await apply(
      {
        apiVersion: 'v1',
        kind: 'ConfigMap',
        metadata: { name: 'till', namespace: kNamespace },
        data: { till: `${token}\n` },
      },
      agentPod(node, 'till', `${token}\ninterface = eth1\npacket = yes\n`),
    );
    await until('the claim is written', async () => {
      const { status } = await get<{ status: { phase: string } }>('pod', `agent-${node}`, '-n', kNamespace);
      return status.phase === 'Succeeded';
    });
    await exchangeDriver(node, { backends: 'packet,mmsg', claim: 'till' });
    expect((await explain(node)).driver).toMatchObject({ backend: 'packet', notBetter: [] });
  });
});
