// SPDX-License-Identifier: Apache-2.0
// A full memory volume: back pressure, an entry in the error log, a counter, and streams that go on when there is room again.
#include "driver_world.h"

namespace outrigger::driver::testing {
namespace {

constexpr int64_t kMemoryTerm = 64 * 1024;

class FullVolume : public DriverWorld {
 public:
  // Bytes that may still be allocated, by every driver of the test together.
  int64_t room = INT64_MAX;
  int64_t asked = 0;  // how often

  FileAllocator allocator() {
    return [this](int fd, uint64_t offset, uint64_t length) {
      ++asked;
      if (static_cast<int64_t>(length) > room) return ENOSPC;
      room -= static_cast<int64_t>(length);
      return allocateFile(fd, offset, length);
    };
  }
  static size_t drain(client::Subscription& sub) {
    size_t count = 0;
    while (sub.poll([&](const uint8_t*, int32_t, const client::FragmentHeader&) { ++count; }, 64) > 0) {
    }
    return count;
  }
};

TEST_F(FullVolume, APublicationThatFindsNoRoomIsRefusedAndLeavesNoFile) {
  DriverHost& a = host("10.0.0.1", smallConfig(), allocator());
  auto& client = connect(a);
  room = 0;
  for (const char* channel : {"aeron:ipc", "aeron:udp?endpoint=10.0.0.1:4000"}) {
    const auto status = decided(client, client.addPublication(channel, kStream));
    EXPECT_EQ(status.error.code, ErrorCode::kStorageSpace) << channel;
    EXPECT_NE(status.error.message.find("enlarge the volume"), std::string::npos) << status.error.message;
  }
  EXPECT_EQ(files(a, "publications"), 0U);
  EXPECT_EQ(ownCounter(a, cnc::OutriggerCounter::kStorageWaits), 2);
  EXPECT_TRUE(until([&] { return countersOf(a, cnc::counter_type::kSendChannelStatus).empty(); }));
  room = INT64_MAX;
  EXPECT_NE(publication(client, "aeron:ipc", kStream), nullptr);
}

TEST_F(FullVolume, AnIpcStreamWaitsAtTheEndOfItsMemoryAndGoesOnWhenThereIsRoom) {
  DriverHost& a = host("10.0.0.1", smallConfig(), allocator());
  auto& client = connect(a);
  const auto sub = subscription(client, "aeron:ipc", kStream);
  const auto pub = publication(client, "aeron:ipc", kStream);
  room = 0;
  ASSERT_TRUE(until([&] { return sub->isConnected() && pub->isConnected(); }));
  size_t sent = 0;
  size_t received = 0;
  const std::string message(1000, 'x');
  for (int i = 0; i < 500; ++i) {
    if (pub->offer(message.data(), 1000) > 0) ++sent;
    received += drain(*sub);
    step();
  }
  EXPECT_EQ(pub->offer(message.data(), 1000), client::kOfferBackPressured);
  EXPECT_LE(pub->position(), 2 * kMemoryTerm) << "never into memory that is not there";
  EXPECT_GT(ownCounter(a, cnc::OutriggerCounter::kStorageWaits), 0);
  EXPECT_FALSE(errors(a).empty());
  room = INT64_MAX;
  for (int i = 0; i < 20'000 && sent < 500; ++i) {
    if (pub->offer(message.data(), 1000) > 0) ++sent;
    received += drain(*sub);
    step();
  }
  EXPECT_EQ(sent, 500U);
  EXPECT_TRUE(until([&] { return (received += drain(*sub)) == sent; }));
}

TEST_F(FullVolume, AUdpStreamWaitsOnEitherSideAndLosesNothing) {
  const std::string channel = "aeron:udp?endpoint=10.0.0.2:4000";
  for (const bool senderFull : {true, false}) {
    SCOPED_TRACE(senderFull ? "sender's volume full" : "receiver's volume full");
    room = INT64_MAX;
    const std::string from = senderFull ? "10.0.0.1" : "10.0.0.3";
    const std::string to = senderFull ? "10.0.0.2" : "10.0.0.4";
    DriverHost& a = host(from, smallConfig(), senderFull ? allocator() : FileAllocator());
    DriverHost& b = host(to, smallConfig(), senderFull ? FileAllocator() : allocator());
    const std::string there = "aeron:udp?endpoint=" + to + ":4000";
    const auto sub = subscription(connect(b), there, kStream);
    const auto pub = publication(connect(a), there, kStream);
    ASSERT_TRUE(until([&] { return pub->isConnected() && sub->isConnected(); }));
    room = 0;
    size_t sent = 0;
    size_t received = 0;
    const std::string message(1000, 'x');
    for (int i = 0; i < 3000; ++i) {
      if (pub->offer(message.data(), 1000) > 0) ++sent;
      received += drain(*sub);
      step();
    }
    EXPECT_LT(sent, 500U);
    DriverHost& full = senderFull ? a : b;
    EXPECT_GT(ownCounter(full, cnc::OutriggerCounter::kStorageWaits), 0);
    EXPECT_FALSE(errors(full).empty());
    room = INT64_MAX;
    for (int i = 0; i < 100'000 && sent < 500; ++i) {
      if (pub->offer(message.data(), 1000) > 0) ++sent;
      received += drain(*sub);
      step();
    }
    EXPECT_EQ(sent, 500U);
    EXPECT_TRUE(until([&] { return (received += drain(*sub)) == sent; }, 10 * kSecondNs)) << received;
  }
}

// Each time would walk through the pages of a term, on the way of the stream.
TEST_F(FullVolume, MemoryIsAskedForOnceATermOfTheLogAndNotAtEachRotation) {
  DriverHost& a = host("10.0.0.1", smallConfig(), allocator());
  DriverHost& b = host("10.0.0.2", smallConfig(), allocator());
  auto& client = connect(a);
  const std::string message(1000, 'x');
  for (const std::string channel : {"aeron:ipc", "aeron:udp?endpoint=10.0.0.2:4000"}) {
    SCOPED_TRACE(channel);
    const auto sub = subscription(channel == "aeron:ipc" ? client : connect(b), channel, kStream);
    const auto pub = publication(client, channel, kStream);
    ASSERT_TRUE(until([&] { return pub->isConnected() && sub->isConnected(); }));
    size_t sent = 0;
    size_t received = 0;
    const auto sendUpTo = [&](int64_t position) {
      return until(
          [&] {
            while (pub->position() < position && pub->offer(message.data(), 1000) > 0) ++sent;
            received += drain(*sub);
            return pub->position() >= position && received == sent;
          },
          60 * kSecondNs);
    };
    const int64_t before = asked;
    ASSERT_TRUE(sendUpTo(4 * kMemoryTerm));
    EXPECT_GT(asked, before);
    const int64_t settled = asked;
    ASSERT_TRUE(sendUpTo(20 * kMemoryTerm));
    EXPECT_EQ(asked, settled);
  }
}

TEST_F(FullVolume, AnImageThatFindsNoRoomIsMadeLater) {
  const std::string channel = "aeron:udp?endpoint=10.0.0.2:4000";
  DriverHost& a = host("10.0.0.1");
  DriverHost& b = host("10.0.0.2", smallConfig(), allocator());
  room = 0;
  const auto sub = subscription(connect(b), channel, kStream);
  const auto pub = publication(connect(a), channel, kStream);
  run(3 * kSecondNs, kMilliNs);
  EXPECT_FALSE(sub->isConnected());
  EXPECT_GT(ownCounter(b, cnc::OutriggerCounter::kStorageWaits), 0);
  EXPECT_EQ(files(b, "images"), 0U);
  room = INT64_MAX;
  EXPECT_TRUE(until([&] { return pub->isConnected() && sub->isConnected(); }, 5 * kSecondNs, kMilliNs));
}

}  // namespace
}  // namespace outrigger::driver::testing
