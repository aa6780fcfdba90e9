// SPDX-License-Identifier: Apache-2.0
// IPC publications and spies.
#include "driver_world.h"

namespace outrigger::driver::testing {
namespace {

constexpr const char* kIpc = "aeron:ipc";

using client::FragmentHeader;

std::vector<std::string> readAll(client::Subscription& sub, int32_t limit = 1'000'000) {
  std::vector<std::string> got;
  const auto take = [&](const uint8_t* data, int32_t length, const FragmentHeader&) {
    got.emplace_back(reinterpret_cast<const char*>(data), static_cast<size_t>(length));
  };
  while (limit > 0) {
    const int32_t fragments = sub.pollMessages(take, std::min(limit, 64));
    if (fragments == 0) break;
    limit -= fragments;
  }
  return got;
}

class Ipc : public DriverWorld {
 public:
  DriverHost& a = host();
};

TEST_F(Ipc, MessagesOfEveryLengthArriveInOrderThroughManyTerms) {
  auto& client = connect(a);
  const auto sub = subscription(client, kIpc, kStream);
  const auto pub = publication(client, kIpc, kStream);
  ASSERT_TRUE(until([&] { return sub->isConnected() && pub->isConnected(); }));
  size_t next = 0;
  const auto check = [&] {
    for (const std::string& got : readAll(*sub)) {
      ASSERT_EQ(got.size(), 1 + next * 37 % static_cast<size_t>(pub->maxMessageLength()));
      ASSERT_EQ(got.front(), static_cast<char>('a' + next % 26));
      ++next;
    }
  };
  constexpr size_t kMessages = 1000;  // about 4 MB through terms of 64 KiB
  for (size_t i = 0; i < kMessages; ++i) {
    const std::string message(1 + i * 37 % static_cast<size_t>(pub->maxMessageLength()), static_cast<char>('a' + i % 26));
    while (pub->offer(message.data(), static_cast<int32_t>(message.size())) < 0) {
      step();
      check();
    }
  }
  EXPECT_TRUE(until([&] {
    check();
    return next == kMessages;
  })) << next;
}

TEST_F(Ipc, APublisherIsHeldBackByTheSlowestSubscriber) {
  auto& client = connect(a);
  const auto slow = subscription(client, kIpc, kStream);
  const auto fast = subscription(client, kIpc, kStream);
  const auto pub = publication(client, kIpc, kStream);
  ASSERT_TRUE(until([&] { return slow->isConnected() && fast->isConnected() && pub->isConnected(); }));
  run(10 * kMilliNs);
  int64_t last = 0;
  for (int i = 0; i < 1000; ++i) {
    last = pub->offer(std::string(1000, 'x').data(), 1000);
    readAll(*fast);
    step();
  }
  EXPECT_EQ(last, client::kOfferBackPressured);
  EXPECT_LE(pub->position(), 32 * 1024 + 1056) << "window of half a term, and the message that crossed it";
  readAll(*slow);
  EXPECT_TRUE(until([&] { return pub->offer("y", 1) > 0; }));
}

TEST_F(Ipc, WithoutSubscribersNothingIsAccepted) {
  auto& client = connect(a);
  const auto pub = publication(client, kIpc, kStream);
  run(10 * kMilliNs);
  EXPECT_EQ(pub->offer("x", 1), client::kOfferNotConnected);
  const auto sub = subscription(client, kIpc, kStream);
  ASSERT_TRUE(until([&] { return sub->isConnected(); }));
  EXPECT_GT(offerWithin(*this, *pub, "x"), 0);
  client.closeSubscription(sub);
  EXPECT_TRUE(until([&] { return pub->offer("x", 1) == client::kOfferNotConnected; }));
}

TEST_F(Ipc, TheImageSaysItIsLocalAndReadsThePublicationsLog) {
  RawClient raw(a.directory());
  const int64_t pub = raw.add(cnc::Command::kAddPublication, kIpc, kStream);
  const int64_t sub = raw.add(cnc::Command::kAddSubscription, kIpc, kStream);
  ASSERT_TRUE(until([&] { return !raw.of(cnc::Response::kAvailableImage).empty(); }));
  const auto image = raw.of(cnc::Response::kAvailableImage)[0];
  const auto fields = image.as<cnc::ImageReady>();
  EXPECT_EQ(fields.correlationId, pub);
  EXPECT_EQ(fields.subscriberRegistrationId, sub);
  EXPECT_EQ(fields.streamId, kStream);
  const auto ready = raw.about(pub, cnc::Response::kPublicationReady)->as<cnc::PublicationReady>();
  EXPECT_EQ(fields.sessionId, ready.sessionId);
  EXPECT_EQ(ready.channelStatusCounterId, -1);
  EXPECT_EQ(raw.about(sub, cnc::Response::kSubscriptionReady)->as<cnc::SubscriptionReady>().channelStatusCounterId, -1);
  const auto pathLength = readAt<int32_t>(image.bytes.data(), sizeof(cnc::ImageReady));
  const std::string path = image.textAfter<cnc::ImageReady>(4 + pathLength).substr(4);
  EXPECT_EQ(path, a.directory() + "/publications/" + std::to_string(pub) + ".logbuffer");
  const size_t at = sizeof(cnc::ImageReady) + 4 + alignUp<size_t>(static_cast<size_t>(pathLength), 4);
  const auto sourceLength = readAt<int32_t>(image.bytes.data(), at);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(image.bytes.data()) + at + 4, static_cast<size_t>(sourceLength)), "aeron:ipc");
}

TEST_F(Ipc, ClosingThePublicationLetsSubscribersReadToTheEndFirst) {
  auto& client = connect(a);
  const auto sub = subscription(client, kIpc, kStream);
  auto pub = publication(client, kIpc, kStream);
  ASSERT_TRUE(until([&] { return sub->isConnected(); }));
  ASSERT_GT(offerWithin(*this, *pub, "the end"), 0);
  client.closePublication(pub);
  run(kSecondNs, kMilliNs);
  const auto image = sub->images().front();
  EXPECT_EQ(sub->imageCount(), 1);
  EXPECT_EQ(readAll(*sub), std::vector<std::string>{"the end"});
  EXPECT_TRUE(until([&] { return sub->imageCount() == 0; }));
  EXPECT_EQ(image->endReason(), client::ImageEndReason::kEndOfStream);
  EXPECT_TRUE(until([&] { return files(a, "publications") == 0; }));
  EXPECT_TRUE(countersOf(a, cnc::counter_type::kPublisherLimit).empty());
  EXPECT_TRUE(countersOf(a, cnc::counter_type::kSubscriberPosition).empty());
  EXPECT_EQ(systemCounter(a, cnc::SystemCounter::kBytesCurrentlyMapped), 0);
}

TEST_F(Ipc, ARevokedPublicationEndsItsImagesUnread) {
  auto& client = connect(a);
  const auto sub = subscription(client, kIpc, kStream);
  auto pub = publication(client, kIpc, kStream);
  ASSERT_TRUE(until([&] { return sub->isConnected(); }));
  ASSERT_GT(offerWithin(*this, *pub, "never read"), 0);
  const auto image = sub->imagesSnapshot().front();
  client.closePublication(pub, true);
  EXPECT_TRUE(until([&] { return sub->imageCount() == 0; }));
  EXPECT_EQ(image->endReason(), client::ImageEndReason::kRevoked);
}

TEST_F(Ipc, ConcurrentAddsShareAndExclusiveOnesDoNot) {
  auto& client = connect(a);
  const auto first = publication(client, kIpc, kStream);
  const auto second = publication(client, kIpc, kStream);
  const auto own = exclusive(client, kIpc, kStream);
  EXPECT_EQ(second->originalRegistrationId(), first->registrationId());
  EXPECT_EQ(second->sessionId(), first->sessionId());
  EXPECT_NE(own->sessionId(), first->sessionId());
  EXPECT_EQ(files(a, "publications"), 2U);
  // Closing one of the two leaves the other.
  client.closePublication(second);
  run(kSecondNs, kMilliNs);
  const auto sub = subscription(client, kIpc, kStream);
  ASSERT_TRUE(until([&] { return sub->imageCount() == 2; }));
  EXPECT_GT(offerWithin(*this, *first, "still here"), 0);
}

TEST_F(Ipc, ALateSubscriberStartsWhereTheFastestOneIs) {
  auto& client = connect(a);
  const auto first = subscription(client, kIpc, kStream);
  const auto pub = publication(client, kIpc, kStream);
  ASSERT_TRUE(until([&] { return first->isConnected(); }));
  const int64_t position = offerWithin(*this, *pub, "early");
  ASSERT_GT(position, 0);
  readAll(*first);
  run(kMilliNs);
  const auto second = subscription(client, kIpc, kStream);
  ASSERT_TRUE(until([&] { return second->isConnected(); }));
  EXPECT_EQ(second->images().front()->joinPosition(), position);
}

TEST_F(Ipc, ARejectedImageIsTakenFromAllSubscribersForTheLivenessTimeout) {
  std::vector<Error> told;
  auto& client = connect(a, [&](const Error& error) { told.push_back(error); });
  const auto sub = subscription(client, kIpc, kStream);
  const auto pub = publication(client, kIpc, kStream);
  ASSERT_TRUE(until([&] { return sub->isConnected(); }));
  EXPECT_TRUE(decided(client, client.rejectImage(*sub->images().front(), "no")).succeeded());
  ASSERT_TRUE(until([&] { return !sub->isConnected() && !told.empty(); }));
  EXPECT_EQ(told[0].message, "no");
  run(9 * kSecondNs, 10 * kMilliNs);
  EXPECT_FALSE(sub->isConnected());
  EXPECT_TRUE(until([&] { return sub->isConnected(); }, 3 * kSecondNs, 10 * kMilliNs));
}

TEST_F(Ipc, AHostileSubscriberPositionCostsNobodyElseAnything) {
  auto& client = connect(a);
  const auto good = subscription(client, kIpc, kStream);
  const auto bad = subscription(client, kIpc, kStream);
  const auto pub = publication(client, kIpc, kStream);
  ASSERT_TRUE(until([&] { return good->isConnected() && bad->isConnected(); }));
  int64_t* position = client.counterValue(bad->images().front()->subscriberPositionId());
  size_t received = 0;
  size_t sent = 0;
  for (const int64_t value : {INT64_MAX, INT64_MIN, int64_t{-1}, int64_t{7}, int64_t{1} << 40, INT64_MAX}) {
    storeRelease<int64_t>(position, value);
    for (int i = 0; i < 100; ++i) {
      if (pub->offer(std::string(1000, 'x').data(), 1000) > 0) ++sent;
      step();
      received += readAll(*good).size();
    }
  }
  EXPECT_EQ(received, sent);
  EXPECT_GT(sent, 200U) << "a subscriber that claims to be ahead does not hold the stream back";
}

TEST_F(Ipc, AClaimOfADeadClientIsPaddedAndTheStreamGoesOn) {
  auto& reader = connect(a);
  auto& survivor = connect(a);
  auto& victim = connect(a);
  const auto sub = subscription(reader, kIpc, kStream);
  const auto pub = publication(survivor, kIpc, kStream);
  const auto doomed = publication(victim, kIpc, kStream);
  ASSERT_TRUE(until([&] { return sub->isConnected() && pub->isConnected(); }));
  ASSERT_GT(offerWithin(*this, *pub, "before"), 0);
  client::BufferClaim claim;
  ASSERT_GT(doomed->tryClaim(100, claim), 0);
  silence(victim);
  ASSERT_GT(offerWithin(*this, *pub, "after"), 0);
  EXPECT_EQ(readAll(*sub), std::vector<std::string>{"before"});
  std::vector<std::string> got;
  EXPECT_TRUE(until([&] { return !(got = readAll(*sub)).empty(); }, 40 * kSecondNs, 10 * kMilliNs));
  EXPECT_EQ(got, std::vector<std::string>{"after"});
  EXPECT_EQ(systemCounter(a, cnc::SystemCounter::kUnblockedPublications), 1);
}

TEST_F(Ipc, ADeadClaimAtTheEndOfAClosedPublicationDoesNotKeepItsFile) {
  auto& reader = connect(a);
  auto& victim = connect(a);
  const auto sub = subscription(reader, kIpc, kStream);
  const auto pub = exclusive(victim, kIpc, kStream);
  ASSERT_TRUE(until([&] { return sub->isConnected(); }));
  ASSERT_GT(offerWithin(*this, *pub, "said"), 0);
  client::BufferClaim claim;
  ASSERT_GT(pub->tryClaim(100, claim), 0);
  silence(victim);
  EXPECT_EQ(readAll(*sub), std::vector<std::string>{"said"});
  EXPECT_TRUE(until(
      [&] {
        readAll(*sub);
        return files(a, "publications") == 0;
      },
      30 * kSecondNs, 10 * kMilliNs));
  EXPECT_FALSE(sub->isConnected());
}

// ---- spies ----

class Spy : public DriverWorld {
 public:
  DriverHost& a = host("10.0.0.1");
  DriverHost& b = host("10.0.0.2");
  const std::string channel = "aeron:udp?endpoint=10.0.0.2:4000";
  const std::string spyChannel = "aeron-spy:" + channel;
};

TEST_F(Spy, ReadsWhatIsSentFromTheLogOfTheSender) {
  auto& client = connect(a);
  const auto remote = subscription(connect(b), channel, kStream);
  const auto early = subscription(client, spyChannel, kStream);
  const auto pub = publication(client, channel, kStream);
  ASSERT_TRUE(until([&] { return early->isConnected() && pub->isConnected(); }));
  ASSERT_GT(offerWithin(*this, *pub, "one"), 0);
  EXPECT_TRUE(until([&] { return readAll(*early) == std::vector<std::string>{"one"}; }));
  EXPECT_EQ(early->images().front()->sourceIdentity(), "aeron:ipc");
  EXPECT_EQ(early->images().front()->correlationId(), pub->registrationId());
  run(10 * kMilliNs);
  const auto late = subscription(client, spyChannel, kStream);
  ASSERT_TRUE(until([&] { return late->isConnected(); }));
  EXPECT_GT(late->images().front()->joinPosition(), 0);
  const auto otherStream = subscription(client, spyChannel, kStream + 1);
  run(10 * kMilliNs);
  EXPECT_FALSE(otherStream->isConnected());
  EXPECT_TRUE(until([&] { return readAll(*remote) == std::vector<std::string>{"one"}; }));
}

TEST_F(Spy, HoldsThePublisherBackWhenItDoesNotRead) {
  auto& client = connect(a);
  const auto remote = subscription(connect(b), channel, kStream);
  const auto spy = subscription(client, spyChannel, kStream);
  const auto pub = publication(client, channel, kStream);
  ASSERT_TRUE(until([&] { return spy->isConnected() && pub->isConnected(); }));
  int64_t last = 0;
  for (int i = 0; i < 2000; ++i) {
    last = pub->offer(std::string(1000, 'x').data(), 1000);
    readAll(*remote);
    step();
  }
  EXPECT_EQ(last, client::kOfferBackPressured);
  client.closeSubscription(spy);
  EXPECT_TRUE(until([&] { return pub->offer("y", 1) > 0; }));
}

TEST_F(Spy, SimulatesAConnectionOnlyWithSsc) {
  auto& client = connect(a);
  const auto silent = publication(client, channel, kStream);
  const auto spied = publication(client, channel + "|ssc=true", kStream + 1);
  ASSERT_NE(subscription(client, spyChannel, kStream), nullptr);
  const auto spy = subscription(client, spyChannel, kStream + 1);
  ASSERT_TRUE(until([&] { return spied->isConnected(); }));
  ASSERT_GT(offerWithin(*this, *spied, "into the void"), 0);
  EXPECT_TRUE(until([&] { return readAll(*spy) == std::vector<std::string>{"into the void"}; }));
  run(kSecondNs, kMilliNs);
  EXPECT_FALSE(silent->isConnected());
}

TEST_F(Spy, ItsImageEndsWithThePublication) {
  auto& client = connect(a);
  const auto remote = subscription(connect(b), channel, kStream);
  const auto spy = subscription(client, spyChannel, kStream);
  const auto pub = publication(client, channel, kStream);
  ASSERT_TRUE(until([&] { return spy->isConnected() && pub->isConnected(); }));
  ASSERT_GT(offerWithin(*this, *pub, "bye"), 0);
  client.closePublication(pub);
  run(kSecondNs, kMilliNs);
  EXPECT_TRUE(spy->isConnected()) << "there is something left to read";
  EXPECT_EQ(readAll(*spy), std::vector<std::string>{"bye"});
  EXPECT_TRUE(until([&] { return !spy->isConnected(); }));
}

}  // namespace
}  // namespace outrigger::driver::testing
