// SPDX-License-Identifier: Apache-2.0
// What a stream needs before its target can be used: nothing for a topic of the file, a registration for one of the directory, a rule of the
// driver's policy for a channel.
import type { DirectoryClient } from '../directory/directory_client';
import type { Role } from '../directory/messages';
import type { TargetMessage } from '../grpc/codec';
import type { DriverPolicy } from '../policy/driver_policy';
import type { TopicStore } from '../topics/topic_store';

/** Held for as long as the stream is open. */
export interface Access {
  /** Idempotent. */
  close(): void;
}

export interface TopicAccess {
  /** Rejects with RpcError when the topic may not be opened, or can't be looked up. */
  open(target: TargetMessage | undefined, role: Role): Promise<Access>;
}

const kFree: Access = { close: () => undefined };

/**
 * Access by the directory; without one, everything that there is may be opened.
 * @param policy where the driver has one: it learns of channels as they are opened. undefined, too, while no channel may be.
 */
export function topicAccess(
  topics: TopicStore,
  directory: DirectoryClient | undefined,
  policy: DriverPolicy | undefined,
): TopicAccess {
  return {
    open: async (target, role) => {
      const channel = target?.channel;
      if (channel !== undefined && policy !== undefined) {
        return { close: policy.open(role, channel.uri, channel.streamId) };
      }
      const name = target?.topic;
      if (directory === undefined || name === undefined || name === '' || topics.isLocal(name)) {
        return kFree;
      }
      await directory.acquire(name, role);
      let open = true;
      return {
        close: () => {
          if (open) {
            open = false;
            directory.release(name, role);
          }
        },
      };
    },
  };
}
