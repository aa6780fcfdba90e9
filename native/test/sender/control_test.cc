// SPDX-License-Identifier: Apache-2.0
// SETUP, heartbeats, end of stream, and what a sender makes of status messages, round-trip questions and errors, honest or not.
#include "driver/backend_switch.h"
#include "sender_world.h"

namespace outrigger::driver::testing {
namespace {

using cnc::OutriggerCounter;
using cnc::SystemCounter;

TEST(SenderControl, ASetupGoesOutAtOnceAndEveryHundredMillisecondsUntilSomebodyAnswers) {
  World world;
  Stream& stream = world.publish(world.unicast());
  world.step();
  const auto first = world.takeSetups();
  ASSERT_EQ(first.size(), 1u);
  const auto setup = first[0].as<wire::SetupFrame>();
  EXPECT_EQ(first[0].port, kReceiverPort);
  EXPECT_EQ(setup.header.frameLength, 40);
  EXPECT_EQ(setup.header.flags, 0);
  EXPECT_EQ(setup.sessionId, kSession);
  EXPECT_EQ(setup.streamId, kStream);
  EXPECT_EQ(setup.initialTermId, kInitialTermId);
  EXPECT_EQ(setup.activeTermId, kInitialTermId);
  EXPECT_EQ(setup.termLength, kTermLength);
  EXPECT_EQ(setup.mtu, 1408);
  const int64_t due = world.sender->nextDeadlineNs(world.clock.nanoTime());
  EXPECT_EQ(due, world.clock.nanoTime() + world.config.setupTimeoutNs);
  world.step(world.config.setupTimeoutNs - 1);
  EXPECT_EQ(world.takeSetups().size(), 0u);
  world.step(1);
  EXPECT_EQ(world.takeSetups().size(), 1u);
  world.statusMessage(stream, 0, 8192);
  world.steps(2);
  world.step(world.config.setupTimeoutNs);
  EXPECT_EQ(world.takeSetups().size(), 0u);
}

TEST(SenderControl, ABackendThatIsStillReadIsLetGoOfAtOnceWhenTheDriverCloses) {
  World world;
  FakeIo next;
  SenderSwitch change;
  change.to = &next;
  SenderCommand command;
  command.type = SenderCommand::Type::kSwitchBackend;
  command.change = &change;
  world.io.reading = true;
  ASSERT_TRUE(world.commands.offer(command));
  world.step();
  AgentEvent event;
  EXPECT_FALSE(world.events.poll(event)) << "the network reads on";
  SenderCommand end;
  end.type = SenderCommand::Type::kEndSwitch;
  ASSERT_TRUE(world.commands.offer(end));
  world.step();
  ASSERT_TRUE(world.events.poll(event));
  EXPECT_EQ(event.type, AgentEvent::Type::kBackendSwitched);
  ASSERT_TRUE(world.commands.offer(end));
  world.step();
  EXPECT_FALSE(world.events.poll(event)) << "one answer, also where the end was asked for too late";
}

TEST(SenderControl, AGroupSaysSoInItsSetup) {
  World world;
  PublicationOptions options;
  options.groupSemantics = true;
  world.publish(world.unicast(), options);
  world.step();
  EXPECT_EQ(world.takeSetups().at(0).flags(), wire::kSetupFlagGroup);
}

TEST(SenderControl, AReceiverThatAsksGetsASetupSoonButAFloodOfQuestionsDoesNot) {
  World world;
  Stream& stream = world.publish(world.unicast());
  world.connect(stream);
  stream.append(968, 5);
  world.step(kSecondNs / 10);
  world.io.sent.clear();
  world.statusMessage(stream, 0, 0, 9, wire::kSmFlagSendSetup);
  world.steps(3);
  const auto setups = world.takeSetups();
  ASSERT_EQ(setups.size(), 1u);
  EXPECT_EQ(setups[0].as<wire::SetupFrame>().termOffset, stream.publication->senderPosition());
  for (int32_t i = 0; i < 50; ++i) world.statusMessage(stream, 0, 0, 9, wire::kSmFlagSendSetup);
  world.steps(60);
  EXPECT_EQ(world.takeSetups().size(), 0u);
  world.step(5 * kMilliNs);
  EXPECT_EQ(world.takeSetups().size(), 1u);
  EXPECT_EQ(stream.log().get<int32_t>(logbuffer::meta::kActiveTransportCount), 1) << "asking is not receiving";
}

TEST(SenderControl, ASetupThatFoundTheSocketFullIsStillOwed) {
  World world;
  Stream& stream = world.publish(world.unicast());
  world.connect(stream);
  world.statusMessage(stream, 0, 0, 9, wire::kSmFlagSendSetup);
  world.io.room = 0;
  world.step(kSecondNs / 100);
  world.step(kSecondNs / 100);
  EXPECT_EQ(world.takeSetups().size(), 0u);
  world.io.room = INT64_MAX;
  world.step(kSecondNs / 100);
  EXPECT_EQ(world.takeSetups().size(), 1u);
}

TEST(SenderControl, AnIdleStreamBeatsEveryHundredMilliseconds) {
  World world;
  Stream& stream = world.publish(world.unicast());
  world.connect(stream);
  stream.append(968);
  world.step();
  world.io.sent.clear();
  EXPECT_EQ(world.sender->nextDeadlineNs(world.clock.nanoTime()), world.clock.nanoTime() + world.config.heartbeatTimeoutNs);
  world.step(world.config.heartbeatTimeoutNs - 1);
  EXPECT_EQ(world.takeHeartbeats().size(), 0u);
  world.step(1);
  const auto beats = world.takeHeartbeats();
  ASSERT_EQ(beats.size(), 1u);
  EXPECT_EQ(beats[0].flags(), wire::kFlagUnfragmented);
  EXPECT_EQ(positionOf(stream, beats[0]), stream.producer);
  EXPECT_EQ(beats[0].as<wire::DataHeader>().reservedValue, 0);
  EXPECT_EQ(world.count(SystemCounter::kHeartbeatsSent), 1);
  world.step(world.config.heartbeatTimeoutNs);
  EXPECT_EQ(world.takeHeartbeats().size(), 1u);
}

TEST(SenderControl, APadThatReachesBeyondTheWindowIsSaidAgainWithEachHeartbeat) {
  World world;
  Stream& stream = world.publish(world.unicast());
  world.connect(stream, 2048);
  stream.append(992);
  const int64_t pad = stream.producer;
  stream.pad(kTermLength - static_cast<int32_t>(pad));
  world.step();
  ASSERT_EQ(stream.publication->senderPosition(), kTermLength);
  for (int32_t i = 0; i < 2; ++i) {
    world.io.sent.clear();
    world.step(world.config.heartbeatTimeoutNs);
    ASSERT_EQ(world.io.sent.size(), 2u);
    EXPECT_TRUE(world.io.sent[0].isHeartbeat());
    EXPECT_EQ(positionOf(stream, world.io.sent[0]), kTermLength);
    EXPECT_EQ(world.io.sent[1].type(), wire::FrameType::kPad);
    EXPECT_EQ(world.io.sent[1].bytes.size(), static_cast<size_t>(wire::kDataHeaderLength));
    EXPECT_EQ(positionOf(stream, world.io.sent[1]), pad);
  }
  // The window reaches the heartbeat now.
  world.statusMessage(stream, kTermLength, 2048);
  world.step();
  world.io.sent.clear();
  world.step(world.config.heartbeatTimeoutNs);
  EXPECT_EQ(world.io.sent.size(), 1u);
}

TEST(SenderControl, DataTakesThePlaceOfHeartbeats) {
  World world;
  Stream& stream = world.publish(world.unicast());
  world.connect(stream);
  for (int32_t i = 0; i < 10; ++i) {
    stream.append(32);
    world.step(world.config.heartbeatTimeoutNs * 9 / 10);
    world.step();
  }
  EXPECT_EQ(world.takeHeartbeats().size(), 0u);
}

TEST(SenderControl, NobodyHearsHeartbeatsBeforeTheFirstStatusMessage) {
  World world;
  world.publish(world.unicast());
  for (int32_t i = 0; i < 20; ++i) world.step(world.config.heartbeatTimeoutNs);
  EXPECT_EQ(world.takeHeartbeats().size(), 0u);
}

TEST(SenderControl, EndOfStreamIsSaidOnceEverythingIsOutAndThenAgainAndAgain) {
  World world;
  Stream& stream = world.publish(world.unicast());
  world.connect(stream, 2048);
  stream.append(992, 4);
  world.step();
  stream.publication->signalEndOfStream(false);
  EXPECT_EQ(stream.log().get<int64_t>(logbuffer::meta::kEndOfStreamPosition), stream.producer);
  world.step(world.config.heartbeatTimeoutNs);
  auto beats = world.takeHeartbeats();
  ASSERT_EQ(beats.size(), 1u);
  EXPECT_EQ(beats[0].flags(), wire::kFlagUnfragmented) << "two messages still wait for the window";
  EXPECT_FALSE(stream.publication->isDrained());
  world.statusMessage(stream, 2048, 2048);
  world.steps(3);
  beats = world.takeHeartbeats();
  ASSERT_EQ(beats.size(), 1u) << "without waiting for the timeout";
  EXPECT_EQ(beats[0].flags(), wire::kFlagUnfragmented | wire::kFlagEos);
  EXPECT_EQ(positionOf(stream, beats[0]), stream.producer);
  EXPECT_TRUE(stream.publication->isDrained());
  world.step(world.config.heartbeatTimeoutNs);
  EXPECT_EQ(world.takeHeartbeats().size(), 1u);
}

TEST(SenderControl, AStreamWithoutEosEndsSilently) {
  World world;
  PublicationOptions options;
  options.signalEos = false;
  Stream& stream = world.publish(world.unicast(), options);
  world.connect(stream);
  stream.publication->signalEndOfStream(false);
  world.step(world.config.heartbeatTimeoutNs);
  EXPECT_EQ(world.takeHeartbeats().at(0).flags(), wire::kFlagUnfragmented);
}

TEST(SenderControl, ARevokedStreamSendsNoMoreDataAndSaysSo) {
  World world;
  Stream& stream = world.publish(world.unicast());
  world.connect(stream);
  stream.append(100, 3);
  stream.publication->signalEndOfStream(true);
  world.steps(2);
  EXPECT_EQ(stream.publication->senderPosition(), 0);
  const auto beats = world.takeHeartbeats();
  ASSERT_EQ(beats.size(), 1u);
  EXPECT_EQ(beats[0].flags(), wire::kFlagUnfragmented | wire::kFlagEos | wire::kFlagRevoked);
  EXPECT_EQ(stream.log().get<uint8_t>(logbuffer::meta::kIsPublicationRevoked), 1);
}

TEST(SenderControl, AReceiverThatSaysEosCountsNoMore) {
  World world;
  Stream& stream = world.publish(world.unicast());
  world.connect(stream);
  EXPECT_FALSE(stream.publication->receiverSaidEos());
  world.statusMessage(stream, 0, 8192, 1, wire::kSmFlagEos);
  world.steps(2);
  EXPECT_TRUE(stream.publication->receiverSaidEos());
  EXPECT_FALSE(stream.publication->isConnected());
  world.statusMessage(stream, 0, 8192, 2);
  world.steps(2);
  EXPECT_FALSE(stream.publication->receiverSaidEos()) << "another one has come";
  EXPECT_TRUE(stream.publication->isConnected());
}

TEST(SenderControl, StatusMessagesOfPositionsThatCannotBeAreRejectedAndCounted) {
  const auto rejected = [](auto&& change) {
    World world;
    Stream& stream = world.publish(world.unicast());
    world.connect(stream, 4096);
    const int64_t limit = stream.publication->counters().senderLimit.get();
    auto sm = World::makeStatusMessage(stream, 0, 4096, 1, 0);
    change(sm);
    world.receive(*stream.publication->endpoint(), sm);
    world.steps(2);
    EXPECT_EQ(stream.publication->counters().senderLimit.get(), limit);
    return world.count(SystemCounter::kStatusMessagesRejected) + world.count(SystemCounter::kInvalidPackets);
  };
  EXPECT_EQ(rejected([](auto& sm) { sm.consumptionTermOffset = kTermLength / 2 + 32; }), 1);
  EXPECT_EQ(rejected([](auto& sm) { sm.consumptionTermId += 1; }), 1);
  EXPECT_EQ(rejected([](auto& sm) { sm.consumptionTermId -= 2; }), 1);
  EXPECT_EQ(rejected([](auto& sm) { sm.consumptionTermId = INT32_MIN; }), 1);
  EXPECT_EQ(rejected([](auto& sm) { sm.consumptionTermOffset = -32; }), 1);
  EXPECT_EQ(rejected([](auto& sm) { sm.consumptionTermOffset = INT32_MAX; }), 1);
  EXPECT_EQ(rejected([](auto& sm) { sm.receiverWindow = -1; }), 1);
  EXPECT_EQ(rejected([](auto& sm) { sm.receiverWindow = INT32_MAX; }), 1);
  EXPECT_EQ(rejected([](auto&) {}), 0);
}

TEST(SenderControl, FramesOfStreamsThatAreNotThereAreCounted) {
  World world;
  SendChannelEndpoint& endpoint = world.unicast();
  Stream& stream = world.publish(endpoint);
  world.connect(stream);
  auto sm = World::makeStatusMessage(stream, 0, 4096, 1, 0);
  sm.sessionId += 1;
  world.receive(endpoint, sm);
  sm = World::makeStatusMessage(stream, 0, 4096, 1, 0);
  sm.streamId += 1;
  world.receive(endpoint, sm);
  wire::NakFrame nak{};
  nak.header = {static_cast<int32_t>(sizeof(nak)), 0, 0, static_cast<uint16_t>(wire::FrameType::kNak)};
  world.receive(endpoint, nak);
  world.steps(2);
  EXPECT_EQ(world.count(OutriggerCounter::kUnknownStreamDrops), 3);
}

TEST(SenderControl, WhatIsNoAeronDatagramIsCountedAndDropped) {
  World world;
  SendChannelEndpoint& endpoint = world.unicast();
  Stream& stream = world.publish(endpoint);
  world.connect(stream);
  world.receiveBytes(endpoint, {1});
  world.receiveBytes(endpoint, std::vector<uint8_t>(36, 0xFF));
  auto sm = World::makeStatusMessage(stream, 0, 4096, 1, 0);
  const auto* bytes = reinterpret_cast<const uint8_t*>(&sm);
  world.receiveBytes(endpoint, {bytes, bytes + 20});
  world.steps(2);
  EXPECT_EQ(world.count(SystemCounter::kInvalidPackets), 3);
}

wire::RttMeasurementFrame roundTrip(uint8_t flags, int64_t echoNs, int64_t deltaNs) {
  wire::RttMeasurementFrame frame{};
  frame.header = {static_cast<int32_t>(sizeof(frame)), 0, flags, static_cast<uint16_t>(wire::FrameType::kRttMeasurement)};
  frame.sessionId = kSession;
  frame.streamId = kStream;
  frame.echoTimestampNs = echoNs;
  frame.receptionDeltaNs = deltaNs;
  frame.receiverId = 4242;
  return frame;
}

TEST(SenderControl, AQuestionForTheRoundTripIsEchoedToWhoAsked) {
  World world;
  SendChannelEndpoint& endpoint = world.unicast();
  Stream& stream = world.publish(endpoint);
  world.connect(stream);
  world.receive(endpoint, roundTrip(wire::kRttmFlagReply, 123456789, 55), 5555);
  world.steps(2);
  const auto replies = world.take([](const Datagram& d) { return d.type() == wire::FrameType::kRttMeasurement; });
  ASSERT_EQ(replies.size(), 1u);
  EXPECT_EQ(replies[0].port, 5555);
  const auto reply = replies[0].as<wire::RttMeasurementFrame>();
  EXPECT_EQ(reply.header.flags, 0);
  EXPECT_EQ(reply.echoTimestampNs, 123456789);
  EXPECT_EQ(reply.receptionDeltaNs, 0);
  EXPECT_EQ(reply.receiverId, 4242);
}

TEST(SenderControl, AnswersOnTheRoundTripThatCannotBeAreDropped) {
  World world;
  SendChannelEndpoint& endpoint = world.unicast();
  Stream& stream = world.publish(endpoint);
  world.connect(stream);
  const int64_t now = world.clock.nanoTime();
  const std::vector<std::pair<int64_t, int64_t>> hostile = {{INT64_MIN, 0}, {INT64_MAX, 0},   {0, 0},           {-1, 0},
                                                            {now + 1, 0},   {now, INT64_MIN}, {now, INT64_MAX}, {now, -1}};
  for (const auto& [echo, delta] : hostile) world.receive(endpoint, roundTrip(0, echo, delta));
  world.steps(10);
  EXPECT_EQ(world.count(SystemCounter::kInvalidPackets), static_cast<int64_t>(hostile.size()));
}

std::vector<uint8_t> errorFrame(int64_t receiverId, const std::string& text, int32_t declaredLength) {
  wire::ErrorFrame frame{};
  frame.header = {static_cast<int32_t>(sizeof(frame) + text.size()), 0, 0, static_cast<uint16_t>(wire::FrameType::kError)};
  frame.sessionId = kSession;
  frame.streamId = kStream;
  frame.receiverId = receiverId;
  frame.errorCode = 13;
  frame.errorLength = declaredLength;
  std::vector<uint8_t> packet(sizeof(frame) + text.size());
  wire::store(packet.data(), frame);
  std::memcpy(packet.data() + sizeof(frame), text.data(), text.size());
  return packet;
}

TEST(SenderControl, AReceiverThatRejectsTheStreamIsReportedAndCountsNoMore) {
  World world;
  SendChannelEndpoint& endpoint = world.unicast();
  Stream& stream = world.publish(endpoint);
  world.connect(stream);
  world.receiveBytes(endpoint, errorFrame(1, "no room", 7));
  world.steps(2);
  const auto events = world.takeEvents(AgentEvent::Type::kPublicationError);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].publication, stream.publication.get());
  EXPECT_EQ(events[0].receiverId, 1);
  EXPECT_EQ(events[0].errorCode, 13);
  EXPECT_EQ(events[0].address, address(kReceiverPort));
  EXPECT_STREQ(events[0].text, "no room");
  EXPECT_FALSE(stream.publication->isConnected());
  EXPECT_EQ(world.count(SystemCounter::kErrorFramesReceived), 1);
}

TEST(SenderControl, ErrorsWithLongOrLyingTextsStayInTheirBounds) {
  World world;
  SendChannelEndpoint& endpoint = world.unicast();
  Stream& stream = world.publish(endpoint);
  world.connect(stream);
  world.receiveBytes(endpoint, errorFrame(1, std::string(1000, 'x'), 1000));
  world.receiveBytes(endpoint, errorFrame(1, "short", 1000));
  world.receiveBytes(endpoint, errorFrame(1, "short", -1));
  world.receiveBytes(endpoint, errorFrame(1, "short", INT32_MAX));
  world.steps(2);
  const auto events = world.takeEvents(AgentEvent::Type::kPublicationError);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(std::string(events[0].text), std::string(255, 'x'));
  EXPECT_EQ(world.count(SystemCounter::kInvalidPackets), 3);
}

TEST(SenderControl, AFloodOfErrorsDoesNotFillTheRingToTheConductor) {
  World world;
  SendChannelEndpoint& endpoint = world.unicast();
  Stream& stream = world.publish(endpoint);
  world.connect(stream);
  for (int32_t i = 0; i < 200; ++i) world.receiveBytes(endpoint, errorFrame(i, "no", 2));
  world.steps(10);
  EXPECT_EQ(world.takeEvents(AgentEvent::Type::kPublicationError).size(), 1u);
  EXPECT_EQ(world.count(SystemCounter::kErrorFramesReceived), 200);
  world.receiveBytes(endpoint, errorFrame(1, "no", 2));
  world.step(kSecondNs / 10);
  world.step();
  EXPECT_EQ(world.takeEvents(AgentEvent::Type::kPublicationError).size(), 1u);
}

TEST(SenderControl, ReleasesReachTheConductorEvenWhenItsRingWasFull) {
  World world;
  SendChannelEndpoint& endpoint = world.unicast();
  Stream& stream = world.publish(endpoint);
  world.connect(stream);
  AgentEvent filler;
  filler.type = AgentEvent::Type::kLossObserved;
  while (world.events.offer(filler)) {
  }
  SenderCommand command;
  command.type = SenderCommand::Type::kRemovePublication;
  command.publication = stream.publication.get();
  ASSERT_TRUE(world.commands.offer(command));
  command = {};
  command.type = SenderCommand::Type::kRemoveEndpoint;
  command.endpoint = &endpoint;
  ASSERT_TRUE(world.commands.offer(command));
  world.steps(3);
  AgentEvent event;
  while (world.events.poll(event)) EXPECT_EQ(event.type, AgentEvent::Type::kLossObserved);
  world.step();
  ASSERT_TRUE(world.events.poll(event));
  EXPECT_EQ(event.type, AgentEvent::Type::kPublicationReleased);
  EXPECT_EQ(event.publication, stream.publication.get());
  ASSERT_TRUE(world.events.poll(event));
  EXPECT_EQ(event.type, AgentEvent::Type::kEndpointReleased);
  EXPECT_EQ(event.sendEndpoint, &endpoint);
  EXPECT_FALSE(world.events.poll(event));
  EXPECT_EQ(world.io.attached, 0);
}

}  // namespace
}  // namespace outrigger::driver::testing
