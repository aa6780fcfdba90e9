// SPDX-License-Identifier: Apache-2.0
// How often something that anybody can cause is done.
#pragma once

#include <cstdint>

namespace outrigger {

// Allows a burst and then a rate; what is above is not looked at.
class RateLimit {
 public:
  RateLimit(uint32_t burst, int64_t intervalNs) : burst_(burst), tokens_(burst), intervalNs_(intervalNs) {}
  bool allow(int64_t nowNs) {
    if (nowNs > lastNs_) {
      const int64_t fresh = (nowNs - lastNs_) / intervalNs_;
      if (fresh >= burst_) {
        tokens_ = burst_;
        lastNs_ = nowNs;
      } else if (fresh > 0) {
        tokens_ = tokens_ + fresh > burst_ ? burst_ : tokens_ + fresh;
        lastNs_ += fresh * intervalNs_;
      }
    }
    if (tokens_ == 0) return false;
    --tokens_;
    return true;
  }

 private:
  int64_t burst_;
  int64_t tokens_;
  int64_t intervalNs_;
  int64_t lastNs_ = 0;
};

}  // namespace outrigger
