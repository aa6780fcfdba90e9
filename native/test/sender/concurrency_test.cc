// SPDX-License-Identifier: Apache-2.0
// A publisher on its own thread against the sender on another: what the limit allows is clean, what is committed goes out once, in order.
#include <atomic>
#include <thread>

#include "sender_world.h"

namespace outrigger::driver::testing {
namespace {

TEST(SenderConcurrency, APublisherThatWritesUpToItsLimitIsSentWholeAndInOrderThroughManyTerms) {
  World world;
  Stream& stream = world.publish(world.unicast());
  world.connect(stream);
  constexpr int64_t kEnd = 60 * int64_t{kTermLength};
  std::atomic<int64_t> written{0};
  std::atomic<int64_t> dirty{0};
  std::atomic<bool> stop{false};
  std::thread publisher([&] {
    while (stream.producer < kEnd && !stop.load()) {
      if (stream.producer >= stream.publication->counters().publisherLimit.get()) {
        std::this_thread::yield();
        continue;
      }
      const int32_t left = kTermLength - logbuffer::termOffsetFromPosition(stream.producer, kTermLength);
      const int64_t looked = std::min<int64_t>(left, 512);
      for (int64_t at = 0; at < looked; at += 8) {
        if (loadRelaxed<int64_t>(stream.log().atPosition(stream.producer + at)) != 0) dirty.fetch_add(1);
      }
      stream.append(32 + static_cast<int32_t>(stream.producer / 32 % 400));
    }
    written.store(stream.producer, std::memory_order_release);
  });
  int64_t heard = 0;
  while (written.load(std::memory_order_acquire) == 0 || heard < written.load()) {
    world.step(kMicroNs);
    heard = expectContiguous(stream, world.takePayload(), heard);
    world.statusMessage(stream, heard, kTermLength / 2);
    if (::testing::Test::HasFailure()) break;
  }
  stop.store(true);
  publisher.join();
  EXPECT_EQ(heard, written.load());
  EXPECT_EQ(dirty.load(), 0);
  EXPECT_EQ(world.takeEvents(AgentEvent::Type::kError).size(), 0u);
}

}  // namespace
}  // namespace outrigger::driver::testing
