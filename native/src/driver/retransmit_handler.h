// SPDX-License-Identifier: Apache-2.0
// Which repairs of a publication are under way: several ranges at once, each lingering about one round trip before it may be sent again.
// Sender thread only; no allocation.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "driver/driver_config.h"

namespace outrigger::driver {

class RetransmitHandler {
 public:
  // A tenth of the datagrams of a 4 MiB window: at 10 % loss so many repairs are under way at a time. What has no room is asked for again later.
  static constexpr int32_t kCapacity = 320;
  struct Range {
    int64_t begin = 0;
    int64_t end = 0;
  };

  explicit RetransmitHandler(int64_t maxLingerNs) : maxLingerNs_(maxLingerNs) {}

  // A repair goes out again no sooner than this after the last one. Below a receiver's own repeat time (its measured round trip), so that a
  // repeated NAK that follows a lost repair is answered, not swallowed. Aeron's fixed 10 ms until the round trip is known.
  int64_t lingerNs() const {
    return smoothedRttNs_ == 0 ? maxLingerNs_ : std::clamp(smoothedRttNs_ * 3 / 4, std::min(kMinLingerNs, maxLingerNs_), maxLingerNs_);
  }
  int64_t smoothedRttNs() const { return smoothedRttNs_; }

  void onRttSample(int64_t rttNs) {
    if (rttNs < 0 || rttNs > 10 * kSecondNs) return;
    // RFC 6298 smoothing, alpha 1/8.
    smoothedRttNs_ = smoothedRttNs_ == 0 ? std::max<int64_t>(rttNs, 1) : smoothedRttNs_ + (rttNs - smoothedRttNs_) / 8;
  }

  // Cuts what is still lingering out of [begin, end) and books the rest as sent now. Returns how many ranges to send; `suppressedBytes`
  // is what was cut away, `overflow` is set when the table is full and a range could not be booked (it is not sent).
  template <size_t N>
  int32_t onNak(int64_t begin, int64_t end, int64_t nowNs, std::array<Range, N>& out, int64_t& suppressedBytes, bool& overflow) {
    expire(nowNs);
    suppressedBytes = 0;
    overflow = false;
    int32_t outCount = 0;
    int64_t cursor = begin;
    while (cursor < end) {
      // The lingering range that covers or follows the cursor first.
      const Entry* next = nullptr;
      for (int32_t i = 0; i < count_; ++i) {
        const Entry& entry = entries_[static_cast<size_t>(i)];
        if (entry.end > cursor && entry.begin < end && (next == nullptr || entry.begin < next->begin)) next = &entry;
      }
      const int64_t gapEnd = next == nullptr ? end : std::max(cursor, std::min(next->begin, end));
      if (gapEnd > cursor) {
        if (outCount == static_cast<int32_t>(N) || count_ + outCount >= kCapacity) {
          overflow = true;
          break;
        }
        out[static_cast<size_t>(outCount++)] = {cursor, gapEnd};
      }
      if (next == nullptr) break;
      const int64_t coveredEnd = std::min(next->end, end);
      suppressedBytes += coveredEnd - std::max(cursor, next->begin);
      cursor = coveredEnd;
    }
    return outCount;
  }

  // A range was really sent: it lingers from now on.
  void onSent(int64_t begin, int64_t end, int64_t nowNs) {
    if (count_ < kCapacity && end > begin) entries_[static_cast<size_t>(count_++)] = {begin, end, nowNs + lingerNs()};
  }

  void expire(int64_t nowNs) {
    for (int32_t i = count_ - 1; i >= 0; --i) {
      if (entries_[static_cast<size_t>(i)].expiryNs <= nowNs) entries_[static_cast<size_t>(i)] = entries_[static_cast<size_t>(--count_)];
    }
  }

  int32_t pending() const { return count_; }

 private:
  static constexpr int64_t kMinLingerNs = 50 * kMicroNs;
  struct Entry {
    int64_t begin = 0;
    int64_t end = 0;
    int64_t expiryNs = 0;
  };

  int64_t maxLingerNs_;
  int64_t smoothedRttNs_ = 0;
  std::array<Entry, kCapacity> entries_{};
  int32_t count_ = 0;
};

}  // namespace outrigger::driver
