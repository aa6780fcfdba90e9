// SPDX-License-Identifier: Apache-2.0
// Times that the receiver writes into messages (media-rcv-ts-offset=, channel-rcv-ts-offset=): which, where, and what they leave alone.
#include "receiver_world.h"

namespace outrigger::driver::testing {
namespace {

constexpr int32_t kReserved = net::TimestampOffsets::kReservedValue;
constexpr int32_t kNoTime = net::TimestampOffsets::kNone;

struct Timed {
  ReceiverWorld world;
  Timed(int32_t media, int32_t channel) {
    world.endpoint.channel.timestamps.mediaReceive = media;
    world.endpoint.channel.timestamps.channelReceive = channel;
    world.open();
  }
  void arrive(Bytes bytes, uint32_t segment = 0, int64_t arrivedNs = 0) {
    world.io.arrivedNs = arrivedNs;
    world.arrive(std::move(bytes), segment);
  }
  int64_t timeAt(int64_t position, int32_t offset) const {
    return readAt<int64_t>(world.image->log().atPosition(position), static_cast<size_t>(wire::kDataHeaderLength + offset));
  }
  int64_t nowNs() { return world.clock.epochNanos(); }
};

TEST(ReceiverTimestamps, EachMessageTellsWhenItArrivedAndWhenItWasRead) {
  Timed timed(kReserved, 0);
  timed.arrive(ReceiverWorld::frames(0, 100, 3), 0, 1234);
  for (const int64_t at : {0, 160, 320}) {
    EXPECT_EQ(timed.timeAt(at, kReserved), 1234) << at;
    EXPECT_EQ(timed.timeAt(at, 0), timed.nowNs()) << at;
    EXPECT_EQ(timed.timeAt(at, 8), readAt<int64_t>(ReceiverWorld::frame(at, 100).data(), 40)) << "the rest is the publisher's";
  }
  EXPECT_EQ(timed.world.image->rebuildPosition(), 480);
}

TEST(ReceiverTimestamps, SoDoesEachDatagramOfATrain) {
  Timed timed(8, kReserved);
  timed.arrive(ReceiverWorld::frames(0, 1344, 8), 1376, 77);
  for (int64_t at = 0; at < 8 * 1376; at += 1376) {
    EXPECT_EQ(timed.timeAt(at, 8), 77) << at;
    EXPECT_EQ(timed.timeAt(at, kReserved), timed.nowNs()) << at;
  }
}

TEST(ReceiverTimestamps, WhereTheNetworkDoesNotKnowTheTimeOfReadingStandsIn) {
  Timed timed(0, kNoTime);
  timed.arrive(ReceiverWorld::frame(0, 100));
  EXPECT_EQ(timed.timeAt(0, 0), timed.nowNs());
  EXPECT_EQ(timed.timeAt(0, kReserved), 0);
}

TEST(ReceiverTimestamps, WhatComesLateOrAgainHasTheTimeOfTheOneThatIsKept) {
  Timed timed(kNoTime, kReserved);
  timed.arrive(ReceiverWorld::frame(160, 100));
  const int64_t early = timed.nowNs();
  timed.world.step(kMilliNs);
  timed.arrive(ReceiverWorld::frames(0, 100, 2));  // the hole, and what stands behind it already
  EXPECT_EQ(timed.timeAt(0, kReserved), timed.nowNs());
  EXPECT_EQ(timed.timeAt(160, kReserved), early);
  EXPECT_EQ(timed.world.image->rebuildPosition(), 320);
}

TEST(ReceiverTimestamps, AMessageThatIsTooShortIsNotTouched) {
  Timed timed(92, kNoTime);
  const Bytes tooShort = ReceiverWorld::frame(0, 99);
  timed.arrive(tooShort, 0, 55);
  timed.arrive(ReceiverWorld::frame(160, 100), 0, 55);
  EXPECT_EQ(std::memcmp(timed.world.image->log().atPosition(0), tooShort.data(), tooShort.size()), 0);
  EXPECT_EQ(timed.timeAt(160, 92), 55);
}

TEST(ReceiverTimestamps, APadHasNone) {
  Timed timed(kNoTime, kReserved);
  timed.arrive(ReceiverWorld::pad(0, 4096));
  EXPECT_EQ(timed.timeAt(0, kReserved), 0);
  timed.arrive(ReceiverWorld::heartbeat(4096));
  timed.arrive(ReceiverWorld::frame(4096, 0));
  EXPECT_EQ(timed.timeAt(4096, kReserved), timed.nowNs()) << "an empty message has room in its header";
}

TEST(ReceiverTimestamps, WithoutTheParametersMessagesAreAsTheyWereSent) {
  ReceiverWorld world;
  world.open();
  world.io.arrivedNs = 99;
  const Bytes bytes = ReceiverWorld::frames(0, 100, 2);
  world.arrive(bytes);
  EXPECT_EQ(std::memcmp(world.image->log().atPosition(0), bytes.data(), bytes.size()), 0);
}

}  // namespace
}  // namespace outrigger::driver::testing
