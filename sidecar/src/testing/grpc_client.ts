// SPDX-License-Identifier: Apache-2.0
// A plain gRPC client and a recorder of stream answers, for tests. Not the client library.
import {
  credentials,
  loadPackageDefinition,
  type Client,
  type ClientDuplexStream,
  type ServiceError,
} from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { Reader } from 'protobufjs/minimal';
import { kAdminProto, kHealthProto, kMessagingProto, protoRoot } from '../grpc/proto_files';

type Message = Record<string, unknown>;
type Unary = (request: object, callback: (error: ServiceError | null, response: Message) => void) => void;

export interface TestClient {
  publish(): Recorder;
  subscribe(): Recorder;
  call(service: 'admin' | 'health', method: string, request?: object): Promise<Message>;
  watchHealth(service: string): Recorder;
  close(): void;
}

/** Keeps what a stream answered; `next` awaits an answer with a member of that name. */
export class Recorder {
  readonly answers: Message[] = [];
  error: ServiceError | undefined;
  over = false;
  private seen = 0;
  private wake: () => void = () => undefined;

  constructor(readonly stream: ClientDuplexStream<object, Message>) {
    stream.on('data', (answer: Message) => {
      this.answers.push(answer);
      this.wake();
    });
    stream.on('error', (error) => {
      this.error = error as ServiceError;
      this.over = true;
      this.wake();
    });
    stream.on('end', () => {
      this.over = true;
      this.wake();
    });
  }

  write(request: object): this {
    this.stream.write(request);
    return this;
  }

  /** The next answer that `pick` gives something for; those before it are passed over. Rejects when the stream ends first. */
  async next<T>(pick: (answer: Message) => T | undefined | null): Promise<T> {
    for (;;) {
      while (this.seen < this.answers.length) {
        const picked = pick(this.answers[this.seen++] as Message);
        if (picked !== undefined && picked !== null) {
          return picked;
        }
      }
      if (this.over) {
        throw this.error ?? new Error('the stream ended');
      }
      await new Promise<void>((resolve) => {
        this.wake = resolve;
      });
    }
  }

  async ended(): Promise<ServiceError | undefined> {
    while (!this.over) {
      await new Promise<void>((resolve) => {
        this.wake = resolve;
      });
    }
    return this.error;
  }
}

export function connectTo(address: string): TestClient {
  const definition = loadSync([kMessagingProto, kAdminProto, kHealthProto], {
    includeDirs: [protoRoot()],
    longs: String,
    enums: String,
    defaults: false,
    oneofs: true,
  });
  const loaded = loadPackageDefinition(definition) as unknown as {
    outrigger: { v1: Record<string, new (address: string, credentials: object, options?: object) => Client> };
    grpc: {
      health: { v1: Record<string, new (address: string, credentials: object, options?: object) => Client> };
    };
  };
  const make = (
    kind: (new (address: string, credentials: object, options?: object) => Client) | undefined,
  ): Client & Record<string, unknown> =>
    new (kind as new (address: string, credentials: object, options?: object) => Client)(
      address,
      credentials.createInsecure(),
      {
        'grpc.max_send_message_length': -1,
      },
    ) as Client & Record<string, unknown>;
  const messaging = make(loaded.outrigger.v1['MessagingService']);
  const admin = make(loaded.outrigger.v1['AdminService']);
  const health = make(loaded.grpc.health.v1['Health']);
  const open = (client: Record<string, unknown>, method: string, ...request: object[]): Recorder =>
    new Recorder(
      (client[method] as (...request: object[]) => ClientDuplexStream<object, Message>).call(
        client,
        ...request,
      ),
    );
  return {
    publish: () => open(messaging, 'publish'),
    subscribe: () => open(messaging, 'subscribe'),
    watchHealth: (service) => open(health, 'watch', { service }),
    call: (service, method, request = {}) =>
      new Promise((resolve, reject) => {
        const client = service === 'admin' ? admin : health;
        (client[method] as Unary).call(client, request, (error, answer) =>
          error === null ? resolve(answer) : reject(error),
        );
      }),
    close: () => [messaging, admin, health].forEach((each) => each.close()),
  };
}

export interface DecodedStatus {
  code: number;
  message: string;
  details: { type: string; fields: string[] }[];
}

function strings(bytes: Uint8Array): string[] {
  const reader = Reader.create(bytes);
  const out: string[] = [];
  while (reader.pos < reader.len) {
    const wireType = reader.uint32() & 7;
    if (wireType !== 2) {
      reader.skipType(wireType); // the numbers of a RetryInfo
      continue;
    }
    const part = reader.bytes();
    const text = Buffer.from(part).toString('latin1');
    out.push(...(/^[\x20-\x7e]+$/.test(text) ? [text] : strings(part)));
  }
  return out;
}

/** The google.rpc.Status of an error, its details reduced to type and strings. */
export function statusDetails(error: ServiceError): DecodedStatus {
  const reader = Reader.create(error.metadata.get('grpc-status-details-bin')[0] as Buffer);
  const status: DecodedStatus = { code: 0, message: '', details: [] };
  while (reader.pos < reader.len) {
    switch (reader.uint32() >>> 3) {
      case 1:
        status.code = reader.int32();
        break;
      case 2:
        status.message = reader.string();
        break;
      default: {
        const end = reader.uint32() + reader.pos;
        reader.uint32();
        const type = reader.string();
        reader.uint32();
        status.details.push({ type, fields: strings(reader.bytes()) });
        reader.pos = end;
      }
    }
  }
  return status;
}
