// SPDX-License-Identifier: Apache-2.0
// How a sender turns committed frames into trains of datagrams, and what a full socket or a closed window does to that.
#include "sender_world.h"

namespace outrigger::driver::testing {
namespace {

using cnc::OutriggerCounter;
using cnc::SystemCounter;

TEST(SenderData, MessagesOfOneLengthLeaveAsOneTrainOfFullDatagrams) {
  World world;
  Stream& stream = world.publish(world.unicast());
  world.connect(stream);
  stream.append(288, 40);  // 320 bytes each: four fill a datagram of 1280
  world.step();
  const auto sent = world.takePayload();
  ASSERT_EQ(sent.size(), 10u);
  for (const Datagram& datagram : sent) EXPECT_EQ(datagram.bytes.size(), 1280u);
  EXPECT_EQ(expectContiguous(stream, sent, 0), stream.producer);
  EXPECT_EQ(world.io.calls, 1);
  EXPECT_EQ(world.io.itemLengths, std::vector<uint32_t>{12800});
  EXPECT_EQ(stream.publication->senderPosition(), stream.producer);
  EXPECT_EQ(world.count(OutriggerCounter::kDatagramsSent), 10 + 1 + 1);  // the setup and the question for the round trip
}

TEST(SenderData, AShorterDatagramEndsATrainAndTheNextOneGoesInTheSameCall) {
  World world;
  Stream& stream = world.publish(world.unicast());
  world.connect(stream);
  stream.append(1344, 3);
  stream.append(100);
  stream.append(1344, 2);
  world.step();
  const auto sent = world.takePayload();
  EXPECT_EQ(expectContiguous(stream, sent, 0), stream.producer);
  EXPECT_EQ(world.io.calls, 1);
  EXPECT_EQ(world.io.itemLengths, (std::vector<uint32_t>{3 * 1376 + 160, 2 * 1376}));
}

TEST(SenderData, AnUncommittedFrameStopsTheStreamUntilItIsCommitted) {
  World world;
  Stream& stream = world.publish(world.unicast());
  world.connect(stream);
  stream.append(64, 2);
  const int64_t claimed = stream.append(64);
  stream.append(64);
  stream.put(claimed, -96, wire::FrameType::kData);
  world.step();
  EXPECT_EQ(stream.publication->senderPosition(), claimed);
  stream.put(claimed, 96, wire::FrameType::kData);
  world.step();
  EXPECT_EQ(stream.publication->senderPosition(), stream.producer);
  EXPECT_EQ(expectContiguous(stream, world.takePayload(), 0), stream.producer);
}

TEST(SenderData, OfAPadOnlyTheHeaderTravelsAndTheStreamGoesOnInTheNextTerm) {
  World world;
  Stream& stream = world.publish(world.unicast());
  world.connect(stream);
  int64_t heard = 0;
  while (stream.producer < kTermLength + 10000) {
    stream.append(1300, 8);
    world.steps(2);
    heard = expectContiguous(stream, world.takePayload(), heard);
    EXPECT_EQ(heard, stream.producer);
    world.statusMessage(stream, heard, kTermLength / 2);
    world.steps(2);
  }
  EXPECT_EQ(stream.publication->senderPosition(), stream.producer);
}

TEST(SenderData, APadLongerThanTheWindowPassesWhole) {
  World world;
  Stream& stream = world.publish(world.unicast());
  world.connect(stream, 4096);
  stream.append(1000);
  stream.pad(8192);
  world.step();
  const auto sent = world.takePayload();
  ASSERT_FALSE(sent.empty());
  EXPECT_EQ(expectContiguous(stream, sent, 0), stream.producer);
  EXPECT_EQ(stream.publication->senderPosition(), stream.producer);
}

TEST(SenderData, WithoutSegmentationOffloadEveryDatagramIsAnItemOfItsOwn) {
  World world;
  world.io.capabilities.maxTrainSegments = 1;
  world.io.capabilities.segmentationOffload = false;
  Stream& stream = world.publish(world.unicast());
  world.connect(stream);
  stream.append(1344, 8);
  world.step();
  EXPECT_EQ(world.io.itemLengths, std::vector<uint32_t>(8, 1376));
  EXPECT_EQ(world.io.calls, 1);
  EXPECT_EQ(expectContiguous(stream, world.takePayload(), 0), stream.producer);
}

TEST(SenderData, AFullSocketStopsBetweenTrainsAndTheNextCycleGoesOnThere) {
  World world;
  world.io.capabilities.maxTrainSegments = 4;
  Stream& stream = world.publish(world.unicast());
  world.connect(stream);
  stream.append(1344, 12);
  world.io.room = 4;
  world.step();
  EXPECT_EQ(stream.publication->senderPosition(), 4 * 1376);
  EXPECT_EQ(world.count(SystemCounter::kShortSends), 1);
  world.io.room = INT64_MAX;
  world.step();
  EXPECT_EQ(expectContiguous(stream, world.takePayload(), 0), stream.producer);
}

TEST(SenderData, ATrainThatIsSplitPartWayIsNeitherRepeatedNorCut) {
  World world;
  Stream& stream = world.publish(world.unicast());
  world.connect(stream);
  stream.append(1344, 12);
  for (int32_t i = 0; i < 6; ++i) {
    world.io.room = 2;
    world.step();
    EXPECT_EQ(stream.publication->senderPosition(), (i + 1) * 2 * 1376);
  }
  EXPECT_EQ(expectContiguous(stream, world.takePayload(), 0), stream.producer);
}

TEST(SenderData, AFullSocketIsLookedAtAgainSoonAndNotAtTheNextHeartbeat) {
  World world;
  Stream& stream = world.publish(world.unicast());
  world.connect(stream);
  stream.append(1344, 12);
  world.io.room = 2;
  world.step();
  EXPECT_LE(world.sender->nextDeadlineNs(world.clock.nanoTime()), world.clock.nanoTime() + 100 * kMicroNs);
  world.io.room = INT64_MAX;
  world.step();
  EXPECT_GT(world.sender->nextDeadlineNs(world.clock.nanoTime()), world.clock.nanoTime() + kMilliNs);
}

TEST(SenderData, ALostDatagramMovesTheStreamOnAndIsCounted) {
  World world;
  Stream& stream = world.publish(world.unicast());
  world.connect(stream);
  world.io.broken[kReceiverPort] = io::TxStatus::kUnreachable;
  stream.append(1344, 4);
  world.step();
  EXPECT_EQ(stream.publication->senderPosition(), stream.producer);
  EXPECT_EQ(world.count(OutriggerCounter::kSendErrors), 4);
}

TEST(SenderData, NothingPassesTheReceiversWindow) {
  World world;
  Stream& stream = world.publish(world.unicast());
  world.connect(stream, 4096);
  stream.append(992, 10);  // 1024 bytes each
  world.step();
  EXPECT_EQ(stream.publication->senderPosition(), 4096);
  world.step();
  EXPECT_GT(world.count(SystemCounter::kSenderFlowControlLimits), 0);
  EXPECT_GT(stream.publication->counters().senderBackPressure.get(), 0);
  world.statusMessage(stream, 2048, 4096);
  world.steps(2);
  EXPECT_EQ(stream.publication->senderPosition(), 2048 + 4096);
  EXPECT_EQ(expectContiguous(stream, world.takePayload(), 0), 2048 + 4096);
}

TEST(SenderData, AFrameOfAnImpossibleLengthStopsItsStreamOnlyAndIsReportedOnce) {
  for (const int32_t length : {1, 31, kTermLength + 32, INT32_MAX, 1440}) {
    World world;
    SendChannelEndpoint& endpoint = world.unicast();
    Stream& hostile = world.publish(endpoint);
    PublicationOptions other;
    other.sessionId = kSession + 1;
    Stream& honest = world.publish(endpoint, other);
    world.connect(hostile);
    world.connect(honest);
    hostile.append(100);
    const int64_t stopped = hostile.append(100);
    hostile.put(stopped, length, wire::FrameType::kData);
    honest.append(100, 5);
    world.steps(5);
    EXPECT_EQ(hostile.publication->senderPosition(), stopped) << length;
    EXPECT_EQ(honest.publication->senderPosition(), honest.producer) << length;
    EXPECT_EQ(world.takeEvents(AgentEvent::Type::kError).size(), 1u) << length;
  }
}

TEST(SenderData, OneBusyPublicationLeavesRoomForTheOthersInEachCycle) {
  World world;
  SendChannelEndpoint& endpoint = world.unicast();
  PublicationOptions options;
  options.termLength = 16 * 1024 * 1024;
  Stream& busy = world.publish(endpoint, options);
  options.sessionId = kSession + 1;
  Stream& quiet = world.publish(endpoint, options);
  world.connect(busy, 4 * 1024 * 1024);
  world.connect(quiet, 4 * 1024 * 1024);
  busy.append(1344, 2000);
  quiet.append(100);
  world.step();
  EXPECT_EQ(quiet.publication->senderPosition(), quiet.producer);
  EXPECT_LT(busy.publication->senderPosition(), busy.producer);
  EXPECT_GT(busy.publication->senderPosition(), 0);
}

TEST(SenderData, ControlIsHeardWhileEveryCycleSends) {
  World world;
  PublicationOptions options;
  options.termLength = 16 * 1024 * 1024;
  Stream& stream = world.publish(world.unicast(), options);
  world.connect(stream, 8 * 1024 * 1024);
  stream.append(1344, 5000);
  world.io.capabilities.maxTrainSegments = 2;
  world.statusMessage(stream, 0, 8 * 1024 * 1024);
  for (int32_t i = 0; i < 6; ++i) EXPECT_GT(world.step(), 0);
  EXPECT_TRUE(world.io.inbox.empty());
}

TEST(SenderData, AStreamMayStartInTheMiddleOfALaterTerm) {
  World world;
  PublicationOptions options;
  options.initialTermId = INT32_MAX - 1;
  options.startTermId = INT32_MIN + 2;  // four terms later
  options.startTermOffset = 4096;
  Stream& stream = world.publish(world.unicast(), options);
  const int64_t start = 4 * int64_t{kTermLength} + 4096;
  EXPECT_EQ(stream.publication->senderPosition(), start);
  world.step();
  const auto setups = world.takeSetups();
  ASSERT_EQ(setups.size(), 1u);
  EXPECT_EQ(setups[0].as<wire::SetupFrame>().activeTermId, INT32_MIN + 2);
  EXPECT_EQ(setups[0].as<wire::SetupFrame>().termOffset, 4096);
  world.connect(stream);
  stream.append(500, 20);
  world.step();
  EXPECT_EQ(expectContiguous(stream, world.takePayload(), start), stream.producer);
}

}  // namespace
}  // namespace outrigger::driver::testing
