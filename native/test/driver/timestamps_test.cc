// SPDX-License-Identifier: Apache-2.0
// Times in messages between two drivers: when the one sent, when the kernel had it, when the other read.
#include <gtest/gtest.h>

#include <vector>

#include "driver_world.h"
#include "io/backend.h"

namespace outrigger::test {

namespace {

class Timestamps : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (auto io = io::makeBackend(GetParam(), {}); !io) GTEST_SKIP() << io.error().message;
  }
  bool connected(const Subscription& subscription, const ExclusivePublication& publication) {
    return far_.until(
        [&] {
          near_.step();
          return subscription.isConnected() && publication.isConnected();
        },
        "a connection");
  }
  // Offers a message once there is room for it.
  void offer(ExclusivePublication& publication, const std::vector<uint8_t>& message) {
    near_.until([&] { return publication.offer(message.data(), static_cast<int32_t>(message.size())) > 0; }, "room");
  }

  // Threads of their own move both: neither waits for the test.
  DriverWorld near_{DriverWorld::smallConfig(ThreadingMode::kShared, GetParam())};
  DriverWorld far_{DriverWorld::smallConfig(ThreadingMode::kShared, GetParam())};
  const std::string channel_ = "aeron:udp?endpoint=127.0.0.1:" + std::to_string(freePort());
  SystemClock clock_;
};

TEST_P(Timestamps, AMessageIsSentBeforeItArrivesAndArrivesBeforeItIsRead) {
  const auto subscription = far_.addSubscription(far_.addClient(), channel_ + "|media-rcv-ts-offset=8|channel-rcv-ts-offset=16", 5);
  const auto publication = near_.addExclusive(near_.addClient(), channel_ + "|channel-snd-ts-offset=0", 5);
  ASSERT_TRUE(connected(*subscription, *publication));
  constexpr int kTimedMessages = 300;
  int received = 0;
  for (int i = 0; i < kTimedMessages; ++i) {
    // From no room for all three, to messages of several frames.
    std::vector<uint8_t> message(static_cast<size_t>(i % 3 == 0 ? 8 : 24 + 11 * i), 0);
    const int64_t beforeNs = clock_.epochNanos();
    offer(*publication, message);
    far_.until(
        [&] {
          near_.step();
          subscription->pollMessages(
              [&](const uint8_t* data, int32_t length, const auto&) {
                ASSERT_EQ(length, static_cast<int32_t>(message.size()));
                ++received;
                const int64_t afterNs = clock_.epochNanos();
                EXPECT_LE(beforeNs, readAt<int64_t>(data, 0));
                if (length == 8) return;
                EXPECT_LE(readAt<int64_t>(data, 0), readAt<int64_t>(data, 8));
                EXPECT_LE(readAt<int64_t>(data, 8), readAt<int64_t>(data, 16));
                EXPECT_LE(readAt<int64_t>(data, 16), afterNs);
                for (int32_t at = 24; at < length; ++at) ASSERT_EQ(data[at], 0) << "a time stands where none was asked for, at " << at;
              },
              16);
          return received > i || HasFailure();
        },
        "the message");
    ASSERT_FALSE(HasFailure());
  }
}

TEST_P(Timestamps, TheTimeOfSendingTravelsInTheReservedValueToWhoAsksForNone) {
  const auto subscription = far_.addSubscription(far_.addClient(), channel_, 5);
  const auto publication = near_.addExclusive(near_.addClient(), channel_ + "|channel-snd-ts-offset=reserved", 5);
  ASSERT_TRUE(connected(*subscription, *publication));
  const int64_t beforeNs = clock_.epochNanos();
  const std::vector<uint8_t> message(100, 7);
  offer(*publication, message);
  int64_t sentNs = 0;
  far_.until(
      [&] {
        near_.step();
        subscription->poll(
            [&](const uint8_t* data, int32_t length, const client::FragmentHeader& header) {
              EXPECT_EQ(std::vector<uint8_t>(data, data + length), message);
              sentNs = header.reservedValue();
            },
            16);
        return sentNs != 0;
      },
      "the message");
  EXPECT_GE(sentNs, beforeNs);
  EXPECT_LE(sentNs, clock_.epochNanos());
}

INSTANTIATE_TEST_SUITE_P(Backends, Timestamps, ::testing::Values("socket", "mmsg", "uring"),
                         [](const auto& each) { return std::string(each.param); });

}  // namespace
}  // namespace outrigger::test
