// SPDX-License-Identifier: Apache-2.0
// The command ring: order, wrap-around, limits, dead and hostile producers.
#include "cnc/mpsc_ring.h"

#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <string>
#include <thread>
#include <vector>

namespace outrigger::cnc {
namespace {

constexpr size_t kCapacity = 4096;
constexpr size_t kTail = 128;
constexpr size_t kHead = 384;

class Ring : public ::testing::Test {
 protected:
  std::vector<int64_t> memory = std::vector<int64_t>((kCapacity + kRingTrailerLength) / 8);
  uint8_t* base = reinterpret_cast<uint8_t*>(memory.data());
  MpscRing ring{Region{base, kCapacity + kRingTrailerLength}};
  int64_t corrupted = 0;

  std::vector<std::string> readAll(int32_t limit = 1000) {
    std::vector<std::string> got;
    while (ring.read([&](int32_t, const uint8_t* message,
                         int32_t length) { got.emplace_back(reinterpret_cast<const char*>(message), static_cast<size_t>(length)); },
                     limit, corrupted) > 0) {
    }
    // The end of the buffer ends a read: what is wrapped comes with the next.
    ring.read([&](int32_t, const uint8_t* message,
                  int32_t length) { got.emplace_back(reinterpret_cast<const char*>(message), static_cast<size_t>(length)); },
              limit, corrupted);
    return got;
  }
  bool write(const std::string& message, int32_t type = 1) {
    return ring.write(type, message.data(), static_cast<int32_t>(message.size()));
  }
};

TEST_F(Ring, DeliversMessagesInOrderWithTypeAndLength) {
  std::vector<std::pair<int32_t, std::string>> got;
  ASSERT_TRUE(ring.write(3, "abc", 3));
  ASSERT_TRUE(ring.write(0x12, "", 0));
  ASSERT_TRUE(ring.write(5, "longer than eight", 17));
  const int32_t count = ring.read(
      [&](int32_t type, const uint8_t* message, int32_t length) {
        got.emplace_back(type, std::string(reinterpret_cast<const char*>(message), static_cast<size_t>(length)));
      },
      10, corrupted);
  EXPECT_EQ(count, 3);
  EXPECT_EQ(got, (std::vector<std::pair<int32_t, std::string>>{{3, "abc"}, {0x12, ""}, {5, "longer than eight"}}));
  EXPECT_EQ(ring.consumerPosition(), ring.producerPosition());
}

TEST_F(Ring, ReadsAtMostTheLimit) {
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(write("m"));
  int seen = 0;
  EXPECT_EQ(ring.read([&](int32_t, const uint8_t*, int32_t) { ++seen; }, 2, corrupted), 2);
  EXPECT_EQ(seen, 2);
}

TEST_F(Ring, RefusesTypesBelowOneAndMessagesOverAnEighth) {
  EXPECT_FALSE(ring.write(0, "x", 1));
  EXPECT_FALSE(ring.write(-1, "x", 1));
  EXPECT_FALSE(ring.write(1, "x", -1));
  EXPECT_FALSE(write(std::string(kCapacity / 8 + 1, 'x')));
  EXPECT_TRUE(write(std::string(kCapacity / 8, 'x')));
}

TEST_F(Ring, IsFullAtItsCapacityAndEmptyAfterReading) {
  int written = 0;
  while (write(std::string(24, 'x'))) ++written;
  EXPECT_EQ(written, static_cast<int>(kCapacity / 32));
  EXPECT_EQ(readAll().size(), kCapacity / 32);
  EXPECT_TRUE(write("room again"));
}

TEST_F(Ring, WrapsAroundWithPaddingForMessagesOfEveryLength) {
  for (size_t i = 0; i < 5000; ++i) {
    const std::string message(i * 7 % (kCapacity / 8), static_cast<char>('a' + i % 26));
    ASSERT_TRUE(write(message)) << i;
    ASSERT_EQ(readAll(), std::vector<std::string>{message}) << i;
  }
  EXPECT_EQ(corrupted, 0);
}

TEST_F(Ring, AClaimThatIsNotFilledStopsTheReaderThereOnly) {
  ASSERT_TRUE(write("before"));
  // As a producer that died between its claim and its length.
  fetchAdd<int64_t>(base + kCapacity + kTail, 32);
  ASSERT_TRUE(write("behind"));
  EXPECT_EQ(readAll(), std::vector<std::string>{"before"});
  ASSERT_TRUE(ring.unblock());
  EXPECT_EQ(readAll(), std::vector<std::string>{"behind"});
}

TEST_F(Ring, AClaimWithANegativeLengthIsUnblockedByItsLength) {
  storeRelease<int32_t>(base, -40);
  fetchAdd<int64_t>(base + kCapacity + kTail, 40);
  ASSERT_TRUE(write("behind"));
  EXPECT_TRUE(readAll().empty());
  ASSERT_TRUE(ring.unblock());
  EXPECT_EQ(readAll(), std::vector<std::string>{"behind"});
}

TEST_F(Ring, NothingIsUnblockedWhereNothingIsStuck) {
  EXPECT_FALSE(ring.unblock());
  ASSERT_TRUE(write("readable"));
  EXPECT_FALSE(ring.unblock());
  EXPECT_EQ(readAll(), std::vector<std::string>{"readable"});
}

TEST_F(Ring, AHostileClaimLengthUnblocksWithinTheBuffer) {
  for (const int32_t length : {INT32_MIN, -INT32_MAX, -8, -4000}) {
    const int64_t head = ring.consumerPosition();
    storeRelease<int32_t>(base + (head & (kCapacity - 1)), length);
    fetchAdd<int64_t>(base + kCapacity + kTail, 64);
    EXPECT_TRUE(ring.unblock()) << length;
    readAll();
    storeRelease<int64_t>(base + kCapacity + kTail, ring.consumerPosition());
  }
}

TEST_F(Ring, AnImpossibleLengthSkipsToTheTailAndIsCounted) {
  for (const int32_t length : {1, 7, INT32_MAX, static_cast<int32_t>(kCapacity) + 8}) {
    SCOPED_TRACE(length);
    const int64_t head = ring.consumerPosition();
    const int64_t before = corrupted;
    storeRelease<int32_t>(base + (head & (kCapacity - 1)), length);
    fetchAdd<int64_t>(base + kCapacity + kTail, 64);
    EXPECT_TRUE(readAll().empty());
    EXPECT_GT(corrupted, before);
    ASSERT_TRUE(write("after"));
    EXPECT_EQ(readAll(), std::vector<std::string>{"after"});
  }
}

TEST_F(Ring, ATailThatLiesDoesNotStopTheRingForEver) {
  for (const int64_t lie : {int64_t{-64}, int64_t{12345}, INT64_MAX, int64_t{0x123456700}}) {
    SCOPED_TRACE(lie);
    storeRelease<int64_t>(base + kCapacity + kTail, lie);
    storeRelease<int32_t>(base + (ring.consumerPosition() & (kCapacity - 1)), INT32_MAX);
    EXPECT_TRUE(readAll().empty());
    ASSERT_TRUE(write("after"));
    EXPECT_EQ(readAll(), std::vector<std::string>{"after"});
  }
}

TEST_F(Ring, CorrelationIdsAreUniqueAndTheHeartbeatIsKept) {
  const int64_t first = ring.nextCorrelationId();
  EXPECT_EQ(ring.nextCorrelationId(), first + 1);
  ring.consumerHeartbeatMs(1234);
  EXPECT_EQ(ring.consumerHeartbeatMs(), 1234);
}

TEST_F(Ring, ManyProducersLoseNothingAndKeepTheirOwnOrder) {
  constexpr int kProducers = 4;
  constexpr int kEach = 5000;
  std::atomic<int> running{kProducers};
  std::vector<std::thread> threads;
  for (int p = 0; p < kProducers; ++p) {
    threads.emplace_back([this, p, &running] {
      MpscRing own(Region{base, kCapacity + kRingTrailerLength});
      for (int i = 0; i < kEach; ++i) {
        const int32_t message[2] = {p, i};
        const int32_t length = 8 + (i % 5) * 4;  // of different lengths, so that wraps differ
        int32_t padded[8] = {message[0], message[1]};
        while (!own.write(1, padded, length)) std::this_thread::yield();
      }
      --running;
    });
  }
  std::map<int32_t, int32_t> next;
  int total = 0;
  while (total < kProducers * kEach) {
    const int32_t count = ring.read(
        [&](int32_t, const uint8_t* message, int32_t) {
          const auto producer = readAt<int32_t>(message, 0);
          EXPECT_EQ(readAt<int32_t>(message, 4), next[producer]++);
        },
        64, corrupted);
    total += count;
    if (count == 0) std::this_thread::yield();
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(corrupted, 0);
  EXPECT_EQ(running.load(), 0);
  EXPECT_EQ(loadAcquire<int64_t>(base + kCapacity + kHead), ring.producerPosition());
}

}  // namespace
}  // namespace outrigger::cnc
