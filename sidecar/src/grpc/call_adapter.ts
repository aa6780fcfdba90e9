// SPDX-License-Identifier: Apache-2.0
// The one place where a grpc-js call becomes a DuplexStream, and where writes are pipelined. No policy here.
import {
  Metadata,
  ServerInterceptingCall,
  type ServerDuplexStream,
  type ServerInterceptingCallInterface,
  type ServerInterceptor,
} from '@grpc/grpc-js';
import { buffersPassed } from '../base/young_garbage';
import type { DuplexHandlers, DuplexStream } from './duplex_stream';
import { encodeStatus, type RpcError } from './rpc_error';

/** Bytes handed to HTTP/2 before the next response waits. grpc-js alone waits for each write, one turn of the event loop a response. */
const kWriteAheadBytes = 1024 * 1024;

export interface StatusLike {
  readonly code: number;
  readonly details: string;
  readonly metadata: Metadata;
}

/** Status, message and google.rpc details as grpc-js takes them. */
export function statusOf(error: RpcError): StatusLike {
  const metadata = new Metadata();
  metadata.set('grpc-status-details-bin', encodeStatus(error));
  return { code: error.code, details: error.message, metadata };
}

export function adaptCall(call: ServerDuplexStream<Buffer, Buffer>): DuplexStream {
  let over = false;
  return {
    peer: call.getPeer(),
    start(handlers: DuplexHandlers): void {
      call.on('data', (request: Buffer) => {
        buffersPassed(request.length);
        handlers.onRequest(request);
      });
      call.on('end', () => handlers.onHalfClose());
      call.on('drain', () => handlers.onDrain());
      call.on('cancelled', () => {
        if (!over) {
          over = true;
          handlers.onCancel();
        }
      });
    },
    pause: () => void call.pause(),
    resume: () => void call.resume(),
    write(response: Buffer): boolean {
      buffersPassed(response.length);
      return over || call.write(response);
    },
    end(error?: RpcError): void {
      if (over) {
        return;
      }
      over = true;
      call.resume(); // what the client still sends is read and dropped, so that its side can close
      if (error === undefined) {
        call.end();
      } else {
        call.emit('error', Object.assign(new Error(error.message), statusOf(error)));
      }
    },
  };
}

class PipelinedCall extends ServerInterceptingCall {
  private inFlight = 0;
  private waiting: (() => void) | undefined;

  override sendMessage(message: Buffer, callback: () => void): void {
    this.inFlight += message.length;
    super.sendMessage(message, () => {
      this.inFlight -= message.length;
      const waiting = this.waiting;
      if (waiting !== undefined && this.inFlight < kWriteAheadBytes) {
        this.waiting = undefined;
        waiting();
      }
    });
    if (this.inFlight < kWriteAheadBytes) {
      callback();
    } else {
      this.waiting = callback;
    }
  }
}

/** For methods whose responses are Buffers already: several of them may be on their way to HTTP/2 at a time. */
export function pipelineWrites(pathPrefix: string): ServerInterceptor {
  return (method, call: ServerInterceptingCallInterface) =>
    method.path.startsWith(pathPrefix) ? new PipelinedCall(call) : new ServerInterceptingCall(call);
}
