// SPDX-License-Identifier: Apache-2.0
// When an image asks for what it lacks: every hole on its own clock, several asked for at once. The first NAK waits as long as reordering
// lately took (unicast) or the optimal multicast back-off (a member of a group); a repeated one at least the measured round trip; and the
// bytes asked for in a round trip are bounded by the window, so that recovery is never an amplifier, whatever the sender does with NAKs: a
// stock one forgets a repair that lingers as soon as another hole is asked for. Receiver thread only; no allocation after construction.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/random.h"
#include "driver/driver_config.h"
#include "driver/gap_list.h"
#include "driver/intervals.h"
#include "driver/rtt_estimator.h"

namespace outrigger::driver {

struct LossDetectorConfig {
  bool group = false;                    // back-off of a group member
  int64_t delayNs = kMicroNs;            // before the first NAK, unicast
  int64_t maxBackoffNs = 10 * kMilliNs;  // group; scaled down to a few round trips
  int32_t groupSize = 10;
  size_t capacity = 64;  // holes at a time
  uint64_t seed = 0;
};

// Delay before a group member asks: optimal multicast feedback suppression (Nonnenmacher and Biersack 1999) with `unit` uniform in [0, 1).
int64_t optimalBackoffNs(double unit, int64_t maxBackoffNs, int32_t groupSize);

class LossDetector {
 public:
  explicit LossDetector(const LossDetectorConfig& config);

  const GapList& gaps() const { return gaps_; }
  RttEstimator& rtt() { return rtt_; }
  const RttEstimator& rtt() const { return rtt_; }

  // [begin, end) was skipped. False when there are too many holes: what revealed this one must then be dropped.
  bool onGap(int64_t begin, int64_t end, int64_t nowNs);
  // [begin, end), inside hole `index`, has arrived. False when it splits a hole and there are too many: drop it.
  bool onArrival(size_t index, int64_t begin, int64_t end, int64_t nowNs);
  // Index of the hole that holds all of [begin, end), or size().
  size_t holding(int64_t begin, int64_t end) const {
    const size_t index = gaps_.find(begin);
    return index < gaps_.size() && gaps_[index].begin <= begin && end <= gaps_[index].end ? index : gaps_.size();
  }

  // When poll has something to do, INT64_MAX when never.
  int64_t nextDueNs() const { return gaps_.empty() ? INT64_MAX : nextDueNs_; }

  // Calls ask(begin, end, first) for what is due and lies below `limit`, at most `budgetBytes` a round trip; `ask` answers false when it could
  // not send. Returns the number asked; `suppressed` is set when the budget held something back.
  template <typename Ask>
  int32_t poll(int64_t nowNs, int64_t limit, int64_t budgetBytes, Ask&& ask, bool& suppressed);
  // Unreliable: calls give(begin, end) for holes that are due; they are gone afterwards. Returns how many.
  template <typename Give>
  int32_t giveUp(int64_t nowNs, Give&& give);

  int64_t reorderDelayNs() const { return reorderDelayNs_; }

 private:
  static constexpr int32_t kMaxAsksPerPoll = 128;

  int64_t firstDelayNs();
  int64_t repeatDelayNs(int32_t naks);
  void onReordered(int64_t ageNs);

  LossDetectorConfig config_;
  GapList gaps_;
  RttEstimator rtt_;
  Random random_;
  int64_t nextDueNs_ = INT64_MAX;
  int64_t reorderDelayNs_ = 0;
  int64_t budgetResetNs_ = 0;
  int64_t askedBytes_ = 0;  // since the reset
};

template <typename Ask>
int32_t LossDetector::poll(int64_t nowNs, int64_t limit, int64_t budgetBytes, Ask&& ask, bool& suppressed) {
  suppressed = false;
  if (nowNs < nextDueNs()) return 0;
  if (nowNs - budgetResetNs_ >= rtt_.retryNs() || budgetResetNs_ == 0) {
    budgetResetNs_ = nowNs;
    askedBytes_ = 0;
  }
  int64_t next = INT64_MAX;
  int32_t asked = 0;
  for (size_t i = 0; i < gaps_.size(); ++i) {
    Gap& gap = gaps_[i];
    if (gap.dueNs > nowNs) {
      next = std::min(next, gap.dueNs);
      continue;
    }
    if (gap.begin >= limit) {  // it would not be taken yet
      gap.dueNs = nowNs + rtt_.retryNs();
      next = std::min(next, gap.dueNs);
      continue;
    }
    const int64_t budget = (budgetBytes - askedBytes_) & ~int64_t{31};
    if (budget <= 0) {
      suppressed = true;
      next = std::min(next, budgetResetNs_ + rtt_.retryNs());
      break;
    }
    const int64_t end = std::min({gap.end, gap.begin + budget, limit});
    if (asked == kMaxAsksPerPoll || !ask(gap.begin, end, gap.naks == 0)) {
      next = std::min(next, asked == kMaxAsksPerPoll ? nowNs : nowNs + kSocketRetryNs);
      break;
    }
    ++asked;
    askedBytes_ += end - gap.begin;
    gap.lastNakNs = nowNs;
    gap.answered = false;
    gap.dueNs = nowNs + repeatDelayNs(++gap.naks);
    next = std::min(next, gap.dueNs);
  }
  nextDueNs_ = next;
  return asked;
}

template <typename Give>
int32_t LossDetector::giveUp(int64_t nowNs, Give&& give) {
  if (nowNs < nextDueNs()) return 0;
  int64_t next = INT64_MAX;
  int32_t given = 0;
  for (size_t i = 0; i < gaps_.size();) {
    const Gap gap = gaps_[i];
    if (gap.dueNs > nowNs) {
      next = std::min(next, gap.dueNs);
      ++i;
      continue;
    }
    give(gap.begin, gap.end);
    gaps_.fill(i, gap.begin, gap.end);
    ++given;
  }
  nextDueNs_ = next;
  return given;
}

}  // namespace outrigger::driver
