// SPDX-License-Identifier: Apache-2.0
// How far publishers may write: the window, the memory that exists, what was cleaned, and spies.
#include "sender_world.h"

namespace outrigger::driver::testing {
namespace {

namespace meta = logbuffer::meta;

int64_t publisherLimit(const Stream& stream) { return stream.publication->counters().publisherLimit.get(); }

bool isZero(const Stream& stream, int64_t begin, int64_t end) {
  for (int64_t at = begin; at < end; at += 8) {
    if (loadRelaxed<int64_t>(stream.log().atPosition(at)) != 0) return false;
  }
  return true;
}

TEST(SenderLimits, NobodyMayPublishBeforeAReceiverWasHeard) {
  World world;
  Stream& stream = world.publish(world.unicast());
  world.step();
  EXPECT_EQ(publisherLimit(stream), 0);
  EXPECT_FALSE(stream.publication->isConnected());
  EXPECT_EQ(stream.log().get<int32_t>(meta::kIsConnected), 0);
}

TEST(SenderLimits, AReceiverOpensTheWindowAndTheLogSaysConnected) {
  World world;
  Stream& stream = world.publish(world.unicast());
  world.connect(stream);
  EXPECT_EQ(publisherLimit(stream), kTermLength / 2);
  EXPECT_EQ(stream.log().get<int32_t>(meta::kIsConnected), 1);
  EXPECT_EQ(stream.log().get<int32_t>(meta::kActiveTransportCount), 1);
}

TEST(SenderLimits, TheMetadataIsFoundAtTheEndOfAFileOfLargerPages) {
  World world;
  PublicationOptions options;
  options.pageSize = 64 * 1024;
  Stream& stream = world.publish(world.unicast(), options);
  world.connect(stream);
  const uint8_t* fileEnd = stream.log().term(0) + logbuffer::logFileLength(kTermLength, options.pageSize);
  EXPECT_EQ(readAt<int32_t>(fileEnd - logbuffer::kMetadataLength, meta::kIsConnected), 1);
}

TEST(SenderLimits, ASilentReceiverIsGoneAfterTheConnectionTimeoutAndTheLimitFallsBackToWhatWasSent) {
  World world;
  Stream& stream = world.publish(world.unicast());
  world.connect(stream);
  stream.append(968, 3);
  world.step();
  world.step(world.config.publicationConnectionTimeoutNs);
  EXPECT_TRUE(stream.publication->isConnected());
  world.step(kMilliNs);
  EXPECT_FALSE(stream.publication->isConnected());
  EXPECT_EQ(publisherLimit(stream), stream.producer);
  EXPECT_EQ(stream.log().get<int32_t>(meta::kIsConnected), 0);
  EXPECT_EQ(stream.log().get<int32_t>(meta::kActiveTransportCount), 0);
  world.statusMessage(stream, stream.producer, 8192, 2);
  world.steps(2);
  EXPECT_TRUE(stream.publication->isConnected());
  EXPECT_EQ(publisherLimit(stream), stream.producer + kTermLength / 2);
}

TEST(SenderLimits, TheLimitStaysInMemoryThatExistsAndTheNextTermIsAskedForInTime) {
  World world;
  PublicationOptions options;
  options.backedPosition = kTermLength;
  Stream& stream = world.publish(world.unicast(), options);
  world.connect(stream);
  auto asked = world.takeEvents(AgentEvent::Type::kBackTerm);
  ASSERT_EQ(asked.size(), 1u);
  EXPECT_EQ(asked[0].publication, stream.publication.get());
  EXPECT_EQ(asked[0].value, 2 * kTermLength);  // while the producer is in the first term
  int64_t consumed = 0;
  while (stream.producer + 1024 <= publisherLimit(stream)) {
    stream.append(992);
    world.step();
    world.statusMessage(stream, consumed = stream.producer, kTermLength / 2);
    world.steps(2);
  }
  EXPECT_EQ(publisherLimit(stream), kTermLength) << "nothing was backed beyond the first term";
  world.backTerm(stream, 2 * kTermLength);
  world.step();
  EXPECT_EQ(publisherLimit(stream), consumed + kTermLength / 2);
}

TEST(SenderLimits, MemoryThatDidNotComeIsAskedForAgainWhenAVolumeMayHaveRoom) {
  World world;
  PublicationOptions options;
  options.backedPosition = kTermLength;
  Stream& stream = world.publish(world.unicast(), options);
  world.connect(stream);
  EXPECT_EQ(world.takeEvents(AgentEvent::Type::kBackTerm).size(), 1u);
  world.steps(10);
  EXPECT_EQ(world.takeEvents(AgentEvent::Type::kBackTerm).size(), 0u);
  world.step(kSecondNs);
  EXPECT_EQ(world.takeEvents(AgentEvent::Type::kBackTerm).size(), 1u);
  world.backTerm(stream, 2 * kTermLength);
  world.step(2 * kSecondNs);
  EXPECT_EQ(world.takeEvents(AgentEvent::Type::kBackTerm).size(), 0u);
}

TEST(SenderLimits, WhatPublishersMayWriteIsZeroThroughManyTerms) {
  World world;
  Stream& stream = world.publish(world.unicast());
  world.connect(stream);
  while (stream.producer < 10 * int64_t{kTermLength}) {
    const int64_t limit = publisherLimit(stream);
    ASSERT_LE(limit, stream.publication->senderPosition() + kTermLength / 2);
    // One message may be claimed past the limit, and the sender reads the frame length behind the last.
    ASSERT_TRUE(isZero(stream, stream.producer, limit + logbuffer::maxMessageLength(kTermLength))) << stream.producer;
    ASSERT_GT(limit, stream.producer);
    while (stream.producer < limit) stream.append(1000);
    world.steps(3);
    // The last message reaches past the receiver's window as well.
    world.statusMessage(stream, stream.publication->senderPosition(), kTermLength / 2);
    world.steps(3);
    ASSERT_EQ(stream.publication->senderPosition(), stream.producer);
  }
}

TEST(SenderLimits, WhatARepairMayNeedIsNotCleaned) {
  World world;
  Stream& stream = world.publish(world.unicast());
  world.connect(stream);
  const int64_t reach = kTermLength / 2 + logbuffer::maxMessageLength(kTermLength);
  std::deque<std::pair<int64_t, std::vector<uint8_t>>> history;
  while (stream.producer < 8 * int64_t{kTermLength}) {
    for (int32_t i = 0; i < 4; ++i) {
      const int64_t at = stream.append(1000);
      const uint8_t* frame = stream.log().atPosition(at);
      history.emplace_back(at, std::vector<uint8_t>(frame, frame + 1032));
    }
    world.steps(4);
    world.statusMessage(stream, stream.producer, kTermLength / 2);
    world.steps(4);
    while (history.front().first < stream.publication->senderPosition() - reach) history.pop_front();
    for (const auto& [at, bytes] : history) {
      ASSERT_EQ(std::memcmp(stream.log().atPosition(at), bytes.data(), bytes.size()), 0) << at;
    }
  }
}

TEST(SenderLimits, CleaningGoesInChunksAndTheLimitWaitsForIt) {
  World world;
  PublicationOptions options;
  options.termLength = 16 * 1024 * 1024;
  Stream& stream = world.publish(world.unicast(), options);
  world.connect(stream, 8 * 1024 * 1024);
  int64_t heard = 0;
  while (stream.producer < 5 * int64_t{options.termLength}) {
    const int64_t limit = publisherLimit(stream);
    ASSERT_TRUE(isZero(stream, std::max(stream.producer, limit - 4096), limit + 4096));
    while (stream.producer < limit) stream.append(1344);
    world.steps(4);
    heard = stream.publication->senderPosition();
    world.statusMessage(stream, heard, 8 * 1024 * 1024);
    world.steps(4);
    world.io.sent.clear();
  }
}

TEST(SenderLimits, TheSlowestSpyHoldsThePublishersBack) {
  World world;
  Stream& stream = world.publish(world.unicast());
  const cnc::Counter fast = world.memory.make();
  const cnc::Counter slow = world.memory.make();
  world.connect(stream);
  world.addSpy(stream, fast);
  world.addSpy(stream, slow);
  world.step();
  EXPECT_TRUE(stream.publication->hasSpies());
  stream.append(992, 16);
  world.step();
  fast.set(stream.producer);
  slow.set(4096);
  world.step();
  EXPECT_EQ(publisherLimit(stream), 4096 + kTermLength / 2);
  EXPECT_FALSE(stream.publication->isDrained());
  world.removeSpy(stream, slow);
  world.step();
  EXPECT_EQ(publisherLimit(stream), stream.producer + kTermLength / 2);
  EXPECT_TRUE(stream.publication->isDrained());
}

TEST(SenderLimits, SpiesWithoutReceiversSimulateAConnectionWhenAsked) {
  for (const bool simulate : {false, true}) {
    World world;
    PublicationOptions options;
    options.spiesSimulateConnection = simulate;
    Stream& stream = world.publish(world.unicast(), options);
    const cnc::Counter spy = world.memory.make();
    world.addSpy(stream, spy);
    world.steps(2);
    EXPECT_EQ(stream.publication->isConnected(), simulate);
    if (!simulate) continue;
    stream.append(992, 4);
    spy.set(2048);
    world.step();
    EXPECT_EQ(stream.publication->senderPosition(), 2048) << "what the spy read counts as sent";
    EXPECT_EQ(publisherLimit(stream), 2048 + kTermLength / 2);
    world.removeSpy(stream, spy);
    world.step();
    EXPECT_FALSE(stream.publication->isConnected());
  }
}

TEST(SenderLimits, ASpyPositionThatCannotBeMovesNothingOutOfTheLog) {
  for (const int64_t position : {INT64_MAX, INT64_MIN, int64_t{-1}, int64_t{33}, int64_t{1} << 40}) {
    World world;
    PublicationOptions options;
    options.spiesSimulateConnection = true;
    Stream& stream = world.publish(world.unicast(), options);
    const cnc::Counter spy = world.memory.make();
    world.addSpy(stream, spy);
    world.steps(2);
    stream.append(992, 4);
    spy.set(position);
    world.steps(10);
    EXPECT_GE(stream.publication->senderPosition(), 0) << position;
    EXPECT_LE(stream.publication->senderPosition(), stream.producer) << position;
    EXPECT_EQ(stream.publication->senderPosition() % 32, 0) << position;
  }
}

TEST(SenderLimits, ATailCounterThatCannotBeStopsTheStreamAndNothingElse) {
  for (const int64_t tail : {int64_t{-1}, INT64_MAX, INT64_MIN, logbuffer::packTail(kInitialTermId + 1000, 64)}) {
    World world;
    SendChannelEndpoint& endpoint = world.unicast();
    PublicationOptions options;
    options.spiesSimulateConnection = true;
    Stream& hostile = world.publish(endpoint, options);
    options.sessionId = kSession + 1;
    Stream& honest = world.publish(endpoint, options);
    world.connect(hostile);
    world.connect(honest);
    storeRelease<int64_t>(hostile.log().tailAddress(0), tail);
    honest.append(500, 10);
    world.steps(10);
    EXPECT_FALSE(hostile.publication->checkForBlockedPublisher(world.clock.nanoTime()));
    EXPECT_EQ(honest.publication->senderPosition(), honest.producer);
    EXPECT_EQ(hostile.publication->senderPosition(), 0);
  }
}

TEST(SenderLimits, TheClaimOfADeadPublisherIsUnblockedAfterTheTimeout) {
  World world;
  Stream& stream = world.publish(world.unicast());
  world.connect(stream);
  const int64_t claimed = stream.append(968);
  stream.append(968);
  stream.put(claimed, -1000, wire::FrameType::kData);
  world.step();
  const int64_t begin = world.clock.nanoTime();
  EXPECT_FALSE(stream.publication->checkForBlockedPublisher(begin));
  EXPECT_FALSE(stream.publication->checkForBlockedPublisher(begin + world.config.publicationUnblockTimeoutNs));
  EXPECT_TRUE(stream.publication->checkForBlockedPublisher(begin + world.config.publicationUnblockTimeoutNs + 1));
  EXPECT_EQ(world.count(cnc::SystemCounter::kUnblockedPublications), 1);
  world.steps(3);
  EXPECT_EQ(stream.publication->senderPosition(), stream.producer);
  const auto sent = world.takePayload();
  ASSERT_FALSE(sent.empty());
  EXPECT_EQ(sent[0].type(), wire::FrameType::kPad);
  EXPECT_EQ(expectContiguous(stream, sent, 0), stream.producer);
}

TEST(SenderLimits, AStreamHeldByFlowControlIsNotTakenForABlockedOne) {
  World world;
  Stream& stream = world.publish(world.unicast());
  world.connect(stream, 4096);
  stream.append(992, 8);
  world.steps(3);
  ASSERT_EQ(stream.publication->senderPosition(), 4096);
  const int64_t begin = world.clock.nanoTime();
  for (int64_t seconds = 0; seconds < 60; ++seconds) {
    EXPECT_FALSE(stream.publication->checkForBlockedPublisher(begin + seconds * kSecondNs));
  }
}

}  // namespace
}  // namespace outrigger::driver::testing
