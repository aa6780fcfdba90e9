// SPDX-License-Identifier: Apache-2.0
// A stream to the directory as a stranger's program would open it, from this process: it may say anything.
import {
  Client,
  credentials,
  Metadata,
  type ClientDuplexStream,
  type ServiceDefinition,
  type ServiceError,
  type StatusObject,
} from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { kDirectoryProto } from '../../../sidecar/src/directory/transport';
import { protoRoot } from '../../../sidecar/src/grpc/proto_files';
import { statusDetails } from '../../../sidecar/src/testing/grpc_client';
import { until } from '../kubectl';
import { kTlsPorts } from './parts';
import { kSystem } from './product';

const kDefinition = loadSync(kDirectoryProto, {
  includeDirs: [protoRoot()],
  enums: String,
  defaults: true,
  oneofs: true,
})['outrigger.v1.DirectoryService'] as ServiceDefinition;
const kJoin = kDefinition['Join'] as ServiceDefinition[string];

export interface Answer {
  readonly welcome?: { readonly pod: string };
  readonly topic?: object;
  readonly refusal?: { readonly reason: string };
}

/** How the directory ended a stream. */
export interface Ending {
  readonly code: number;
  readonly details: string;
  /** Of google.rpc.ErrorInfo. */
  readonly reason: string | undefined;
}

export class Stranger {
  readonly answers: Answer[] = [];
  private end: StatusObject | undefined;
  private readonly client: Client;
  private readonly call: ClientDuplexStream<object, Answer>;

  constructor(address: string, ca: string, token: string | undefined) {
    this.client = new Client(`${address}:${kTlsPorts.directory}`, credentials.createSsl(Buffer.from(ca)), {
      'grpc.ssl_target_name_override': `outrigger-directory.${kSystem}.svc`,
    });
    const metadata = new Metadata();
    if (token !== undefined) {
      metadata.set('authorization', `Bearer ${token}`);
    }
    this.call = this.client.makeBidiStreamRequest(
      kJoin.path,
      kJoin.requestSerialize,
      kJoin.responseDeserialize,
      metadata,
    ) as ClientDuplexStream<object, Answer>;
    this.call.on('data', (answer: Answer) => this.answers.push(answer));
    this.call.on('error', () => undefined); // the status says it
    this.call.on('status', (end: StatusObject) => (this.end = end));
  }

  send(request: object): void {
    this.call.write(request);
  }

  hello(address: string): void {
    const endpoints = [{ network: 'pod', address, port: 40_200, mtu: 1500 }];
    this.send({ hello: { instanceId: 'stranger', endpoints, version: 'test' } });
  }

  async welcomed(): Promise<void> {
    await until('it is welcome', () => this.isOver() || this.answers.some(({ welcome }) => welcome));
    if (this.isOver()) {
      throw new Error(`refused: ${this.end?.details}`);
    }
  }

  isOver(): boolean {
    return this.end !== undefined;
  }

  async ended(): Promise<Ending> {
    await until('the directory ends the stream', () => this.isOver(), 30_000);
    const { code, details } = this.end as StatusObject;
    const [info] = statusDetails(this.end as unknown as ServiceError).details;
    return { code, details, reason: info?.fields[0] };
  }

  close(): void {
    this.call.cancel();
    this.client.close();
  }
}
