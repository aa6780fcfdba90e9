// SPDX-License-Identifier: Apache-2.0
// Multi-destination publications: every destination gets everything, none holds another, strangers are resolved once and forgotten in time.
#include <set>

#include "sender_world.h"

namespace outrigger::driver::testing {
namespace {

using cnc::OutriggerCounter;

constexpr uint16_t kA = 1001;
constexpr uint16_t kB = 1002;
constexpr uint16_t kC = 1003;

std::vector<Datagram> only(const std::vector<Datagram>& datagrams, uint16_t port) {
  std::vector<Datagram> result;
  for (const Datagram& datagram : datagrams) {
    if (datagram.port == port) result.push_back(datagram);
  }
  return result;
}

struct Manual {
  World world;
  SendChannelEndpoint& endpoint;
  Stream& stream;
  explicit Manual(const std::vector<uint16_t>& ports = {kA, kB, kC})
      : endpoint(world.multiDestination(net::ControlMode::kManual)), stream(world.publish(endpoint, group())) {
    for (const uint16_t port : ports) world.addDestination(endpoint, port);
    world.connect(stream, kTermLength / 2, 1, kA);
  }
  static PublicationOptions group() {
    PublicationOptions options;
    options.groupSemantics = true;
    return options;
  }
};

TEST(SenderMdc, SetupsHeartbeatsAndDataGoToEveryDestination) {
  Manual mdc;
  mdc.stream.append(992, 6);
  mdc.world.step();
  EXPECT_EQ(mdc.world.io.calls, 1) << "all destinations in one call";
  auto sent = mdc.world.takePayload();
  for (const uint16_t port : {kA, kB, kC}) EXPECT_EQ(expectContiguous(mdc.stream, only(sent, port), 0), mdc.stream.producer);
  mdc.world.step(mdc.world.config.heartbeatTimeoutNs);
  EXPECT_EQ(mdc.world.takeHeartbeats().size(), 3u);
  mdc.world.statusMessage(mdc.stream, 0, 0, 2, wire::kSmFlagSendSetup, kB);
  mdc.world.steps(2);
  const auto setups = mdc.world.takeSetups();
  ASSERT_EQ(setups.size(), 3u);
  EXPECT_EQ(setups[0].flags(), wire::kSetupFlagGroup);
  EXPECT_EQ(mdc.endpoint.destinationCount.get(), 3);
}

TEST(SenderMdc, AnErrorOfOneDestinationHoldsNoOther) {
  Manual mdc;
  mdc.world.io.broken[kB] = io::TxStatus::kUnreachable;
  mdc.stream.append(992, 6);
  mdc.world.step();
  const auto sent = mdc.world.takePayload();
  EXPECT_EQ(expectContiguous(mdc.stream, only(sent, kA), 0), mdc.stream.producer);
  EXPECT_EQ(expectContiguous(mdc.stream, only(sent, kC), 0), mdc.stream.producer);
  EXPECT_EQ(mdc.stream.publication->senderPosition(), mdc.stream.producer);
  EXPECT_EQ(mdc.world.count(OutriggerCounter::kSendErrors), 6);
}

TEST(SenderMdc, AFullSocketGoesOnAtTheDestinationWhereItStopped) {
  Manual mdc;
  mdc.stream.append(992, 7);
  std::vector<Datagram> sent;
  for (int32_t i = 0; i < 21; ++i) {  // one datagram a cycle
    EXPECT_EQ(mdc.stream.publication->senderPosition(), 0);
    mdc.world.io.room = 1;
    mdc.world.step();
    for (Datagram& datagram : mdc.world.takePayload()) sent.push_back(std::move(datagram));
  }
  EXPECT_EQ(mdc.stream.publication->senderPosition(), mdc.stream.producer);
  for (const uint16_t port : {kA, kB, kC}) {
    EXPECT_EQ(expectContiguous(mdc.stream, only(sent, port), 0), mdc.stream.producer) << "neither repeated nor skipped";
  }
}

TEST(SenderMdc, DataWrittenMeanwhileFollowsAHalfSentTrain) {
  Manual mdc;
  mdc.stream.append(992, 4);
  mdc.world.io.room = 6;
  mdc.world.step();
  mdc.stream.append(992, 4);
  mdc.world.io.room = INT64_MAX;
  mdc.world.steps(2);
  const auto sent = mdc.world.takePayload();
  for (const uint16_t port : {kA, kB, kC}) EXPECT_EQ(expectContiguous(mdc.stream, only(sent, port), 0), mdc.stream.producer);
}

TEST(SenderMdc, ADestinationThatGoesInTheMiddleOfATrainDoesNotShiftTheOthers) {
  Manual mdc;
  mdc.stream.append(992, 4);
  mdc.world.io.room = 6;
  mdc.world.step();
  SenderCommand command;
  command.type = SenderCommand::Type::kRemoveDestination;
  command.endpoint = &mdc.endpoint;
  command.destination = mdc.endpoint.ownedDestinations[0].get();
  ASSERT_TRUE(mdc.world.commands.offer(command));
  mdc.world.io.room = INT64_MAX;
  mdc.world.io.sent.clear();
  mdc.world.steps(2);
  const auto sent = mdc.world.takePayload();
  EXPECT_EQ(only(sent, kA).size(), 0u);
  EXPECT_EQ(expectContiguous(mdc.stream, only(sent, kB), 0), mdc.stream.producer) << "starts over: a receiver drops what it has";
  EXPECT_EQ(expectContiguous(mdc.stream, only(sent, kC), 0), mdc.stream.producer);
  const auto released = mdc.world.takeEvents(AgentEvent::Type::kDestinationReleased);
  ASSERT_EQ(released.size(), 1u);
  EXPECT_EQ(released[0].destination, mdc.endpoint.ownedDestinations[0].get());
  EXPECT_EQ(mdc.endpoint.destinationCount.get(), 2);
}

TEST(SenderMdc, MoreDestinationsThanOneCallHoldsAreAllServed) {
  std::vector<uint16_t> ports;
  for (uint16_t i = 0; i < 700; ++i) ports.push_back(static_cast<uint16_t>(kA + i));
  World world;
  SendChannelEndpoint& endpoint = world.multiDestination(net::ControlMode::kManual);
  Stream& stream = world.publish(endpoint, Manual::group());
  for (size_t i = 0; i < ports.size(); ++i) {
    world.addDestination(endpoint, ports[i]);
    if (i % 100 == 0) world.steps(4);
  }
  world.steps(4);
  world.connect(stream, kTermLength / 2, 1, kA);
  stream.append(992, 3);
  world.step();
  EXPECT_EQ(stream.publication->senderPosition(), stream.producer);
  std::map<uint16_t, std::vector<Datagram>> sent;
  for (Datagram& datagram : world.takePayload()) sent[datagram.port].push_back(std::move(datagram));
  EXPECT_EQ(sent.size(), ports.size());
  for (const auto& [port, datagrams] : sent) EXPECT_EQ(expectContiguous(stream, datagrams, 0), stream.producer) << port;
}

TEST(SenderMdc, WithoutADestinationTheStreamStandsStillAndDoesNotSpin) {
  World world;
  SendChannelEndpoint& endpoint = world.multiDestination(net::ControlMode::kManual);
  Stream& stream = world.publish(endpoint, Manual::group());
  stream.append(992, 3);
  world.step();
  stream.publication->elicitSetup();
  world.step();
  EXPECT_TRUE(world.io.sent.empty());
  EXPECT_EQ(stream.publication->senderPosition(), 0);
  EXPECT_GE(world.sender->nextDeadlineNs(world.clock.nanoTime()), world.clock.nanoTime() + 100 * kMilliNs);
}

TEST(SenderMdc, ANewDestinationGetsASetupAtOnce) {
  Manual mdc({kA, kB});
  mdc.world.clock.advance(20 * kMilliNs);
  mdc.world.addDestination(mdc.endpoint, kC);
  mdc.world.step();
  EXPECT_EQ(only(mdc.world.takeSetups(), kC).size(), 1u);
}

TEST(SenderMdc, ARepairGoesToAllOfTheGroup) {
  Manual mdc;
  mdc.stream.append(992, 6);
  mdc.world.step();
  mdc.world.io.sent.clear();
  mdc.world.nak(mdc.stream, 1024, 1024, kB);
  mdc.world.steps(2);
  std::set<uint16_t> ports;
  for (const Datagram& datagram : mdc.world.takePayload()) {
    EXPECT_EQ(positionOf(mdc.stream, datagram), 1024);
    ports.insert(datagram.port);
  }
  EXPECT_EQ(ports, (std::set<uint16_t>{kA, kB, kC}));
}

struct Dynamic {
  World world;
  SendChannelEndpoint& endpoint;
  Stream& stream;
  Dynamic() : endpoint(world.multiDestination(net::ControlMode::kDynamic)), stream(world.publish(endpoint, Manual::group())) {
    world.step();
  }
  // A multi-destination receiver's introduction: it knows neither session nor stream yet.
  void introduce(uint16_t port, int64_t receiverId) {
    auto sm = World::makeStatusMessage(stream, 0, 0, receiverId, wire::kSmFlagSendSetup);
    sm.sessionId = 0;
    sm.streamId = 0;
    world.receive(endpoint, sm, port);
  }
};

TEST(SenderMdc, AStrangerIsResolvedOnceAndThenSetUp) {
  Dynamic mdc;
  for (int32_t i = 0; i < 5; ++i) mdc.introduce(kA, 9);
  mdc.world.steps(6);
  const auto asked = mdc.world.takeEvents(AgentEvent::Type::kResolveDestination);
  ASSERT_EQ(asked.size(), 1u);
  EXPECT_EQ(asked[0].sendEndpoint, &mdc.endpoint);
  EXPECT_EQ(asked[0].address, address(kA));
  EXPECT_EQ(asked[0].receiverId, 9);
  mdc.world.addDestination(mdc.endpoint, kA);
  mdc.world.step(10 * kMilliNs);
  EXPECT_EQ(only(mdc.world.takeSetups(), kA).size(), 1u);
  mdc.world.connect(mdc.stream, kTermLength / 2, 9, kA);
  mdc.introduce(kA, 9);
  mdc.world.steps(2);
  EXPECT_EQ(mdc.world.takeEvents(AgentEvent::Type::kResolveDestination).size(), 0u) << "known by now";
}

TEST(SenderMdc, AnAnswerThatNeverComesIsAskedForAgain) {
  Dynamic mdc;
  mdc.introduce(kA, 9);
  mdc.world.steps(2);
  EXPECT_EQ(mdc.world.takeEvents(AgentEvent::Type::kResolveDestination).size(), 1u);
  mdc.world.step(kSecondNs);
  mdc.introduce(kA, 9);
  mdc.world.steps(2);
  EXPECT_EQ(mdc.world.takeEvents(AgentEvent::Type::kResolveDestination).size(), 1u);
}

TEST(SenderMdc, ADestinationAddedTwiceIsGivenBack) {
  Dynamic mdc;
  mdc.world.addDestination(mdc.endpoint, kA);
  MdcDestination* second = mdc.world.addDestination(mdc.endpoint, kA);
  mdc.world.step();
  const auto expired = mdc.world.takeEvents(AgentEvent::Type::kDestinationExpired);
  ASSERT_EQ(expired.size(), 1u);
  EXPECT_EQ(expired[0].destination, second);
  EXPECT_EQ(mdc.endpoint.destinationCount.get(), 1);
}

TEST(SenderMdc, ASilentDynamicDestinationExpiresAndAManualOneDoesNot) {
  Dynamic mdc;
  MdcDestination* silent = mdc.world.addDestination(mdc.endpoint, kA);
  MdcDestination* alive = mdc.world.addDestination(mdc.endpoint, kB);
  mdc.world.step();
  for (int32_t i = 0; i < 60; ++i) {
    mdc.world.statusMessage(mdc.stream, 0, 8192, 2, 0, kB);
    mdc.world.step(100 * kMilliNs);
    mdc.world.step();
  }
  const auto expired = mdc.world.takeEvents(AgentEvent::Type::kDestinationExpired);
  ASSERT_EQ(expired.size(), 1u);
  EXPECT_EQ(expired[0].destination, silent);
  EXPECT_NE(expired[0].destination, alive);
  Manual manual;
  for (int32_t i = 0; i < 60; ++i) manual.world.step(kSecondNs);
  EXPECT_EQ(manual.world.takeEvents(AgentEvent::Type::kDestinationExpired).size(), 0u);
}

TEST(SenderMdc, AFloodOfStrangersIsBounded) {
  Dynamic mdc;
  for (int32_t i = 0; i < 1000; ++i) mdc.introduce(static_cast<uint16_t>(2000 + i), i);
  mdc.world.steps(40);
  const size_t asked = mdc.world.takeEvents(AgentEvent::Type::kResolveDestination).size();
  EXPECT_LE(asked, 64u);
  EXPECT_EQ(mdc.world.count(OutriggerCounter::kUnknownStreamDrops), 1000 - static_cast<int64_t>(asked));
}

TEST(SenderMdc, OneReceiverThatEndsDoesNotEndTheGroup) {
  Manual mdc;
  mdc.world.statusMessage(mdc.stream, 0, 8192, 2, 0, kB);
  mdc.world.steps(2);
  mdc.world.statusMessage(mdc.stream, 0, 8192, 2, wire::kSmFlagEos, kB);
  mdc.world.steps(2);
  EXPECT_TRUE(mdc.stream.publication->isConnected());
  EXPECT_FALSE(mdc.stream.publication->receiverSaidEos());
}

}  // namespace
}  // namespace outrigger::driver::testing
