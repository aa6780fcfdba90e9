// SPDX-License-Identifier: Apache-2.0
// Apps in pods of the test cluster: `outrigger pub` and `outrigger sub` beside their sidecars, what came of them, and what they said.
import { spawn, type ChildProcess } from 'node:child_process';
import { apply, command, get, kubectl, until } from '../kubectl';
import { kImage, type NodeName } from './product';

export interface PodObject {
  readonly apiVersion: 'v1';
  readonly kind: 'Pod';
  readonly metadata: {
    readonly name: string;
    readonly namespace: string;
    readonly labels: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  readonly spec: object;
}

export interface AppOptions {
  readonly annotations?: Readonly<Record<string, string>>;
  readonly graceSeconds?: number;
  /** Of the container `app`, over what it has otherwise: image, command, env, ... */
  readonly container?: object;
  /** Beside the container `app`. */
  readonly others?: readonly object[];
  /** Of the pod's spec, over what it has otherwise: hostNetwork, dnsPolicy, ... */
  readonly spec?: object;
}

interface PodStatus {
  readonly status: {
    readonly phase?: string;
    readonly podIP?: string;
    readonly containerStatuses?: readonly {
      readonly name: string;
      readonly state?: { readonly terminated?: { readonly exitCode: number; readonly reason?: string } };
    }[];
  };
}

/** What `outrigger sub --json` says at its end. */
export interface Received {
  readonly received: number;
  readonly lost: number;
  readonly duplicated: number;
  readonly outOfOrder: number;
  readonly corrupt: number;
}

/** What `outrigger pub --json` says at its end. */
export interface Published {
  readonly accepted: number;
  readonly refused: number;
  readonly dropped: number;
  readonly unknown: number;
}

const kReadyMs = 120_000;
const kEndMs = 120_000;

/** A namespace for a test file, once pods may be made in it. Pods are refused until a controller made the service account. */
export async function makeNamespace(
  name: string,
  labels: Readonly<Record<string, string>> = {},
): Promise<void> {
  await apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels } });
  await until(
    `service account of ${name}`,
    async () => (await command('kubectl', ['get', 'serviceaccount', 'default', '-n', name])).ok,
  );
}

/** Makers of pods of one namespace, and what came of them. */
export class Pods {
  constructor(readonly namespace: string) {}

  /** A pod that asks for a sidecar and runs `outrigger ARGS` beside it, once. */
  app(name: string, node: NodeName, args: readonly string[], options: AppOptions = {}): PodObject {
    const { annotations, graceSeconds = 5, container = {}, others = [], spec = {} } = options;
    return {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: {
        name,
        namespace: this.namespace,
        labels: { 'outrigger.dev/inject': 'true', app: name },
        ...(annotations === undefined ? {} : { annotations }),
      },
      spec: {
        nodeSelector: { 'kubernetes.io/hostname': node },
        restartPolicy: 'Never',
        terminationGracePeriodSeconds: graceSeconds,
        containers: [
          {
            name: 'app',
            image: kImage,
            imagePullPolicy: 'Never',
            command: ['/usr/bin/outrigger', ...args],
            securityContext: { runAsUser: 1000, runAsNonRoot: true },
            ...container,
          },
          ...others,
        ],
        ...spec,
      },
    };
  }

  /** Ends well once it has so many messages, none lost, twice, out of order or corrupt. Without a number it goes on until it is told to stop. */
  subscriber(
    name: string,
    node: NodeName,
    topic: string,
    messages?: number,
    options?: AppOptions,
  ): PodObject {
    const count = messages === undefined ? [] : ['--count', `${messages}`];
    return this.app(name, node, ['sub', topic, '--check', ...count, '--format', 'none', '--json'], options);
  }

  /** Sends numbered messages once a subscriber is there; `more` are options of `outrigger pub`, such as --count or --rate. */
  publisher(
    name: string,
    node: NodeName,
    topic: string,
    more: readonly string[],
    options?: AppOptions,
  ): PodObject {
    return this.app(name, node, ['pub', topic, '--exclusive', '--wait', '60s', '--json', ...more], options);
  }

  /** Pods as `app` makes them, on whichever node, begun anew when they end. */
  deployment(name: string, args: readonly string[], replicas = 1): object {
    const { metadata, spec } = this.app(name, 'node1', args);
    return {
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata: { name, namespace: this.namespace },
      spec: {
        replicas,
        selector: { matchLabels: { app: name } },
        template: {
          metadata: { labels: metadata.labels },
          spec: { ...spec, nodeSelector: {}, restartPolicy: 'Always' },
        },
      },
    };
  }

  /** Makes them; resolves when all are ready, sidecar and app. */
  async start(...pods: readonly PodObject[]): Promise<void> {
    await apply(...pods);
    await this.ready(...pods.map(({ metadata }) => metadata.name));
  }

  async ready(...names: readonly string[]): Promise<void> {
    const pods = names.map((name) => `pod/${name}`);
    const args = ['wait', '-n', this.namespace, '--for=condition=Ready', `--timeout=${kReadyMs}ms`, ...pods];
    const { ok, stderr } = await command('kubectl', args, { timeoutMs: kReadyMs + 10_000 });
    if (!ok) {
      const stories = await Promise.all(names.map((name) => this.storyOf(name)));
      throw new Error(`${stderr}\n${stories.join('\n')}`);
    }
  }

  async addressOf(name: string): Promise<string> {
    const { status } = await this.status(name);
    if (status.podIP === undefined) {
      throw new Error(`pod ${name} has no address`);
    }
    return status.podIP;
  }

  /** Exit status of a container of a pod, once it has ended. */
  async exitOf(name: string, container = 'app'): Promise<number> {
    let code = -1;
    await until(
      `${container} of ${name} ends`,
      async () => {
        const { status } = await this.status(name);
        const ended = status.containerStatuses?.find((each) => each.name === container)?.state?.terminated;
        code = ended?.exitCode ?? -1;
        return ended !== undefined;
      },
      kEndMs,
    );
    return code;
  }

  /** Rejects with the story of the first whose app did not end with 0. */
  async expectToEndWell(...names: readonly string[]): Promise<void> {
    for (const name of names) {
      const code = await this.exitOf(name).catch(() => -1);
      if (code !== 0) {
        throw new Error(`app of ${name} ended with ${code}\n${await this.storyOf(name)}`);
      }
    }
  }

  logs(name: string, container = 'app'): Promise<string> {
    return kubectl(['logs', '-n', this.namespace, name, '-c', container]);
  }

  /** What a pod's sidecar and app said and what happened to it, for a test that failed; also of a Deployment, by a label of its pods. */
  async storyOf(name: string, label?: string): Promise<string> {
    const described = label === undefined ? [name] : ['-l', label];
    const [logs, description] = await Promise.all([
      command('kubectl', [
        'logs',
        '-n',
        this.namespace,
        name,
        '--all-containers',
        '--prefix',
        '--tail',
        '40',
      ]),
      command('kubectl', ['describe', 'pod', '-n', this.namespace, ...described]),
    ]);
    return `${name}:\n${logs.stdout}${logs.stderr}\n${description.stdout.split('\n').slice(-15).join('\n')}`;
  }

  private status(name: string): Promise<PodStatus> {
    return get<PodStatus>('pod', name, '-n', this.namespace);
  }
}

/** What a container says, as it says it. */
export class FollowedLog {
  text = '';
  ended = false;
  private readonly child: ChildProcess;

  /** @param args of `kubectl logs`: namespace, pod, container. */
  constructor(args: readonly string[]) {
    this.child = spawn('kubectl', ['logs', '--follow', ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
    this.child.stdout?.setEncoding('utf8').on('data', (data: string) => (this.text += data));
    this.child.once('close', () => (this.ended = true));
  }

  /** Its lines of JSON so far. */
  get lines(): readonly Readonly<Record<string, unknown>>[] {
    return this.text.split('\n').flatMap((line) => {
      try {
        return line.startsWith('{') ? [JSON.parse(line) as Readonly<Record<string, unknown>>] : [];
      } catch {
        return []; // the last one is not whole yet
      }
    });
  }

  /** The newest line whose `event` is this and whose other fields are those. */
  last(
    event: string,
    fields: Readonly<Record<string, unknown>> = {},
  ): Readonly<Record<string, unknown>> | undefined {
    const wanted = Object.entries({ event, ...fields });
    return this.lines.findLast((line) => wanted.every(([key, value]) => line[key] === value));
  }

  stop(): void {
    this.child.kill('SIGKILL');
  }
}

/** Figures in the last line of JSON of a log. */
export function summaryIn<T extends Published | Received>(log: string): T {
  const line = log
    .trimEnd()
    .split('\n')
    .findLast((each) => each.startsWith('{'));
  if (line === undefined) {
    throw new Error(`no line of JSON in:\n${log}`);
  }
  return JSON.parse(line) as T;
}
