// SPDX-License-Identifier: Apache-2.0
// Multi-destination publications: dynamic receivers and manual destinations.
#include "driver_world.h"

namespace outrigger::driver::testing {
namespace {

constexpr const char* kDynamic = "aeron:udp?control=10.0.0.1:5000|control-mode=dynamic";
constexpr const char* kManual = "aeron:udp?control-mode=manual|control=10.0.0.1:5000";

size_t readCount(client::Subscription& sub) {
  size_t count = 0;
  while (sub.poll([&](const uint8_t*, int32_t, const client::FragmentHeader&) { ++count; }, 64) > 0) {
  }
  return count;
}

class Mdc : public DriverWorld {
 public:
  DriverHost& a = host("10.0.0.1");
  DriverHost& b = host("10.0.0.2");
  DriverHost& c = host("10.0.0.3");

  int64_t destinations() const {
    const auto found = countersOf(a, cnc::counter_type::kMdcDestinations);
    return found.empty() ? -1 : found[0].value;
  }
  static std::string dynamicSubscription(const std::string& address) {
    return "aeron:udp?endpoint=" + address + ":4000|control=10.0.0.1:5000|control-mode=dynamic";
  }
};

TEST_F(Mdc, EveryDynamicReceiverGetsEveryMessageWheneverItComes) {
  const auto pub = publication(connect(a), kDynamic, kStream);
  const auto first = subscription(connect(b), dynamicSubscription("10.0.0.2"), kStream);
  ASSERT_TRUE(until([&] { return pub->isConnected() && first->isConnected(); }));
  ASSERT_GT(offerWithin(*this, *pub, "1"), 0);
  const auto second = subscription(connect(c), dynamicSubscription("10.0.0.3"), kStream);
  ASSERT_TRUE(until([&] { return second->isConnected(); }));
  EXPECT_EQ(destinations(), 2);
  ASSERT_GT(offerWithin(*this, *pub, "2"), 0);
  size_t firstCount = 0;
  size_t secondCount = 0;
  EXPECT_TRUE(until([&] {
    firstCount += readCount(*first);
    secondCount += readCount(*second);
    return firstCount == 2 && secondCount == 1;
  })) << firstCount
      << " " << secondCount;
}

TEST_F(Mdc, ADynamicReceiverThatDiesIsForgotten) {
  const auto pub = publication(connect(a), kDynamic, kStream);
  const auto sub = subscription(connect(b), dynamicSubscription("10.0.0.2"), kStream);
  ASSERT_TRUE(until([&] { return pub->isConnected() && destinations() == 1; }));
  io::SimLink cut;
  cut.partitioned = true;
  ASSERT_TRUE(network_.setLinkBoth("10.0.0.1", "10.0.0.2", cut).ok());
  EXPECT_TRUE(until([&] { return destinations() == 0 && !pub->isConnected(); }, 12 * kSecondNs, kMilliNs));
}

TEST_F(Mdc, ManualDestinationsComeAndGoByUriAndById) {
  auto& publisher = connect(a);
  const auto pub = publication(publisher, kManual, kStream);
  const auto first = subscription(connect(b), "aeron:udp?endpoint=10.0.0.2:4000", kStream);
  const auto second = subscription(connect(c), "aeron:udp?endpoint=10.0.0.3:4000", kStream);
  const int64_t firstId = publisher.addDestination(*pub, "aeron:udp?endpoint=10.0.0.2:4000");
  ASSERT_TRUE(decided(publisher, firstId).succeeded());
  const int64_t secondId = publisher.addDestination(*pub, "aeron:udp?endpoint=10.0.0.3:4000");
  ASSERT_TRUE(decided(publisher, secondId).succeeded());
  EXPECT_TRUE(until([&] { return first->isConnected() && second->isConnected() && destinations() == 2; }));
  EXPECT_TRUE(decided(publisher, publisher.removeDestination(*pub, "aeron:udp?endpoint=10.0.0.2:4000")).succeeded());
  EXPECT_TRUE(until([&] { return destinations() == 1; }));
  EXPECT_TRUE(decided(publisher, publisher.removeDestination(*pub, secondId)).succeeded());
  EXPECT_TRUE(until([&] { return destinations() == 0; }));
  EXPECT_FALSE(decided(publisher, publisher.removeDestination(*pub, secondId)).succeeded());
  EXPECT_TRUE(until([&] { return !first->isConnected() && !second->isConnected(); }, 15 * kSecondNs, kMilliNs));
}

TEST_F(Mdc, AManualDestinationIsCountedAsHeardWhenItAnswersAndOnlyThen) {
  auto& publisher = connect(a);
  const auto pub = publication(publisher, kManual, kStream);
  const auto sub = subscription(connect(b), "aeron:udp?endpoint=10.0.0.2:4000", kStream);
  const int64_t there = publisher.addDestination(*pub, "aeron:udp?endpoint=10.0.0.2:4000");
  const int64_t nobody = publisher.addDestination(*pub, "aeron:udp?endpoint=10.0.0.3:4000");
  ASSERT_TRUE(decided(publisher, there).succeeded());
  ASSERT_TRUE(decided(publisher, nobody).succeeded());
  const auto heard = [&](int64_t registrationId) -> int64_t {
    for (const auto& counter : countersOf(a, cnc::counter_type::kOutriggerDestination)) {
      if (counter.registrationId == registrationId) return counter.value;
    }
    return -1;
  };
  ASSERT_TRUE(until([&] { return sub->isConnected() && heard(there) > 0; }));
  EXPECT_EQ(heard(nobody), 0);
  const int64_t before = heard(there);
  EXPECT_TRUE(until([&] { return heard(there) > before; }, 5 * kSecondNs, kMilliNs)) << "status messages go on";
  EXPECT_TRUE(decided(publisher, publisher.removeDestination(*pub, nobody)).succeeded());
  EXPECT_TRUE(until([&] { return heard(nobody) == -1; }));
  EXPECT_GT(heard(there), 0);
}

TEST_F(Mdc, CountersOfDestinationsGoWithTheirPublication) {
  auto& publisher = connect(a);
  const auto pub = publication(publisher, std::string(kManual) + "|linger=0", kStream);
  ASSERT_TRUE(decided(publisher, publisher.addDestination(*pub, "aeron:udp?endpoint=10.0.0.2:4000")).succeeded());
  ASSERT_EQ(countersOf(a, cnc::counter_type::kOutriggerDestination).size(), 1U);
  publisher.closePublication(pub);
  EXPECT_TRUE(until([&] { return countersOf(a, cnc::counter_type::kOutriggerDestination).empty(); }));
}

TEST_F(Mdc, ARemoveRightBehindItsAddIsNotLost) {
  RawClient raw(a.directory());
  const int64_t pub = raw.add(cnc::Command::kAddPublication, kManual, kStream);
  const char* where = "aeron:udp?endpoint=10.0.0.2:4000";
  const int64_t added = raw.destination(cnc::Command::kAddDestination, pub, where);
  const int64_t removed = raw.destination(cnc::Command::kRemoveDestination, pub, where);
  const int64_t addedAgain = raw.destination(cnc::Command::kAddDestination, pub, where);
  const int64_t byId = raw.nextId();
  raw.send(cnc::Command::kRemoveDestinationById, RawClient::bytesOf(raw.id(), byId, pub, addedAgain));
  ASSERT_TRUE(awaitResponse(raw, byId));
  for (const int64_t id : {added, removed, addedAgain, byId}) {
    ASSERT_NE(raw.about(id), nullptr) << id;
    EXPECT_EQ(raw.about(id)->type, cnc::Response::kOperationSuccess) << id;
  }
  EXPECT_TRUE(until([&] { return destinations() == 0; }));
}

TEST_F(Mdc, DestinationsNeedAManualPublicationOfTheClient) {
  RawClient owner(a.directory());
  RawClient other(a.directory());
  const int64_t manual = owner.add(cnc::Command::kAddPublication, kManual, kStream);
  const int64_t unicast = owner.add(cnc::Command::kAddPublication, "aeron:udp?endpoint=10.0.0.2:4000", kStream);
  const int64_t ipc = owner.add(cnc::Command::kAddPublication, "aeron:ipc", kStream);
  ASSERT_TRUE(awaitResponse(owner, ipc));
  const char* good = "aeron:udp?endpoint=10.0.0.2:4000";
  struct Case {
    RawClient* client;
    int64_t publication;
    const char* channel;
    ErrorCode code;
  };
  const Case cases[] = {
      {&owner, 4711, good, ErrorCode::kUnknownPublication},
      {&other, manual, good, ErrorCode::kUnknownPublication},
      {&owner, unicast, good, ErrorCode::kInvalidChannel},
      {&owner, ipc, good, ErrorCode::kInvalidChannel},
      {&owner, manual, "aeron:ipc", ErrorCode::kInvalidChannel},
      {&owner, manual, "aeron:udp", ErrorCode::kInvalidChannel},
      {&owner, manual, "garbage", ErrorCode::kInvalidChannel},
      {&owner, manual, "aeron:udp?endpoint=10.0.0.2", ErrorCode::kInvalidChannel},
  };
  for (const Case& each : cases) {
    const int64_t id = each.client->destination(cnc::Command::kAddDestination, each.publication, each.channel);
    ASSERT_TRUE(awaitResponse(*each.client, id));
    const auto* response = each.client->about(id);
    ASSERT_EQ(response->type, cnc::Response::kError) << each.channel;
    EXPECT_EQ(response->as<cnc::ErrorResponse>().errorCode, static_cast<int32_t>(each.code)) << each.channel;
  }
}

TEST_F(Mdc, MinFlowControlWaitsForTheSlowestAndCountsReceivers) {
  const auto pub = publication(connect(a), std::string(kDynamic) + "|fc=min,g:/2", kStream);
  const auto first = subscription(connect(b), dynamicSubscription("10.0.0.2"), kStream);
  run(kSecondNs, kMilliNs);
  EXPECT_FALSE(pub->isConnected()) << "the group is two";
  const auto second = subscription(connect(c), dynamicSubscription("10.0.0.3"), kStream);
  ASSERT_TRUE(until([&] { return pub->isConnected() && second->isConnected(); }));
  const auto receivers = countersOf(a, cnc::counter_type::kFlowControlReceivers);
  ASSERT_EQ(receivers.size(), 1U);
  EXPECT_EQ(receivers[0].value, 2);
  size_t sent = 0;
  for (int i = 0; i < 1000; ++i) {
    if (pub->offer(std::string(1000, 'x').data(), 1000) > 0) ++sent;
    readCount(*first);
    step();
  }
  EXPECT_LT(sent, 100U) << "the second one does not read";
}

TEST_F(Mdc, ASubscriptionToSeveralDestinationsIsNotSupported) {
  RawClient raw(a.directory());
  const int64_t sub = raw.add(cnc::Command::kAddSubscription, "aeron:udp?endpoint=10.0.0.1:4000", kStream);
  for (const auto command : {cnc::Command::kAddRcvDestination, cnc::Command::kRemoveRcvDestination}) {
    const int64_t id = raw.destination(command, sub, "aeron:udp?endpoint=10.0.0.1:4001");
    ASSERT_TRUE(awaitResponse(raw, id));
    EXPECT_EQ(raw.about(id)->as<cnc::ErrorResponse>().errorCode, static_cast<int32_t>(ErrorCode::kNotSupported));
  }
}

TEST_F(Mdc, ClosingTheLastPublicationFreesItsControlPortForTheNext) {
  auto& client = connect(a);
  for (int i = 0; i < 3; ++i) {
    const auto pub = publication(client, std::string(kDynamic) + "|linger=0", kStream + i);
    ASSERT_NE(pub, nullptr);
    client.closePublication(pub);
  }
  EXPECT_TRUE(until([&] { return countersOf(a, cnc::counter_type::kSendChannelStatus).empty(); }));
}

}  // namespace
}  // namespace outrigger::driver::testing
