// SPDX-License-Identifier: Apache-2.0
// Whom a receiver with a policy lets begin a stream: what it drops, counts, asks for and tells, and that strangers cost it nothing.
#include <string>

#include "driver/source_list.h"
#include "receiver_world.h"

namespace outrigger::driver::testing {
namespace {

using cnc::OutriggerCounter;

class Governed : public ReceiverWorld {
 public:
  Governed() {
    config.policyFile = "/run/own/policy";
    interest(true);
  }
  void setSources(const SourceList* sources, int32_t streamId = kStream) {
    ReceiverCommand command;
    command.type = ReceiverCommand::Type::kSetSources;
    command.endpoint = &endpoint;
    command.streamId = streamId;
    command.sources = sources;
    send(command);
    step();
  }
  static SourceList only(const io::SockAddr& source) {
    SourceList list;
    list.add(source);
    list.seal();
    return list;
  }
};

TEST(ReceiverSources, WithoutAListNobodyGetsIn) {
  Governed world;
  world.arriveFrame(ReceiverWorld::setup());
  world.arrive(ReceiverWorld::frame(0, 0));
  EXPECT_TRUE(world.io.sent.empty()) << "a stranger is not even answered";
  EXPECT_EQ(world.count(OutriggerCounter::kSourcesRefused), 2);
  EXPECT_EQ(world.count(OutriggerCounter::kUnknownStreamDrops), 0);
  EXPECT_TRUE(world.takeEvents(AgentEvent::Type::kCreateImage).empty());
}

TEST(ReceiverSources, AListedAddressMayUseAnyPortUnlessItsPortIsKnown) {
  Governed world;
  io::SockAddr any = address(kSenderPort);
  any.setPort(0);
  const SourceList anyPort = Governed::only(any);
  world.setSources(&anyPort);
  world.arriveFrame(ReceiverWorld::setup(), kSenderPort + 1);
  EXPECT_EQ(world.takeEvents(AgentEvent::Type::kCreateImage).size(), 1U);
  const SourceList onePort = Governed::only(address(kSenderPort));
  world.setSources(&onePort);
  world.arriveFrame(ReceiverWorld::setup(kSession + 1), kSenderPort + 1);
  EXPECT_EQ(world.count(OutriggerCounter::kSourcesRefused), 1);
  world.arriveFrame(ReceiverWorld::setup(kSession + 1), kSenderPort);
  EXPECT_EQ(world.takeEvents(AgentEvent::Type::kCreateImage).size(), 1U);
}

TEST(ReceiverSources, DataOfAListedSourceAsksForItsSetup) {
  Governed world;
  const SourceList list = Governed::only(address(kSenderPort));
  world.setSources(&list);
  world.arrive(ReceiverWorld::frame(0, 0));
  EXPECT_EQ(world.takeStatusMessages().size(), 1U);
}

TEST(ReceiverSources, TheListBeforeIsGivenBack) {
  Governed world;
  const SourceList first = Governed::only(address(1));
  const SourceList second = Governed::only(address(2));
  world.setSources(&first);
  EXPECT_TRUE(world.takeEvents(AgentEvent::Type::kSourcesReleased).empty());
  world.setSources(&second);
  auto released = world.takeEvents(AgentEvent::Type::kSourcesReleased);
  ASSERT_EQ(released.size(), 1U);
  EXPECT_EQ(released[0].sources, &first);
  world.setSources(nullptr);
  released = world.takeEvents(AgentEvent::Type::kSourcesReleased);
  ASSERT_EQ(released.size(), 1U);
  EXPECT_EQ(released[0].sources, &second);
}

TEST(ReceiverSources, AnImageThatStandsGoesOnWhenItsSourceIsNoLongerListed) {
  Governed world;
  world.open();
  world.arrive(ReceiverWorld::frame(0, 64));
  EXPECT_GT(world.read(), 0);
  EXPECT_EQ(world.count(OutriggerCounter::kSourcesRefused), 0);
}

TEST(ReceiverSources, TheConductorHearsOfAStrangerAtOnceAndNowAndThen) {
  Governed world;
  for (int32_t i = 0; i < 50; ++i) world.arriveFrame(ReceiverWorld::setup());
  auto events = world.takeEvents(AgentEvent::Type::kSourceRefused);
  ASSERT_EQ(events.size(), 1U);
  EXPECT_EQ(events[0].setup.streamId, kStream);
  EXPECT_EQ(events[0].address, address(kSenderPort));
  world.step(100 * kMilliNs);
  for (int32_t i = 0; i < 50; ++i) world.arriveFrame(ReceiverWorld::setup());
  EXPECT_EQ(world.takeEvents(AgentEvent::Type::kSourceRefused).size(), 1U);
  EXPECT_EQ(world.count(OutriggerCounter::kSourcesRefused), 100);
}

int64_t told(ReceiverWorld& world) {
  int64_t count = 0;
  for (const AgentEvent& event : world.takeEvents(AgentEvent::Type::kSourceRefused)) count += event.value;
  return count;
}

TEST(ReceiverSources, AStrangerThatGoesOnIsToldOnceUntilTheSourcesChange) {
  Governed world;
  for (int32_t i = 0; i < 29; ++i) {
    world.arriveFrame(ReceiverWorld::setup());
    world.step(100 * kMilliNs);
  }
  EXPECT_EQ(told(world), 0) << "members are known within a second or two";
  for (int32_t i = 0; i < 100; ++i) {
    world.arriveFrame(ReceiverWorld::setup());
    world.step(100 * kMilliNs);
  }
  EXPECT_EQ(told(world), 1);
  // With other sources its time begins anew, and it is told again when that is over.
  const SourceList list = Governed::only(address(kSenderPort));
  for (const int64_t expected : {0, 1}) {
    if (expected == 0) {
      world.setSources(&list);
      world.setSources(nullptr);
    }
    for (int32_t i = 0; i < 29; ++i) {
      world.arriveFrame(ReceiverWorld::setup());
      world.step(100 * kMilliNs);
    }
    EXPECT_EQ(told(world), expected);
  }
}

TEST(ReceiverSources, AMemberThatWasAStrangerForAWhileIsNoError) {
  Governed world;
  const SourceList list = Governed::only(address(kSenderPort));
  for (int32_t round = 0; round < 3; ++round) {
    for (int32_t i = 0; i < 29; ++i) {
      world.arriveFrame(ReceiverWorld::setup());
      world.step(100 * kMilliNs);
    }
    world.setSources(&list);
    world.setSources(nullptr);
  }
  EXPECT_EQ(told(world), 0);
}

TEST(ReceiverSources, AFloodOfStrangersCausesFewEntries) {
  Governed world;
  for (int32_t round = 0; round < 60; ++round) {
    for (uint32_t host = 1; host <= 250; ++host) {
      const io::SockAddr source = io::SockAddr::parseNumeric("192.0.2." + std::to_string(host), 1).take();
      const auto frame = ReceiverWorld::setup();
      const auto* bytes = reinterpret_cast<const uint8_t*>(&frame);
      world.io.inbox.push_back({static_cast<FakeEndpoint*>(world.endpoint.socket.get()), source, {bytes, bytes + sizeof(frame)}, 0});
      world.step();
    }
    world.step(100 * kMilliNs);
  }
  EXPECT_LE(told(world), 64);
  EXPECT_EQ(world.count(OutriggerCounter::kSourcesRefused), 60 * 250);
}

TEST(ReceiverSources, StrangersTakeNoPlaceInTheTableOfSessions) {
  Governed world;
  for (int32_t session = 0; session < 5'000; ++session) world.arriveFrame(ReceiverWorld::setup(session));
  const SourceList list = Governed::only(address(kSenderPort));
  world.setSources(&list);
  world.takeEvents(AgentEvent::Type::kSourceRefused);
  world.arriveFrame(ReceiverWorld::setup(5'000));
  EXPECT_EQ(world.takeEvents(AgentEvent::Type::kCreateImage).size(), 1U);
}

}  // namespace
}  // namespace outrigger::driver::testing
