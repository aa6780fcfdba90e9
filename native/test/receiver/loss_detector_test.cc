// SPDX-License-Identifier: Apache-2.0
// When an image asks for what it lacks: delays, repeats, budget, what arrivals teach. No network and no clock: times are arguments.
#include "driver/loss_detector.h"

#include <gtest/gtest.h>

#include <map>
#include <vector>

#include "base/random.h"

namespace outrigger::driver {
namespace {

struct Ask {
  int64_t begin;
  int64_t end;
  bool first;
};

class LossDetectorTest : public ::testing::Test {
 protected:
  std::vector<Ask> poll(LossDetector& detector, int64_t nowNs, int64_t budget = 1 << 20, int64_t limit = INT64_MAX) {
    std::vector<Ask> asks;
    detector.poll(
        nowNs, limit, budget,
        [&](int64_t begin, int64_t end, bool first) {
          asks.push_back({begin, end, first});
          return true;
        },
        suppressed);
    return asks;
  }
  // A detector that knows a round trip of exactly `rttNs`.
  static void teach(LossDetector& detector, int64_t rttNs) {
    for (int32_t i = 0; i < 100; ++i) detector.rtt().onSample(rttNs, true);
  }

  bool suppressed = false;
  LossDetectorConfig config;
};

TEST_F(LossDetectorTest, NothingIsAskedForBeforeTheDelay) {
  config.delayNs = 500;
  LossDetector detector(config);
  ASSERT_TRUE(detector.onGap(64, 128, 1000));
  EXPECT_EQ(detector.nextDueNs(), 1500);
  EXPECT_TRUE(poll(detector, 1499).empty());
  const auto asks = poll(detector, 1500);
  ASSERT_EQ(asks.size(), 1U);
  EXPECT_EQ(asks[0].begin, 64);
  EXPECT_EQ(asks[0].end, 128);
  EXPECT_TRUE(asks[0].first);
}

TEST_F(LossDetectorTest, SeveralHolesAreAskedForAtOnce) {
  LossDetector detector(config);
  for (int64_t i = 0; i < 20; ++i) ASSERT_TRUE(detector.onGap(i * 64, i * 64 + 32, 0));
  EXPECT_EQ(poll(detector, kMicroNs).size(), 20U);
}

TEST_F(LossDetectorTest, ARepeatWaitsForTheRoundTrip) {
  LossDetector detector(config);
  teach(detector, 3 * kMilliNs);
  detector.onGap(0, 64, 0);
  ASSERT_EQ(poll(detector, kMicroNs).size(), 1U);
  EXPECT_TRUE(poll(detector, kMicroNs + 3 * kMilliNs - 1).empty());
  const auto asks = poll(detector, kMicroNs + 2 * 3 * kMilliNs);
  ASSERT_EQ(asks.size(), 1U);
  EXPECT_FALSE(asks[0].first);
}

TEST_F(LossDetectorTest, UntilTheRoundTripIsKnownARepeatWaitsAsLongAsAStockSenderLingers) {
  LossDetector detector(config);
  detector.onGap(0, 64, 0);
  ASSERT_EQ(poll(detector, kMicroNs).size(), 1U);
  EXPECT_TRUE(poll(detector, 10 * kMilliNs).empty());
  EXPECT_EQ(poll(detector, 10 * kMilliNs + kMicroNs).size(), 1U);
}

TEST_F(LossDetectorTest, ASenderThatNeverAnswersIsAskedEverMoreRarely) {
  LossDetector detector(config);
  teach(detector, kMilliNs);
  detector.onGap(0, 64, 0);
  int64_t asked = 0;
  for (int64_t now = 0; now < 10 * kSecondNs; now += 100 * kMicroNs) asked += static_cast<int64_t>(poll(detector, now).size());
  EXPECT_GT(asked, 20);
  EXPECT_LT(asked, 300);
}

TEST_F(LossDetectorTest, TheBytesAskedForInARoundTripAreBounded) {
  LossDetector detector(config);
  teach(detector, kMilliNs);
  for (int64_t i = 0; i < 50; ++i) detector.onGap(i * 2048, i * 2048 + 1024, 0);
  int64_t bytes = 0;
  for (int64_t now = kMicroNs; now < kMilliNs; now += kMicroNs) {
    for (const Ask& ask : poll(detector, now, 10 * 1024)) bytes += ask.end - ask.begin;
  }
  EXPECT_EQ(bytes, 10 * 1024);
  EXPECT_FALSE(poll(detector, 3 * kMilliNs, 10 * 1024).empty());
}

TEST_F(LossDetectorTest, TheBudgetThatHoldsSomethingBackSaysSo) {
  LossDetector detector(config);
  detector.onGap(0, 64 * 1024, 0);
  detector.onGap(128 * 1024, 192 * 1024, 0);
  const auto asks = poll(detector, kMicroNs, 32 * 1024);
  ASSERT_EQ(asks.size(), 1U);
  EXPECT_EQ(asks[0].end, 32 * 1024);
  EXPECT_TRUE(suppressed);
}

TEST_F(LossDetectorTest, WhatWouldNotBeTakenIsNotAskedFor) {
  LossDetector detector(config);
  detector.onGap(0, 1024, 0);
  detector.onGap(2048, 4096, 0);
  const auto asks = poll(detector, kMicroNs, 1 << 20, 512);
  ASSERT_EQ(asks.size(), 1U);
  EXPECT_EQ(asks[0].end, 512);
}

TEST_F(LossDetectorTest, AFullSocketMeansALaterTryNotALostOne) {
  LossDetector detector(config);
  detector.onGap(0, 64, 0);
  detector.poll(
      kMicroNs, INT64_MAX, 1024, [](int64_t, int64_t, bool) { return false; }, suppressed);
  const int64_t again = detector.nextDueNs();
  EXPECT_GT(again, kMicroNs);
  EXPECT_LE(again, kMilliNs);
  const auto asks = poll(detector, again);
  ASSERT_EQ(asks.size(), 1U);
  EXPECT_TRUE(asks[0].first);
}

TEST_F(LossDetectorTest, TheFirstRepairTeachesTheRoundTrip) {
  LossDetector detector(config);
  detector.onGap(0, 64, 0);
  poll(detector, 10 * kMicroNs);
  ASSERT_TRUE(detector.onArrival(0, 0, 64, 10 * kMicroNs + 700 * kMicroNs));
  EXPECT_EQ(detector.rtt().smoothedNs(), 700 * kMicroNs);
}

TEST_F(LossDetectorTest, ARepairAfterTwoNaksTeachesNothing) {
  LossDetector detector(config);
  detector.onGap(0, 64, 0);
  poll(detector, kMicroNs);
  poll(detector, 20 * kMilliNs);
  ASSERT_TRUE(detector.onArrival(0, 0, 64, 21 * kMilliNs));
  EXPECT_FALSE(detector.rtt().known());
}

TEST_F(LossDetectorTest, ReorderingMakesItWaitAsLongAsThatTook) {
  LossDetector detector(config);
  teach(detector, 400 * kMicroNs);
  detector.onGap(0, 64, 0);
  ASSERT_EQ(poll(detector, kMicroNs).size(), 1U);
  detector.onArrival(0, 0, 64, 50 * kMicroNs);  // no answer comes back that fast: the datagram was only late
  EXPECT_GE(detector.reorderDelayNs(), 50 * kMicroNs);
  detector.onGap(128, 192, kMilliNs);
  EXPECT_TRUE(poll(detector, kMilliNs + 50 * kMicroNs).empty());
  EXPECT_EQ(poll(detector, kMilliNs + 100 * kMicroNs).size(), 1U);
}

TEST_F(LossDetectorTest, ReorderingNeverMakesItWaitLongerThanARoundTripAndIsForgottenByRealLosses) {
  LossDetector detector(config);
  teach(detector, 400 * kMicroNs);
  int64_t now = 0;
  for (int32_t i = 0; i < 20; ++i) {
    detector.onGap(0, 64, now);
    now = detector.nextDueNs();
    poll(detector, now);
    now += 150 * kMicroNs;
    detector.onArrival(0, 0, 64, now);
  }
  EXPECT_LE(detector.reorderDelayNs(), detector.rtt().smoothedNs());
  const int64_t worst = detector.reorderDelayNs();
  for (int32_t i = 0; i < 40; ++i) {
    detector.onGap(0, 64, now);
    now = detector.nextDueNs();
    poll(detector, now);
    now += 450 * kMicroNs;
    detector.onArrival(0, 0, 64, now);
  }
  EXPECT_LT(detector.reorderDelayNs(), worst / 4);
}

TEST_F(LossDetectorTest, TooManyHolesAreRefusedNotForgotten) {
  config.capacity = 4;
  LossDetector detector(config);
  for (int64_t i = 0; i < 4; ++i) ASSERT_TRUE(detector.onGap(i * 256, i * 256 + 128, 0));
  EXPECT_FALSE(detector.onGap(4096, 8192, 0));
  EXPECT_FALSE(detector.onArrival(1, 256 + 32, 256 + 64, 0)) << "splitting needs a fifth";
  EXPECT_EQ(detector.gaps()[1].end, 256 + 128);
  EXPECT_TRUE(detector.onArrival(1, 256, 256 + 128, 0));
  EXPECT_TRUE(detector.onGap(4096, 8192, 0));
}

TEST_F(LossDetectorTest, AGroupMemberBacksOffAtRandomUpToAFewRoundTrips) {
  config.group = true;
  config.seed = 5;
  LossDetector detector(config);
  detector.onGap(0, 32, 0);
  EXPECT_LE(detector.nextDueNs(), 10 * kMilliNs);
  LossDetector taught(config);
  teach(taught, 200 * kMicroNs);
  std::map<int64_t, int32_t> delays;
  for (int64_t i = 0; i < 60; ++i) {
    taught.onGap(i * 64, i * 64 + 32, 0);
    ++delays[taught.gaps()[static_cast<size_t>(i)].dueNs];
  }
  EXPECT_GT(delays.size(), 30U) << "members must not all ask at once";
  EXPECT_LE(delays.rbegin()->first, kMilliNs) << "and not wait for a stock 10 ms when the round trip is 200 us";
}

TEST_F(LossDetectorTest, GivingUpNamesEachHoleOnce) {
  LossDetector detector(config);
  detector.onGap(0, 64, 0);
  detector.onGap(128, 256, 0);
  std::vector<std::pair<int64_t, int64_t>> given;
  detector.giveUp(kMicroNs, [&](int64_t begin, int64_t end) { given.emplace_back(begin, end); });
  EXPECT_EQ(given, (std::vector<std::pair<int64_t, int64_t>>{{0, 64}, {128, 256}}));
  EXPECT_TRUE(detector.gaps().empty());
  EXPECT_EQ(detector.nextDueNs(), INT64_MAX);
}

TEST(OptimalBackoff, IsWithinItsBoundsAndGrowsWithTheDraw) {
  int64_t last = -1;
  for (double unit = 0; unit < 1; unit += 0.01) {
    const int64_t delay = optimalBackoffNs(unit, 10 * kMilliNs, 10);
    EXPECT_GE(delay, last);
    EXPECT_LE(delay, 10 * kMilliNs);
    last = delay;
  }
  EXPECT_EQ(optimalBackoffNs(0, 10 * kMilliNs, 10), 0);
  EXPECT_GT(last, 9 * kMilliNs);
  // Most members wait long, few ask early: that is what keeps a large group quiet.
  EXPECT_GT(optimalBackoffNs(0.5, 10 * kMilliNs, 10), 5 * kMilliNs);
}

TEST(GapList, KeepsOrderAndContentThroughRandomFills) {
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    Random random(seed);
    GapList gaps(16);
    std::vector<bool> missing;  // a slot is 32 bytes
    for (int32_t step = 0; step < 300; ++step) {
      if (random.chance(0.4)) {
        missing.insert(missing.end(), random.below(3), false);
        const auto begin = static_cast<int64_t>(missing.size()) * 32;
        const uint64_t slots = 1 + random.below(5);
        const bool adjacent = !missing.empty() && missing.back();
        if (!adjacent && gaps.append(begin, begin + static_cast<int64_t>(slots) * 32) != nullptr) {
          missing.insert(missing.end(), slots, true);
        }
        missing.push_back(false);
      } else if (!gaps.empty()) {
        const size_t index = random.below(gaps.size());
        const Gap gap = gaps[index];
        const auto slots = static_cast<uint64_t>((gap.end - gap.begin) / 32);
        const int64_t begin = gap.begin + static_cast<int64_t>(random.below(slots)) * 32;
        const int64_t end = begin + 32 * static_cast<int64_t>(1 + random.below(static_cast<uint64_t>((gap.end - begin) / 32)));
        ASSERT_EQ(gaps.find(begin), index);
        if (gaps.fill(index, begin, end)) {
          for (int64_t at = begin; at < end; at += 32) missing[static_cast<size_t>(at / 32)] = false;
        } else {
          ASSERT_TRUE(gaps.full());
        }
      }
      std::vector<bool> listed(missing.size(), false);
      int64_t last = -1;
      for (size_t i = 0; i < gaps.size(); ++i) {
        ASSERT_GT(gaps[i].begin, last) << "seed " << seed;
        ASSERT_GT(gaps[i].end, gaps[i].begin);
        last = gaps[i].end - 1;
        for (int64_t at = gaps[i].begin; at < gaps[i].end; at += 32) listed[static_cast<size_t>(at / 32)] = true;
      }
      ASSERT_EQ(listed, missing) << "seed " << seed << " step " << step;
    }
  }
}

}  // namespace
}  // namespace outrigger::driver
