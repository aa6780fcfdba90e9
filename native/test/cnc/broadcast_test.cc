// SPDX-License-Identifier: Apache-2.0
// The broadcast of responses: every reader gets every message, a slow one learns that it was lapped.
#include "cnc/broadcast.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace outrigger::cnc {
namespace {

constexpr size_t kBroadcastCapacity = 1024;
using Status = BroadcastReceiver::Status;

class Broadcast : public ::testing::Test {
 protected:
  std::vector<int64_t> memory = std::vector<int64_t>((kBroadcastCapacity + kBroadcastTrailerLength) / 8);
  uint8_t* base = reinterpret_cast<uint8_t*>(memory.data());
  Region region{base, kBroadcastCapacity + kBroadcastTrailerLength};
  BroadcastTransmitter transmitter{region};

  bool transmit(const std::string& message, int32_t type = 1) {
    return transmitter.transmit(type, message.data(), static_cast<int32_t>(message.size()));
  }
  static Status receive(BroadcastReceiver& receiver, std::string& message, int32_t capacity = 4096) {
    std::vector<uint8_t> out(4096);
    int32_t type = 0;
    int32_t length = 0;
    const Status status = receiver.receive(type, out.data(), capacity, length);
    message.assign(out.begin(), out.begin() + (status == Status::kMessage ? length : 0));
    return status;
  }
};

TEST_F(Broadcast, EveryReceiverGetsEveryMessageInOrder) {
  BroadcastReceiver first(region);
  BroadcastReceiver second(region);
  ASSERT_TRUE(transmit("one"));
  ASSERT_TRUE(transmit("two"));
  for (BroadcastReceiver* receiver : {&first, &second}) {
    std::string got;
    EXPECT_EQ(receive(*receiver, got), Status::kMessage);
    EXPECT_EQ(got, "one");
    EXPECT_EQ(receive(*receiver, got), Status::kMessage);
    EXPECT_EQ(got, "two");
    EXPECT_EQ(receive(*receiver, got), Status::kNothing);
  }
}

TEST_F(Broadcast, AReceiverHearsOnlyWhatIsSaidAfterItCame) {
  ASSERT_TRUE(transmit("old"));
  BroadcastReceiver receiver(region);
  ASSERT_TRUE(transmit("new"));
  std::string got;
  EXPECT_EQ(receive(receiver, got), Status::kMessage);
  EXPECT_EQ(got, "new");
}

TEST_F(Broadcast, WrapsAroundForMessagesOfEveryLength) {
  BroadcastReceiver receiver(region);
  for (size_t i = 0; i < 3000; ++i) {
    const std::string message(i % (kBroadcastCapacity / 8), static_cast<char>('a' + i % 26));
    ASSERT_TRUE(transmit(message));
    std::string got;
    ASSERT_EQ(receive(receiver, got), Status::kMessage) << i;
    ASSERT_EQ(got, message) << i;
  }
}

TEST_F(Broadcast, ASlowReceiverIsToldThatItWasLapped) {
  BroadcastReceiver receiver(region);
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(transmit(std::string(40, 'x')));
  std::string got;
  EXPECT_EQ(receive(receiver, got), Status::kLapped);
  ASSERT_TRUE(transmit("fresh"));
  // From the latest message on it follows again.
  Status status = Status::kMessage;
  while (status == Status::kMessage && got != "fresh") status = receive(receiver, got);
  EXPECT_EQ(got, "fresh");
}

TEST_F(Broadcast, MessagesOverAnEighthAreRefused) {
  EXPECT_FALSE(transmit(std::string(kBroadcastCapacity / 8 + 1, 'x')));
  EXPECT_FALSE(transmitter.transmit(1, "x", -1));
  EXPECT_TRUE(transmit(std::string(kBroadcastCapacity / 8, 'x')));
}

TEST_F(Broadcast, ARecordThatLiesAboutItsLengthIsNotFollowed) {
  for (const int32_t length : {0, -8, 7, INT32_MAX, static_cast<int32_t>(kBroadcastCapacity) * 2}) {
    SCOPED_TRACE(length);
    BroadcastReceiver receiver(region);
    const int64_t tail = loadAcquire<int64_t>(base + kBroadcastCapacity + broadcast::kTail);
    ASSERT_TRUE(transmit("honest"));
    storeRelease<int32_t>(base + (tail & (kBroadcastCapacity - 1)), length);
    std::string got;
    EXPECT_EQ(receive(receiver, got), Status::kLapped);
  }
  BroadcastReceiver receiver(region);
  ASSERT_TRUE(transmit("more than fits"));
  std::string got;
  EXPECT_EQ(receive(receiver, got, 4), Status::kLapped);
}

}  // namespace
}  // namespace outrigger::cnc
