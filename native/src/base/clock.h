// SPDX-License-Identifier: Apache-2.0
// The two clocks: monotonic nanoseconds for protocol timers, time since the epoch for the CnC file and for times in messages.
// Driver code never calls these: the run loop reads a Clock once per duty cycle and passes `now` down. Times in messages alone are read where
// they are written, since a duty cycle is long for them.
#pragma once

#include <time.h>

#include <cstdint>

namespace outrigger {

class Clock {
 public:
  virtual ~Clock() = default;
  virtual int64_t nanoTime() = 0;     // monotonic, ns
  virtual int64_t epochMillis() = 0;  // wall clock, ms since 1970
  virtual int64_t epochNanos() = 0;   // the same, ns
};

class SystemClock final : public Clock {
 public:
  int64_t nanoTime() override { return read(CLOCK_MONOTONIC, 1); }
  int64_t epochMillis() override { return read(CLOCK_REALTIME, 1'000'000); }
  int64_t epochNanos() override { return read(CLOCK_REALTIME, 1); }

 private:
  static int64_t read(clockid_t id, int64_t divisor) {
    timespec ts{};
    ::clock_gettime(id, &ts);
    return (static_cast<int64_t>(ts.tv_sec) * 1'000'000'000 + ts.tv_nsec) / divisor;
  }
};

// A clock that only moves when told to: simulation and unit tests.
class ManualClock final : public Clock {
 public:
  int64_t nanoTime() override { return nowNs_; }
  int64_t epochMillis() override { return kEpochBaseMs + nowNs_ / 1'000'000; }
  int64_t epochNanos() override { return kEpochBaseMs * 1'000'000 + nowNs_; }
  void advance(int64_t deltaNs) { nowNs_ += deltaNs; }
  void set(int64_t nowNs) { nowNs_ = nowNs; }

 private:
  static constexpr int64_t kEpochBaseMs = 1'700'000'000'000;
  int64_t nowNs_ = 1'000'000'000;
};

}  // namespace outrigger
