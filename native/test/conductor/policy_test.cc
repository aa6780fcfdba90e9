// SPDX-License-Identifier: Apache-2.0
// A driver with a policy file: what its clients may open, whose streams it takes, and how both follow the file while streams run.
#include <gmock/gmock.h>

#include <cstdio>
#include <fstream>

#include "driver_world.h"

namespace outrigger::driver::testing {
namespace {

using cnc::Command;
using cnc::OutriggerCounter;
using cnc::Response;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr int32_t kPolicyStream = 1001;
constexpr const char* kHere = "aeron:udp?endpoint=10.0.0.1:40200";
constexpr const char* kThere = "aeron:udp?endpoint=10.0.0.2:40200";
constexpr const char* kPolicyManual = "aeron:udp?control-mode=manual";

class PolicyWorld : public DriverWorld {
 public:
  using Lines = std::vector<std::string>;

  std::string path() const { return folder_.path() + "/policy"; }
  DriverConfig governed() const {
    DriverConfig config = smallConfig();
    config.policyFile = path();
    config.imageLivenessTimeoutNs = kSecondNs;
    return config;
  }
  // As the sidecar does it: the new file takes the place of the old one at once.
  void write(const Lines& lines) const {
    std::string text = "outrigger-policy 1\n";
    for (const std::string& line : lines) text += line + "\n";
    writeRaw(text + "end " + std::to_string(lines.size()) + "\n");
  }
  void writeRaw(const std::string& text) const {
    std::ofstream(path() + ".new") << text;
    ASSERT_EQ(::chmod((path() + ".new").c_str(), 0640), 0);
    ASSERT_EQ(std::rename((path() + ".new").c_str(), path().c_str()), 0);
  }
  static std::string rule(const char* kind, const std::string& channel, int32_t streamId = kPolicyStream) {
    return std::string(kind) + " " + std::to_string(streamId) + " " + channel;
  }
  // Of an add that is refused, empty when it is not.
  std::string refusal(client::MediaClient& client, int64_t id) {
    const auto status = decided(client, id);
    EXPECT_TRUE(status.done());
    return status.succeeded() ? "" : status.error.message;
  }
  std::string refusalOfSubscription(client::MediaClient& client, const std::string& channel, int32_t streamId = kPolicyStream) {
    return refusal(client, client.addSubscription(channel, streamId));
  }
  std::string refusalOfPublication(client::MediaClient& client, const std::string& channel, int32_t streamId = kPolicyStream) {
    return refusal(client, client.addPublication(channel, streamId));
  }
  size_t read(client::Subscription& sub) const {
    size_t count = 0;
    while (sub.poll([&](const uint8_t*, int32_t, const client::FragmentHeader&) { ++count; }, 64) > 0) {
    }
    return count;
  }

 private:
  TempDirectory folder_;
};

class PolicyOfCommands : public PolicyWorld {};

TEST_F(PolicyOfCommands, WithoutOneClientsOpenWhatTheyLike) {
  auto& client = connect(host("10.0.0.1"));
  EXPECT_EQ(refusalOfSubscription(client, kHere), "");
  EXPECT_EQ(refusalOfPublication(client, "aeron:udp?endpoint=10.0.0.9:1"), "");
}

TEST_F(PolicyOfCommands, UntilThereIsAFileOnlyThisHostsMemoryIsAllowed) {
  auto& driver = host("10.0.0.1", governed());
  auto& client = connect(driver);
  EXPECT_THAT(refusalOfSubscription(client, kHere), AllOf(HasSubstr("there is no policy yet"), HasSubstr(path()), HasSubstr(kHere)));
  EXPECT_EQ(refusalOfSubscription(client, "aeron:ipc"), "");
  EXPECT_EQ(refusalOfPublication(client, "aeron:ipc"), "");
  EXPECT_EQ(refusalOfSubscription(client, std::string("aeron-spy:") + kThere), "");
  EXPECT_EQ(ownCounter(driver, OutriggerCounter::kCommandsForbidden), 1);
}

TEST_F(PolicyOfCommands, AFileThatIsThereWhenTheDriverStartsIsInForceForTheFirstCommand) {
  write({rule("subscribe", kHere), "source any"});
  auto& client = connect(host("10.0.0.1", governed()));
  EXPECT_EQ(refusalOfSubscription(client, kHere), "");
}

TEST_F(PolicyOfCommands, ARuleThatIsWrittenBeforeTheCommandIsSentIsInForce) {
  auto& client = connect(host("10.0.0.1", governed()));
  for (int32_t stream = 1; stream <= 20; ++stream) {
    EXPECT_NE(refusalOfSubscription(client, kHere, stream), "");
    write({rule("subscribe", kHere, stream), "source any"});
    EXPECT_EQ(refusalOfSubscription(client, kHere, stream), "");
  }
}

TEST_F(PolicyOfCommands, ARefusalNamesChannelStreamAndReasonAndIsCountedAndLogged) {
  write({rule("publish", kPolicyManual)});
  auto& driver = host("10.0.0.1", governed());
  auto& client = connect(driver);
  const char* foreign = "aeron:udp?endpoint=10.6.6.6:1";
  EXPECT_THAT(refusalOfPublication(client, foreign, 7), AllOf(HasSubstr(foreign), HasSubstr("stream 7"), HasSubstr("a publication to"),
                                                              HasSubstr("no topic that the sidecar has open in this role")));
  EXPECT_THAT(refusal(client, client.addExclusivePublication(foreign, kPolicyStream)), HasSubstr("not allowed"));
  EXPECT_THAT(refusalOfSubscription(client, "aeron:udp?endpoint=10.0.0.1:0"), HasSubstr("a subscription of"));
  EXPECT_EQ(ownCounter(driver, OutriggerCounter::kCommandsForbidden), 3);
  EXPECT_THAT(errors(driver), Contains(HasSubstr(foreign)));
}

TEST_F(PolicyOfCommands, DestinationsAreThoseOfThePublicationsStream) {
  write({rule("publish", kPolicyManual), rule("publish", kPolicyManual, 7), rule("destination", kThere)});
  auto& driver = host("10.0.0.1", governed());
  auto& client = connect(driver);
  const auto mine = publication(client, kPolicyManual, kPolicyStream);
  const auto other = publication(client, kPolicyManual, 7);
  EXPECT_EQ(refusal(client, client.addDestination(*mine, kThere)), "");
  EXPECT_THAT(refusal(client, client.addDestination(*other, kThere)), AllOf(HasSubstr("the destination"), HasSubstr("stream 7")));
  EXPECT_THAT(refusal(client, client.addDestination(*mine, "aeron:udp?endpoint=10.6.6.6:1")), HasSubstr("stream 1001"));
  EXPECT_EQ(refusal(client, client.removeDestination(*mine, kThere)), "") << "what may go needs no rule";
}

TEST_F(PolicyOfCommands, AnotherClientsIdOpensNoMore) {
  write({rule("publish", kPolicyManual), rule("destination", kThere)});
  auto& driver = host("10.0.0.1", governed());
  auto& sidecar = connect(driver);
  const auto mine = publication(sidecar, kPolicyManual, kPolicyStream);
  RawClient forger(driver.directory());
  const int64_t correlation = forger.nextId();
  const std::string channel = "aeron:udp?endpoint=10.6.6.6:1";
  forger.send(Command::kAddDestination,
              RawClient::bytesOf(sidecar.clientId(), correlation, mine->registrationId(), static_cast<int32_t>(channel.size())) + channel);
  ASSERT_TRUE(awaitResponse(forger, correlation));
  EXPECT_EQ(forger.about(correlation)->type, Response::kError);
  EXPECT_EQ(ownCounter(driver, OutriggerCounter::kCommandsForbidden), 1) << "by the policy, and by nothing else";
  EXPECT_THAT(errors(driver), Contains(AllOf(HasSubstr(channel), HasSubstr("stream 1001"))));
  // The same from the same hand is no fault where the policy has it.
  const int64_t allowed = forger.nextId();
  const std::string there = kThere;
  forger.send(Command::kAddDestination,
              RawClient::bytesOf(sidecar.clientId(), allowed, mine->registrationId(), static_cast<int32_t>(there.size())) + there);
  ASSERT_TRUE(awaitResponse(forger, allowed));
  EXPECT_EQ(forger.about(allowed)->type, Response::kOperationSuccess);
}

TEST_F(PolicyOfCommands, ARemoveWaitsForTheAddThatWaitsForTheFile) {
  write({});
  auto& driver = host("10.0.0.1", governed());
  RawClient raw(driver.directory());
  const int64_t add = raw.add(Command::kAddSubscription, kHere, kPolicyStream);
  const int64_t remove = raw.remove(Command::kRemoveSubscription, add);
  ASSERT_TRUE(awaitResponse(raw, remove));
  EXPECT_EQ(raw.about(add)->type, Response::kError);
  EXPECT_EQ(ownCounter(driver, OutriggerCounter::kCommandsForbidden), 1) << "it is judged first";
  EXPECT_EQ(raw.about(remove)->type, Response::kError) << "there is none of this id";
  write({rule("subscribe", kHere), "source any"});
  const int64_t again = raw.add(Command::kAddSubscription, kHere, kPolicyStream);
  const int64_t gone = raw.remove(Command::kRemoveSubscription, again);
  ASSERT_TRUE(awaitResponse(raw, gone));
  EXPECT_NE(raw.about(again, Response::kSubscriptionReady), nullptr);
  EXPECT_EQ(raw.about(gone)->type, Response::kOperationSuccess);
}

TEST_F(PolicyOfCommands, WhatIsOpenStaysOpenWhenItsRuleGoes) {
  write({rule("subscribe", kHere), "source any"});
  auto& driver = host("10.0.0.1", governed());
  auto& client = connect(driver);
  const auto sub = subscription(client, kHere, kPolicyStream);
  write({});
  EXPECT_TRUE(until([&] { return !refusalOfSubscription(client, kHere).empty(); }, 3 * kSecondNs, 100 * kMilliNs));
  EXPECT_FALSE(sub->isClosed());
}

TEST_F(PolicyOfCommands, AFileWithAFaultIsNamedOnceAndTheOneBeforeItStaysInForce) {
  write({rule("subscribe", kHere), "source any"});
  auto& driver = host("10.0.0.1", governed());
  auto& client = connect(driver);
  writeRaw("outrigger-policy 1\nsubscribe everything\nend 1\n");
  EXPECT_NE(refusalOfSubscription(client, kHere, 7), "");
  EXPECT_EQ(refusalOfSubscription(client, kHere), "");
  EXPECT_THAT(errors(driver), Contains(AllOf(HasSubstr("line 2"), HasSubstr("the policy before it stays in force"))));
  const int64_t counted = systemCounter(driver, cnc::SystemCounter::kErrors);
  run(5 * kSecondNs, kMilliNs);
  EXPECT_EQ(systemCounter(driver, cnc::SystemCounter::kErrors), counted);
}

TEST_F(PolicyOfCommands, AFileThatOthersCouldHaveWrittenAllowsNothing) {
  write({rule("subscribe", kHere), "source any"});
  ASSERT_EQ(::chmod(path().c_str(), 0666), 0);
  auto& driver = host("10.0.0.1", governed());
  EXPECT_THAT(refusalOfSubscription(connect(driver), kHere), HasSubstr("may be written by others"));
  EXPECT_THAT(errors(driver), Contains(HasSubstr("nothing is allowed")));
}

class PolicyOfSources : public PolicyWorld {
 public:
  DriverHost& subscriber = host("10.0.0.1", governed());
  DriverHost& member = host("10.0.0.2");
  DriverHost& stranger = host("10.0.0.3");

  void admit(const Lines& sources) const {
    Lines lines{rule("subscribe", kHere)};
    for (const std::string& source : sources) lines.push_back("source " + source);
    write(lines);
  }
  int64_t refused() const { return ownCounter(subscriber, OutriggerCounter::kSourcesRefused); }
};

TEST_F(PolicyOfSources, AreTakenFromMembersAloneAndOthersAreCounted) {
  admit({"10.0.0.2"});
  const auto sub = subscription(connect(subscriber), kHere, kPolicyStream);
  const auto good = publication(connect(member), kHere, kPolicyStream);
  const auto bad = publication(connect(stranger), kHere, kPolicyStream);
  ASSERT_TRUE(until([&] { return good->isConnected() && refused() > 3; }));
  EXPECT_FALSE(bad->isConnected());
  EXPECT_EQ(sub->imageCount(), 1U);
  ASSERT_GT(offerWithin(*this, *good, "hello"), 0);
  size_t count = 0;
  EXPECT_TRUE(until([&] { return (count += read(*sub)) == 1; }));
  EXPECT_THAT(errors(subscriber), IsEmpty()) << "it may be a new member";
  run(4 * kSecondNs, kMilliNs);
  EXPECT_THAT(errors(subscriber), Contains(AllOf(HasSubstr("stream 1001 from 10.0.0.3 to 10.0.0.1:40200"), HasSubstr("publishers"))));
  const size_t logged = errors(subscriber).size();
  run(2 * kSecondNs, kMilliNs);
  EXPECT_EQ(errors(subscriber).size(), logged) << "one entry a source";
}

TEST_F(PolicyOfSources, ANewMembersStreamIsTakenOnceTheFileSaysSo) {
  admit({});
  const auto sub = subscription(connect(subscriber), kHere, kPolicyStream);
  const auto late = publication(connect(member), kHere, kPolicyStream);
  ASSERT_TRUE(until([&] { return refused() > 3; }));
  EXPECT_EQ(sub->imageCount(), 0U);
  admit({"10.0.0.2"});
  EXPECT_TRUE(until([&] { return sub->imageCount() == 1 && late->isConnected(); })) << "the sender's next SETUP heals it";
  EXPECT_THAT(errors(subscriber), IsEmpty());
}

TEST_F(PolicyOfSources, AMemberThatLeavesIsHeardToTheEndAndNotTakenAgain) {
  admit({"10.0.0.2"});
  const auto sub = subscription(connect(subscriber), kHere, kPolicyStream);
  auto& publisher = connect(member);
  const auto pub = publication(publisher, kHere, kPolicyStream);
  ASSERT_TRUE(until([&] { return pub->isConnected(); }));
  admit({});
  run(3 * kSecondNs, kMilliNs);
  ASSERT_GT(offerWithin(*this, *pub, "last words"), 0);
  size_t count = 0;
  EXPECT_TRUE(until([&] { return (count += read(*sub)) == 1; }));
  EXPECT_EQ(refused(), 0);
  publisher.closePublication(pub);
  ASSERT_TRUE(until([&] { return sub->imageCount() == 0; }, 20 * kSecondNs, kMilliNs));
  const auto again = publication(publisher, kHere, kPolicyStream);
  EXPECT_TRUE(until([&] { return refused() > 3; }, 20 * kSecondNs));
  EXPECT_EQ(sub->imageCount(), 0U);
}

TEST_F(PolicyOfSources, AFileThatOnlyTakesAwayIsNoticedWithoutAnybodyAsking) {
  admit({"10.0.0.2"});
  const auto sub = subscription(connect(subscriber), kHere, kPolicyStream);
  admit({"10.0.0.9"});
  run(1'200 * kMilliNs, kMilliNs);
  const auto pub = publication(connect(member), kHere, kPolicyStream);
  EXPECT_TRUE(until([&] { return refused() > 0; }));
  EXPECT_EQ(sub->imageCount(), 0U);
}

TEST_F(PolicyOfSources, AreThoseOfEachStreamOfAnEndpoint) {
  write({rule("subscribe", kHere), "source 10.0.0.2", rule("subscribe", kHere, 7), "source 10.0.0.3"});
  auto& client = connect(subscriber);
  const auto first = subscription(client, kHere, kPolicyStream);
  const auto second = subscription(client, kHere, 7);
  const auto right = publication(connect(member), kHere, kPolicyStream);
  const auto wrong = publication(connect(stranger), kHere, kPolicyStream);
  const auto other = publication(connect(stranger), kHere, 7);
  EXPECT_TRUE(until([&] { return right->isConnected() && other->isConnected() && refused() > 0; }));
  EXPECT_FALSE(wrong->isConnected());
}

TEST_F(PolicyOfSources, EndpointsComeAndGoWhileTheListsChange) {
  auto& client = connect(subscriber);
  const auto pub = publication(connect(member), kHere, kPolicyStream);
  for (int32_t round = 0; round < 10; ++round) {
    admit({"10.0.0.2", "10.0.1." + std::to_string(round)});
    const auto first = subscription(client, kHere, kPolicyStream);
    const auto second = subscription(client, kHere, kPolicyStream);
    ASSERT_TRUE(until([&] { return first->imageCount() == 1 && second->imageCount() == 1; }, 20 * kSecondNs)) << round;
    admit({"10.0.0.2", "10.0.2." + std::to_string(round)});
    client.closeSubscription(first);
    run(kSecondNs + 200 * kMilliNs, kMilliNs);
    client.closeSubscription(second);
    run(2 * kSecondNs, kMilliNs);
  }
}

}  // namespace
}  // namespace outrigger::driver::testing
