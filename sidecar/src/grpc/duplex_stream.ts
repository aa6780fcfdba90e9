// SPDX-License-Identifier: Apache-2.0
// What the data-plane services know of an RPC: bytes in, bytes out, pause. One file beside this adapts grpc-js to it; a native HTTP/2 server
// can take its place.
import type { RpcError } from './rpc_error';

export interface DuplexHandlers {
  /** One encoded request. */
  onRequest(request: Buffer): void;
  /** The client will send nothing more. */
  onHalfClose(): void;
  /** The RPC is over without our doing: cancelled, or its connection broke. Nothing can be written any more. */
  onCancel(): void;
  /** There is room again after `write` answered false. */
  onDrain(): void;
}

export interface DuplexStream {
  readonly peer: string;
  /** Called once; requests come from then on. */
  start(handlers: DuplexHandlers): void;
  /** No more requests until `resume`; HTTP/2 flow control then stops the client. */
  pause(): void;
  resume(): void;
  /** Writes one encoded response; false when the client reads too slowly: wait for onDrain before offering much more. */
  write(response: Buffer): boolean;
  /** Ends the RPC, well without an error. Called once. */
  end(error?: RpcError): void;
}
