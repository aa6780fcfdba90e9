// SPDX-License-Identifier: Apache-2.0
// Streams through a whole driver, in every threading mode over every backend: each message arrives once, in order, unchanged.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <tuple>

#include "driver_world.h"

namespace outrigger::test {

namespace {

using client::kOfferBackPressured;
using client::kOfferNotConnected;

struct Reader {
  std::shared_ptr<Subscription> subscription;
  MessageCheck check;
  void poll() {
    subscription->pollMessages([this](const uint8_t* data, int32_t length, const auto&) { check.onMessage(data, length); }, 64);
  }
};

class Streams : public ::testing::TestWithParam<std::tuple<ThreadingMode, const char*>> {
 protected:
  static DriverConfig config() { return DriverWorld::smallConfig(std::get<0>(GetParam()), std::get<1>(GetParam())); }

  static std::vector<Reader> threeReaders(DriverWorld& world, MediaClient& client, ExclusivePublication& publication) {
    std::vector<Reader> readers(3);
    for (Reader& reader : readers) {
      const std::string channel = "aeron:udp?endpoint=127.0.0.1:" + std::to_string(freePort());
      reader.subscription = world.addSubscription(client, channel, 5);
      EXPECT_TRUE(world.await(client, client.addDestination(publication, channel)).succeeded());
    }
    world.until(
        [&] {
          bool all = publication.isConnected();
          for (const Reader& reader : readers) all = all && reader.subscription->isConnected();
          return all;
        },
        "three images");
    return readers;
  }

  // Sends messages first..end of random lengths up to `maxLength` while the readers read, until all have all.
  static void exchange(DriverWorld& world, ExclusivePublication& publication, std::vector<Reader>& readers, uint64_t first, uint64_t end,
                       int32_t maxLength) {
    Random lengths(first + 7);
    std::vector<uint8_t> message;
    uint64_t number = first;
    makeMessage(message, number, kMessageHeader);
    world.until(
        [&] {
          for (int burst = 0; burst < 32 && number < end; ++burst) {
            const int64_t result = publication.offer(message.data(), static_cast<int32_t>(message.size()));
            if (result < 0) {
              EXPECT_TRUE(result == kOfferBackPressured || result == client::kOfferAdminAction || result == kOfferNotConnected) << result;
              break;
            }
            if (++number < end) {
              makeMessage(message, number,
                          kMessageHeader + static_cast<int32_t>(lengths.below(static_cast<uint64_t>(maxLength - kMessageHeader + 1))));
            }
          }
          bool all = number == end;
          for (Reader& reader : readers) {
            reader.poll();
            all = all && reader.check.next >= end;
            if (!reader.check.error.empty()) return true;
          }
          return all;
        },
        "all messages at all readers");
    for (const Reader& reader : readers) EXPECT_EQ(reader.check.error, "");
  }
};

TEST_P(Streams, UdpCarriesWholeAndFragmentedMessagesOverManyTerms) {
  DriverWorld world(config());
  MediaClient& client = world.addClient();
  const std::string channel = "aeron:udp?endpoint=127.0.0.1:" + std::to_string(freePort());
  std::vector<Reader> readers(1);
  readers[0].subscription = world.addSubscription(client, channel, 7);
  const auto publication = world.addExclusive(client, channel, 7);
  ASSERT_TRUE(world.until([&] { return publication->isConnected() && readers[0].subscription->isConnected(); }, "a connection"));
  // Everything up to the longest message there is: a term holds about ten of them, so terms end in every possible place.
  exchange(world, *publication, readers, 0, 3'000, publication->maxMessageLength());
  exchange(world, *publication, readers, 3'000, 10'000, publication->maxPayloadLength());
  EXPECT_GT(publication->position(), 20 * 64 * 1024);
  EXPECT_EQ(world.counter(cnc::SystemCounter::kInvalidPackets), 0);
}

TEST_P(Streams, IpcCarriesWholeAndFragmentedMessagesOverManyTerms) {
  DriverWorld world(config());
  MediaClient& client = world.addClient();
  std::vector<Reader> readers(2);
  for (Reader& reader : readers) reader.subscription = world.addSubscription(client, "aeron:ipc", 8);
  const auto publication = world.addExclusive(client, "aeron:ipc", 8);
  ASSERT_TRUE(world.until([&] { return readers[0].subscription->isConnected() && readers[1].subscription->isConnected(); }, "images"));
  exchange(world, *publication, readers, 0, 5'000, publication->maxMessageLength());
}

TEST_P(Streams, SharedPublicationsOfSeveralClientsInterleaveButLoseNothing) {
  DriverWorld world(config());
  const std::string channel = "aeron:udp?endpoint=127.0.0.1:" + std::to_string(freePort());
  MediaClient& reading = world.addClient();
  const auto subscription = world.addSubscription(reading, channel, 9);
  std::vector<std::shared_ptr<Publication>> publications;
  for (int i = 0; i < 3; ++i) publications.push_back(world.addPublication(world.addClient(), channel, 9));
  EXPECT_EQ(publications[0]->sessionId(), publications[1]->sessionId()) << "one log for all";
  ASSERT_TRUE(world.until([&] { return publications[2]->isConnected() && subscription->isConnected(); }, "a connection"));
  // Each writer's numbers carry its index in the top bits, so each is checked on its own.
  std::vector<uint64_t> sent(3, 0);
  std::vector<uint64_t> seen(3, 0);
  constexpr uint64_t kEach = 2'000;
  std::vector<uint8_t> message;
  std::string error;
  world.until(
      [&] {
        for (size_t writer = 0; writer < 3; ++writer) {
          if (sent[writer] == kEach) continue;
          makeMessage(message, sent[writer] | (writer << 56), 200);
          if (publications[writer]->offer(message.data(), 200) > 0) ++sent[writer];
        }
        subscription->pollMessages(
            [&](const uint8_t* data, int32_t length, const auto&) {
              uint64_t number = 0;
              std::memcpy(&number, data, 8);
              const size_t writer = number >> 56;
              if (length != 200 || writer > 2 || (number & 0xFFFFFF) != seen[writer]++) error = "message " + std::to_string(number);
            },
            64);
        return !error.empty() || seen == std::vector<uint64_t>(3, kEach);
      },
      "all messages of all writers");
  EXPECT_EQ(error, "");
}

TEST_P(Streams, AReaderThatStopsHoldsThePublisherBackAndLosesNothing) {
  DriverWorld world(config());
  MediaClient& client = world.addClient();
  const std::string channel = "aeron:udp?endpoint=127.0.0.1:" + std::to_string(freePort());
  std::vector<Reader> readers(1);
  readers[0].subscription = world.addSubscription(client, channel, 7);
  const auto publication = world.addExclusive(client, channel, 7);
  ASSERT_TRUE(world.until([&] { return publication->isConnected() && readers[0].subscription->isConnected(); }, "a connection"));
  std::vector<uint8_t> message;
  uint64_t number = 0;
  // Nothing is read: position stops within the windows of both sides and stays there.
  int64_t stuckAt = -1;
  int refusals = 0;
  ASSERT_TRUE(world.until(
      [&] {
        makeMessage(message, number, 1'000);
        const int64_t result = publication->offer(message.data(), 1'000);
        if (result > 0) {
          ++number;
          refusals = 0;
          stuckAt = result;
        } else if (result == kOfferBackPressured) {
          ++refusals;
        }
        return refusals > 20'000;
      },
      "back pressure"));
  EXPECT_LE(stuckAt, 2 * 64 * 1024) << "no more than the receiver's and the publisher's window";
  EXPECT_GT(stuckAt, 1'000);
  exchange(world, *publication, readers, number, number + 2'000, 1'000);
}

TEST_P(Streams, MultiDestinationUnderMinFlowControlWaitsForTheSlowestOfThreeReaders) {
  DriverWorld world(config());
  MediaClient& client = world.addClient();
  const auto publication = world.addExclusive(client, "aeron:udp?control-mode=manual|fc=min", 5);
  std::vector<Reader> readers = threeReaders(world, client, *publication);
  exchange(world, *publication, readers, 0, 3'000, publication->maxMessageLength());
  // One of them stops: so does the publisher, and nobody loses anything.
  std::vector<uint8_t> message;
  uint64_t number = 3'000;
  int refusals = 0;
  ASSERT_TRUE(world.until(
      [&] {
        readers[0].poll();
        readers[1].poll();
        makeMessage(message, number, 1'000);
        const int64_t result = publication->offer(message.data(), 1'000);
        if (result > 0) ++number;
        refusals = result > 0 ? 0 : refusals + 1;
        return refusals > 20'000;
      },
      "back pressure by one reader of three"));
  EXPECT_LT(number, 3'200U);
  exchange(world, *publication, readers, number, number + 500, 1'000);
}

TEST_P(Streams, MultiDestinationUnderMaxFlowControlReachesReadersThatKeepUp) {
  DriverWorld world(config());
  MediaClient& client = world.addClient();
  const auto publication = world.addExclusive(client, "aeron:udp?control-mode=manual|fc=max", 5);
  std::vector<Reader> readers = threeReaders(world, client, *publication);
  // The fastest reader sets the pace, so the sender itself must not run away from the others.
  for (uint64_t first = 0; first < 2'000; first += 10) exchange(world, *publication, readers, first, first + 10, 1'000);
}

TEST_P(Streams, DynamicMultiDestinationFindsItsReaders) {
  DriverWorld world(config());
  MediaClient& client = world.addClient();
  const std::string control = "127.0.0.1:" + std::to_string(freePort());
  const auto publication = world.addExclusive(client, "aeron:udp?control-mode=dynamic|fc=min|control=" + control, 5);
  std::vector<Reader> readers(2);
  for (Reader& reader : readers) {
    reader.subscription = world.addSubscription(client, "aeron:udp?endpoint=127.0.0.1:0|control-mode=dynamic|control=" + control, 5);
    ASSERT_TRUE(world.until([&] { return reader.subscription->isConnected(); }, "an image"));
  }
  exchange(world, *publication, readers, 0, 2'000, publication->maxMessageLength());
}

TEST_P(Streams, Ipv6IsOnAPar) {
  DriverWorld world(config());
  MediaClient& client = world.addClient();
  const std::string channel = "aeron:udp?endpoint=[::1]:" + std::to_string(freePort());
  std::vector<Reader> readers(1);
  readers[0].subscription = world.addSubscription(client, channel, 7);
  const auto publication = world.addExclusive(client, channel, 7);
  ASSERT_TRUE(world.until([&] { return publication->isConnected() && readers[0].subscription->isConnected(); }, "a connection"));
  exchange(world, *publication, readers, 0, 3'000, publication->maxMessageLength());
}

TEST_P(Streams, AReaderMayGoAndAnotherComeAgainAndAgain) {
  DriverWorld world(config());
  MediaClient& client = world.addClient();
  const std::string channel = "aeron:udp?endpoint=127.0.0.1:" + std::to_string(freePort());
  const auto publication = world.addExclusive(client, channel, 7);
  uint64_t number = 0;
  for (int visit = 0; visit < 3; ++visit) {
    int unavailable = 0;
    std::vector<Reader> readers(1);
    readers[0].check = MessageCheck(true);
    readers[0].subscription = world.addSubscription(client, channel, 7, {}, [&](auto&, const auto&) { ++unavailable; });
    ASSERT_TRUE(world.until([&] { return publication->isConnected() && readers[0].subscription->isConnected(); }, "a connection"));
    exchange(world, *publication, readers, number, number + 500, 1'000);
    EXPECT_EQ(readers[0].check.received, 500U) << "a late reader starts where the stream is";
    number += 500;
    EXPECT_EQ(unavailable, 0);
    client.closeSubscription(readers[0].subscription);
    ASSERT_TRUE(world.until([&] { return !publication->isConnected(); }, "the publisher noticing"));
    std::vector<uint8_t> message;
    makeMessage(message, number, 100);
    EXPECT_EQ(publication->offer(message.data(), 100), kOfferNotConnected);
  }
}

TEST_P(Streams, APublisherThatClosesEndsTheImageAfterItsLastMessage) {
  DriverWorld world(config());
  MediaClient& client = world.addClient();
  const std::string channel = "aeron:udp?endpoint=127.0.0.1:" + std::to_string(freePort());
  int available = 0;
  int unavailable = 0;
  std::vector<Reader> readers(1);
  readers[0].subscription = world.addSubscription(
      client, channel, 7, [&](auto&, const auto&) { ++available; }, [&](auto&, const auto&) { ++unavailable; });
  for (int run = 1; run <= 3; ++run) {
    const auto publication = world.addExclusive(client, channel, 7);
    ASSERT_TRUE(world.until([&] { return available == run && publication->isConnected(); }, "an image"));
    readers[0].check = MessageCheck();
    exchange(world, *publication, readers, 0, 300, 1'000);
    client.closePublication(publication);
    ASSERT_TRUE(world.until(
        [&] {
          readers[0].poll();
          return unavailable == run;
        },
        "the end of the image"));
    EXPECT_EQ(readers[0].check.received, 300U);
  }
}

TEST_P(Streams, ASpyReadsWhatThePublisherSends) {
  DriverWorld world(config());
  MediaClient& client = world.addClient();
  const std::string endpoint = "udp?endpoint=127.0.0.1:" + std::to_string(freePort());
  std::vector<Reader> readers(2);
  readers[0].subscription = world.addSubscription(client, "aeron:" + endpoint, 7);
  const auto publication = world.addExclusive(client, "aeron:" + endpoint, 7);
  readers[1].subscription = world.addSubscription(client, "aeron-spy:" + endpoint, 7);
  ASSERT_TRUE(world.until(
      [&] { return publication->isConnected() && readers[0].subscription->isConnected() && readers[1].subscription->isConnected(); },
      "reader and spy"));
  exchange(world, *publication, readers, 0, 2'000, publication->maxMessageLength());
}

INSTANTIATE_TEST_SUITE_P(Modes, Streams,
                         ::testing::Combine(::testing::Values(ThreadingMode::kDedicated, ThreadingMode::kSharedNetwork,
                                                              ThreadingMode::kShared, ThreadingMode::kInvoker),
                                            ::testing::Values("mmsg", "socket")),
                         [](const auto& each) { return nameOf(std::get<0>(each.param)) + "_" + std::get<1>(each.param); });

}  // namespace
}  // namespace outrigger::test
