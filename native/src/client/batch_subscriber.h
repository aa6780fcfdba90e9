// SPDX-License-Identifier: Apache-2.0
// One subscriber of the messaging API: reads the images of a subscription, spends credit, and writes what it has to say as encoded
// SubscribeResponse messages. Three sides: the poll thread (which is also the conductor thread of the client), whoever grants credit, and
// one consumer that takes finished chunks. The API's slow-subscriber policies live here; threads and JavaScript do not.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "client/batch_codec.h"
#include "client/image.h"

namespace outrigger::client {

enum class SlowPolicy : uint8_t { kBlock, kDisconnectAfter, kSkip };

struct SubscriberOptions {
  SlowPolicy policy = SlowPolicy::kBlock;
  int64_t disconnectAfterNs = 0;
  size_t maxBatchBytes = 256 * 1024;
  bool reliable = true;  // false: a PAD inside a term stands for lost datagrams
};

struct SubscriberStats {
  uint64_t messages = 0;  // delivered: taken by the consumer
  uint64_t bytes = 0;
  uint64_t skipped = 0;
  uint64_t gaps = 0;
  uint32_t images = 0;
};

class BatchSubscriber {
 public:
  explicit BatchSubscriber(SubscriberOptions options);

  // Any thread. Both saturate.
  void addCredit(uint64_t messages, uint64_t bytes);
  SubscriberStats stats() const;

  // Poll thread: the image handlers of the subscription.
  void onAvailable(const std::shared_ptr<Image>& image);
  void onUnavailable(const std::shared_ptr<Image>& image, int64_t nowNs);

  // Poll thread. Delivers what credit and memory allow, in fair turns over the images. Returns how much was done.
  int32_t poll(int64_t nowNs);
  // Poll thread: poll() would do something now. Between announcing a sleep and sleeping.
  bool hasWork() const;
  // Poll thread: when poll() has a timer to serve, INT64_MAX for never.
  int64_t nextDeadlineNs() const;
  // Policy DISCONNECT_AFTER has run out.
  bool isSlow() const { return slow_; }
  // Poll thread. The log of an image holds what no publisher writes: nothing after it can be trusted, and it stands still for good.
  bool isDamaged() const { return damaged_; }
  // Something is there to take.
  bool hasResponses() const;

  // Consumer. Swaps `out`, which must be cleared, with what has been written; everything in it is sealed. False when there is nothing.
  // *wasFull: the poll thread may be waiting for this and wants a wake.
  bool take(ResponseChunk& out, bool* wasFull);

 private:
  struct Reading {
    std::shared_ptr<Image> image;
    int64_t delivered = 0;  // position after the last message that was delivered or counted as skipped
    int64_t skippedFrom = 0;
    uint64_t skipped = 0;  // in the gap that is not reported yet
    int64_t gapSaidNs = INT64_MIN;
  };
  // Where a session stood that ended without saying that it was complete.
  struct Ended {
    int32_t sessionId;
    int64_t position;
  };

  int32_t pollImage(Reading& reading, int64_t nowNs);
  PollAction deliver(Reading& reading, const uint8_t* message, int32_t length, const FragmentHeader& header);
  void sayGap(Reading& reading, int64_t nowNs);
  void addGap(int32_t sessionId, int64_t from, int64_t to, uint64_t messages, GapCode reason);
  bool waitForCredit(int64_t nowNs);
  bool hasCredit() const { return creditMessages_ > 0 && creditBytes_ > 0; }
  bool isFull() const { return chunk_.size() >= fullBytes_; }
  bool anyImageHasWork() const;

  const SubscriberOptions options_;
  const size_t fullBytes_;

  mutable std::mutex mutex_;  // all below, except what the poll thread alone uses
  ResponseChunk chunk_;
  uint64_t creditMessages_ = 0;
  int64_t creditBytes_ = 0;  // below zero after an overdraft
  SubscriberStats taken_;

  // Poll thread.
  std::vector<Reading> readings_;
  std::deque<Ended> ended_;
  size_t next_ = 0;
  bool waiting_ = false;  // messages wait for credit, since waitingSinceNs_
  int64_t waitingSinceNs_ = 0;
  int64_t lagSaidNs_ = 0;  // how long they had waited when that was last said
  bool slow_ = false;
  bool damaged_ = false;
};

}  // namespace outrigger::client
