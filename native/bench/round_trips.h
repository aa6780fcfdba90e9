// SPDX-License-Identifier: Apache-2.0
// Round-trip times, open loop: message i is due at start + i / rate, whatever happened to those before it, and its time counts from then.
// So a stall is in the latency of everything that was due meanwhile, and not hidden by waiting for the answer.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <string>

#include "histogram.h"
#include "payload.h"
#include "session.h"

namespace outrigger::bench {

class RoundTrips {
 public:
  explicit RoundTrips(const Arguments& arguments)
      : length_(static_cast<int32_t>(arguments.number("size", kMinMessageLength))),
        rate_(arguments.number("rate", 5000)),
        warmup_(rate_ * arguments.number("warmup-ms", 500) / 1000),
        total_(warmup_ + rate_ * arguments.number("measure-ms", 2000) / 1000),
        cpu_(arguments.text("cpu", "ping=self")) {
    if (rate_ < 1 || rate_ > 1'000'000) die("--rate " + std::to_string(rate_) + " is not in 1..1000000 messages a second");
    if (length_ < kMinMessageLength || length_ > kMaxMessageLength) die("--size " + std::to_string(length_) + " is out of range");
  }

  int32_t length() const { return length_; }
  // The clock of the first message runs from now on.
  void start() { startNs_ = nowNs() + kNsPerMs; }
  // The next message is to be sent at `now`. fill() it, and tell when it was taken.
  bool isDue(int64_t now) const { return sent_ < total_ && now >= dueAt(sent_); }
  void fill(uint8_t* message) {
    if (sent_ >= warmup_ && !measuring_) {
      measuring_ = true;
      cpu_.begin();
    }
    payload_.fill(message, length_, sent_, dueAt(sent_));
  }
  void sent() { ++sent_; }
  void refused() { ++refused_; }
  void onAnswer(const uint8_t* data, int32_t length) {
    if (!payload_.matches(data, length)) {
      ++corrupt_;
      return;
    }
    const int64_t sequence = Payload::sequence(data);
    if (sequence != next_) ++outOfOrder_;
    next_ = sequence + 1;
    ++answered_;
    if (sequence >= warmup_) histogram_.record(nowNs() - Payload::timeNs(data));
  }
  // The last answer has come, or will not.
  bool over(int64_t now) const { return next_ >= total_ || (sent_ == total_ && now > dueAt(total_) + kDrainNs); }
  int64_t untilDueNs(int64_t now) const { return sent_ < total_ ? std::max<int64_t>(0, dueAt(sent_) - now) : kNsPerMs; }

  // At the end. The curve: what per cent of round trips took no longer than so many µs.
  std::string json() {
    if (!measuring_) cpu_.begin();
    cpu_.end();
    const auto us = [&](double percentile) { return std::to_string(static_cast<double>(histogram_.valueAt(percentile)) / 1000.0); };
    std::string curve;
    for (const double percentile : kCurve) {
      char text[32];
      std::snprintf(text, sizeof(text), "%g", percentile);
      curve += (curve.empty() ? "[" : ",[") + std::string(text) + "," + us(percentile) + "]";
    }
    return "{\"sent\":" + std::to_string(sent_) + ",\"answered\":" + std::to_string(answered_) +
           ",\"measured\":" + std::to_string(histogram_.count()) + ",\"lost\":" + std::to_string(sent_ - answered_) +
           ",\"outOfOrder\":" + std::to_string(outOfOrder_) + ",\"corrupt\":" + std::to_string(corrupt_) +
           ",\"refused\":" + std::to_string(refused_) + ",\"us\":{\"p50\":" + us(50) + ",\"p90\":" + us(90) + ",\"p99\":" + us(99) +
           ",\"p999\":" + us(99.9) + ",\"max\":" + us(100) + "},\"curve\":[" + curve + "],\"cpuSeconds\":" + cpu_.json() + "}";
  }
  bool clean() const { return corrupt_ == 0 && outOfOrder_ == 0 && answered_ == total_; }

 private:
  static constexpr int64_t kNsPerMs = 1'000'000;
  static constexpr int64_t kDrainNs = 500 * kNsPerMs;  // for the last answers
  static constexpr double kCurve[] = {0, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.95, 99.99, 100};

  int64_t dueAt(int64_t sequence) const { return startNs_ + sequence * 1'000'000'000 / rate_; }

  const Payload payload_;
  const int32_t length_;
  const int64_t rate_;
  const int64_t warmup_;
  const int64_t total_;
  CpuTimes cpu_;
  Histogram histogram_;
  int64_t startNs_ = 0;
  int64_t sent_ = 0;
  int64_t answered_ = 0;
  int64_t next_ = 0;
  int64_t outOfOrder_ = 0;
  int64_t corrupt_ = 0;
  int64_t refused_ = 0;
  bool measuring_ = false;
};

}  // namespace outrigger::bench
