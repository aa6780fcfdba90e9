// SPDX-License-Identifier: Apache-2.0
// The directory on the wire: grpc-js over TLS, whose certificate can be replaced while streams are open.
import {
  experimental,
  Server,
  type Metadata,
  type ServerDuplexStream,
  type ServiceDefinition,
} from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import type { Log } from '../kit/informer';
import { hostToBind } from '../../../sidecar/src/base/any_address';
import { statusOf } from '../../../sidecar/src/grpc/call_adapter';
import { protoRoot } from '../../../sidecar/src/grpc/proto_files';
import { RpcCode, RpcError } from '../../../sidecar/src/grpc/rpc_error';
import type { Directory, JoinRequest } from './directory';
import type { DirectorySession } from './session';

export const kDirectoryProto = 'outrigger/v1/directory.proto';
export const kDirectoryService = 'outrigger.v1.DirectoryService';

export interface ServingCertificate {
  /** PEM, leaf first. */
  readonly certificate: Buffer;
  readonly privateKey: Buffer;
}

/** Hands a certificate to grpc-js, and each later one: connections that are made from then on use it. */
export class CertificateSource implements experimental.CertificateProvider {
  private readonly listeners = new Set<experimental.IdentityCertificateUpdateListener>();

  constructor(private current: ServingCertificate) {}

  update(next: ServingCertificate): void {
    this.current = next;
    this.listeners.forEach((listener) => listener(next));
  }

  addIdentityCertificateListener(listener: experimental.IdentityCertificateUpdateListener): void {
    this.listeners.add(listener);
    process.nextTick(() => listener(this.current));
  }

  removeIdentityCertificateListener(listener: experimental.IdentityCertificateUpdateListener): void {
    this.listeners.delete(listener);
  }

  // Callers prove themselves by token, so no CA is needed.
  addCaCertificateListener(): void {
    return;
  }

  removeCaCertificateListener(): void {
    return;
  }
}

/** Bytes of one request: a hello with eight endpoints is under one KiB. */
const kMaxRequestBytes = 16 * 1024;
/** A sidecar whose node vanished is noticed by then. */
const kKeepaliveMs = 10_000;
/** What a stream says before its token is checked waits; more than this ends it. */
const kMaxEarlyRequests = 1100;

function bearer(metadata: Metadata): string | undefined {
  const value = metadata.get('authorization')[0];
  return typeof value === 'string' ? /^Bearer (\S+)$/i.exec(value)?.[1] : undefined;
}

function asError(thrown: unknown): RpcError {
  return thrown instanceof RpcError
    ? thrown
    : new RpcError(RpcCode.INTERNAL, `unexpected: ${(thrown as Error).message}`, { reason: 'INTERNAL' });
}

function join(call: ServerDuplexStream<JoinRequest, object>, directory: Directory): void {
  let session: DirectorySession | undefined;
  let over = false;
  const gone = new AbortController();
  const early: JoinRequest[] = [];
  const end = (error: RpcError): void => {
    if (!over) {
      over = true;
      gone.abort();
      call.resume();
      call.emit('error', statusOf(error));
    }
  };
  call.on('data', (request: JoinRequest) => {
    if (session !== undefined) {
      session.onRequest(request);
    } else if (early.push(request) > kMaxEarlyRequests) {
      end(
        new RpcError(RpcCode.RESOURCE_EXHAUSTED, 'too many requests before the answer to hello', {
          reason: 'TOO_MANY_REQUESTS',
        }),
      );
    }
  });
  call.on('drain', () => session?.onDrain());
  const leave = (): void => {
    over = true;
    gone.abort();
    if (session !== undefined) {
      directory.left(session);
    }
  };
  call.on('end', () => {
    if (!over) {
      over = true;
      call.end();
    }
    leave();
  });
  call.on('cancelled', leave);
  const stream = { send: (response: object) => over || call.write(response), end };
  directory.admit(bearer(call.metadata), stream, gone.signal).then(
    (admitted) => {
      if (over) {
        directory.left(admitted);
        return;
      }
      session = admitted;
      early.splice(0).forEach((request) => admitted.onRequest(request));
    },
    (error: unknown) => end(asError(error)),
  );
}

/** host:port as grpc-js takes it. */
async function addressToBind(address: string): Promise<string> {
  const all = '[::]:';
  const ipv4Alone = address.startsWith(all) && (await hostToBind('::')) !== '::';
  return ipv4Alone ? `0.0.0.0:${address.slice(all.length)}` : address;
}

export class DirectoryServer {
  private readonly server: Server;

  constructor(
    private readonly directory: Directory,
    private readonly certificates: CertificateSource,
    private readonly log: Log,
  ) {
    this.server = new Server({
      'grpc.max_receive_message_length': kMaxRequestBytes,
      'grpc.keepalive_time_ms': kKeepaliveMs,
      'grpc.keepalive_timeout_ms': kKeepaliveMs,
      'grpc.keepalive_permit_without_calls': 1,
    });
    const definition = loadSync(kDirectoryProto, {
      includeDirs: [protoRoot()],
      enums: String,
      defaults: true,
      oneofs: true,
    });
    this.server.addService(definition[kDirectoryService] as ServiceDefinition, {
      Join: (call: ServerDuplexStream<JoinRequest, object>) => join(call, directory),
    });
  }

  /** Listens and starts the directory. Resolves with the port. */
  async start(address: string): Promise<number> {
    const credentials = experimental.createCertificateProviderServerCredentials(
      this.certificates,
      null,
      false,
    );
    const where = await addressToBind(address);
    const port = await new Promise<number>((resolve, reject) => {
      this.server.bindAsync(where, credentials, (error, bound) => {
        if (error === null) {
          resolve(bound);
        } else {
          reject(new Error(`directory address ${address}: ${error.message}; choose one that is free`));
        }
      });
    });
    this.directory.start();
    this.log.info({ address, port }, 'directory serves');
    return port;
  }

  async stop(graceMs: number): Promise<void> {
    await this.directory.close();
    await new Promise<void>((resolve) => {
      const timer = setTimeout(() => {
        this.server.forceShutdown();
        resolve();
      }, graceMs);
      this.server.tryShutdown(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }
}
