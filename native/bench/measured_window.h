// SPDX-License-Identifier: Apache-2.0
// What one thread receives in a window of time that opens --warmup-ms after the first message and is --measure-ms long, with the CPU time of
// the processes named by --cpu over the same window.
#pragma once

#include <cstdint>
#include <string>

#include "checker.h"
#include "session.h"

namespace outrigger::bench {

class MeasuredWindow {
 public:
  explicit MeasuredWindow(const Arguments& arguments)
      : warmupNs_(arguments.number("warmup-ms", 500) * kNsPerMs),
        measureNs_(arguments.number("measure-ms", 2000) * kNsPerMs),
        patienceNs_(arguments.number("patience-ms", 15'000) * kNsPerMs),
        cpu_(arguments.text("cpu", "receiver=self")),
        startedNs_(nowNs()) {}

  // After each look for messages, at time `now`. False: the window is over. Ends the program when no message comes at all.
  bool goesOn(const Checker& checker, int64_t now) {
    if (firstNs_ == 0) {
      if (checker.messages() > 0) {
        firstNs_ = now;
      } else if (now - startedNs_ > patienceNs_) {
        die("no message came within " + std::to_string(patienceNs_ / kNsPerMs) + " ms");
      }
      return true;
    }
    if (beginNs_ == 0) {
      if (now - firstNs_ < warmupNs_) return true;
      cpu_.begin();
      beginNs_ = nowNs();
      messagesBefore_ = checker.messages();
      bytesBefore_ = checker.bytes();
      lostBefore_ = checker.lost();
      return true;
    }
    if (now - beginNs_ < measureNs_) return true;
    // A sender that was not scheduled for as long is waited for: a window has something in it.
    if (checker.messages() == messagesBefore_ && now - beginNs_ < patienceNs_) return true;
    endNs_ = now;
    cpu_.end();
    return false;
  }
  // Of a finished window.
  std::string json(const Checker& checker) const {
    return "{\"messages\":" + std::to_string(checker.messages() - messagesBefore_) +
           ",\"bytes\":" + std::to_string(checker.bytes() - bytesBefore_) + ",\"missed\":" + std::to_string(checker.lost() - lostBefore_) +
           ",\"seconds\":" + std::to_string(static_cast<double>(endNs_ - beginNs_) / 1e9) + "," + checker.json() +
           ",\"total\":" + std::to_string(checker.messages()) + ",\"cpuSeconds\":" + cpu_.json() + "}";
  }

 private:
  static constexpr int64_t kNsPerMs = 1'000'000;

  const int64_t warmupNs_;
  const int64_t measureNs_;
  const int64_t patienceNs_;
  CpuTimes cpu_;
  const int64_t startedNs_;
  int64_t firstNs_ = 0;
  int64_t beginNs_ = 0;
  int64_t endNs_ = 0;
  int64_t messagesBefore_ = 0;
  int64_t bytesBefore_ = 0;
  int64_t lostBefore_ = 0;
};

}  // namespace outrigger::bench
