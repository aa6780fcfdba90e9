// SPDX-License-Identifier: Apache-2.0
// The gRPC server: services put together, addresses bound, shut down. Service logic lives elsewhere and knows nothing of grpc-js.
import {
  Server,
  ServerCredentials,
  type sendUnaryData,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type ServiceDefinition,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import { loadSync, type PackageDefinition } from '@grpc/proto-loader';
import { ReflectionService } from '@grpc/reflection';
import { mkdirSync, unlinkSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Config } from '../config/schema';
import type { MessagingService } from '../messaging/messaging_service';
import type { AdminMethod } from './admin_service';
import { adaptCall, pipelineWrites, statusOf } from './call_adapter';
import type { HealthState, ServingStatus } from './health';
import { kAdminProto, kHealthProto, kMessagingProto, protoRoot } from './proto_files';
import { RpcCode, RpcError } from './rpc_error';
import { protectSocket, removeStaleSocket } from './socket_file';

export const kMessagingService = 'outrigger.v1.MessagingService';
export const kAdminService = 'outrigger.v1.AdminService';

export interface GrpcServerDependencies {
  readonly config: Config;
  readonly messaging: MessagingService;
  readonly admin: Readonly<Record<string, AdminMethod>>;
  readonly health: HealthState;
}

const identity = (bytes: Buffer): Buffer => bytes;

function serviceOf(definition: PackageDefinition, name: string): ServiceDefinition {
  return definition[name] as ServiceDefinition;
}

/** The same service, its messages passed through as bytes. */
function withIdentitySerializers(service: ServiceDefinition): ServiceDefinition {
  return Object.fromEntries(
    Object.entries(service).map(([name, method]) => [
      name,
      {
        ...method,
        requestSerialize: identity,
        requestDeserialize: identity,
        responseSerialize: identity,
        responseDeserialize: identity,
      },
    ]),
  );
}

function asError(thrown: unknown): RpcError {
  return thrown instanceof RpcError
    ? thrown
    : new RpcError(RpcCode.INTERNAL, `unexpected: ${(thrown as Error).message}`, { reason: 'INTERNAL' });
}

function unary(method: (request: object) => object) {
  return (call: ServerUnaryCall<object, object>, callback: sendUnaryData<object>): void => {
    try {
      callback(null, method(call.request));
    } catch (thrown) {
      callback(statusOf(asError(thrown)));
    }
  };
}

function healthImplementation(health: HealthState): UntypedServiceImplementation {
  return {
    Check: unary((request) => ({ status: health.check((request as { service: string }).service) })),
    Watch: (call: ServerWritableStream<{ service: string }, { status: ServingStatus }>): void => {
      const stop = health.watch(call.request.service, (status) => call.write({ status }));
      call.on('cancelled', stop);
      call.on('close', stop);
    },
  };
}

export class GrpcServer {
  private readonly server: Server;
  private boundSocket: string | undefined;
  private boundAddress: string | undefined;

  constructor(private readonly deps: GrpcServerDependencies) {
    const { config } = deps;
    this.server = new Server({
      'grpc.max_receive_message_length': config.maxMessageBytes,
      'grpc.max_send_message_length': -1,
      'grpc.max_concurrent_streams': config.maxStreams + 64, // admin and health must get in when all data streams are taken
      'grpc-node.flow_control_window': config.grpcFlowControlWindow,
      'grpc-node.max_session_memory': 1024, // MB: the limit counts what waits for a window, which our own bounds keep small
      interceptors: [pipelineWrites(`/${kMessagingService}/`)],
    });
    const definition = loadSync([kMessagingProto, kAdminProto, kHealthProto], {
      includeDirs: [protoRoot()],
      longs: String,
      enums: String,
      defaults: true,
    });
    this.server.addService(withIdentitySerializers(serviceOf(definition, kMessagingService)), {
      Publish: (call: ServerDuplexStream<Buffer, Buffer>) => deps.messaging.publish(adaptCall(call)),
      Subscribe: (call: ServerDuplexStream<Buffer, Buffer>) => deps.messaging.subscribe(adaptCall(call)),
    });
    this.server.addService(
      serviceOf(definition, kAdminService),
      Object.fromEntries(Object.entries(deps.admin).map(([name, method]) => [name, unary(method)])),
    );
    this.server.addService(serviceOf(definition, 'grpc.health.v1.Health'), healthImplementation(deps.health));
    if (config.grpcReflection) {
      new ReflectionService(definition).addToServer(this.server);
    }
  }

  /** Path of the UNIX socket, when there is one. */
  get socket(): string | undefined {
    return this.boundSocket;
  }

  /** host:port that TCP is bound to, when it is. */
  get address(): string | undefined {
    return this.boundAddress;
  }

  /** Binds what the configuration names. Rejects with a sentence that names the key. */
  async start(): Promise<void> {
    const { grpcSocket, grpcSocketMode, grpcSocketGroup, grpcListen } = this.deps.config;
    if (grpcSocket !== '') {
      mkdirSync(dirname(grpcSocket), { recursive: true });
      await removeStaleSocket(grpcSocket);
      await this.bind(`unix:${grpcSocket}`, 'grpcSocket', grpcSocket);
      this.boundSocket = grpcSocket;
      protectSocket(grpcSocket, grpcSocketMode, grpcSocketGroup);
    }
    if (grpcListen !== '') {
      const port = await this.bind(grpcListen, 'grpcListen', grpcListen);
      this.boundAddress = `${grpcListen.slice(0, grpcListen.lastIndexOf(':'))}:${port}`;
    }
  }

  /** Lets open calls end for `graceMs`, then cuts them. What is no call by then is not waited for either: grpc-js can't cut a connection that
   * never spoke HTTP/2, or that does not answer the goodbye, and would wait for it for ever. */
  async stop(graceMs: number): Promise<void> {
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
    if (this.boundSocket !== undefined) {
      try {
        unlinkSync(this.boundSocket);
      } catch {
        // Node removed it with the listener.
      }
    }
  }

  private bind(target: string, key: string, value: string): Promise<number> {
    return new Promise((resolve, reject) => {
      this.server.bindAsync(target, ServerCredentials.createInsecure(), (error, port) => {
        if (error === null) {
          resolve(port);
        } else {
          reject(
            new Error(
              `${key} ${value}: ${error.message}; choose an address that is free and that this process may bind`,
            ),
          );
        }
      });
    });
  }
}
