// SPDX-License-Identifier: Apache-2.0
// When a thread without work spins and when it may sleep.
#include "base/adaptive_spin.h"

#include <gtest/gtest.h>

namespace outrigger {
namespace {

constexpr int64_t kStartNs = 1'000'000'000;

TEST(AdaptiveSpinTest, SpinsForAShortWhileAfterWorkThenSleeps) {
  AdaptiveSpin spin;
  EXPECT_FALSE(spin.shouldSpin(kStartNs)) << "an idle thread does not begin with spinning";
  spin.workFound(kStartNs);
  EXPECT_TRUE(spin.shouldSpin(kStartNs + AdaptiveSpin::kShortNs - 1));
  EXPECT_FALSE(spin.shouldSpin(kStartNs + AdaptiveSpin::kShortNs));
}

TEST(AdaptiveSpinTest, SpinsLongerOnceASleepTurnedOutToBeShort) {
  AdaptiveSpin spin;
  spin.workFound(kStartNs);
  spin.workFound(kStartNs + AdaptiveSpin::kLongNs - 1);
  EXPECT_TRUE(spin.shouldSpin(kStartNs + 2 * AdaptiveSpin::kLongNs - 2));
  EXPECT_FALSE(spin.shouldSpin(kStartNs + 2 * AdaptiveSpin::kLongNs - 1));
}

TEST(AdaptiveSpinTest, KeepsSpinningLongWhileWorkComesWithinIt) {
  AdaptiveSpin spin;
  int64_t now = kStartNs;
  spin.workFound(now);
  for (int i = 0; i < 10; ++i) spin.workFound(now += 200'000);
  EXPECT_TRUE(spin.shouldSpin(now + AdaptiveSpin::kLongNs - 1));
  spin.workFound(now += 10);
  EXPECT_TRUE(spin.shouldSpin(now + AdaptiveSpin::kLongNs - 1));
}

TEST(AdaptiveSpinTest, IsBackToShortAfterALongSleep) {
  AdaptiveSpin spin;
  spin.workFound(kStartNs);
  spin.workFound(kStartNs + 100'000);
  const int64_t later = kStartNs + 100'000 + AdaptiveSpin::kLongNs;
  spin.workFound(later);
  EXPECT_FALSE(spin.shouldSpin(later + AdaptiveSpin::kShortNs));
}

}  // namespace
}  // namespace outrigger
