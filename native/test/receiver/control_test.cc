// SPDX-License-Identifier: Apache-2.0
// What an image sends and how it ends: status messages, NAKs, round-trip probes, rejections; end of stream, silence, revocation.
#include "receiver_world.h"

namespace outrigger::driver::testing {
namespace {

using cnc::OutriggerCounter;
using cnc::SystemCounter;

TEST(ReceiverControl, ANewImageOffersItsWindowAtOnce) {
  ReceiverWorld world;
  world.interest(true);
  world.open();
  EXPECT_EQ(world.count(SystemCounter::kStatusMessagesSent), 1);
}

TEST(ReceiverControl, StatusMessagesComeAfterAQuarterOfTheWindowAndOnATimer) {
  ReceiverWorld world;
  world.open();
  world.arrive(ReceiverWorld::frames(0, 992, 3), 1024);
  world.read();
  world.step();
  EXPECT_TRUE(world.takeStatusMessages().empty());
  world.arrive(ReceiverWorld::frame(3072, 992));
  world.read();
  world.step();
  const auto sms = world.takeStatusMessages();
  ASSERT_EQ(sms.size(), 1U);
  EXPECT_EQ(ReceiverWorld::positionOf(sms[0].consumptionTermId, sms[0].consumptionTermOffset), 4096);
  EXPECT_EQ(sms[0].receiverWindow, kWindow);
  EXPECT_EQ(int64_t{sms[0].receiverId}, kReceiverId);
  EXPECT_EQ(sms[0].header.frameLength, 36);
  EXPECT_LE(world.receiver->nextDeadlineNs(world.clock.nanoTime()), world.clock.nanoTime() + world.config.statusMessageTimeoutNs);
  world.step(world.config.statusMessageTimeoutNs);
  EXPECT_EQ(world.takeStatusMessages().size(), 1U);
}

TEST(ReceiverControl, TheSlowestSubscriberHoldsTheWindow) {
  ReceiverWorld world;
  world.open();
  const cnc::Counter slow = world.memory.make();
  slow.set(0);
  ReceiverCommand command;
  command.type = ReceiverCommand::Type::kAddSubscriber;
  command.image = world.image.get();
  command.counter = slow;
  command.value = 1;
  world.send(command);
  world.arrive(ReceiverWorld::frames(0, 992, 8), 1024);
  world.read();
  world.step();
  EXPECT_TRUE(world.takeStatusMessages().empty());
  EXPECT_EQ(world.image->joinPosition(), 0);
  command.type = ReceiverCommand::Type::kRemoveSubscriber;
  world.send(command);
  world.step();
  EXPECT_EQ(world.takeStatusMessages().size(), 1U);
  EXPECT_EQ(world.image->joinPosition(), 8192);
}

TEST(ReceiverControl, AGroupTagTravelsWithEveryStatusMessage) {
  ReceiverWorld world;
  world.endpoint.hasGroupTag = true;
  world.endpoint.groupTag = 0x1234567890;
  world.open();
  world.step(world.config.statusMessageTimeoutNs);
  const auto sms = world.take(wire::FrameType::kStatusMessage);
  ASSERT_EQ(sms.size(), 1U);
  ASSERT_EQ(sms[0].bytes.size(), 44U);
  EXPECT_EQ(wire::frameLength(sms[0].bytes.data()), 44);
  EXPECT_EQ(readAt<int64_t>(sms[0].bytes.data(), 36), 0x1234567890);
}

TEST(ReceiverControl, AFullSocketDelaysAStatusMessageAndLosesNone) {
  ReceiverWorld world;
  world.open();
  world.io.room = 0;
  world.arrive(ReceiverWorld::frames(0, 992, 8), 1024);
  world.read();
  world.step();
  EXPECT_GT(world.count(SystemCounter::kShortSends), 0);
  world.io.room = INT64_MAX;
  world.step(kMilliNs);
  EXPECT_EQ(world.takeStatusMessages().size(), 1U);
}

TEST(ReceiverControl, ASetupForAnImageThatStandsIsAnsweredWithAStatusMessage) {
  ReceiverWorld world;
  world.open();
  world.step(10 * kMilliNs);
  world.io.sent.clear();
  for (int32_t i = 0; i < 10; ++i) world.arriveFrame(ReceiverWorld::setup());
  EXPECT_EQ(world.takeStatusMessages().size(), 1U);
}

TEST(ReceiverControl, EveryHoleIsAskedFor) {
  ReceiverWorld world;
  world.open();
  world.arrive(ReceiverWorld::frame(1024, 0));
  world.arrive(ReceiverWorld::frame(2048, 0));
  world.step(10 * kMicroNs);
  const auto naks = world.takeNaks();
  ASSERT_EQ(naks.size(), 2U);
  EXPECT_EQ(ReceiverWorld::positionOf(naks[0].termId, naks[0].termOffset), 0);
  EXPECT_EQ(naks[0].length, 1024);
  EXPECT_EQ(ReceiverWorld::positionOf(naks[1].termId, naks[1].termOffset), 1056);
  EXPECT_EQ(naks[1].length, 992);
  EXPECT_EQ(world.image->counters().naksSent.get(), 2);
  const auto losses = world.takeEvents(AgentEvent::Type::kLossObserved);
  ASSERT_EQ(losses.size(), 1U);
  EXPECT_EQ(losses[0].value, 1024 + 992);
}

TEST(ReceiverControl, AHeartbeatRevealsTheLossOfTheLast) {
  ReceiverWorld world;
  world.open();
  world.arrive(ReceiverWorld::heartbeat(512));
  world.step(10 * kMicroNs);
  const auto naks = world.takeNaks();
  ASSERT_EQ(naks.size(), 1U);
  EXPECT_EQ(naks[0].length, 512);
}

TEST(ReceiverControl, AHoleAcrossTermsIsAskedForTermByTerm) {
  ReceiverWorld world;
  world.open({.termOffset = kTermLength - 64});
  world.arrive(ReceiverWorld::frame(kTermLength + 64, 0));
  world.step(10 * kMicroNs);
  const auto naks = world.takeNaks();
  ASSERT_EQ(naks.size(), 2U);
  EXPECT_EQ(naks[0].termOffset, kTermLength - 64);
  EXPECT_EQ(naks[0].length, 64);
  EXPECT_EQ(naks[1].termOffset, 0);
  EXPECT_EQ(naks[1].length, 64);
  world.arrive(ReceiverWorld::pad(kTermLength - 64, 64));
  world.arrive(ReceiverWorld::frames(kTermLength, 0, 2));
  EXPECT_EQ(world.read(), 64 + 96);
}

TEST(ReceiverControl, AnUnreliableImageFillsItsHoles) {
  ReceiverWorld world;
  world.open({.reliable = false});
  world.arrive(ReceiverWorld::frame(1024, 0));
  world.step(10 * kMicroNs);
  EXPECT_TRUE(world.takeNaks().empty());
  EXPECT_EQ(world.count(SystemCounter::kLossGapFills), 1);
  EXPECT_EQ(world.read(), 1056);
}

TEST(ReceiverControl, TheRoundTripIsAskedForAndTheSendersQuestionAnswered) {
  ReceiverWorld world;
  world.open();
  world.step(2 * kMilliNs);
  auto probes = world.take(wire::FrameType::kRttMeasurement);
  ASSERT_FALSE(probes.empty());
  auto probe = probes.back().as<wire::RttMeasurementFrame>();
  EXPECT_EQ(probe.header.flags, wire::kRttmFlagReply);
  EXPECT_EQ(int64_t{probe.receiverId}, kReceiverId);
  world.clock.advance(300 * kMicroNs);
  probe.header.flags = 0;
  world.arriveFrame(probe);
  world.step(5 * kSecondNs);
  EXPECT_TRUE(world.take(wire::FrameType::kRttMeasurement).empty()) << "known: an idle stream asks no more";

  wire::RttMeasurementFrame question{};
  question.header = {40, 0, wire::kRttmFlagReply, static_cast<uint16_t>(wire::FrameType::kRttMeasurement)};
  question.sessionId = kSession;
  question.streamId = kStream;
  question.echoTimestampNs = 12345;
  world.arriveFrame(question, 50001);
  const auto answers = world.take(wire::FrameType::kRttMeasurement);
  ASSERT_EQ(answers.size(), 1U);
  EXPECT_EQ(answers[0].port, 50001);
  EXPECT_EQ(answers[0].flags(), 0);
  EXPECT_EQ(int64_t{answers[0].as<wire::RttMeasurementFrame>().echoTimestampNs}, 12345);
}

TEST(ReceiverControl, AForgedRoundTripSaysNothing) {
  ReceiverWorld world;
  world.open();
  wire::RttMeasurementFrame forged{};
  forged.header = {40, 0, 0, static_cast<uint16_t>(wire::FrameType::kRttMeasurement)};
  forged.sessionId = kSession;
  forged.streamId = kStream;
  forged.receiverId = kReceiverId;
  for (const int64_t echo : {int64_t{0}, int64_t{-5}, INT64_MAX, world.clock.nanoTime() + 1}) {
    forged.echoTimestampNs = echo;
    world.arriveFrame(forged);
  }
  EXPECT_EQ(world.count(SystemCounter::kInvalidPackets), 4);
}

TEST(ReceiverControl, APeerThatAnswersNoProbeIsNotAskedForEver) {
  ReceiverWorld world;
  world.open();
  size_t probes = 0;
  for (int32_t i = 0; i < 600; ++i) {
    world.arrive(ReceiverWorld::heartbeat(0));
    world.step(100 * kMilliNs);
    probes += world.take(wire::FrameType::kRttMeasurement).size();
  }
  EXPECT_LE(probes, 12U);
}

TEST(ReceiverLifecycle, AtTheEndOfTheStreamItIsDrainedAndLingers) {
  ReceiverWorld world;
  world.open();
  world.arrive(ReceiverWorld::frame(0, 0));
  world.arrive(ReceiverWorld::heartbeat(64, wire::kFlagUnfragmented | wire::kFlagEos));
  EXPECT_TRUE(world.image->isEndOfStream());
  EXPECT_EQ(world.image->endOfStreamPosition(), 64);
  EXPECT_EQ(world.image->state(), ImageState::kActive) << "32 bytes are missing";
  world.arrive(ReceiverWorld::frame(32, 0));
  EXPECT_EQ(world.image->state(), ImageState::kDraining);
  const auto sms = world.takeStatusMessages();
  world.step();
  bool ends = false;
  for (const auto& sm : sms) ends |= (sm.header.flags & wire::kSmFlagEos) != 0;
  for (const auto& sm : world.takeStatusMessages()) ends |= (sm.header.flags & wire::kSmFlagEos) != 0;
  EXPECT_TRUE(ends) << "the sender need not wait out its linger";
  EXPECT_EQ(world.image->state(), ImageState::kDraining) << "the subscriber has not read yet";
  EXPECT_EQ(world.read(), 64);
  world.step();
  EXPECT_EQ(world.image->state(), ImageState::kLinger);
  EXPECT_GE(world.takeEvents(AgentEvent::Type::kImageStateChanged).size(), 2U);
}

TEST(ReceiverLifecycle, AnEndBeforeWhatWasSentIsNoEnd) {
  ReceiverWorld world;
  world.open();
  world.arrive(ReceiverWorld::frames(0, 0, 4));
  world.arrive(ReceiverWorld::heartbeat(32, wire::kFlagUnfragmented | wire::kFlagEos));
  EXPECT_FALSE(world.image->isEndOfStream());
  EXPECT_EQ(world.count(SystemCounter::kInvalidPackets), 1);
}

TEST(ReceiverLifecycle, ARevokedStreamEndsAtOnce) {
  ReceiverWorld world;
  world.open();
  world.arrive(ReceiverWorld::frame(0, 0));
  world.arrive(ReceiverWorld::heartbeat(64, wire::kFlagUnfragmented | wire::kFlagEos | wire::kFlagRevoked));
  EXPECT_TRUE(world.image->isRevoked());
  EXPECT_EQ(world.image->state(), ImageState::kLinger);
  EXPECT_EQ(world.image->log().get<uint8_t>(logbuffer::meta::kIsPublicationRevoked), 1);
  EXPECT_EQ(world.count(SystemCounter::kPublicationImagesRevoked), 1);
}

TEST(ReceiverLifecycle, ASilentSenderIsGivenUpAfterTheLivenessTimeout) {
  ReceiverWorld world;
  world.open();
  world.step(world.config.imageLivenessTimeoutNs);
  EXPECT_EQ(world.image->state(), ImageState::kActive);
  world.step(1);
  EXPECT_EQ(world.image->state(), ImageState::kDraining);
  EXPECT_FALSE(world.image->isEndOfStream());
}

TEST(ReceiverLifecycle, DroppedDatagramsKeepNoImageAlive) {
  ReceiverWorld world;
  world.open();
  for (int32_t i = 0; i < 12; ++i) {
    world.step(kSecondNs);
    world.arrive(ReceiverWorld::frame(kTermLength / 2 + 4096, 0));  // as of another publication with the same session
  }
  EXPECT_NE(world.image->state(), ImageState::kActive);
}

TEST(ReceiverLifecycle, AnImageThatNobodyWantsDrains) {
  ReceiverWorld world;
  world.open();
  ReceiverCommand command;
  command.type = ReceiverCommand::Type::kRemoveSubscriber;
  command.image = world.image.get();
  command.counter = world.position;
  world.send(command);
  world.step();
  EXPECT_EQ(world.image->state(), ImageState::kActive) << "an untethered subscriber may merely rest";
  world.interest(false);
  world.step();
  world.step();
  EXPECT_EQ(world.image->state(), ImageState::kLinger);
}

TEST(ReceiverLifecycle, ARejectedImageTellsItsSenderUntilItDies) {
  ReceiverWorld world;
  world.endpoint.hasGroupTag = true;
  world.endpoint.groupTag = 9;
  world.open();
  world.image->setRejectReason("the application does not want it");
  ReceiverCommand command;
  command.type = ReceiverCommand::Type::kRejectImage;
  command.image = world.image.get();
  world.send(command);
  world.step();
  const auto errors = world.take(wire::FrameType::kError);
  ASSERT_EQ(errors.size(), 1U);
  EXPECT_EQ(wire::classify(errors[0].bytes.data(), errors[0].bytes.size()), wire::PacketKind::kError);
  const auto error = errors[0].as<wire::ErrorFrame>();
  EXPECT_EQ(error.errorCode, 13);
  EXPECT_EQ(int64_t{error.receiverId}, kReceiverId);
  EXPECT_EQ(error.header.flags, wire::kErrorFlagHasGroupTag);
  EXPECT_EQ(int64_t{error.groupTag}, 9);
  EXPECT_EQ(std::string(errors[0].bytes.begin() + 40, errors[0].bytes.end()), "the application does not want it");
  world.arrive(ReceiverWorld::frame(0, 0));
  EXPECT_EQ(world.read(), 0);
  EXPECT_TRUE(world.takeStatusMessages().empty());
  world.step(world.config.statusMessageTimeoutNs);
  EXPECT_EQ(world.take(wire::FrameType::kError).size(), 1U);
  EXPECT_EQ(world.count(SystemCounter::kImagesRejected), 1);
  world.step(world.config.imageLivenessTimeoutNs);
  world.step();
  EXPECT_EQ(world.image->state(), ImageState::kLinger);
}

TEST(ReceiverLifecycle, WhatTheSenderNoLongerHasEndsTheImageWithAReason) {
  ReceiverWorld world;
  world.open();
  world.arrive(ReceiverWorld::heartbeat(kTermLength / 2 + kTermLength / 8 + 32));
  world.step(kMicroNs);
  EXPECT_NE(world.image->state(), ImageState::kActive);
  const auto errors = world.takeEvents(AgentEvent::Type::kError);
  ASSERT_EQ(errors.size(), 1U);
  EXPECT_NE(std::string(errors[0].text).find("no longer has it"), std::string::npos);
}

TEST(ReceiverLifecycle, AStateThatFindsTheRingFullIsToldLater) {
  ReceiverWorld world;
  world.open();
  AgentEvent filler;
  filler.type = AgentEvent::Type::kError;
  while (world.events.offer(filler)) {
  }
  world.arrive(ReceiverWorld::heartbeat(0, wire::kFlagUnfragmented | wire::kFlagEos));
  world.step();
  EXPECT_TRUE(world.takeEvents(AgentEvent::Type::kImageStateChanged).empty());
  world.step();
  EXPECT_EQ(world.takeEvents(AgentEvent::Type::kImageStateChanged).size(), 1U);
}

}  // namespace
}  // namespace outrigger::driver::testing
