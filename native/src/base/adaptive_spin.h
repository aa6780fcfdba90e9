// SPDX-License-Identifier: Apache-2.0
// AdaptiveSpin: how long a thread looks for work before it sleeps. A pure function of when there was work.
#pragma once

#include <cstdint>

namespace outrigger {

class AdaptiveSpin {
 public:
  // A wake costs some tens of microseconds (a futex or FIFO write, an interrupt to a halted core, a switch), and a round trip has up to five of
  // them: it pays to spin for about as long as one.
  static constexpr int64_t kShortNs = 50'000;
  // As the kernel's halt polling for virtual CPUs (its default is 200 us): when the last sleep ended within this time, work comes so often that
  // sleeping between is mostly waking. Above 4000 messages a second a core is busy with them anyway.
  static constexpr int64_t kLongNs = 250'000;

  void workFound(int64_t nowNs) {
    const int64_t gapNs = nowNs - lastWorkNs_;
    if (gapNs >= limitNs_) limitNs_ = gapNs < kLongNs ? kLongNs : kShortNs;
    lastWorkNs_ = nowNs;
  }
  bool shouldSpin(int64_t nowNs) const { return nowNs - lastWorkNs_ < limitNs_; }

 private:
  int64_t lastWorkNs_ = 0;
  int64_t limitNs_ = kShortNs;
};

}  // namespace outrigger
