// SPDX-License-Identifier: Apache-2.0
// Nodes for end-to-end tests: each a real driver process and a real sidecar process, on 127.0.0.1, told apart by their ports. Needs `make build`.
import { spawn, type ChildProcess } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { OutriggerClient, type Subscription, type SubscriptionItem } from '../../clients/typescript/src';
import { SequenceCheck } from '../../sidecar/src/cli/sequence_check';

const kRoot = resolve(__dirname, '../..');
const kNode = join(kRoot, 'node_modules/.bin/node');
const kSidecar = join(kRoot, 'build/ts/sidecar/src/main.js');
const kDriver = join(kRoot, 'build/native/outrigger-driver');
const kMemoryVolume = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();

export async function freePort(): Promise<number> {
  const socket = createSocket('udp4');
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  const { port } = socket.address();
  socket.close();
  return port;
}

export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  timeoutMs = 30_000,
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > deadline) {
      throw new Error(`waited ${timeoutMs} ms for: ${what}`);
    }
    await new Promise((done) => setTimeout(done, 5));
  }
}

class Process {
  private child: ChildProcess | undefined;
  private exited: Promise<number | string> = Promise.resolve(0);
  output = '';

  constructor(
    private readonly command: string,
    private readonly args: readonly string[],
    private readonly env: Readonly<Record<string, string>>,
  ) {}

  start(): void {
    const child = spawn(this.command, this.args, {
      env: { ...process.env, ...this.env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.child = child;
    const keep = (chunk: Buffer): void => {
      this.output += chunk.toString();
    };
    child.stdout.on('data', keep);
    child.stderr.on('data', keep);
    this.exited = new Promise((done) => {
      child.once('error', (error) => done(error.message));
      child.once('close', (code, signal) => done(code ?? signal ?? 'unknown'));
    });
  }

  get pid(): number {
    return this.child?.pid ?? 0;
  }

  /** Resolves with its status or the name of its signal. */
  async signal(name: NodeJS.Signals): Promise<number | string> {
    this.child?.kill(name);
    return this.exited;
  }
}

/** What stands before the command of each process, to run it as another user. */
export interface Users {
  readonly driver: readonly string[];
  readonly sidecar: readonly string[];
}

/** Every folder above lets other users pass; a checkout in root's home does not. */
export function othersReach(path: string): boolean {
  for (let folder = dirname(path); ; folder = dirname(folder)) {
    if ((statSync(folder).mode & 0o001) === 0) {
      return false;
    }
    if (folder === dirname(folder)) {
      return true;
    }
  }
}

/** A driver, its sidecar, and a client of the sidecar. */
export class Node {
  readonly folder: string;
  readonly directory: string;
  readonly socket: string;
  readonly client: OutriggerClient;
  readonly driver: Process;
  readonly sidecar: Process;

  constructor(
    readonly name: string,
    readonly endpoint: string,
    topicsFile: string,
    settings: readonly string[] = [],
    environment: Readonly<Record<string, string>> = {},
    users: Users = { driver: [], sidecar: [] },
  ) {
    this.folder = mkdtempSync(join(kMemoryVolume, `outrigger-sidecar-test-${name}-`));
    this.directory = join(this.folder, 'driver');
    this.socket = join(this.folder, 'grpc.sock');
    const driver = [...users.driver, kDriver];
    const sidecar = [...users.sidecar, kNode];
    this.driver = new Process(driver[0] as string, driver.slice(1), {
      AERON_DIR: this.directory,
      AERON_DIR_DELETE_ON_START: '1', // what a driver that was killed has left
      AERON_IMAGE_LIVENESS_TIMEOUT: '2s',
      AERON_PUBLICATION_LINGER_TIMEOUT: '1s',
      AERON_RCV_INITIAL_WINDOW_LENGTH: '256k',
      AERON_SOCKET_SO_RCVBUF: '1m',
      ...environment,
    });
    this.sidecar = new Process(
      sidecar[0] as string,
      [
        ...sidecar.slice(1),
        kSidecar,
        `--driver-directory=${this.directory}`,
        `--grpc-socket=${this.socket}`,
        '--http-listen=127.0.0.1:0',
        `--topics-file=${topicsFile}`,
        `--endpoints=${endpoint}`,
        '--allow-channels',
        ...settings,
      ],
      {},
    );
    this.client = new OutriggerClient({ address: `unix:${this.socket}` });
  }

  start(): void {
    this.driver.start();
    this.sidecar.start();
  }

  /** host:port of /metrics, as the sidecar logged it. */
  async metrics(): Promise<string> {
    let address: string | undefined;
    await until('the address of /metrics', () => {
      address = /"http":"([^"]+)"/.exec(this.sidecar.output)?.[1];
      return address !== undefined;
    });
    return (await fetch(`http://${address}/metrics`)).text();
  }

  async stop(): Promise<void> {
    await this.client.close();
    await this.sidecar.signal('SIGTERM');
    await this.driver.signal('SIGTERM');
    rmSync(this.folder, { recursive: true, force: true });
  }
}

export interface TopicSpec {
  readonly name: string;
  readonly streamId: number;
  readonly subscribers: readonly string[];
  readonly flowControl?: 'min' | 'max';
}

/** Several nodes with one topics file. */
export class Cluster {
  private readonly folder = mkdtempSync(join(tmpdir(), 'outrigger-sidecar-test-'));
  readonly topicsFile = join(this.folder, 'topics.json');
  readonly nodes: Node[] = [];

  async add(
    count: number,
    settings: readonly string[] = [],
    environment: Readonly<Record<string, string>> = {},
  ): Promise<Node[]> {
    const added: Node[] = [];
    for (let i = 0; i < count; i++) {
      const endpoint = `127.0.0.1:${await freePort()}`;
      const name = `${this.nodes.length}`;
      const node = new Node(name, endpoint, this.topicsFile, settings, environment);
      this.nodes.push(node);
      added.push(node);
    }
    return added;
  }

  /** As a ConfigMap does it: the new file takes the place of the old one at once. */
  writeTopics(topics: readonly TopicSpec[]): void {
    mkdirSync(this.folder, { recursive: true });
    writeFileSync(`${this.topicsFile}.next`, JSON.stringify({ topics }));
    renameSync(`${this.topicsFile}.next`, this.topicsFile);
  }

  async stop(): Promise<void> {
    await Promise.all(this.nodes.map((node) => node.stop()));
    rmSync(this.folder, { recursive: true, force: true });
  }
}

export function numbered(publisher: number, sequence: number, length = 200): Buffer {
  const message = Buffer.alloc(Math.max(length, 16), sequence & 255);
  message.writeDoubleLE(publisher, 0);
  message.writeDoubleLE(sequence, 8);
  return message;
}

/** Reads a subscription to its end: what came, by publisher, and the events. */
export class Collector {
  readonly checks = new Map<number, SequenceCheck>();
  /** Sequence numbers in the order they came, by publisher. */
  readonly last = new Map<number, number>();
  readonly events: SubscriptionItem[] = [];
  messages = 0;
  readonly over: Promise<void>;

  constructor(readonly subscription: Subscription) {
    this.over = this.read();
  }

  private async read(): Promise<void> {
    for await (const item of this.subscription.items()) {
      if (item.kind !== 'batch') {
        this.events.push(item);
        continue;
      }
      for (const message of item.messages) {
        this.messages++;
        const publisher = message.readDoubleLE(0);
        const sequence = message.readDoubleLE(8);
        let check = this.checks.get(publisher);
        if (check === undefined) {
          check = new SequenceCheck(sequence);
          this.checks.set(publisher, check);
        }
        check.take(sequence);
        this.last.set(publisher, sequence);
      }
    }
  }

  seen<K extends SubscriptionItem['kind']>(kind: K): Extract<SubscriptionItem, { kind: K }>[] {
    return this.events.filter((each): each is Extract<SubscriptionItem, { kind: K }> => each.kind === kind);
  }

  /** Nothing missing, doubled or out of order among what came of this publisher; how much came. */
  expectClean(publisher: number, count: number): void {
    const check = this.checks.get(publisher);
    expect({
      publisher,
      received: check?.received,
      lost: check?.lost(),
      duplicated: check?.duplicated,
      outOfOrder: check?.outOfOrder,
    }).toEqual({ publisher, received: count, lost: 0, duplicated: 0, outOfOrder: 0 });
  }
}
