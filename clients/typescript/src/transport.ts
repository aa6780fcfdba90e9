// SPDX-License-Identifier: Apache-2.0
// The one file that knows grpc-js: a channel to a sidecar, and a bidirectional call on it as bytes in and bytes out.
import { Client, credentials, Metadata, type ServiceError } from '@grpc/grpc-js';
import { RpcCode, type RpcError } from './errors';
import { errorOf } from './status_details';

export interface CallHandlers {
  onAnswer(answer: Buffer): void;
  /** The call is over; called once, and nothing after it. Without an error it ended well. */
  onEnd(error: RpcError | undefined): void;
}

export interface Call {
  /** `done` when HTTP/2 has taken the bytes: they may be overwritten then. Not called when the call ends first. */
  write(request: Buffer, done?: () => void): void;
  /** No more requests. */
  halfClose(): void;
  /** Ends the call now; onEnd is not called any more. */
  cancel(): void;
}

const identity = (bytes: Buffer): Buffer => bytes;
const kWindowBytes = 8 * 1024 * 1024; // HTTP/2's own 64 KiB would stop a batch midway until a round trip later

export class Channel {
  private readonly client: Client;

  constructor(readonly address: string) {
    this.client = new Client(address, credentials.createInsecure(), {
      'grpc-node.flow_control_window': kWindowBytes,
      'grpc.max_receive_message_length': -1,
      'grpc.max_send_message_length': -1,
      'grpc.enable_retries': 0, // a retry of gRPC's own would keep a copy of every request
      'grpc.use_local_subchannel_pool': 1,
      'grpc.initial_reconnect_backoff_ms': 100,
      'grpc.min_reconnect_backoff_ms': 100,
      'grpc.max_reconnect_backoff_ms': 1000,
      'grpc.service_config_disable_resolution': 1,
    });
  }

  open(method: 'Publish' | 'Subscribe', handlers: CallHandlers): Call {
    const call = this.client.makeBidiStreamRequest(
      `/outrigger.v1.MessagingService/${method}`,
      identity,
      identity,
      new Metadata(),
      {},
    );
    let over = false;
    const end = (error: RpcError | undefined): void => {
      if (!over) {
        over = true;
        handlers.onEnd(error);
      }
    };
    call.on('data', (answer: Buffer) => {
      if (!over) {
        handlers.onAnswer(answer);
      }
    });
    // Besides statuses, Node's own stream errors come here: they have no metadata, and a code that is no number.
    call.on('error', (error: Error & Partial<ServiceError>) => {
      const details = error.metadata?.get('grpc-status-details-bin')[0];
      end(
        errorOf({
          code: typeof error.code === 'number' ? error.code : RpcCode.UNKNOWN,
          message: error.details ?? error.message,
          details: Buffer.isBuffer(details) ? details : undefined,
        }),
      );
    });
    call.on('status', (status: { code: number }) => {
      if (status.code === 0) {
        end(undefined);
      }
    });
    return {
      write: (request, done) => {
        if (!over) {
          call.write(request, (error: Error | null | undefined) => {
            if (error === null || error === undefined) {
              done?.();
            }
          });
        }
      },
      halfClose: () => void call.end(),
      cancel: () => {
        over = true;
        call.cancel();
      },
    };
  }

  close(): void {
    this.client.close();
  }
}
