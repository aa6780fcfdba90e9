// SPDX-License-Identifier: Apache-2.0
// `outrigger leave`: one call of the admin service. It runs in a pod that ends, so it loads nothing that it does not need.
import { Client, credentials, type ServiceError } from '@grpc/grpc-js';
import { Reader } from 'protobufjs/minimal';
import { kExit, unavailable } from './exit';
import { json, type Out } from './output';

export interface LeaveOptions {
  readonly address: string;
  /** Milliseconds. */
  readonly timeout: number;
  readonly json?: boolean;
}

const kMethod = '/outrigger.v1.AdminService/Leave';
const asIs = (bytes: Buffer): Buffer => bytes;

/** LeaveResponse.streams: field 1, a varint that is left out when it is 0. */
function streamsOf(response: Buffer): number {
  const reader = Reader.create(response);
  let streams = 0;
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    if (tag >>> 3 === 1) {
      streams = reader.uint32();
    } else {
      reader.skipType(tag & 7);
    }
  }
  return streams;
}

export async function leave(options: LeaveOptions, out: Out): Promise<number> {
  const client = new Client(options.address, credentials.createInsecure());
  const deadline = Date.now() + options.timeout;
  try {
    const response = await new Promise<Buffer>((resolve, reject) => {
      client.makeUnaryRequest(kMethod, asIs, asIs, Buffer.alloc(0), { deadline }, (error, answer) => {
        if (error === null) {
          resolve(answer ?? Buffer.alloc(0));
        } else {
          reject(error);
        }
      });
    });
    const streams = streamsOf(response);
    out.line(options.json === true ? json({ streams }) : `leaving; ${streams} streams go on`);
    return kExit.ok;
  } catch (error) {
    const { details } = error as ServiceError;
    throw unavailable(`no sidecar answers at ${options.address}: ${details}`);
  } finally {
    client.close();
  }
}
