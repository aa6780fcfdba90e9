// SPDX-License-Identifier: Apache-2.0
// What a test does to the machines of the cluster, past the API server: processes of containers, logs as the kubelet keeps them, the API
// server itself. Tests run in node1's namespaces, and those of node2 lie inside: every process of both is seen here.
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { command, get, until } from '../kubectl';
import type { NodeName } from './product';

const kState = process.env['CLUSTER_STATE'] ?? '';
const kHarness = process.env['CLUSTER_HARNESS'] ?? '';
const kApiServerMs = 60_000;

interface ContainerStatus {
  readonly name: string;
  readonly containerID?: string;
  readonly restartCount: number;
}

interface Pod {
  readonly metadata: { readonly uid: string };
  readonly status: {
    readonly containerStatuses?: readonly ContainerStatus[];
    readonly initContainerStatuses?: readonly ContainerStatus[];
  };
}

/** A container as it was when the API server was asked: what is needed to find it when nobody can be asked. */
export interface ContainerHandle {
  readonly namespace: string;
  readonly pod: string;
  readonly podUid: string;
  readonly container: string;
  /** Of the runtime, without its scheme. */
  readonly id: string;
}

export async function containerOf(
  namespace: string,
  pod: string,
  container: string,
): Promise<ContainerHandle> {
  const { metadata, status } = await get<Pod>('pod', pod, '-n', namespace);
  const all = [...(status.initContainerStatuses ?? []), ...(status.containerStatuses ?? [])];
  const id = all.find(({ name }) => name === container)?.containerID?.replace(/^.*:\/\//, '');
  if (id === undefined) {
    throw new Error(`container ${container} of pod ${namespace}/${pod} does not run`);
  }
  return { namespace, pod, podUid: metadata.uid, container, id };
}

function readOrEmpty(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return ''; // it ended meanwhile
  }
}

/** PID 1 of a container, as a process of this namespace; undefined when it does not run. */
function firstProcessOf(id: string): number | undefined {
  const pid = readdirSync('/proc').find(
    (each) =>
      /^\d+$/.test(each) &&
      readOrEmpty(`/proc/${each}/cgroup`).includes(id) &&
      /^NSpid:.*\t1$/m.test(readOrEmpty(`/proc/${each}/status`)),
  );
  return pid === undefined ? undefined : Number(pid);
}

/** Sends a signal to the first process of a container, as the kernel or a user of its node would. */
export function signalContainer({ id, pod, container }: ContainerHandle, signal: NodeJS.Signals): void {
  const pid = firstProcessOf(id);
  if (pid === undefined) {
    throw new Error(`container ${container} of pod ${pod} has no process`);
  }
  process.kill(pid, signal);
}

export function runs({ id }: ContainerHandle): boolean {
  return firstProcessOf(id) !== undefined;
}

const kLogLine = /^\S+ (?:stdout|stderr) ([FP]) (.*)$/;

/** What a container has said so far, all restarts of it, as lies on its node. */
export function logOnNode(node: NodeName, { namespace, pod, podUid, container }: ContainerHandle): string {
  const folder = join(kState, node, 'fs/var/log/pods', `${namespace}_${pod}_${podUid}`, container);
  let text = '';
  for (const file of readdirSync(folder).sort((a, b) => Number.parseInt(a, 10) - Number.parseInt(b, 10))) {
    for (const line of readOrEmpty(join(folder, file)).split('\n')) {
      const [, whole, said] = kLogLine.exec(line) ?? [];
      text += said === undefined ? '' : `${said}${whole === 'F' ? '\n' : ''}`;
    }
  }
  return text;
}

/** Takes the API server away, without a word. */
export async function killApiServer(): Promise<void> {
  process.kill(Number(readFileSync(join(kState, 'node1/kube-apiserver.pid'), 'utf8')), 'SIGKILL');
  await until('the API server is gone', async () => !(await isApiServerReady()));
}

/** Starts it again and waits until it answers; kubelets and all others find it by themselves. */
export async function startApiServer(): Promise<void> {
  const { stdout } = await command('which', ['kube-apiserver']);
  const args = [dirname(stdout.trim()), 'again'];
  const { ok, stderr } = await command(join(kHarness, 'control-plane'), args, { timeoutMs: kApiServerMs });
  if (!ok) {
    throw new Error(stderr);
  }
}

export async function isApiServerReady(): Promise<boolean> {
  return (await command('kubectl', ['get', '--raw', '/readyz', '--request-timeout=5s'])).ok;
}
