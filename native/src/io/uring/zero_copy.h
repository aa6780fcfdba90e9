// SPDX-License-Identifier: Apache-2.0
// When a send goes without a copy (IORING_OP_SENDMSG_ZC), and what memory the kernel still reads because of it. It decides late whether it really
// does without: it copies all the same where the route needs the bytes, over loopback and veth always, and then pinning the pages and the second
// completion came on top of the copy. It says so in that completion (IORING_NOTIF_USAGE_ZC_COPIED), which is what is learned from here, for each
// destination: one may be on this node and the next behind a NIC.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

#include "io/backend.h"

namespace outrigger::io {

// What a destination's path did with the messages that went without a copy.
class ZeroCopyRoute {
 public:
  // A copy or two may be those of a neighbour that was not resolved, or of somebody who captures.
  static constexpr uint32_t kCopiesInARow = 8;
  // Messages that go plainly before it is tried again: routes and devices change. Doubled each time that it was in vain.
  static constexpr uint64_t kFirstPause = 4096;
  static constexpr uint64_t kLongestPause = 1U << 20;

  // For each message, once.
  bool wants() {
    if (pausedMessages_ == 0) return true;
    --pausedMessages_;
    return false;
  }
  void onNotification(bool copied) {
    if (!copied) {
      inARow_ = 0;
      pause_ = kFirstPause;
    } else if (++inARow_ >= kCopiesInARow) {
      pause();
    }
  }
  void pause() {
    if (pausedMessages_ > 0) return;
    inARow_ = 0;
    pausedMessages_ = pause_;
    pause_ = pause_ * 2 < kLongestPause ? pause_ * 2 : kLongestPause;
  }
  bool paused() const { return pausedMessages_ > 0; }

 private:
  uint32_t inARow_ = 0;
  uint64_t pausedMessages_ = 0;
  uint64_t pause_ = kFirstPause;
};

// One sender's. The owner thread decides and learns; anyone reads the counts and the description.
class ZeroCopySends {
 public:
  // Below it a copy costs less than pinning pages and a notification (docs/backends.md has the measurement).
  static constexpr uint32_t kMinLength = 16 * 1024;
  // Messages under way: more of them go plainly. 2 MiB of locked memory at the most, of a limit that all processes of a user share.
  static constexpr uint32_t kMaxPending = 32;

  explicit ZeroCopySends(ZeroCopyMode mode) : mode_(mode) {}

  // Not again in this instance's life, and why: the errno with which the kernel refuses it.
  void forbid(int err) { forbidden_.store(err, std::memory_order_relaxed); }
  bool on() const { return mode_ != ZeroCopyMode::kOff && forbidden_.load(std::memory_order_relaxed) == 0; }

  // For `length` bytes of an item, once a message. Only memory that is lent may be read after the call.
  bool wants(const TxItem& item, uint32_t length) {
    if (!item.lent || pendingCount_ == kMaxPending) return false;
    if (mode_ == ZeroCopyMode::kOn) return true;
    return length >= kMinLength && routes_[routeOf(*item.nextHop)].wants();
  }
  // It is handed to the kernel; returns the number by which its completions name it.
  uint64_t add(const NextHop& to, const void* data, size_t length);
  // Its first completion. `more`: a notification follows, and until then the memory is read. It may also have come before.
  void onEnd(uint64_t number, int32_t result, bool more);
  void onNotification(uint64_t number, bool copied);
  // The kernel has no memory to lock for it (RLIMIT_MEMLOCK), can't send this message so, or none at all. False: `err` is the message's own.
  static bool isRefusal(int err);
  // What it refused went plainly.
  void onRefused(const NextHop& to, int err);

  uint32_t pending() const { return pendingCount_; }
  // Of messages under way; a destination that keeps somebody waiting is left alone for a while. Null: any, which keeps no log waiting.
  bool stillReads(const uint8_t* data, size_t length);
  // Nothing more will be heard of them.
  void forget() { pendingCount_ = 0; }

  int64_t sent() const { return sent_.load(std::memory_order_relaxed); }
  int64_t copied() const { return copied_.load(std::memory_order_relaxed); }
  int64_t refused() const { return refused_.load(std::memory_order_relaxed); }
  int64_t late() const { return late_.load(std::memory_order_relaxed); }
  std::string describe() const;  // for `explain`

 private:
  // Two destinations that share one share its verdict.
  static constexpr size_t kRoutes = 64;
  struct Pending {
    uint64_t number = 0;
    const uint8_t* data = nullptr;
    size_t length = 0;
    uint8_t route = 0;
    bool ended = false;
    bool notified = false;
    bool copied = false;
    bool late = false;
  };

  static uint8_t routeOf(const NextHop& to) { return static_cast<uint8_t>(to.address().hash() % kRoutes); }
  Pending* find(uint64_t number);
  void settle(Pending& one);
  void remove(Pending& one) { one = pending_[--pendingCount_]; }

  const ZeroCopyMode mode_;
  std::atomic<int> forbidden_{0};
  std::array<ZeroCopyRoute, kRoutes> routes_{};
  std::array<Pending, kMaxPending> pending_{};
  uint32_t pendingCount_ = 0;
  uint64_t lastNumber_ = 0;
  std::atomic<int64_t> sent_{0};
  std::atomic<int64_t> copied_{0};
  std::atomic<int64_t> refused_{0};
  std::atomic<int64_t> late_{0};
};

// 0, or the errno with which this kernel refuses it. EINVAL: it does not report whether it copied, as before Linux 6.2.
int probeZeroCopy();
std::string explainZeroCopyRefusal(int err);

}  // namespace outrigger::io
