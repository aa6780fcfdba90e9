// SPDX-License-Identifier: Apache-2.0
// Loss detection: delays, and what arrivals teach about round trip and reordering. See the header.
#include "driver/loss_detector.h"

#include <cmath>

namespace outrigger::driver {
namespace {

// A group's back-off needs room for one member's repair to reach the others before they ask too: a few round trips.
constexpr int64_t kBackoffRoundTrips = 4;
constexpr int64_t kMinBackoffNs = 100 * kMicroNs;
// A hole that was asked for this often is asked for ever more rarely: the sender cannot or will not answer.
constexpr int32_t kPromptRepeats = 8;
constexpr int32_t kMaxDoublings = 6;
constexpr int64_t kMaxRepeatNs = kSecondNs;
// How long reordering may make us wait before the round trip is known.
constexpr int64_t kUnknownReorderNs = kMilliNs;

}  // namespace

int64_t optimalBackoffNs(double unit, int64_t maxBackoffNs, int32_t groupSize) {
  if (maxBackoffNs <= 0) return 0;
  const double lambda = std::log(std::max(groupSize, 1)) + 1;
  const double top = std::exp(lambda) - 1;
  const auto limit = static_cast<double>(maxBackoffNs);
  const double x = unit * lambda / limit + lambda / (limit * top);
  return std::clamp<int64_t>(static_cast<int64_t>(limit / lambda * std::log(x * top * limit / lambda)), 0, maxBackoffNs);
}

LossDetector::LossDetector(const LossDetectorConfig& config) : config_(config), gaps_(config.capacity), random_(config.seed) {}

int64_t LossDetector::firstDelayNs() {
  if (!config_.group) return std::max(config_.delayNs, reorderDelayNs_);
  int64_t longest = config_.maxBackoffNs;
  if (rtt_.known()) longest = std::min(longest, std::max(kMinBackoffNs, kBackoffRoundTrips * rtt_.smoothedNs()));
  return std::max(optimalBackoffNs(random_.unit(), longest, config_.groupSize), reorderDelayNs_);
}

int64_t LossDetector::repeatDelayNs(int32_t naks) {
  const int32_t doublings = std::clamp(naks - kPromptRepeats, 0, kMaxDoublings);
  int64_t delay = rtt_.retryNs();
  if (!rtt_.known()) delay <<= std::min(naks - 1, 3);
  delay = std::max(delay, std::min(delay << doublings, kMaxRepeatNs));
  return config_.group ? delay + firstDelayNs() : delay;
}

bool LossDetector::onGap(int64_t begin, int64_t end, int64_t nowNs) {
  const bool first = gaps_.empty();
  Gap* gap = gaps_.append(begin, end);
  if (gap == nullptr) return false;
  gap->detectedNs = nowNs;
  gap->dueNs = nowNs + firstDelayNs();
  nextDueNs_ = first ? gap->dueNs : std::min(nextDueNs_, gap->dueNs);
  return true;
}

bool LossDetector::onArrival(size_t index, int64_t begin, int64_t end, int64_t nowNs) {
  const Gap before = gaps_[index];
  Gap& gap = gaps_[index];
  if (before.naks > 0 && !before.answered) gap.answered = true;
  if (!gaps_.fill(index, begin, end)) {
    gap.answered = before.answered;
    return false;
  }
  if (before.naks == 0) return true;  // late, and nobody was asked: the delay was long enough
  if (before.answered) return true;
  const int64_t sinceNakNs = nowNs - before.lastNakNs;
  if (rtt_.minimumNs() > 0 && sinceNakNs < rtt_.minimumNs() / 2) {
    // Sooner than any answer can be: it was only late. Next time wait that long.
    onReordered(before.lastNakNs - before.detectedNs + sinceNakNs);
    return true;
  }
  reorderDelayNs_ -= reorderDelayNs_ / 16;
  // Which of several NAKs was answered is anyone's guess (Karn), so only the first counts.
  if (before.naks == 1) rtt_.onSample(sinceNakNs, false);
  return true;
}

void LossDetector::onReordered(int64_t ageNs) {
  // Never longer than a round trip: waiting then costs more than asking in vain.
  const int64_t longest = rtt_.known() ? rtt_.smoothedNs() : kUnknownReorderNs;
  reorderDelayNs_ = std::min(std::max(reorderDelayNs_, ageNs + ageNs / 4), longest);
}

}  // namespace outrigger::driver
