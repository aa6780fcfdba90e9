// SPDX-License-Identifier: Apache-2.0
// A log-linear histogram after HdrHistogram (Gil Tene): 2048 linear buckets to a doubling, so that a recorded value is kept to within 0.1 %.
// Fixed memory, one shift and one increment a value. Values are nanoseconds here, but nothing depends on that.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <memory>

namespace outrigger {

class Histogram {
 public:
  // Values above are recorded as this one (and counted in clamped()): 2^41 ns is 36 minutes.
  static constexpr int64_t kHighest = (int64_t{1} << 41) - 1;

  void record(int64_t value) {
    if (value < 0) value = 0;
    if (value > kHighest) {
      value = kHighest;
      ++clamped_;
    }
    ++(*counts_)[indexOf(value)];
    ++total_;
    max_ = std::max(max_, value);
    min_ = std::min(min_, value);
  }

  int64_t count() const { return total_; }
  int64_t clamped() const { return clamped_; }
  int64_t max() const { return total_ == 0 ? 0 : max_; }
  int64_t min() const { return total_ == 0 ? 0 : min_; }

  // The smallest recordable value such that at least `percentile` per cent of the values are not above it; 0 when there are none.
  int64_t valueAt(double percentile) const {
    if (total_ == 0) return 0;
    const double exact = percentile / 100.0 * static_cast<double>(total_);
    auto wanted = static_cast<int64_t>(exact);
    if (static_cast<double>(wanted) < exact) ++wanted;
    wanted = std::clamp<int64_t>(wanted, 1, total_);
    int64_t seen = 0;
    for (size_t i = 0; i < kBuckets; ++i) {
      seen += (*counts_)[i];
      if (seen >= wanted) return std::min(highestIn(i), max_);
    }
    return max_;
  }

 private:
  static constexpr int kLinearBits = 11;
  static constexpr size_t kLinear = size_t{1} << kLinearBits;
  static constexpr size_t kHalf = kLinear / 2;
  // Values below kLinear have a bucket each; every doubling above adds half as many, twice as wide.
  static constexpr size_t kBuckets = kLinear + (41 - kLinearBits) * kHalf;

  static size_t indexOf(int64_t value) {
    const auto bits = static_cast<uint64_t>(value);
    if (bits < kLinear) return static_cast<size_t>(bits);
    const int shift = static_cast<int>(std::bit_width(bits)) - kLinearBits;
    return kLinear + static_cast<size_t>(shift - 1) * kHalf + (static_cast<size_t>(bits >> shift) - kHalf);
  }
  static int64_t highestIn(size_t index) {
    if (index < kLinear) return static_cast<int64_t>(index);
    const size_t above = index - kLinear;
    const auto shift = static_cast<int>(above / kHalf) + 1;
    return static_cast<int64_t>(((above % kHalf + kHalf + 1) << shift) - 1);
  }

  std::unique_ptr<std::array<int64_t, kBuckets>> counts_ = std::make_unique<std::array<int64_t, kBuckets>>();
  int64_t total_ = 0;
  int64_t clamped_ = 0;
  int64_t max_ = 0;
  int64_t min_ = INT64_MAX;
};

}  // namespace outrigger
