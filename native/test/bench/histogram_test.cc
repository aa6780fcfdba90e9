// SPDX-License-Identifier: Apache-2.0
// The recorder of the benchmarks against sorted samples.
#include "../../bench/histogram.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "base/random.h"

namespace outrigger::bench {
namespace {

TEST(HistogramTest, KeepsSmallValuesExactly) {
  Histogram histogram;
  for (int64_t value = 0; value < 2048; ++value) histogram.record(value);
  EXPECT_EQ(histogram.count(), 2048);
  EXPECT_EQ(histogram.valueAt(50), 1023);
  EXPECT_EQ(histogram.valueAt(100), 2047);
  EXPECT_EQ(histogram.min(), 0);
}

TEST(HistogramTest, AnswersPercentilesOfARandomSampleWithinATenthOfAPerCent) {
  Random random(42);
  std::vector<int64_t> values;
  Histogram histogram;
  for (int i = 0; i < 200'000; ++i) {
    // Spread over nine decades, as latencies with a long tail are.
    const auto value = static_cast<int64_t>(std::exp(static_cast<double>(random.next() % 20'000) / 1000.0));
    values.push_back(value);
    histogram.record(value);
  }
  std::sort(values.begin(), values.end());
  for (const double percentile : {1.0, 25.0, 50.0, 90.0, 99.0, 99.9, 99.99}) {
    const auto rank = static_cast<size_t>(std::ceil(percentile / 100.0 * static_cast<double>(values.size()))) - 1;
    const auto exact = static_cast<double>(values[rank]);
    EXPECT_NEAR(static_cast<double>(histogram.valueAt(percentile)), exact, exact / 1000.0 + 0.5) << percentile;
  }
  EXPECT_EQ(histogram.max(), values.back());
}

TEST(HistogramTest, CountsWhatIsTooLargeInsteadOfLosingIt) {
  Histogram histogram;
  histogram.record(Histogram::kHighest + 1);
  histogram.record(-5);
  EXPECT_EQ(histogram.count(), 2);
  EXPECT_EQ(histogram.clamped(), 1);
  EXPECT_EQ(histogram.max(), Histogram::kHighest);
  EXPECT_EQ(histogram.min(), 0);
}

TEST(HistogramTest, AnswersZeroWhenNothingWasRecorded) { EXPECT_EQ(Histogram().valueAt(99), 0); }

}  // namespace
}  // namespace outrigger::bench
