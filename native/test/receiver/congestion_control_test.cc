// SPDX-License-Identifier: Apache-2.0
// Windows of the congestion controls: growth, loss, bounds.
#include "driver/congestion_control.h"

#include <gtest/gtest.h>

namespace outrigger::driver {
namespace {

constexpr int32_t kMtu = 1408;

TEST(StaticCongestionControl, OffersTheWholeWindowWhateverHappens) {
  const auto control = makeCongestionControl(CongestionControlKind::kStatic, 128 * 1024, kMtu, 0);
  const auto outcome = control->onCycle(kSecondNs, true);
  EXPECT_EQ(outcome.windowLength, 128 * 1024);
  EXPECT_FALSE(outcome.forceStatusMessage);
  EXPECT_FALSE(control->wantsRtt());
}

TEST(CubicCongestionControl, StartsWithTenDatagramsAndGrowsToTheWindow) {
  const auto control = makeCongestionControl(CongestionControlKind::kCubic, 128 * 1024, kMtu, 0);
  EXPECT_TRUE(control->wantsRtt());
  int32_t last = control->onCycle(1, false).windowLength;
  EXPECT_EQ(last, 10 * kMtu);
  for (int64_t now = 0; now < 20 * kSecondNs; now += kMilliNs) {
    const int32_t window = control->onCycle(now, false).windowLength;
    EXPECT_GE(window, last);
    EXPECT_LE(window, 128 * 1024);
    last = window;
  }
  EXPECT_GT(last, 128 * 1024 - kMtu);
}

TEST(CubicCongestionControl, ALossTakesAFifthAndTellsTheSenderAtOnce) {
  const auto control = makeCongestionControl(CongestionControlKind::kCubic, 128 * 1024, kMtu, 0);
  const int32_t before = control->onCycle(20 * kSecondNs, false).windowLength;
  const auto outcome = control->onCycle(20 * kSecondNs + 1, true);
  EXPECT_TRUE(outcome.forceStatusMessage);
  EXPECT_LE(outcome.windowLength, before * 8 / 10);
  EXPECT_GT(outcome.windowLength, before * 7 / 10);
}

TEST(CubicCongestionControl, SeveralLossesOfOneRoundTripCountOnce) {
  const auto control = makeCongestionControl(CongestionControlKind::kCubic, 128 * 1024, kMtu, 0);
  control->onCycle(20 * kSecondNs, false);
  for (int32_t i = 0; i < 200; ++i) control->onRttSample(5 * kMilliNs);
  const int32_t once = control->onCycle(21 * kSecondNs, true).windowLength;
  for (int64_t i = 1; i < 4; ++i) EXPECT_EQ(control->onCycle(21 * kSecondNs + i * kMilliNs, true).windowLength, once);
  EXPECT_LT(control->onCycle(21 * kSecondNs + 6 * kMilliNs, true).windowLength, once);
}

TEST(CubicCongestionControl, NeverFallsBelowOneDatagram) {
  const auto control = makeCongestionControl(CongestionControlKind::kCubic, 128 * 1024, kMtu, 0);
  int32_t window = 0;
  for (int64_t i = 1; i < 200; ++i) window = control->onCycle(i * kMilliNs, true).windowLength;
  EXPECT_EQ(window, kMtu);
}

TEST(CubicCongestionControl, AWindowSmallerThanADatagramIsOfferedAsItIs) {
  const auto control = makeCongestionControl(CongestionControlKind::kCubic, 1024, kMtu, 0);
  EXPECT_EQ(control->onCycle(kSecondNs, false).windowLength, 1024);
}

}  // namespace
}  // namespace outrigger::driver
