// SPDX-License-Identifier: Apache-2.0
// Publications, subscriptions and images over UDP, through whole drivers and real clients.
#include "driver_world.h"

namespace outrigger::driver::testing {
namespace {

constexpr const char* kUdpChannel = "aeron:udp?endpoint=10.0.0.2:4000";

using client::FragmentHeader;

class Udp : public DriverWorld {
 public:
  DriverHost& a = host("10.0.0.1");
  DriverHost& b = host("10.0.0.2");

  std::vector<std::string> readAll(client::Subscription& sub) {
    std::vector<std::string> got;
    const auto take = [&](const uint8_t* data, int32_t length, const FragmentHeader&) {
      got.emplace_back(reinterpret_cast<const char*>(data), static_cast<size_t>(length));
    };
    while (sub.poll(take, 64) > 0) {
    }
    return got;
  }
};

TEST_F(Udp, AMessageReachesASubscriberOnAnotherHost) {
  const auto sub = subscription(connect(b), kUdpChannel, kStream);
  const auto pub = publication(connect(a), kUdpChannel, kStream);
  ASSERT_TRUE(until([&] { return pub->isConnected() && sub->isConnected(); }));
  ASSERT_GT(offerWithin(*this, *pub, "hello"), 0);
  std::vector<std::string> got;
  ASSERT_TRUE(until([&] { return !(got = readAll(*sub)).empty(); }));
  EXPECT_EQ(got, std::vector<std::string>{"hello"});
}

TEST_F(Udp, AStreamRunsThroughManyTermsOfASparseLogWithoutLoss) {
  const auto sub = subscription(connect(b), kUdpChannel, kStream);
  const auto pub = exclusive(connect(a), kUdpChannel, kStream);
  ASSERT_TRUE(until([&] { return pub->isConnected() && sub->isConnected(); }));
  constexpr int kMessages = 2000;  // of 1 KiB through terms of 64 KiB
  int received = 0;
  for (int i = 0; i < kMessages; ++i) {
    std::string message(1024, static_cast<char>('a' + i % 26));
    const std::string number = std::to_string(i);
    message.replace(0, number.size(), number);
    while (pub->offer(message.data(), static_cast<int32_t>(message.size())) < 0) {
      step();
      for (const std::string& got : readAll(*sub)) {
        ASSERT_EQ(std::stoi(got), received);
        ++received;
      }
    }
  }
  EXPECT_TRUE(until([&] {
    received += static_cast<int>(readAll(*sub).size());
    return received == kMessages;
  })) << received;
  EXPECT_EQ(ownCounter(a, cnc::OutriggerCounter::kStorageWaits), 0);
}

TEST_F(Udp, ASecondConcurrentPublicationSharesTheFirstAndNamesIt) {
  RawClient one(a.directory());
  RawClient two(a.directory());
  const int64_t first = one.add(cnc::Command::kAddPublication, kUdpChannel, kStream);
  ASSERT_TRUE(awaitResponse(one, first));
  const int64_t second = two.add(cnc::Command::kAddPublication, kUdpChannel, kStream);
  ASSERT_TRUE(awaitResponse(two, second));
  const auto* firstReady = one.about(first, cnc::Response::kPublicationReady);
  const auto* secondReady = two.about(second, cnc::Response::kPublicationReady);
  ASSERT_NE(firstReady, nullptr);
  ASSERT_NE(secondReady, nullptr);
  const auto firstFields = firstReady->as<cnc::PublicationReady>();
  const auto fields = secondReady->as<cnc::PublicationReady>();
  EXPECT_EQ(fields.correlationId, second);
  EXPECT_EQ(fields.registrationId, first);
  EXPECT_EQ(fields.sessionId, firstFields.sessionId);
  EXPECT_EQ(fields.streamId, kStream);
  EXPECT_EQ(fields.positionLimitCounterId, firstFields.positionLimitCounterId);
  EXPECT_EQ(fields.channelStatusCounterId, firstFields.channelStatusCounterId);
  const std::string path = a.directory() + "/publications/" + std::to_string(first) + ".logbuffer";
  EXPECT_EQ(secondReady->textAfter<cnc::PublicationReady>(fields.logFileLength), path);
  EXPECT_EQ(files(a, "publications"), 1U);
}

TEST_F(Udp, ExclusivePublicationsHaveSessionsOfTheirOwn) {
  auto& client = connect(a);
  const auto first = exclusive(client, kUdpChannel, kStream);
  const auto second = exclusive(client, kUdpChannel, kStream);
  EXPECT_NE(first->sessionId(), second->sessionId());
  EXPECT_EQ(first->originalRegistrationId(), first->registrationId());
  EXPECT_EQ(countersOf(a, cnc::counter_type::kSendChannelStatus).size(), 1U) << "one endpoint for both";
}

TEST_F(Udp, StreamsOfOneSecondAddInTheSameCycleStillShare) {
  RawClient raw(a.directory());
  const int64_t first = raw.add(cnc::Command::kAddPublication, kUdpChannel, kStream);
  const int64_t second = raw.add(cnc::Command::kAddPublication, kUdpChannel, kStream);
  ASSERT_TRUE(awaitResponse(raw, second));
  EXPECT_EQ(raw.about(second, cnc::Response::kPublicationReady)->as<cnc::PublicationReady>().registrationId, first);
}

TEST_F(Udp, SessionIdsAreTakenAsAskedAndClashesRefused) {
  RawClient raw(a.directory());
  const std::string channel = std::string(kUdpChannel) + "|session-id=77";
  const int64_t first = raw.add(cnc::Command::kAddExclusivePublication, channel, kStream);
  const int64_t second = raw.add(cnc::Command::kAddExclusivePublication, channel, kStream);
  const int64_t otherStream = raw.add(cnc::Command::kAddExclusivePublication, channel, kStream + 1);
  ASSERT_TRUE(awaitResponse(raw, otherStream));
  EXPECT_EQ(raw.about(first)->as<cnc::PublicationReady>().sessionId, 77);
  EXPECT_EQ(raw.about(otherStream)->as<cnc::PublicationReady>().sessionId, 77);
  const auto* refused = raw.about(second, cnc::Response::kError);
  ASSERT_NE(refused, nullptr);
  const auto error = refused->as<cnc::ErrorResponse>();
  EXPECT_EQ(error.errorCode, static_cast<int32_t>(ErrorCode::kGeneric));
  EXPECT_NE(refused->textAfter<cnc::ErrorResponse>(error.messageLength).find("clashing session id: sessionId=77"), std::string::npos);
}

TEST_F(Udp, GeneratedSessionIdsSkipTheReservedRange) {
  DriverConfig config = smallConfig();
  // Everything but a few ids is reserved.
  config.publicationReservedSessionIdLow = INT32_MIN + 4;
  config.publicationReservedSessionIdHigh = INT32_MAX;
  DriverHost& c = host("10.0.0.3", config);
  auto& client = connect(c);
  for (int i = 0; i < 3; ++i) {
    EXPECT_LT(exclusive(client, kUdpChannel, kStream)->sessionId(), config.publicationReservedSessionIdLow);
  }
}

TEST_F(Udp, ASecondAddThatContradictsTheExistingPublicationIsRefusedNamingTheParameter) {
  RawClient raw(a.directory());
  raw.add(cnc::Command::kAddPublication, kUdpChannel, kStream);
  for (const char* parameter : {"mtu=2048", "term-length=128k", "session-id=5", "linger=1s", "pub-wnd=8k", "eos=false"}) {
    const int64_t id = raw.add(cnc::Command::kAddPublication, std::string(kUdpChannel) + "|" + parameter, kStream);
    ASSERT_TRUE(awaitResponse(raw, id));
    const auto* refused = raw.about(id, cnc::Response::kError);
    ASSERT_NE(refused, nullptr) << parameter;
    const auto error = refused->as<cnc::ErrorResponse>();
    const std::string key(parameter, std::strchr(parameter, '='));
    EXPECT_NE(refused->textAfter<cnc::ErrorResponse>(error.messageLength).find("different '" + key + "'"), std::string::npos) << parameter;
  }
}

TEST_F(Udp, TimesStandInOnePlaceForAllOfAnEndpointAndOthersAreRefusedNamingTheParameter) {
  RawClient raw(a.directory());
  const std::string channel = kUdpChannel;
  const std::string publisher = channel + "|channel-snd-ts-offset=reserved";
  const std::string subscriber = "aeron:udp?endpoint=10.0.0.1:4001";
  const std::string subscribed = subscriber + "|media-rcv-ts-offset=0|channel-rcv-ts-offset=8";
  const auto add = [&](cnc::Command command, const std::string& text, int32_t stream) {
    const int64_t id = raw.add(command, text, stream);
    EXPECT_TRUE(awaitResponse(raw, id));
    const auto* refused = raw.about(id, cnc::Response::kError);
    if (refused == nullptr) return std::string();
    const auto error = refused->as<cnc::ErrorResponse>();
    EXPECT_EQ(error.errorCode, static_cast<int32_t>(ErrorCode::kInvalidChannel));
    return std::string(refused->textAfter<cnc::ErrorResponse>(error.messageLength));
  };
  using cnc::Command;
  EXPECT_EQ(add(Command::kAddPublication, publisher, kStream), "");
  EXPECT_EQ(add(Command::kAddExclusivePublication, publisher, kStream + 1), "");
  EXPECT_EQ(add(Command::kAddPublication, publisher + "|channel-rcv-ts-offset=0", kStream + 2), "") << "a publication receives nothing";
  for (const char* other : {"", "|channel-snd-ts-offset=0"}) {
    for (const Command command : {Command::kAddPublication, Command::kAddExclusivePublication}) {
      const std::string error = add(command, channel + other, kStream);
      EXPECT_NE(error.find("conflicts with existing publication: channel-snd-ts-offset="), std::string::npos) << error;
      EXPECT_NE(error.find("existing reserved"), std::string::npos) << error;
    }
  }
  EXPECT_EQ(add(Command::kAddSubscription, subscribed, kStream), "");
  EXPECT_EQ(add(Command::kAddSubscription, subscribed + "|channel-snd-ts-offset=16", kStream + 1), "") << "a subscription sends nothing";
  EXPECT_NE(add(Command::kAddSubscription, subscriber, kStream).find("subscription: media-rcv-ts-offset=none"), std::string::npos);
  EXPECT_NE(add(Command::kAddSubscription, subscriber + "|media-rcv-ts-offset=0", kStream + 7).find("channel-rcv-ts-offset=none"),
            std::string::npos)
      << "of any stream: the socket is one";
  EXPECT_NE(add(Command::kAddSubscription, subscriber + "|media-rcv-ts-offset=4|channel-rcv-ts-offset=8", kStream).find("overlap"),
            std::string::npos);
  EXPECT_EQ(add(Command::kAddSubscription, "aeron:ipc?media-rcv-ts-offset=0", kStream), "")
      << "no network: no effect, as with Aeron's drivers";
}

TEST_F(Udp, AnInitialPositionIsWhereThePublicationStarts) {
  auto& client = connect(a);
  const auto pub = exclusive(client, std::string(kUdpChannel) + "|init-term-id=5|term-id=7|term-offset=96", kStream);
  const auto sub = subscription(connect(b), kUdpChannel, kStream);
  ASSERT_TRUE(until([&] { return pub->isConnected() && sub->isConnected(); }));
  const int64_t start = 2 * 64 * 1024 + 96;
  EXPECT_EQ(pub->position(), start);
  EXPECT_EQ(sub->images().front()->joinPosition(), start);
  EXPECT_GT(offerWithin(*this, *pub, "x"), start);
  EXPECT_TRUE(until([&] { return readAll(*sub).size() == 1; }));
}

struct BadChannel {
  const char* channel;
  ErrorCode code;
  const char* says;
};

TEST_F(Udp, ChannelsThatMakeNoSenseAreRefusedWithTheReason) {
  RawClient raw(a.directory());
  const BadChannel cases[] = {
      {"nonsense", ErrorCode::kInvalidChannel, "nonsense"},
      {"aeron:tcp?endpoint=1.2.3.4:5", ErrorCode::kInvalidChannel, "tcp"},
      {"aeron:udp", ErrorCode::kInvalidChannel, "endpoint"},
      {"aeron:udp?endpoint=10.0.0.2", ErrorCode::kInvalidChannel, "port"},
      {"aeron:udp?endpoint=10.0.0.2:4000|term-length=100000", ErrorCode::kInvalidChannel, "power of two"},
      {"aeron:udp?endpoint=10.0.0.2:4000|term-length=32k", ErrorCode::kInvalidChannel, "power of two"},
      {"aeron:udp?endpoint=10.0.0.2:4000|mtu=1000", ErrorCode::kInvalidChannel, "mtu=1000"},
      {"aeron:udp?endpoint=10.0.0.2:4000|mtu=65504", ErrorCode::kInvalidChannel, "longest message"},
      {"aeron:udp?endpoint=10.0.0.2:4000|pub-wnd=64k", ErrorCode::kInvalidChannel, "pub-wnd"},
      {"aeron:udp?endpoint=10.0.0.2:4000|term-id=4", ErrorCode::kInvalidChannel, "all three"},
      {"aeron:udp?endpoint=10.0.0.2:4000|init-term-id=5|term-id=4|term-offset=0", ErrorCode::kInvalidChannel, "before"},
      {"aeron:udp?endpoint=10.0.0.2:4000|init-term-id=5|term-id=5|term-offset=7", ErrorCode::kInvalidChannel, "multiple"},
      {"aeron:udp?endpoint=10.0.0.2:4000|session-id=abc", ErrorCode::kInvalidChannel, "session-id"},
      {"aeron:udp?endpoint=10.0.0.2:4000|session-id=tag:9", ErrorCode::kInvalidChannel, "names no publication"},
      {"aeron:udp?endpoint=10.0.0.2:4000|linger=soon", ErrorCode::kInvalidChannel, "linger"},
      {"aeron:udp?endpoint=10.0.0.2:4000|stream-id=11", ErrorCode::kInvalidChannel, "stream-id"},
      {"aeron:udp?endpoint=10.0.0.2:4000|so-sndbuf=1k|mtu=1408", ErrorCode::kInvalidChannel, "send buffer"},
      {"aeron-spy:aeron:udp?endpoint=10.0.0.2:4000", ErrorCode::kInvalidChannel, "spy"},
      {"aeron:udp?tags=17", ErrorCode::kInvalidChannel, "tag 17 names no channel"},
      {"aeron:udp?endpoint=224.0.1.1:4000", ErrorCode::kNotSupported, "multicast"},
      {"aeron:udp?control-mode=response|control=10.0.0.1:4000", ErrorCode::kNotSupported, "response channels"},
      {"aeron:udp?endpoint=10.0.0.2:4000|response-correlation-id=3", ErrorCode::kNotSupported, "response channels"},
  };
  for (const BadChannel& bad : cases) {
    const int64_t id = raw.add(cnc::Command::kAddPublication, bad.channel, kStream);
    ASSERT_TRUE(awaitResponse(raw, id)) << bad.channel;
    const auto* refused = raw.about(id, cnc::Response::kError);
    ASSERT_NE(refused, nullptr) << bad.channel;
    const auto error = refused->as<cnc::ErrorResponse>();
    const std::string text = refused->textAfter<cnc::ErrorResponse>(error.messageLength);
    EXPECT_EQ(error.errorCode, static_cast<int32_t>(bad.code)) << bad.channel << ": " << text;
    EXPECT_NE(text.find(bad.says), std::string::npos) << bad.channel << ": " << text;
  }
  EXPECT_EQ(files(a, "publications"), 0U);
  EXPECT_TRUE(countersOf(a, cnc::counter_type::kSendChannelStatus).empty());
}

TEST_F(Udp, SubscriptionsThatMakeNoSenseAreRefusedWithTheReason) {
  RawClient raw(b.directory());
  const BadChannel cases[] = {
      {"aeron:udp?tags=17", ErrorCode::kInvalidChannel, "tag"},
      {"aeron:udp?endpoint=10.0.0.2:4000|reliable=perhaps", ErrorCode::kInvalidChannel, "reliable"},
      {"aeron:udp?endpoint=10.0.0.2:4000|session-id=x", ErrorCode::kInvalidChannel, "session-id"},
      {"aeron-spy:aeron:ipc", ErrorCode::kInvalidChannel, "spies"},
      {"aeron:udp?control-mode=manual", ErrorCode::kNotSupported, "multi-destination subscriptions"},
      {"aeron:udp?endpoint=224.0.1.1:4000|interface=127.0.0.1", ErrorCode::kNotSupported, "multicast"},
      {"aeron:udp?endpoint=10.0.0.9:4000", ErrorCode::kGeneric, "10.0.0.9"},  // not an address of this host
  };
  for (const BadChannel& bad : cases) {
    const int64_t id = raw.add(cnc::Command::kAddSubscription, bad.channel, kStream);
    ASSERT_TRUE(awaitResponse(raw, id)) << bad.channel;
    const auto* refused = raw.about(id, cnc::Response::kError);
    ASSERT_NE(refused, nullptr) << bad.channel;
    const auto error = refused->as<cnc::ErrorResponse>();
    const std::string text = refused->textAfter<cnc::ErrorResponse>(error.messageLength);
    EXPECT_EQ(error.errorCode, static_cast<int32_t>(bad.code)) << bad.channel << ": " << text;
    EXPECT_NE(text.find(bad.says), std::string::npos) << bad.channel << ": " << text;
  }
}

TEST_F(Udp, AnAddressInUseIsNamedAndTheCommandFails) {
  // Another driver of the same host has the port.
  DriverHost& other = host("10.0.0.2");
  ASSERT_NE(subscription(connect(b), kUdpChannel, kStream), nullptr);
  auto& client = connect(other);
  const auto status = decided(client, client.addSubscription(kUdpChannel, kStream));
  EXPECT_EQ(status.failure, client::CommandStatus::Failure::kRefused);
  EXPECT_NE(status.error.message.find("10.0.0.2:4000"), std::string::npos) << status.error.message;
  EXPECT_FALSE(errors(other).empty());
}

TEST_F(Udp, AddAndRemoveInOneBreathLeavesNothing) {
  RawClient raw(a.directory());
  const int64_t pub = raw.add(cnc::Command::kAddPublication, std::string(kUdpChannel) + "|linger=0", kStream);
  const int64_t removePub = raw.remove(cnc::Command::kRemovePublication, pub);
  const int64_t sub = raw.add(cnc::Command::kAddSubscription, "aeron:udp?endpoint=10.0.0.1:4001", kStream);
  const int64_t removeSub = raw.remove(cnc::Command::kRemoveSubscription, sub);
  ASSERT_TRUE(awaitResponse(raw, removePub));
  ASSERT_TRUE(awaitResponse(raw, removeSub));
  EXPECT_EQ(raw.about(pub)->type, cnc::Response::kPublicationReady);
  EXPECT_EQ(raw.about(removePub)->type, cnc::Response::kOperationSuccess);
  EXPECT_EQ(raw.about(sub)->type, cnc::Response::kSubscriptionReady);
  EXPECT_EQ(raw.about(removeSub)->type, cnc::Response::kOperationSuccess);
  EXPECT_TRUE(until([&] {
    return files(a, "publications") == 0 && countersOf(a, cnc::counter_type::kSendChannelStatus).empty() &&
           countersOf(a, cnc::counter_type::kReceiveChannelStatus).empty();
  }));
  EXPECT_EQ(systemCounter(a, cnc::SystemCounter::kBytesCurrentlyMapped), 0);
}

TEST_F(Udp, RemovingWhatIsNotThereIsAnError) {
  RawClient raw(a.directory());
  const int64_t pub = raw.remove(cnc::Command::kRemovePublication, 4711);
  const int64_t sub = raw.remove(cnc::Command::kRemoveSubscription, 4711);
  ASSERT_TRUE(awaitResponse(raw, sub));
  EXPECT_EQ(raw.about(pub, cnc::Response::kError)->as<cnc::ErrorResponse>().errorCode,
            static_cast<int32_t>(ErrorCode::kUnknownPublication));
  EXPECT_EQ(raw.about(sub, cnc::Response::kError)->as<cnc::ErrorResponse>().errorCode,
            static_cast<int32_t>(ErrorCode::kUnknownSubscription));
}

TEST_F(Udp, NobodyRemovesThePublicationOrSubscriptionOfAnother) {
  RawClient owner(a.directory());
  RawClient thief(a.directory());
  const int64_t pub = owner.add(cnc::Command::kAddPublication, kUdpChannel, kStream);
  const int64_t sub = owner.add(cnc::Command::kAddSubscription, "aeron:udp?endpoint=10.0.0.1:4001", kStream);
  ASSERT_TRUE(awaitResponse(owner, sub));
  const int64_t stealPub = thief.remove(cnc::Command::kRemovePublication, pub);
  const int64_t stealSub = thief.remove(cnc::Command::kRemoveSubscription, sub);
  ASSERT_TRUE(awaitResponse(thief, stealSub));
  EXPECT_EQ(thief.about(stealPub)->type, cnc::Response::kError);
  EXPECT_EQ(thief.about(stealSub)->type, cnc::Response::kError);
}

TEST_F(Udp, ClosingThePublicationEndsTheImageAfterTheLastMessageAndLeavesNoFiles) {
  auto& publisher = connect(a);
  const auto sub = subscription(connect(b), kUdpChannel, kStream);
  auto pub = publication(publisher, kUdpChannel, kStream);
  ASSERT_TRUE(until([&] { return pub->isConnected() && sub->isConnected(); }));
  ASSERT_GT(offerWithin(*this, *pub, "last words"), 0);
  publisher.closePublication(pub);
  pub.reset();
  std::vector<std::string> got;
  ASSERT_TRUE(until([&] { return !(got = readAll(*sub)).empty(); }));
  EXPECT_EQ(got.front(), "last words");
  const auto image = sub->imagesSnapshot().front();
  ASSERT_TRUE(until([&] { return !sub->isConnected(); }, 2 * kSecondNs)) << "the end of the stream is announced, not timed out";
  EXPECT_EQ(image->endReason(), client::ImageEndReason::kEndOfStream);
  EXPECT_TRUE(until([&] { return files(a, "publications") == 0; }, 10 * kSecondNs, kMilliNs));
  EXPECT_TRUE(until([&] { return files(b, "images") == 0; }, 15 * kSecondNs, kMilliNs));
  EXPECT_EQ(systemCounter(a, cnc::SystemCounter::kBytesCurrentlyMapped), 0);
  EXPECT_EQ(systemCounter(b, cnc::SystemCounter::kBytesCurrentlyMapped), 0);
}

TEST_F(Udp, ARevokedPublicationEndsTheImageAtOnce) {
  auto& publisher = connect(a);
  const auto sub = subscription(connect(b), kUdpChannel, kStream);
  const auto pub = publication(publisher, kUdpChannel, kStream);
  ASSERT_TRUE(until([&] { return pub->isConnected() && sub->isConnected(); }));
  const auto image = sub->imagesSnapshot().front();
  publisher.closePublication(pub, true);
  ASSERT_TRUE(until([&] { return !sub->isConnected(); }, 2 * kSecondNs));
  EXPECT_EQ(image->endReason(), client::ImageEndReason::kRevoked);
  EXPECT_EQ(systemCounter(a, cnc::SystemCounter::kPublicationsRevoked), 1);
  EXPECT_EQ(systemCounter(b, cnc::SystemCounter::kPublicationImagesRevoked), 1);
}

TEST_F(Udp, AnImageWhoseSenderFallsSilentBecomesUnavailableAndComesBackWithIt) {
  const auto sub = subscription(connect(b), kUdpChannel, kStream);
  const auto pub = publication(connect(a), kUdpChannel, kStream);
  ASSERT_TRUE(until([&] { return pub->isConnected() && sub->isConnected(); }));
  const int64_t first = sub->imagesSnapshot().front()->correlationId();
  io::SimLink cut;
  cut.partitioned = true;
  ASSERT_TRUE(network_.setLinkBoth("10.0.0.1", "10.0.0.2", cut).ok());
  ASSERT_TRUE(until([&] { return !sub->isConnected() && !pub->isConnected(); }, 20 * kSecondNs, kMilliNs));
  ASSERT_TRUE(network_.setLinkBoth("10.0.0.1", "10.0.0.2", io::SimLink{}).ok());
  ASSERT_TRUE(until([&] { return sub->isConnected() && pub->isConnected(); }, 20 * kSecondNs, kMilliNs));
  EXPECT_NE(sub->imagesSnapshot().front()->correlationId(), first);
  ASSERT_GT(offerWithin(*this, *pub, "again"), 0);
  EXPECT_TRUE(until([&] { return readAll(*sub) == std::vector<std::string>{"again"}; }));
}

TEST_F(Udp, ALaterSubscriptionJoinsTheRunningImageAtItsPosition) {
  auto& subscriber = connect(b);
  const auto first = subscription(subscriber, kUdpChannel, kStream);
  const auto pub = publication(connect(a), kUdpChannel, kStream);
  ASSERT_TRUE(until([&] { return pub->isConnected() && first->isConnected(); }));
  ASSERT_GT(offerWithin(*this, *pub, "early"), 0);
  ASSERT_TRUE(until([&] { return !readAll(*first).empty(); }));
  run(10 * kMilliNs);
  const auto second = subscription(subscriber, kUdpChannel, kStream);
  ASSERT_TRUE(until([&] { return second->isConnected(); }));
  EXPECT_EQ(second->images().front()->correlationId(), first->images().front()->correlationId());
  EXPECT_GT(second->images().front()->joinPosition(), 0);
  ASSERT_GT(offerWithin(*this, *pub, "late"), 0);
  EXPECT_TRUE(until([&] { return readAll(*second) == std::vector<std::string>{"late"}; }));
  EXPECT_EQ(files(b, "images"), 1U);
}

TEST_F(Udp, ASubscriptionForASessionSeesOnlyThatSession) {
  auto& publisher = connect(a);
  const auto wanted = exclusive(publisher, std::string(kUdpChannel) + "|session-id=1", kStream);
  const auto other = exclusive(publisher, std::string(kUdpChannel) + "|session-id=2", kStream);
  auto& subscriber = connect(b);
  const auto filtered = subscription(subscriber, std::string(kUdpChannel) + "|session-id=1", kStream);
  ASSERT_TRUE(until([&] { return filtered->isConnected(); }));
  run(kSecondNs, kMilliNs);
  EXPECT_EQ(filtered->imageCount(), 1);
  EXPECT_EQ(filtered->images().front()->sessionId(), 1);
  EXPECT_FALSE(other->isConnected());
  const auto all = subscription(subscriber, kUdpChannel, kStream);
  ASSERT_TRUE(until([&] { return all->imageCount() == 2; }));
  EXPECT_EQ(filtered->imageCount(), 1);
}

TEST_F(Udp, AStreamThatIsLeftAndWantedAgainComesBackSoon) {
  auto& subscriber = connect(b);
  const auto pub = publication(connect(a), kUdpChannel, kStream);
  auto sub = subscription(subscriber, kUdpChannel, kStream);
  ASSERT_TRUE(until([&] { return pub->isConnected() && sub->isConnected(); }));
  subscriber.closeSubscription(sub);
  run(50 * kMilliNs);
  sub = subscription(subscriber, kUdpChannel, kStream);
  ASSERT_TRUE(until([&] { return pub->isConnected() && sub->isConnected(); }, 2 * kSecondNs));
  ASSERT_GT(offerWithin(*this, *pub, "back"), 0);
  EXPECT_TRUE(until([&] { return readAll(*sub) == std::vector<std::string>{"back"}; }));
}

TEST_F(Udp, ThePublisherHearsAtOnceThatItsLastSubscriberLeft) {
  auto& subscriber = connect(b);
  const auto pub = publication(connect(a), kUdpChannel, kStream);
  const auto sub = subscription(subscriber, kUdpChannel, kStream);
  ASSERT_TRUE(until([&] { return pub->isConnected() && sub->isConnected(); }));
  subscriber.closeSubscription(sub);
  EXPECT_TRUE(until([&] { return !pub->isConnected(); }, kSecondNs)) << "not only after the connection timeout of 5 s";
  EXPECT_TRUE(until([&] { return files(b, "images") == 0; }, 2 * kSecondNs));
}

TEST_F(Udp, ConflictingOptionsOfTwoSubscriptionsAreRefused) {
  auto& subscriber = connect(b);
  ASSERT_NE(subscription(subscriber, kUdpChannel, kStream), nullptr);
  const auto status = decided(subscriber, subscriber.addSubscription(std::string(kUdpChannel) + "|reliable=false", kStream));
  EXPECT_EQ(status.error.code, ErrorCode::kInvalidChannel);
  EXPECT_NE(status.error.message.find("reliable"), std::string::npos);
}

TEST_F(Udp, CountersOfAStreamCarryAeronsLabelsAndKeys) {
  auto& publisher = connect(a);
  auto& subscriber = connect(b);
  const auto sub = subscription(subscriber, kUdpChannel, kStream);
  const auto pub = publication(publisher, kUdpChannel, kStream);
  ASSERT_TRUE(until([&] { return pub->isConnected() && sub->isConnected(); }));
  const std::string suffix = ": " + std::to_string(pub->registrationId()) + " " + std::to_string(pub->sessionId()) + " 10 " + kUdpChannel;
  const std::map<int32_t, std::string> names = {
      {cnc::counter_type::kPublisherLimit, "pub-lmt"},     {cnc::counter_type::kPublisherPosition, "pub-pos (concurrent)"},
      {cnc::counter_type::kSenderPosition, "snd-pos"},     {cnc::counter_type::kSenderLimit, "snd-lmt"},
      {cnc::counter_type::kSenderBackPressure, "snd-bpe"}, {cnc::counter_type::kSenderNaksReceived, "snd-naks-received"}};
  for (const auto& [type, name] : names) {
    const auto found = countersOf(a, type);
    ASSERT_EQ(found.size(), 1U) << name;
    EXPECT_EQ(found[0].label, name + suffix);
    EXPECT_EQ(readAt<int64_t>(found[0].key.data(), 0), pub->registrationId());
    EXPECT_EQ(readAt<int32_t>(found[0].key.data(), 8), pub->sessionId());
    EXPECT_EQ(readAt<int32_t>(found[0].key.data(), 12), kStream);
    EXPECT_EQ(found[0].registrationId, pub->registrationId());
    EXPECT_EQ(found[0].ownerId, publisher.clientId());
  }
  const auto sendChannel = countersOf(a, cnc::counter_type::kSendChannelStatus);
  ASSERT_EQ(sendChannel.size(), 1U);
  EXPECT_EQ(sendChannel[0].label, std::string("snd-channel: ") + kUdpChannel);
  EXPECT_EQ(sendChannel[0].value, cnc::kChannelStatusActive);
  const auto image = sub->images().front();
  const auto subPositions = countersOf(b, cnc::counter_type::kSubscriberPosition);
  ASSERT_EQ(subPositions.size(), 1U);
  EXPECT_EQ(subPositions[0].label,
            "sub-pos: " + std::to_string(sub->registrationId()) + " " + std::to_string(pub->sessionId()) + " 10 " + kUdpChannel + " @0");
  EXPECT_EQ(subPositions[0].ownerId, subscriber.clientId());
  EXPECT_EQ(subPositions[0].id, image->subscriberPositionId());
  for (const auto& [type, name] : std::map<int32_t, std::string>{{cnc::counter_type::kReceiverHwm, "rcv-hwm"},
                                                                 {cnc::counter_type::kReceiverPosition, "rcv-pos"},
                                                                 {cnc::counter_type::kReceiverNaksSent, "rcv-naks-sent"}}) {
    const auto found = countersOf(b, type);
    ASSERT_EQ(found.size(), 1U) << name;
    EXPECT_EQ(found[0].label,
              name + ": " + std::to_string(image->correlationId()) + " " + std::to_string(pub->sessionId()) + " 10 " + kUdpChannel);
  }
  const auto local = countersOf(b, cnc::counter_type::kLocalSockaddr);
  ASSERT_EQ(local.size(), 1U);
  const auto receiveChannel = countersOf(b, cnc::counter_type::kReceiveChannelStatus);
  ASSERT_EQ(receiveChannel.size(), 1U);
  EXPECT_EQ(local[0].label, "rcv-local-sockaddr: " + std::to_string(receiveChannel[0].id) + " 10.0.0.2:4000");
  EXPECT_EQ(readAt<int32_t>(local[0].key.data(), 0), receiveChannel[0].id);
  EXPECT_EQ(local[0].value, cnc::kChannelStatusActive);
}

TEST_F(Udp, TheImageNamesItsSourceAndItsLogSaysWhatItIs) {
  const auto sub = subscription(connect(b), kUdpChannel, kStream);
  const auto pub = publication(connect(a), kUdpChannel, kStream);
  ASSERT_TRUE(until([&] { return pub->isConnected() && sub->isConnected(); }));
  const auto image = sub->images().front();
  EXPECT_EQ(image->sourceIdentity().substr(0, 9), "10.0.0.1:");
  auto file = MappedFile::open(b.directory() + "/images/" + std::to_string(image->correlationId()) + ".logbuffer", false);
  ASSERT_TRUE(file.ok());
  namespace meta = logbuffer::meta;
  const logbuffer::LogBuffer log(file->data(), 64 * 1024, file->length());
  EXPECT_EQ(log.get<int64_t>(meta::kCorrelationId), image->correlationId());
  EXPECT_EQ(log.get<int32_t>(meta::kTermLength), 64 * 1024);
  EXPECT_EQ(log.get<int32_t>(meta::kMtu), 1408);
  EXPECT_EQ(log.get<int32_t>(meta::kReceiverWindow), 32 * 1024);
  EXPECT_EQ(log.get<uint8_t>(meta::kType), static_cast<uint8_t>(logbuffer::LogType::kImage));
  EXPECT_EQ(readAt<int32_t>(log.metadata(), meta::kDefaultHeader + 12), pub->sessionId());
  EXPECT_EQ(readAt<int32_t>(log.metadata(), meta::kDefaultHeader + 16), kStream);
}

TEST_F(Udp, AWildcardPortIsReportedInTheLocalAddressCounter) {
  const auto sub = subscription(connect(b), "aeron:udp?endpoint=10.0.0.2:0", kStream);
  const auto local = countersOf(b, cnc::counter_type::kLocalSockaddr);
  ASSERT_EQ(local.size(), 1U);
  const std::string address = local[0].label.substr(local[0].label.rfind(' ') + 1);
  EXPECT_NE(address, "10.0.0.2:0");
  const auto pub = publication(connect(a), "aeron:udp?endpoint=" + address, kStream);
  EXPECT_TRUE(until([&] { return pub->isConnected() && sub->isConnected(); }));
}

TEST_F(Udp, ChannelsWithOneTagShareAnEndpoint) {
  auto& client = connect(a);
  ASSERT_NE(publication(client, std::string(kUdpChannel) + "|tags=5,6", kStream), nullptr);
  const auto other = exclusive(client, "aeron:udp?tags=5", kStream + 1);
  ASSERT_NE(other, nullptr);
  EXPECT_EQ(countersOf(a, cnc::counter_type::kSendChannelStatus).size(), 1U);
  const auto sameSession = exclusive(client, "aeron:udp?tags=5|session-id=tag:6", kStream + 2);
  ASSERT_NE(sameSession, nullptr);
}

TEST_F(Udp, NamesAreLookedUpAndAnUnknownHostIsAnError) {
  const net::HostResolver resolver = [](const std::string& name, uint16_t port, bool) -> Result<io::SockAddr> {
    if (name == "subscriber.example") return io::SockAddr::parseNumeric("10.0.0.2", port);
    return makeError(ErrorCode::kUnknownHost, "cannot resolve host '" + name + "'");
  };
  DriverHost& c = host("10.0.0.3", smallConfig(), {}, resolver);
  const auto sub = subscription(connect(b), kUdpChannel, kStream);
  auto& client = connect(c);
  const auto pub = publication(client, "aeron:udp?endpoint=subscriber.example:4000", kStream);
  EXPECT_TRUE(until([&] { return pub->isConnected() && sub->isConnected(); }));
  const auto status = decided(client, client.addPublication("aeron:udp?endpoint=nowhere.example:4000", kStream));
  EXPECT_EQ(status.error.code, ErrorCode::kUnknownHost);
  EXPECT_NE(status.error.message.find("nowhere.example"), std::string::npos);
}

TEST_F(Udp, ANameThatStandsForAnotherAddressIsFollowedOnceNobodyAnswers) {
  std::string where = "10.0.0.2";
  const net::HostResolver resolver = [&where](const std::string& name, uint16_t port, bool) -> Result<io::SockAddr> {
    if (name == "pod.example") return io::SockAddr::parseNumeric(where, port);
    return makeError(ErrorCode::kUnknownHost, "cannot resolve host '" + name + "'");
  };
  DriverHost& c = host("10.0.0.3", smallConfig(), {}, resolver);
  DriverHost& d = host("10.0.0.4");
  auto& client = connect(c);
  const auto before = subscription(connect(b), kUdpChannel, kStream);
  const auto pub = publication(client, "aeron:udp?endpoint=pod.example:4000", kStream);
  const auto mdc = publication(client, "aeron:udp?control-mode=manual|control=10.0.0.3:5000", kStream);
  ASSERT_TRUE(decided(client, client.addDestination(*mdc, "aeron:udp?endpoint=pod.example:4000")).succeeded());
  ASSERT_TRUE(until([&] { return before->imageCount() == 2; }));
  const auto after = subscription(connect(d), "aeron:udp?endpoint=10.0.0.4:4000", kStream);
  run(7 * kSecondNs, kMilliNs);
  EXPECT_EQ(systemCounter(c, cnc::SystemCounter::kResolutionChanges), 0);
  where = "10.0.0.4";
  b.stop();
  EXPECT_TRUE(until([&] { return after->imageCount() == 2 && pub->isConnected() && mdc->isConnected(); }, 30 * kSecondNs, kMilliNs));
  EXPECT_EQ(systemCounter(c, cnc::SystemCounter::kResolutionChanges), 2);
  ASSERT_GT(offerWithin(*this, *pub, "found"), 0);
  EXPECT_TRUE(until([&] { return readAll(*after) == std::vector<std::string>{"found"}; }));
}

TEST_F(Udp, WildcardPortsComeFromTheConfiguredRange) {
  DriverConfig config = smallConfig();
  config.receiverPorts = {6001, 6002};
  DriverHost& c = host("10.0.0.3", config);
  auto& client = connect(c);
  for (const char* expected : {"10.0.0.3:6001", "10.0.0.3:6002"}) {
    ASSERT_NE(subscription(client, "aeron:udp?endpoint=10.0.0.3:0", kStream), nullptr);
    const auto local = countersOf(c, cnc::counter_type::kLocalSockaddr);
    EXPECT_TRUE(std::any_of(local.begin(), local.end(), [&](const auto& each) { return each.label.ends_with(expected); })) << expected;
  }
  const auto status = decided(client, client.addSubscription("aeron:udp?endpoint=10.0.0.3:0", kStream));
  EXPECT_NE(status.error.message.find("6001 to 6002"), std::string::npos) << status.error.message;
}

TEST_F(Udp, ARejectedImageIsReportedToThePublisherWithItsReason) {
  auto& subscriber = connect(b);
  const auto sub = subscription(subscriber, kUdpChannel, kStream);
  std::vector<Error> told;
  auto& publisher = connect(a, [&](const Error& error) { told.push_back(error); });
  const auto pub = publication(publisher, kUdpChannel, kStream);
  ASSERT_TRUE(until([&] { return pub->isConnected() && sub->isConnected(); }));
  const auto status = decided(subscriber, subscriber.rejectImage(*sub->images().front(), "not today"));
  EXPECT_TRUE(status.succeeded()) << status.error.message;
  ASSERT_TRUE(until([&] { return !told.empty(); }));
  EXPECT_EQ(told[0].code, ErrorCode::kImageRejected);
  EXPECT_EQ(told[0].message, "not today");
  EXPECT_EQ(systemCounter(b, cnc::SystemCounter::kImagesRejected), 1);
  RawClient raw(b.directory());
  const int64_t id = raw.nextId();
  raw.send(cnc::Command::kRejectImage, RawClient::bytesOf(raw.id(), id, int64_t{999'999}, int64_t{0}, int32_t{1}) + "x");
  ASSERT_TRUE(awaitResponse(raw, id));
  EXPECT_EQ(raw.about(id)->type, cnc::Response::kError);
}

TEST_F(Udp, LossIsInTheLossReport) {
  io::SimLink lossy;
  lossy.loss = 0.1;
  ASSERT_TRUE(network_.setLink("10.0.0.1", "10.0.0.2", lossy).ok());
  const auto sub = subscription(connect(b), kUdpChannel, kStream);
  const auto pub = publication(connect(a), kUdpChannel, kStream);
  ASSERT_TRUE(until([&] { return pub->isConnected() && sub->isConnected(); }));
  size_t received = 0;
  for (int i = 0; i < 500; ++i) {
    ASSERT_GT(offerWithin(*this, *pub, std::string(1000, 'x')), 0);
    step();
    received += readAll(*sub).size();
  }
  ASSERT_TRUE(until([&] { return (received += readAll(*sub).size()) == 500; })) << received;
  const auto lossOf = [&]() -> std::vector<cnc::LossEntry> {
    auto file = MappedFile::open(b.directory() + "/" + cnc::kLossReportFileName, false);
    if (!file) return {};
    return cnc::LossReport::read({file->data(), file->length()});
  };
  ASSERT_TRUE(until([&] { return !lossOf().empty(); }));
  const cnc::LossEntry loss = lossOf()[0];
  EXPECT_GT(loss.bytesLost, 0);
  EXPECT_EQ(loss.streamId, kStream);
  EXPECT_EQ(loss.sessionId, pub->sessionId());
  EXPECT_EQ(loss.channel, kUdpChannel);
  EXPECT_EQ(loss.source, sub->images().front()->sourceIdentity());
}

TEST_F(Udp, IPv6WorksAsIPv4Does) {
  DriverHost& c = host("fd00::1");
  DriverHost& d = host("fd00::2");
  const char* channel = "aeron:udp?endpoint=[fd00::2]:4000";
  const auto sub = subscription(connect(d), channel, kStream);
  const auto pub = publication(connect(c), channel, kStream);
  ASSERT_TRUE(until([&] { return pub->isConnected() && sub->isConnected(); }));
  ASSERT_GT(offerWithin(*this, *pub, "six"), 0);
  EXPECT_TRUE(until([&] { return readAll(*sub) == std::vector<std::string>{"six"}; }));
}

TEST_F(Udp, TheNextAvailableSessionIdIsUnusedAndCanBeTaken) {
  RawClient raw(a.directory());
  const int64_t id = raw.nextId();
  raw.send(cnc::Command::kGetNextAvailableSessionId, RawClient::bytesOf(raw.id(), id, kStream));
  ASSERT_TRUE(awaitResponse(raw, id));
  const auto* answer = raw.about(id, cnc::Response::kNextAvailableSessionId);
  ASSERT_NE(answer, nullptr);
  const int32_t sessionId = answer->as<cnc::NextAvailableSessionId>().nextSessionId;
  const int64_t pub =
      raw.add(cnc::Command::kAddExclusivePublication, std::string(kUdpChannel) + "|session-id=" + std::to_string(sessionId), kStream);
  ASSERT_TRUE(awaitResponse(raw, pub));
  EXPECT_EQ(raw.about(pub)->as<cnc::PublicationReady>().sessionId, sessionId);
}

}  // namespace
}  // namespace outrigger::driver::testing
