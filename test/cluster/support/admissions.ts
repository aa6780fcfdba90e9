// SPDX-License-Identifier: Apache-2.0
// Pods that ask for a sidecar, sent to the API server all the time and made by nobody (dryRun): is the webhook there for each of them?
import { readFileSync } from 'node:fs';
import { Agent, request } from 'node:https';
import { join } from 'node:path';
import { until } from '../kubectl';
import type { PodObject } from './pods';

const kPki = join(process.env['CLUSTER_STATE'] ?? '', 'pki');
const kServer = { host: '10.99.0.1', port: 6443 };
const kPauseMs = 100;
const kTimeoutMs = 15_000;

interface Admitted {
  readonly spec?: { readonly initContainers?: readonly { readonly name: string }[] };
  readonly message?: string;
}

export interface Admission {
  readonly phase: string;
  /** undefined: the pod came back with its sidecar. */
  readonly problem: string | undefined;
}

export class AdmissionLoop {
  readonly all: Admission[] = [];
  /** What the test is doing: admissions are told apart by it. */
  phase = 'start';
  private stopped = false;
  private readonly agent = new Agent({
    keepAlive: true,
    ca: readFileSync(join(kPki, 'ca.crt')),
    cert: readFileSync(join(kPki, 'admin.crt')),
    key: readFileSync(join(kPki, 'admin.key')),
  });
  private readonly running: Promise<void>;

  constructor(private readonly pod: PodObject) {
    this.running = this.run();
  }

  /** Those of a phase that were refused, or came back without a sidecar. */
  problemsIn(phase: string): readonly string[] {
    return this.all.flatMap((each) => (each.phase === phase ? (each.problem ?? []) : []));
  }

  /** Resolves when so many more were admitted, one after the other. */
  async admits(inARow: number): Promise<void> {
    const from = this.all.length;
    await until(`${inARow} pods in a row get their sidecar`, () => {
      const since = this.all.slice(from).slice(-inARow);
      return since.length === inARow && since.every(({ problem }) => problem === undefined);
    });
  }

  async stop(): Promise<void> {
    this.stopped = true;
    await this.running;
    this.agent.destroy();
  }

  private async run(): Promise<void> {
    while (!this.stopped) {
      const { phase } = this;
      const problem = await this.ask().catch((error: unknown) => (error as Error).message);
      this.all.push({ phase, problem });
      await new Promise((resolve) => setTimeout(resolve, kPauseMs));
    }
  }

  private ask(): Promise<string | undefined> {
    const path = `/api/v1/namespaces/${this.pod.metadata.namespace}/pods?dryRun=All`;
    return new Promise((resolve, reject) => {
      const call = request(
        {
          ...kServer,
          path,
          method: 'POST',
          agent: this.agent,
          timeout: kTimeoutMs,
          headers: { 'content-type': 'application/json' },
        },
        (response) => {
          let body = '';
          response.setEncoding('utf8').on('data', (data: string) => (body += data));
          response.once('end', () => resolve(problemOf(response.statusCode ?? 0, body)));
          response.once('error', reject);
        },
      );
      call.once('timeout', () => call.destroy(new Error(`no answer within ${kTimeoutMs} ms`)));
      call.once('error', reject);
      call.end(JSON.stringify(this.pod));
    });
  }
}

function problemOf(status: number, body: string): string | undefined {
  const { spec, message } = JSON.parse(body) as Admitted;
  if (status !== 201) {
    return `${status}: ${message}`;
  }
  return spec?.initContainers?.some(({ name }) => name === 'outrigger') === true ? undefined : 'no sidecar';
}
