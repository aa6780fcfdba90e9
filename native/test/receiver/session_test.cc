// SPDX-License-Identifier: Apache-2.0
// How sessions come and go on an endpoint: interest, elicited set-ups, refusals, cool-downs, introductions of multi-destination receivers.
#include "driver/session_table.h"

#include <gmock/gmock.h>

#include <map>

#include "receiver_world.h"

namespace outrigger::driver::testing {
namespace {

using cnc::OutriggerCounter;
using cnc::SystemCounter;

TEST(ReceiverSession, DataOfAnUnknownSessionAsksForASetup) {
  ReceiverWorld world;
  world.interest(true);
  world.arrive(ReceiverWorld::frame(0, 0));
  const auto sms = world.takeStatusMessages();
  ASSERT_EQ(sms.size(), 1U);
  EXPECT_EQ(sms[0].header.flags, wire::kSmFlagSendSetup);
  EXPECT_EQ(sms[0].sessionId, kSession);
  EXPECT_EQ(sms[0].streamId, kStream);
  EXPECT_EQ(int64_t{sms[0].receiverId}, kReceiverId);
  EXPECT_EQ(sms[0].receiverWindow, 0);
}

TEST(ReceiverSession, ItAsksOnceUntilTheTimeoutHasPassed) {
  ReceiverWorld world;
  world.interest(true);
  for (int32_t i = 0; i < 5; ++i) world.arrive(ReceiverWorld::frame(32 * i, 0));
  EXPECT_EQ(world.takeStatusMessages().size(), 1U);
  world.step(world.config.pendingSetupTimeoutNs);
  world.arrive(ReceiverWorld::frame(160, 0));
  EXPECT_EQ(world.takeStatusMessages().size(), 1U);
}

TEST(ReceiverSession, WithoutInterestNothingIsAskedAndTheDropIsCounted) {
  ReceiverWorld world;
  world.interest(true, kStream + 1);
  world.arrive(ReceiverWorld::frame(0, 0));
  world.arriveFrame(ReceiverWorld::setup());
  EXPECT_TRUE(world.io.sent.empty());
  EXPECT_EQ(world.count(OutriggerCounter::kUnknownStreamDrops), 2);
  EXPECT_TRUE(world.takeEvents(AgentEvent::Type::kCreateImage).empty());
}

TEST(ReceiverSession, TheEndOfAnUnknownStreamStartsNothing) {
  ReceiverWorld world;
  world.interest(true);
  world.arrive(ReceiverWorld::heartbeat(0, wire::kFlagUnfragmented | wire::kFlagEos));
  EXPECT_TRUE(world.io.sent.empty());
}

TEST(ReceiverSession, ASetupMakesOneImageHoweverOftenItComes) {
  ReceiverWorld world;
  world.interest(true);
  for (int32_t i = 0; i < 4; ++i) world.arriveFrame(ReceiverWorld::setup());
  const auto events = world.takeEvents(AgentEvent::Type::kCreateImage);
  ASSERT_EQ(events.size(), 1U);
  EXPECT_EQ(events[0].setup.sessionId, kSession);
  EXPECT_EQ(events[0].address.port(), kSenderPort);
  EXPECT_EQ(events[0].receiveEndpoint, &world.endpoint);
}

TEST(ReceiverSession, ARefusedSetupIsTriedAgainAfterAWhileAndAtOnceForANewSubscription) {
  ReceiverWorld world;
  world.interest(true);
  world.arriveFrame(ReceiverWorld::setup());
  EXPECT_EQ(world.takeEvents(AgentEvent::Type::kCreateImage).size(), 1U);
  ReceiverCommand refused;
  refused.type = ReceiverCommand::Type::kSetupRefused;
  refused.endpoint = &world.endpoint;
  refused.streamId = kStream;
  refused.sessionId = kSession;
  world.send(refused);
  world.arriveFrame(ReceiverWorld::setup());
  EXPECT_TRUE(world.takeEvents(AgentEvent::Type::kCreateImage).empty());
  world.step(world.config.cooldownNs);
  world.arriveFrame(ReceiverWorld::setup());
  EXPECT_EQ(world.takeEvents(AgentEvent::Type::kCreateImage).size(), 1U);
  world.send(refused);
  world.interest(true);
  world.arriveFrame(ReceiverWorld::setup());
  EXPECT_EQ(world.takeEvents(AgentEvent::Type::kCreateImage).size(), 1U);
}

TEST(ReceiverSession, ASessionSpecificSubscriptionTakesNoOther) {
  ReceiverWorld world;
  world.interest(true, kStream, kSession, true);
  world.arriveFrame(ReceiverWorld::setup(kSession + 1));
  EXPECT_TRUE(world.takeEvents(AgentEvent::Type::kCreateImage).empty());
  world.arriveFrame(ReceiverWorld::setup(kSession));
  EXPECT_EQ(world.takeEvents(AgentEvent::Type::kCreateImage).size(), 1U);
}

TEST(ReceiverSession, InterestsCount) {
  ReceiverWorld world;
  world.interest(true);
  world.interest(true);
  world.interest(false);
  world.arrive(ReceiverWorld::frame(0, 0));
  EXPECT_EQ(world.takeStatusMessages().size(), 1U);
  world.interest(false);
  world.step(2 * kSecondNs);
  world.arrive(ReceiverWorld::frame(32, 0));
  EXPECT_TRUE(world.takeStatusMessages().empty());
}

TEST(ReceiverSession, ASetupThatCannotBeReceivedIsRefusedNamingBothNumbers) {
  const auto refusal = [](auto change) {
    ReceiverWorld world;
    world.interest(true);
    auto setup = ReceiverWorld::setup();
    change(setup);
    world.arriveFrame(setup);
    EXPECT_EQ(world.count(OutriggerCounter::kSetupRefused), 1);
    std::string text;
    AgentEvent event;
    while (world.events.poll(event)) {
      EXPECT_EQ(event.type, AgentEvent::Type::kError);
      text = event.text;
    }
    return text;
  };
  const auto both = [](const char* a, const char* b) { return ::testing::AllOf(::testing::HasSubstr(a), ::testing::HasSubstr(b)); };
  EXPECT_THAT(refusal([](wire::SetupFrame& s) { s.termLength = 100000; }), both("100000", "65536"));
  EXPECT_THAT(refusal([](wire::SetupFrame& s) { s.termLength = -65536; }), both("-65536", "power of two"));
  EXPECT_THAT(refusal([](wire::SetupFrame& s) { s.mtu = 1500; }), both("1500", "65504"));
  EXPECT_THAT(refusal([](wire::SetupFrame& s) { s.mtu = 0; }), both("mtu 0", "65504"));
  EXPECT_THAT(refusal([](wire::SetupFrame& s) { s.termOffset = kTermLength; }), both("65536", "term"));
  EXPECT_THAT(refusal([](wire::SetupFrame& s) { s.termOffset = 33; }), both("33", "65536"));
  EXPECT_THAT(refusal([](wire::SetupFrame& s) { s.activeTermId = s.initialTermId - 1; }), both("-6", "-5"));
}

TEST(ReceiverSession, AFloodOfRefusedSetupsIsCountedButFillsNoErrorLog) {
  ReceiverWorld world;
  world.interest(true);
  for (int32_t i = 0; i < 200; ++i) {
    auto setup = ReceiverWorld::setup(i);
    setup.mtu = 7;
    world.arriveFrame(setup);
  }
  EXPECT_EQ(world.count(OutriggerCounter::kSetupRefused), 200);
  EXPECT_LE(world.takeEvents(AgentEvent::Type::kError).size(), 2U);
}

TEST(ReceiverSession, AFloodOfStrangersCostsABoundedTable) {
  ReceiverWorld world;
  world.interest(true);
  for (int32_t i = 0; i < 5000; ++i) world.arrive(ReceiverWorld::frame(0, 0, i + 1000));
  EXPECT_LE(world.takeStatusMessages().size(), 1024U);
  world.step(2 * kSecondNs);
  world.arrive(ReceiverWorld::frame(0, 0));
  EXPECT_EQ(world.takeStatusMessages().size(), 1U) << "and it is emptied again";
}

TEST(ReceiverSession, AnImageThatDiedMayNotComeBackBeforeTheCoolDown) {
  ReceiverWorld world;
  world.open();
  ReceiverCommand remove;
  remove.type = ReceiverCommand::Type::kRemoveImage;
  remove.image = world.image.get();
  remove.value = 1;
  world.send(remove);
  world.step();
  EXPECT_EQ(world.takeEvents(AgentEvent::Type::kImageReleased).size(), 1U);
  world.arriveFrame(ReceiverWorld::setup());
  world.arrive(ReceiverWorld::frame(0, 0));
  EXPECT_TRUE(world.takeEvents(AgentEvent::Type::kCreateImage).empty());
  world.step(world.config.cooldownNs);
  world.arriveFrame(ReceiverWorld::setup());
  EXPECT_EQ(world.takeEvents(AgentEvent::Type::kCreateImage).size(), 1U);
}

TEST(ReceiverSession, AnImageThatEndedMayComeBackAtOnce) {
  ReceiverWorld world;
  world.open();
  ReceiverCommand remove;
  remove.type = ReceiverCommand::Type::kRemoveImage;
  remove.image = world.image.get();
  world.send(remove);
  world.arriveFrame(ReceiverWorld::setup());
  EXPECT_EQ(world.takeEvents(AgentEvent::Type::kCreateImage).size(), 1U);
}

TEST(ReceiverSession, AMultiDestinationReceiverIntroducesItselfUntilDataComes) {
  ReceiverWorld world;
  world.endpoint.channel.control = address(kSenderPort);
  world.step(kSecondNs);
  EXPECT_TRUE(world.io.sent.empty()) << "nobody subscribes yet";
  world.interest(true);
  world.step();
  const auto first = world.takeStatusMessages();
  ASSERT_EQ(first.size(), 1U);
  EXPECT_EQ(first[0].header.flags, wire::kSmFlagSendSetup);
  EXPECT_EQ(first[0].sessionId, 0);
  EXPECT_EQ(first[0].streamId, 0);
  EXPECT_LE(world.receiver->nextDeadlineNs(world.clock.nanoTime()), world.clock.nanoTime() + kSecondNs);
  int32_t seen = 0;
  for (int32_t i = 0; i < 10; ++i) {
    world.step(kSecondNs);
    seen += static_cast<int32_t>(world.takeStatusMessages().size());
  }
  EXPECT_EQ(seen, 10);
  world.open();
  world.step(100 * kMilliNs);
  for (const auto& sm : world.takeStatusMessages()) EXPECT_EQ(sm.sessionId, kSession);
}

TEST(ReceiverSession, AnEndpointIsReleased) {
  ReceiverWorld world;
  world.step();
  EXPECT_EQ(world.io.attached, 1);
  ReceiverCommand remove;
  remove.type = ReceiverCommand::Type::kRemoveEndpoint;
  remove.endpoint = &world.endpoint;
  world.send(remove);
  world.step();
  EXPECT_EQ(world.io.attached, 0);
  const auto events = world.takeEvents(AgentEvent::Type::kEndpointReleased);
  ASSERT_EQ(events.size(), 1U);
  EXPECT_EQ(events[0].receiveEndpoint, &world.endpoint);
}

TEST(ReceiverSession, AReleaseThatFindsTheRingFullArrivesLater) {
  ReceiverWorld world;
  world.open();
  AgentEvent filler;
  filler.type = AgentEvent::Type::kError;
  while (world.events.offer(filler)) {
  }
  ReceiverCommand remove;
  remove.type = ReceiverCommand::Type::kRemoveImage;
  remove.image = world.image.get();
  world.send(remove);
  world.step();
  EXPECT_TRUE(world.takeEvents(AgentEvent::Type::kImageReleased).empty());
  world.step();
  EXPECT_EQ(world.takeEvents(AgentEvent::Type::kImageReleased).size(), 1U);
}

TEST(SessionTable, FindsWhatWasAddedAndNotWhatWasRemoved) {
  SessionTable table;
  Random random(4);
  std::map<std::pair<int32_t, int32_t>, int64_t> model;
  for (int32_t i = 0; i < 20000; ++i) {
    const auto stream = static_cast<int32_t>(random.below(20));
    const auto session = static_cast<int32_t>(random.below(60)) - 30;
    if (random.chance(0.5)) {
      table.add(stream, session).deadlineNs = i;
      model[{stream, session}] = i;
    } else if (random.chance(0.02)) {
      table.removeIf([&](const Session& s) { return s.streamId == stream; });
      std::erase_if(model, [&](const auto& each) { return each.first.first == stream; });
    } else {
      table.remove(stream, session);
      model.erase({stream, session});
    }
    ASSERT_EQ(table.size(), model.size());
    const auto probe = std::make_pair(static_cast<int32_t>(random.below(20)), static_cast<int32_t>(random.below(60)) - 30);
    const Session* found = table.find(probe.first, probe.second);
    ASSERT_EQ(found != nullptr, model.contains(probe));
    if (found != nullptr) {
      ASSERT_EQ(found->deadlineNs, model[probe]);
    }
  }
}

}  // namespace
}  // namespace outrigger::driver::testing
