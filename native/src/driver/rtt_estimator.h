// SPDX-License-Identifier: Apache-2.0
// The measured round trip of a stream, smoothed as in RFC 6298, and how long to wait before something unanswered is asked again.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "driver/intervals.h"

namespace outrigger::driver {

class RttEstimator {
 public:
  bool known() const { return smoothedNs_ != 0; }
  int64_t smoothedNs() const { return smoothedNs_; }
  // Shortest trip of late, 0 unknown: what comes back sooner is no answer.
  int64_t minimumNs() const { return minimumNs_; }

  // `probe`: of an RTTM, whose answer cannot be anything else; a repair may be the late original.
  void onSample(int64_t rttNs, bool probe) {
    if (rttNs < 0 || rttNs > kMaxRttNs) return;
    rttNs = std::max<int64_t>(rttNs, 1);
    if (probe) {
      // Creeps up by 1/16 a sample, so that a path that became longer is believed after a while.
      minimumNs_ = minimumNs_ == 0 ? rttNs : std::min(rttNs, minimumNs_ + minimumNs_ / 16 + 1);
    }
    if (smoothedNs_ == 0) {
      smoothedNs_ = rttNs;
      variationNs_ = rttNs / 2;
      return;
    }
    variationNs_ += (std::abs(smoothedNs_ - rttNs) - variationNs_) / 4;
    smoothedNs_ = std::max<int64_t>(1, smoothedNs_ + (rttNs - smoothedNs_) / 8);
  }

  // Never below the round trip. Until that is known, Aeron's retransmit linger: a stock sender answers no sooner.
  int64_t retryNs() const {
    if (!known()) return kUnknownRetryNs;
    return std::clamp(smoothedNs_ + 4 * variationNs_, kMinRetryNs, kMaxRetryNs);
  }

 private:
  static constexpr int64_t kUnknownRetryNs = 10 * kMilliNs;
  static constexpr int64_t kMinRetryNs = 100 * kMicroNs;  // Aeron's retry; below it scheduling noise would be taken for loss
  static constexpr int64_t kMaxRetryNs = kMaxRttNs;

  int64_t smoothedNs_ = 0;
  int64_t variationNs_ = 0;
  int64_t minimumNs_ = 0;
};

}  // namespace outrigger::driver
