// SPDX-License-Identifier: Apache-2.0
// What a sidecar says of itself over its admin service, for `explain --sidecar`. A sidecar that does not answer is an answer too.
import { Client, credentials, type ServiceDefinition, type ServiceError } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import type { MemberPath } from '../messaging/member_paths';
import { kAdminProto, protoRoot } from '../grpc/proto_files';

/** As outrigger.v1.TopicInfo. */
export interface ReportedTopic {
  readonly name: string;
  readonly streamId: number;
  readonly flowControl: string;
  readonly reliable: boolean;
  readonly channel: string;
  readonly publishStreams: number;
  readonly subscribeStreams: number;
  readonly members: readonly MemberPath[];
}

export interface SidecarAnswer {
  /** Why it did not answer; empty when it did. */
  readonly error: string;
  /** As outrigger.v1.GetStatusResponse. */
  readonly status: Readonly<Record<string, unknown>>;
  /** Those that apps have open, and those of the topics file. */
  readonly topics: readonly ReportedTopic[];
}

const kAnswerMs = 5000;

export async function askSidecar(address: string): Promise<SidecarAnswer> {
  const definition = loadSync(kAdminProto, {
    includeDirs: [protoRoot()],
    longs: String,
    enums: String,
    defaults: true,
    oneofs: true,
  });
  const service = definition['outrigger.v1.AdminService'] as ServiceDefinition;
  const client = new Client(address, credentials.createInsecure());
  const deadline = Date.now() + kAnswerMs;
  const call = <T>(name: string): Promise<T> =>
    new Promise((resolve, reject) => {
      const method = service[name] as ServiceDefinition[string];
      client.makeUnaryRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        {},
        { deadline },
        (error, answer) => (error === null ? resolve(answer as T) : reject(error)),
      );
    });
  try {
    const status = await call<Record<string, unknown>>('GetStatus');
    const { topics } = await call<{ topics: ReportedTopic[] }>('ListTopics');
    return { error: '', status, topics };
  } catch (error) {
    return {
      error: `no sidecar answers at ${address}: ${(error as ServiceError).details}`,
      status: {},
      topics: [],
    };
  } finally {
    client.close();
  }
}
