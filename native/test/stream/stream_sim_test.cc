// SPDX-License-Identifier: Apache-2.0
// Sender and receiver against each other over many seeds: loss, reordering, duplication, corruption, partitions, terms that are backed late,
// readers that stand still. The history is checked as it happens: in order, exactly once, no gap without a notice, positions monotone,
// windows never exceeded. A failing seed is named in the message and replays the same run. OUTRIGGER_SIM_SEEDS=<count> runs more of them.
#include <cstdlib>

#include "stream_world.h"

namespace outrigger::driver::testing {
namespace {

uint64_t seeds(uint64_t usual) {
  const char* wanted = std::getenv("OUTRIGGER_SIM_SEEDS");
  return wanted == nullptr ? usual : std::strtoull(wanted, nullptr, 10);
}

StreamOptions optionsOf(uint64_t seed) {
  Random random(seed * 0x9E3779B9);
  StreamOptions options;
  options.seed = seed;
  options.termLength = random.chance(0.5) ? kTermLength : 256 * 1024;
  options.mtu = random.chance(0.2) ? 8192 : 1408;
  options.window = 8192 << random.below(4);
  options.startTermOffset = random.chance(0.3) ? static_cast<int32_t>(random.below(static_cast<uint64_t>(kTermLength) / 32)) * 32 : 0;
  options.coalescing = random.chance(0.7);
  options.readers = 1 + static_cast<int32_t>(random.below(2));
  options.backingDelayNs = random.chance(0.3) ? static_cast<int64_t>(random.below(2 * kMilliNs)) : 0;
  options.link.delayNs = static_cast<int64_t>(1 + random.below(300)) * kMicroNs;
  options.link.jitterNs = random.chance(0.3) ? static_cast<int64_t>(random.below(50 * kMicroNs)) : 0;
  if (random.chance(0.8)) options.link.loss = random.unit() * 0.3;
  if (random.chance(0.4)) options.link.duplicate = random.unit() * 0.1;
  if (random.chance(0.4)) options.link.reorder = random.unit() * 0.2;
  if (random.chance(0.3)) options.link.bytesPerSecond = 20'000'000 + static_cast<int64_t>(random.below(500'000'000));
  if (random.chance(0.2)) options.congestionControl = CongestionControlKind::kCubic;
  return options;
}

TEST(StreamSimulation, EverythingArrivesInOrderExactlyOnceWhateverTheSeed) {
  for (uint64_t seed = 1; seed <= seeds(200); ++seed) {
    StreamWorld world(optionsOf(seed));
    ASSERT_TRUE(world.connect()) << "seed " << seed;
    ASSERT_TRUE(world.transfer(512 * 1024)) << "seed " << seed << ": stuck at " << world.host().position() << " of "
                                            << world.stream.producer;
    world.close();
    ASSERT_TRUE(world.runUntil([&] { return world.host().notices.size() == 2; }, 5 * kSecondNs)) << "seed " << seed;
    ASSERT_EQ(world.host().notices[1].position, world.stream.producer) << "seed " << seed;
    ASSERT_FALSE(::testing::Test::HasFailure()) << "seed " << seed;
  }
}

TEST(StreamSimulation, APartitionIsSurvivedOrNoticedNeverSilent) {
  for (uint64_t seed = 1; seed <= seeds(60); ++seed) {
    StreamOptions options = optionsOf(seed + 10'000);
    options.livenessNs = kSecondNs;
    options.startTermOffset = 0;
    StreamWorld world(options);
    Random random(seed);
    ASSERT_TRUE(world.connect()) << "seed " << seed;
    ASSERT_TRUE(world.transfer(64 * 1024)) << "seed " << seed;
    io::SimLink cut = options.link;
    cut.partitioned = true;
    const bool bothWays = random.chance(0.5);
    ASSERT_TRUE(world.network.setLink(StreamWorld::kSenderHost, world.host().name, cut).ok());
    if (bothWays) {
      ASSERT_TRUE(world.network.setLink(world.host().name, StreamWorld::kSenderHost, cut).ok());
    }
    const int64_t cutNs = static_cast<int64_t>(random.below(2 * kSecondNs));
    for (const int64_t end = world.nowNs() + cutNs; world.nowNs() < end;) {
      world.offer(static_cast<int32_t>(random.below(1000)));
      world.run(kMilliNs);
    }
    ASSERT_TRUE(world.network.setLinkBoth(StreamWorld::kSenderHost, world.host().name, options.link).ok());
    ASSERT_TRUE(world.runUntil([&] { return world.connected(); }, 20 * kSecondNs)) << "seed " << seed;
    ASSERT_TRUE(world.transfer(128 * 1024)) << "seed " << seed;
    // One image as long as the silence was shorter than the liveness timeout; else its end and the new beginning were told, and what lies
    // between them is the gap.
    const auto& notices = world.host().notices;
    if (cutNs < kSecondNs / 2) {
      ASSERT_EQ(notices.size(), 1U) << "seed " << seed;
    }
    for (size_t i = 1; i < notices.size(); ++i) {
      ASSERT_NE(notices[i].available, notices[i - 1].available) << "seed " << seed;
      ASSERT_GE(notices[i].position, notices[i - 1].position) << "seed " << seed;
    }
    ASSERT_FALSE(::testing::Test::HasFailure()) << "seed " << seed;
  }
}

TEST(StreamSimulation, CorruptedDatagramsBreakNothing) {
  for (uint64_t seed = 1; seed <= seeds(100); ++seed) {
    StreamOptions options = optionsOf(seed + 20'000);
    options.link.corrupt = 0.05;
    options.checked = false;
    StreamWorld world(options);
    world.connect();
    // Whether it gets through is a matter of luck, since no checksum covers what was flipped; that nothing is hurt is not.
    world.transfer(128 * 1024, 200 * kMilliNs);
    ASSERT_FALSE(::testing::Test::HasFailure()) << "seed " << seed;
  }
}

TEST(StreamSimulation, ASlowReaderHoldsThePublisherBackAndLosesNothing) {
  for (uint64_t seed = 1; seed <= seeds(40); ++seed) {
    StreamOptions options = optionsOf(seed + 30'000);
    StreamWorld world(options);
    Random random(seed);
    ASSERT_TRUE(world.connect()) << "seed " << seed;
    for (int32_t round = 0; round < 20; ++round) {
      world.host().paused = random.chance(0.5);
      const int64_t end = world.nowNs() + static_cast<int64_t>(random.below(5 * kMilliNs));
      while (world.nowNs() < end) {
        while (world.offer(static_cast<int32_t>(random.below(1300)))) {
        }
        world.step();
      }
      ASSERT_LE(world.stream.publication->senderPosition() - world.host().position(), options.window + options.termLength)
          << "seed " << seed;
    }
    world.host().paused = false;
    ASSERT_TRUE(world.transfer(32 * 1024)) << "seed " << seed;
    ASSERT_FALSE(::testing::Test::HasFailure()) << "seed " << seed;
  }
}

TEST(StreamSimulation, SeveralReceiversOfAMultiDestinationPublicationAllGetEverything) {
  for (uint64_t seed = 1; seed <= seeds(60); ++seed) {
    StreamOptions options = optionsOf(seed + 40'000);
    options.mdc = true;
    options.receivers = 3;
    options.startTermOffset = 0;
    StreamWorld world(options);
    ASSERT_TRUE(world.connect()) << "seed " << seed;
    ASSERT_TRUE(world.transfer(128 * 1024)) << "seed " << seed;
    ASSERT_FALSE(::testing::Test::HasFailure()) << "seed " << seed;
  }
}

TEST(StreamSimulation, AnUnreliableStreamGoesOnOverItsHoles) {
  int64_t filled = 0;
  for (uint64_t seed = 1; seed <= seeds(40); ++seed) {
    StreamOptions options = optionsOf(seed + 50'000);
    options.reliable = false;
    options.checked = false;  // PADs stand for what was lost
    options.link.loss = 0.1;
    StreamWorld world(options);
    ASSERT_TRUE(world.connect()) << "seed " << seed;
    ASSERT_TRUE(world.transfer(256 * 1024)) << "seed " << seed;
    ASSERT_EQ(world.host().count(cnc::SystemCounter::kNaksSent), 0) << "seed " << seed;
    ASSERT_FALSE(::testing::Test::HasFailure()) << "seed " << seed;
    filled += world.host().count(cnc::SystemCounter::kLossGapFills);
  }
  EXPECT_GT(filled, 0);
}

}  // namespace
}  // namespace outrigger::driver::testing
