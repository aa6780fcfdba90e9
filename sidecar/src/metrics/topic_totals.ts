// SPDX-License-Identifier: Apache-2.0
// What went through the gRPC streams, by topic, since the process started. Streams add what they did, so a stream that closes takes nothing
// away and totals never go back.

export interface Totals {
  publishedMessages: number;
  publishedBytes: number;
  publishRefusedMessages: number;
  publishDroppedMessages: number;
  deliveredMessages: number;
  deliveredBytes: number;
  skippedMessages: number;
  gaps: number;
  slowDisconnects: number;
  /** Streams open now; the only ones that go down again. */
  publishStreams: number;
  subscribeStreams: number;
}

/** Stands for every explicit channel, so that clients can't make series at will. */
export const kChannelLabel = '(channel)';

export class TopicTotals {
  private readonly byTopic = new Map<string, Totals>();

  of(topic: string): Totals {
    let totals = this.byTopic.get(topic);
    if (totals === undefined) {
      totals = {
        publishedMessages: 0,
        publishedBytes: 0,
        publishRefusedMessages: 0,
        publishDroppedMessages: 0,
        deliveredMessages: 0,
        deliveredBytes: 0,
        skippedMessages: 0,
        gaps: 0,
        slowDisconnects: 0,
        publishStreams: 0,
        subscribeStreams: 0,
      };
      this.byTopic.set(topic, totals);
    }
    return totals;
  }

  entries(): IterableIterator<[string, Totals]> {
    return this.byTopic.entries();
  }
}
