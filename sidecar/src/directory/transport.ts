// SPDX-License-Identifier: Apache-2.0
// The directory's stream over grpc-js: TLS with the CA file of now, the token file of now. No policy.
import {
  credentials,
  Client,
  Metadata,
  type ClientDuplexStream,
  type ServiceDefinition,
  type StatusObject,
} from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { readFileSync } from 'node:fs';
import { protoRoot } from '../grpc/proto_files';
import { retryAfterMsIn } from '../grpc/rpc_error';
import type { JoinResponse } from './messages';

export const kDirectoryProto = 'outrigger/v1/directory.proto';
const kMethod = 'Join';
const kGoodbyeMs = 1000;

export interface DirectoryStream {
  send(request: object): void;
  /** No handler is called any more, though answers may still be under way. */
  close(): void;
}

export interface DirectoryHandlers {
  onResponse(response: JoinResponse): void;
  /** The stream is over; `code` is the gRPC status, `retryAfterMs` what the directory asks to wait before the next one. Called once. */
  onEnd(code: number, message: string, retryAfterMs?: number): void;
}

export interface DirectoryTarget {
  /** host:port. */
  readonly address: string;
  /** PEM of the CA that signed the directory's certificate. */
  readonly caFile: string;
  readonly tokenFile: string;
}

export type OpenDirectoryStream = (handlers: DirectoryHandlers) => DirectoryStream;

/** Opens streams to `target`; each throws when a file can't be read. Both files are read each time: the kubelet and the operator renew them. */
export function directoryTransport(target: DirectoryTarget): OpenDirectoryStream {
  const definition = loadSync(kDirectoryProto, {
    includeDirs: [protoRoot()],
    enums: String,
    defaults: true,
    oneofs: true,
  });
  const service = definition['outrigger.v1.DirectoryService'] as ServiceDefinition;
  const method = service[kMethod] as ServiceDefinition[string];
  return (handlers) => {
    const client = new Client(target.address, credentials.createSsl(readFileSync(target.caFile)), {
      'grpc.keepalive_time_ms': 10_000,
      'grpc.keepalive_timeout_ms': 10_000,
      'grpc.keepalive_permit_without_calls': 1,
      // A pool of our own for each stream: a new stream is a new connection, which may reach another replica.
      'grpc.use_local_subchannel_pool': 1,
    });
    const metadata = new Metadata();
    metadata.set('authorization', `Bearer ${readFileSync(target.tokenFile, 'utf8').trim()}`);
    const call = client.makeBidiStreamRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      metadata,
    ) as ClientDuplexStream<object, JoinResponse>;
    let over = false;
    const end = ({ code, details, metadata: trailers }: StatusObject): void => {
      if (!over) {
        over = true;
        client.close();
        const [status] = trailers.get('grpc-status-details-bin');
        handlers.onEnd(code, details, Buffer.isBuffer(status) ? retryAfterMsIn(status) : undefined);
      }
    };
    call.on('data', (response: JoinResponse) => {
      if (!over) {
        handlers.onResponse(response);
      }
    });
    call.on('error', () => undefined); // the status says it
    call.on('status', end);
    return {
      send: (request) => {
        if (!over) {
          call.write(request);
        }
      },
      // What was sent last is still on its way: the call is ended, and cut only when the other side does not answer that.
      close: () => {
        if (over) {
          return;
        }
        over = true;
        const cut = setTimeout(() => {
          call.cancel();
          client.close();
        }, kGoodbyeMs);
        cut.unref();
        call.on('status', () => {
          clearTimeout(cut);
          client.close();
        });
        call.end();
      },
    };
  };
}
