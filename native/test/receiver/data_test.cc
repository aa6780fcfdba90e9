// SPDX-License-Identifier: Apache-2.0
// What an image does with data: runs, trains, holes, duplicates, limits, and datagrams that no honest sender makes.
#include "receiver_world.h"

namespace outrigger::driver::testing {
namespace {

using cnc::OutriggerCounter;
using cnc::SystemCounter;

TEST(ReceiverData, ADatagramBecomesReadable) {
  ReceiverWorld world;
  world.open();
  world.arrive(ReceiverWorld::frame(0, 100));
  EXPECT_EQ(world.read(), 160);
  EXPECT_EQ(world.image->rebuildPosition(), 160);
  EXPECT_EQ(world.image->counters().receiverHwm.get(), 160);
}

TEST(ReceiverData, AWholeTrainIsTakenAtOnce) {
  ReceiverWorld world;
  world.open();
  world.arrive(ReceiverWorld::frames(0, 1344, 8), 1376);
  EXPECT_EQ(world.read(), 8 * 1376);
}

TEST(ReceiverData, ATrainOfSeveralStreamsAndControlFramesIsTakenApart) {
  ReceiverWorld world;
  world.open();
  Bytes train = ReceiverWorld::frame(0, 0);
  const auto append = [&](const Bytes& more) { train.insert(train.end(), more.begin(), more.end()); };
  append(ReceiverWorld::frame(0, 0, kSession + 1));  // nobody's session
  append(ReceiverWorld::frame(32, 0));
  append(ReceiverWorld::heartbeat(96));
  append(ReceiverWorld::frame(64, 0));
  append(Bytes(32, 0xFF));
  world.arrive(train, 32);
  EXPECT_EQ(world.read(), 96);
  EXPECT_EQ(world.count(SystemCounter::kHeartbeatsReceived), 1);
  EXPECT_EQ(world.count(SystemCounter::kInvalidPackets), 1);
  EXPECT_EQ(world.count(OutriggerCounter::kUnknownStreamDrops), 1);
}

TEST(ReceiverData, WhatComesOutOfOrderIsReadInOrder) {
  ReceiverWorld world;
  world.open();
  world.arrive(ReceiverWorld::frame(2 * 160, 100));
  EXPECT_EQ(world.read(), 0);
  world.arrive(ReceiverWorld::frame(160, 100));
  EXPECT_EQ(world.read(), 0);
  EXPECT_EQ(world.image->counters().receiverHwm.get(), 480);
  world.arrive(ReceiverWorld::frame(0, 100));
  EXPECT_EQ(world.read(), 480);
}

TEST(ReceiverData, ADuplicateChangesNothing) {
  ReceiverWorld world;
  world.open();
  world.arrive(ReceiverWorld::frame(0, 100));
  Bytes forged = ReceiverWorld::frame(0, 100);
  forged[40] = 0;
  world.arrive(forged);
  EXPECT_EQ(world.read(), 160);
}

TEST(ReceiverData, ARunThatOverlapsWhatStandsFillsTheHolesAndGoesOn) {
  ReceiverWorld world;
  world.open();
  world.arrive(ReceiverWorld::frames(64, 0, 2));   // hole at 0..64
  world.arrive(ReceiverWorld::frames(192, 0, 1));  // and at 128..192
  world.arrive(ReceiverWorld::frames(0, 0, 10));
  EXPECT_EQ(world.read(), 320);
}

TEST(ReceiverData, APadCoversMoreThanTravels) {
  ReceiverWorld world;
  world.open({.termOffset = kTermLength - 1024});
  world.arrive(ReceiverWorld::pad(kTermLength - 1024, 1024));
  EXPECT_EQ(world.read(), 1024);
  world.arrive(ReceiverWorld::frame(kTermLength, 0));
  EXPECT_EQ(world.read(), 32);
}

TEST(ReceiverData, MemoryIsUsedAgainAndAgainAndNeverShowsAnOlderTerm) {
  ReceiverWorld world;
  world.open();
  int64_t at = 0;
  Random random(9);
  while (at < 12 * int64_t{kTermLength}) {
    const auto count = static_cast<int32_t>(1 + random.below(5));
    const int32_t payload = 480;  // 512 bytes a frame: no PAD needed
    const int64_t hole = random.chance(0.3) && kTermLength - at % kTermLength > 1024 ? 512 : 0;
    const int64_t room = kTermLength - (at + hole) % kTermLength;
    const auto fitting = static_cast<int32_t>(std::min<int64_t>(count, room / 512));
    world.arrive(ReceiverWorld::frames(at + hole, payload, fitting), 512);
    if (hole > 0) {
      EXPECT_EQ(world.read(), 0);
      world.arrive(ReceiverWorld::frame(at, payload));
    }
    EXPECT_EQ(world.read(), hole + 512 * fitting);
    at += hole + 512 * fitting;
    world.step();
    ASSERT_FALSE(::testing::Test::HasFailure()) << at;
  }
}

TEST(ReceiverData, BeyondTheWindowIsDroppedAndCounted) {
  ReceiverWorld world;
  world.open();
  world.arrive(ReceiverWorld::frame(kTermLength / 2, 0));
  EXPECT_EQ(world.count(SystemCounter::kFlowControlOverRuns), 1);
  EXPECT_EQ(world.image->counters().receiverHwm.get(), 0);
}

TEST(ReceiverData, OfATrainAcrossTheLimitThePartWithinIsTaken) {
  ReceiverWorld world;
  world.open({.window = kTermLength / 2});
  world.position.set(0);
  for (int64_t at = 0; at < kTermLength / 2 - 1024; at += 1024) world.arrive(ReceiverWorld::frames(at, 480, 2), 512);
  world.arrive(ReceiverWorld::frames(kTermLength / 2 - 1024, 480, 6), 512);
  EXPECT_EQ(world.count(SystemCounter::kFlowControlOverRuns), 4);
  EXPECT_EQ(world.image->rebuildPosition(), kTermLength / 2);
}

TEST(ReceiverData, BelowWhatWasAcknowledgedIsDroppedAndCounted) {
  ReceiverWorld world;
  world.open();
  world.arrive(ReceiverWorld::frames(0, 1344, 6), 1376);
  world.read();
  world.step();
  world.arrive(ReceiverWorld::frame(0, 1344));
  EXPECT_EQ(world.count(SystemCounter::kFlowControlUnderRuns), 1);
}

TEST(ReceiverData, NothingOfADatagramIsKeptWhenOneOfItsFramesIsWrong) {
  ReceiverWorld world;
  world.open();
  Bytes datagram = ReceiverWorld::frames(0, 0, 4);
  writeAt<int32_t>(datagram.data(), 3 * 32 + 8, 4096);  // the last frame names another offset
  world.arrive(datagram);
  EXPECT_EQ(world.count(SystemCounter::kInvalidPackets), 1);
  EXPECT_EQ(world.read(), 0);
  EXPECT_EQ(world.image->counters().receiverHwm.get(), 0);
}

TEST(ReceiverData, AFrameOverTheTermEndIsRefused) {
  ReceiverWorld world;
  world.open({.termOffset = kTermLength - 64});
  world.arrive(ReceiverWorld::frame(kTermLength - 64, 64));
  world.arrive(ReceiverWorld::pad(kTermLength - 64, 96));
  world.arrive(ReceiverWorld::pad(kTermLength - 64, INT32_MAX - 64));
  EXPECT_EQ(world.count(SystemCounter::kInvalidPackets), 3);
  EXPECT_EQ(world.image->counters().receiverHwm.get(), kTermLength - 64);
}

TEST(ReceiverData, RandomDatagramsNeverReachOutsideTheLog) {
  // The sanitizer build is the judge; here only the positions are.
  ReceiverWorld world;
  world.open();
  Random random(77);
  for (int32_t i = 0; i < 20000; ++i) {
    Bytes datagram = random.chance(0.5) ? ReceiverWorld::frames(static_cast<int64_t>(random.below(kTermLength / 32)) * 32,
                                                                static_cast<int32_t>(random.below(200)), 3)
                                        : ReceiverWorld::heartbeat(static_cast<int64_t>(random.below(2 * kTermLength / 32)) * 32);
    for (uint64_t flips = random.below(4); flips > 0; --flips)
      datagram[random.below(datagram.size())] ^= static_cast<uint8_t>(1U << random.below(8));
    world.arrive(std::move(datagram), random.chance(0.2) ? 64 : 0);
    ASSERT_GE(world.image->counters().receiverHwm.get(), world.image->rebuildPosition());
    if (i % 100 == 0) world.io.sent.clear();
  }
}

TEST(ReceiverData, NoByteIsInvitedOrTakenBeyondBackedMemory) {
  ReceiverWorld world;
  world.open({.termOffset = kTermLength - 4096, .backedPosition = kTermLength});
  const auto asked = world.takeEvents(AgentEvent::Type::kBackTerm);
  ASSERT_EQ(asked.size(), 1U);
  EXPECT_GE(asked[0].value, 2 * int64_t{kTermLength});
  world.step(200 * kMilliNs);
  const auto sms = world.takeStatusMessages();
  ASSERT_FALSE(sms.empty());
  EXPECT_EQ(sms.back().receiverWindow, 4096);
  world.arrive(ReceiverWorld::frames(kTermLength - 4096, 2016, 2));
  world.arrive(ReceiverWorld::frame(kTermLength, 0));
  EXPECT_EQ(world.image->rebuildPosition(), kTermLength);
  EXPECT_EQ(world.count(SystemCounter::kFlowControlOverRuns), 1);
  ReceiverCommand backed;
  backed.type = ReceiverCommand::Type::kTermBacked;
  backed.image = world.image.get();
  backed.value = 2 * kTermLength;
  world.send(backed);
  world.step();
  const auto opened = world.takeStatusMessages();
  ASSERT_EQ(opened.size(), 1U) << "the sender waits for the window";
  EXPECT_EQ(opened[0].receiverWindow, kWindow);
  world.arrive(ReceiverWorld::frame(kTermLength, 0));
  EXPECT_EQ(world.read(), 4096 + 32);
}

TEST(ReceiverData, AFullVolumeIsAskedAgain) {
  ReceiverWorld world;
  world.open({.backedPosition = kTermLength});
  EXPECT_EQ(world.takeEvents(AgentEvent::Type::kBackTerm).size(), 1U);
  world.step(kMilliNs);
  EXPECT_TRUE(world.takeEvents(AgentEvent::Type::kBackTerm).empty());
  world.step(2 * kSecondNs);
  EXPECT_EQ(world.takeEvents(AgentEvent::Type::kBackTerm).size(), 1U);
}

TEST(ReceiverData, AHostileSubscriberPositionMovesNothingThatIsNotThere) {
  ReceiverWorld world;
  world.open();
  world.arrive(ReceiverWorld::frame(0, 100));
  for (const int64_t position : {INT64_MAX, INT64_MIN, int64_t{-1}, int64_t{33}}) {
    world.position.set(position);
    world.step(200 * kMilliNs);
    for (const auto& sm : world.takeStatusMessages()) {
      const int64_t at = ReceiverWorld::positionOf(sm.consumptionTermId, sm.consumptionTermOffset);
      EXPECT_GE(at, 0);
      EXPECT_LE(at, 160);
      EXPECT_EQ(at % 32, 0);
    }
  }
}

}  // namespace
}  // namespace outrigger::driver::testing
