// SPDX-License-Identifier: Apache-2.0
// Commands and answers, images, liveness: MediaClient against a driver's side played by the test.
#include "client/media_client.h"

#include <gtest/gtest.h>

#include "client_world.h"

namespace outrigger::client {
namespace {

struct MediaClientTest : ::testing::Test {
  void start(MediaClientOptions options = {}) {
    options.onDriverLost = [this](const std::string& reason) { lost.push_back(reason); };
    options.onError = [this](const Error& error) { errors.push_back(error.message); };
    client = world.connect(std::move(options));
    ASSERT_TRUE(client);
    step();
  }
  void step() { world.step(*client); }
  int64_t onlyCorrelation(cnc::Command type) {
    const auto commands = world.commands();
    EXPECT_EQ(commands.size(), 1U);
    if (commands.size() != 1) return -1;
    EXPECT_EQ(commands[0].type, type);
    return commands[0].as<cnc::CorrelatedCommand>().correlationId;
  }
  std::shared_ptr<Publication> openPublication() {
    const int64_t id = client->addPublication("aeron:ipc", kTestStreamId);
    world.commands();
    limit = world.makeCounter(cnc::counter_type::kPublisherLimit, 4096);
    log = &world.makeLog("publications");
    world.publicationReady(id, *log, limit.id, false);
    step();
    return client->publication(id);
  }
  std::shared_ptr<Subscription> openSubscription(const std::string& channel = "aeron:udp?endpoint=h:1") {
    const int64_t id = client->addSubscription(
        channel, kTestStreamId, [this](Subscription&, const std::shared_ptr<Image>& image) { available.push_back(image); },
        [this](Subscription&, const std::shared_ptr<Image>& image) { unavailable.push_back(image); });
    world.commands();
    world.respond(cnc::Response::kSubscriptionReady, cnc::SubscriptionReady{id, -1});
    step();
    return client->subscription(id);
  }

  ClientWorld world;
  std::unique_ptr<MediaClient> client;
  std::vector<std::string> lost;
  std::vector<std::string> errors;
  std::vector<std::shared_ptr<Image>> available;
  std::vector<std::shared_ptr<Image>> unavailable;
  TestLog* log = nullptr;
  cnc::Counter limit;
};

TEST_F(MediaClientTest, ConnectingNeedsADriverWithAHeartbeat) {
  world.ring.consumerHeartbeatMs(0);
  MediaClientOptions options;
  options.directory = world.directory.path();
  const auto attempt = [&] { return MediaClient::connect(options, world.clock.nanoTime(), world.clock.epochMillis()); };
  EXPECT_EQ(attempt().error().code, ErrorCode::kResourceTemporarilyUnavailable);
  world.ring.consumerHeartbeatMs(world.clock.epochMillis() - 11'000);
  EXPECT_NE(attempt().error().message.find("11000 ms old"), std::string::npos);
  world.ring.consumerHeartbeatMs(INT64_MIN);
  EXPECT_FALSE(attempt().ok());
  world.beat();
  EXPECT_TRUE(attempt().ok());
  options.directory = "/nowhere";
  EXPECT_NE(attempt().error().message.find("/nowhere/cnc.dat"), std::string::npos);
}

TEST_F(MediaClientTest, APublicationIsOpenedOfferedToAndClosed) {
  start();
  const int64_t id = client->addPublication("aeron:ipc", kTestStreamId);
  const auto commands = world.commands();
  ASSERT_EQ(commands.size(), 1U);
  EXPECT_EQ(commands[0].type, cnc::Command::kAddPublication);
  EXPECT_EQ(commands[0].as<cnc::PublicationCommand>().streamId, kTestStreamId);
  EXPECT_FALSE(client->status(id).done());
  limit = world.makeCounter(cnc::counter_type::kPublisherLimit, 4096);
  log = &world.makeLog("publications");
  world.publicationReady(id, *log, limit.id, false);
  step();
  EXPECT_TRUE(client->status(id).succeeded());
  const auto publication = client->publication(id);
  ASSERT_TRUE(publication);
  EXPECT_EQ(publication->sessionId(), kTestSessionId);
  EXPECT_EQ(publication->offer("x", 1), 64);
  client->closePublication(publication);
  client->closePublication(publication);
  onlyCorrelation(cnc::Command::kRemovePublication);
  EXPECT_EQ(publication->offer("x", 1), kOfferClosed);
}

TEST_F(MediaClientTest, ARefusedCommandFailsWithTheWordsOfTheDriver) {
  start();
  const int64_t id = client->addSubscription("aeron:nonsense", 1);
  const int64_t other = client->addPublication("aeron:ipc", 1);
  world.refuse(id, ErrorCode::kInvalidChannel, "no such medium");
  step();
  const CommandStatus status = client->status(id);
  EXPECT_EQ(status.failure, CommandStatus::Failure::kRefused);
  EXPECT_EQ(status.error.code, ErrorCode::kInvalidChannel);
  EXPECT_EQ(status.error.message, "no such medium");
  EXPECT_FALSE(client->status(other).done());
  EXPECT_EQ(client->status(id).failure, CommandStatus::Failure::kInvalid) << "a finished command is forgotten";
}

TEST_F(MediaClientTest, AChannelErrorNamesACounterAndFailsNoCommandWithTheSameNumber) {
  start();
  const int64_t id = client->addPublication("aeron:ipc", 1);
  world.refuse(id, ErrorCode::kChannelEndpointError, "address in use");
  step();
  EXPECT_FALSE(client->status(id).done());
  EXPECT_EQ(errors, std::vector<std::string>{"address in use"});
}

TEST_F(MediaClientTest, ACommandWithoutAnswerTimesOutAndALateAnswerIsUndone) {
  MediaClientOptions options;
  options.commandTimeoutNs = 2000 * kMs;
  start(std::move(options));
  const int64_t publicationId = client->addPublication("aeron:ipc", 1);
  const int64_t subscriptionId = client->addSubscription("aeron:ipc", 1);
  step();
  world.clock.advance(2001 * kMs);
  world.beat();
  step();
  EXPECT_EQ(client->status(publicationId).failure, CommandStatus::Failure::kTimeout);
  EXPECT_EQ(client->status(subscriptionId).failure, CommandStatus::Failure::kTimeout);
  world.commands();
  limit = world.makeCounter(cnc::counter_type::kPublisherLimit);
  world.publicationReady(publicationId, world.makeLog("publications"), limit.id, false);
  world.respond(cnc::Response::kSubscriptionReady, cnc::SubscriptionReady{subscriptionId, -1});
  step();
  const auto undone = world.commands();
  ASSERT_EQ(undone.size(), 2U);
  EXPECT_EQ(undone[0].type, cnc::Command::kRemovePublication);
  EXPECT_EQ(undone[1].type, cnc::Command::kRemoveSubscription);
  EXPECT_EQ(undone[1].as<cnc::RemoveCommand>().registrationId, subscriptionId);
}

TEST_F(MediaClientTest, ImagesComeAndGoWithTheirReason) {
  start();
  const auto subscription = openSubscription();
  ASSERT_TRUE(subscription);
  const auto position = world.makeCounter(cnc::counter_type::kSubscriberPosition, 64);
  TestLog& image = world.makeLog("images");
  world.imageReady(900, subscription->registrationId(), image, position.id);
  world.imageReady(901, subscription->registrationId() + 1000, image, position.id);  // of another client
  step();
  ASSERT_EQ(available.size(), 1U);
  EXPECT_EQ(available[0]->joinPosition(), 64);
  EXPECT_EQ(available[0]->sourceIdentity(), "10.0.0.1:40123");
  EXPECT_EQ(subscription->imageCount(), 1);
  image.log.put<int64_t>(logbuffer::meta::kEndOfStreamPosition, 64);
  world.imageGone(900, subscription->registrationId());
  world.imageGone(900, subscription->registrationId());
  step();
  ASSERT_EQ(unavailable.size(), 1U);
  EXPECT_EQ(unavailable[0]->endReason(), ImageEndReason::kEndOfStream);
  EXPECT_EQ(subscription->imageCount(), 0);
}

TEST_F(MediaClientTest, AnImageThatCannotBeReadEndsItsSubscription) {
  start();
  const auto subscription = openSubscription();
  TestLog& image = world.makeLog("images");
  image.log.put<int32_t>(logbuffer::meta::kTermLength, 17);
  world.imageReady(900, subscription->registrationId(), image, world.makeCounter(4).id);
  step();
  EXPECT_TRUE(subscription->isClosed());
  EXPECT_EQ(onlyCorrelation(cnc::Command::kRemoveSubscription) >= 0, true);
  ASSERT_EQ(errors.size(), 1U);
  EXPECT_NE(errors[0].find("term length 17"), std::string::npos);
}

TEST_F(MediaClientTest, AnswersThatLieAreRefusedOrIgnored) {
  start();
  const auto subscription = openSubscription();
  // Too short, lengths that reach outside, counters that do not exist, kinds that do not fit.
  for (int32_t type = 0x0F00; type < 0x0F10; ++type) {
    for (size_t length = 0; length < 80; length += 4) {
      const std::string bytes(length, '\x7f');
      world.broadcast.transmit(type, bytes.data(), static_cast<int32_t>(length));
    }
    step();
  }
  ASSERT_TRUE(lost.empty());
  const int64_t id = client->addPublication("aeron:ipc", 1);
  TestLog& good = world.makeLog("publications");
  world.publicationReady(id, good, world.makeCounter(1).id, true);  // exclusive was not asked for
  step();
  EXPECT_FALSE(client->status(id).done());
  world.publicationReady(id, good, 1 << 30, false);
  step();
  EXPECT_NE(client->status(id).error.message.find("counter 1073741824"), std::string::npos);
  for (const int32_t hostile : {-1, INT32_MAX, 1000}) {
    std::string tail(reinterpret_cast<const char*>(&hostile), 4);
    world.respond(cnc::Response::kAvailableImage, cnc::ImageReady{900, 1, 1, subscription->registrationId(), 0}, tail + "name");
    step();
  }
  EXPECT_EQ(subscription->imageCount(), 0);
  EXPECT_TRUE(lost.empty());
}

TEST_F(MediaClientTest, BeingLappedInTheBroadcastIsTheLossOfTheDriver) {
  start();
  const auto publication = openPublication();
  const int64_t pending = client->addPublication("aeron:ipc", 2);
  const std::string large(4000, 'x');
  for (int32_t i = 0; i < 200; ++i) world.broadcast.transmit(0x0F0D, large.data(), 4000);
  step();
  ASSERT_EQ(lost.size(), 1U);
  EXPECT_TRUE(client->isDriverLost());
  EXPECT_TRUE(publication->isClosed());
  EXPECT_EQ(client->status(pending).failure, CommandStatus::Failure::kDriverLost);
}

TEST_F(MediaClientTest, ABroadcastOfGarbageNeitherHangsNorReadsOutside) {
  for (const int64_t tail : {INT64_MAX, int64_t{12345}, int64_t{1} << 40}) {
    for (const int32_t type : {-1, 0x0F01}) {
      for (const int32_t length : {8, 9, 0, -8, INT32_MAX, 1 << 20}) {
        ClientWorld own;
        auto one = own.connect();
        for (size_t at = 0; at + 8 <= own.regions.toClients.length - cnc::kBroadcastTrailerLength; at += 8) {
          writeAt<int32_t>(own.regions.toClients.data, at, length);
          writeAt<int32_t>(own.regions.toClients.data, at + 4, type);
        }
        uint8_t* trailer = own.regions.toClients.data + own.regions.toClients.length - cnc::kBroadcastTrailerLength;
        storeRelease<int64_t>(trailer, tail);
        storeRelease<int64_t>(trailer + 8, tail);
        for (int32_t i = 0; i < 3; ++i) own.step(*one);
      }
    }
  }
}

TEST_F(MediaClientTest, EverySignOfADeadDriverIsNoticedAndToldOnce) {
  const std::vector<std::pair<std::string, std::function<void()>>> signs = {
      {"no heartbeat", [&] { world.clock.advance(10'001 * kMs); }},
      {"closed", [&] { world.ring.consumerHeartbeatMs(-1); }},
      {"restarted", [&] { std::filesystem::remove(world.cncPath()); }},
  };
  for (const auto& [word, happen] : signs) {
    world.beat();
    lost.clear();
    available.clear();
    unavailable.clear();
    start();
    const auto subscription = openSubscription();
    const auto position = world.makeCounter(cnc::counter_type::kSubscriberPosition, 0);
    world.imageReady(900, subscription->registrationId(), world.makeLog("images"), position.id);
    step();
    happen();
    world.clock.advance(600 * kMs);
    step();
    step();
    ASSERT_EQ(lost.size(), 1U) << word;
    EXPECT_NE(lost[0].find(word), std::string::npos) << lost[0];
    ASSERT_EQ(unavailable.size(), 1U) << word;
    EXPECT_EQ(unavailable[0]->endReason(), ImageEndReason::kDriverLost);
    EXPECT_EQ(client->status(client->addPublication("aeron:ipc", 1)).failure, CommandStatus::Failure::kDriverLost);
    client.reset();
  }
}

TEST_F(MediaClientTest, AClientThatTheDriverTimedOutIsLost) {
  start();
  world.respond(cnc::Response::kClientTimeout, cnc::ClientTimeout{client->clientId() + 1});
  step();
  EXPECT_TRUE(lost.empty());
  world.respond(cnc::Response::kClientTimeout, cnc::ClientTimeout{client->clientId()});
  step();
  EXPECT_EQ(lost.size(), 1U);
}

TEST_F(MediaClientTest, KeepsItsHeartbeatCounterFreshAndIsLostWhenItIsGone) {
  start();
  const int64_t key = client->clientId();
  const auto heartbeat = world.counters.allocate(cnc::counter_type::kClientHeartbeat, {reinterpret_cast<const char*>(&key), sizeof(key)},
                                                 "client-heartbeat", world.clock.epochMillis());
  world.clock.advance(600 * kMs);
  world.beat();
  step();
  EXPECT_EQ(heartbeat.get(), world.clock.epochMillis());
  world.counters.release(heartbeat.id, world.clock.epochMillis());
  world.clock.advance(600 * kMs);
  world.beat();
  step();
  EXPECT_EQ(lost.size(), 1U);
}

TEST_F(MediaClientTest, AFullCommandRingIsSaidAtOnce) {
  start();
  const std::string channel = "aeron:udp?endpoint=" + std::string(4000, 'h') + ":1";
  CommandStatus status;
  for (int32_t i = 0; i < 100 && !status.done(); ++i) status = client->status(client->addPublication(channel, i));
  EXPECT_EQ(status.failure, CommandStatus::Failure::kDriverLost);
  EXPECT_NE(status.error.message.find("full"), std::string::npos);
}

TEST_F(MediaClientTest, ChannelsThatAreTooLongAreRefusedBeforeTheDriverHearsOfThem) {
  start();
  const std::string channel(5000, 'h');
  EXPECT_EQ(client->status(client->addPublication(channel, 1)).failure, CommandStatus::Failure::kInvalid);
  EXPECT_EQ(client->status(client->addSubscription(channel, 1)).failure, CommandStatus::Failure::kInvalid);
  const auto publication = openPublication();
  EXPECT_EQ(client->status(client->addDestination(*publication, channel)).failure, CommandStatus::Failure::kInvalid);
  EXPECT_TRUE(world.commands().empty());
}

TEST_F(MediaClientTest, ClosingTellsTheDriverAndEndsWhatIsOpen) {
  start();
  const auto publication = openPublication();
  const int64_t pending = client->addPublication("aeron:ipc", 2);
  world.commands();
  client->close();
  client->close();
  onlyCorrelation(cnc::Command::kClientClose);
  EXPECT_TRUE(publication->isClosed());
  EXPECT_EQ(client->status(pending).failure, CommandStatus::Failure::kClosed);
  EXPECT_EQ(client->status(client->addPublication("aeron:ipc", 2)).failure, CommandStatus::Failure::kClosed);
  client.reset();
  EXPECT_EQ(publication->offer("x", 1), kOfferClosed) << "its memory outlives the client";
}

}  // namespace
}  // namespace outrigger::client
