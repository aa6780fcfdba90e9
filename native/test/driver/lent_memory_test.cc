// SPDX-License-Identifier: Apache-2.0
// A log that the network may still read after it was sent (DatagramIo::stillReads) is neither cleaned nor written over, and a backend that still reads
// is not closed. The backend is an ordinary one that says of all it was lent that it reads it, for as long as the test wants.
#include <gtest/gtest.h>

#include <atomic>
#include <memory>

#include "driver_world.h"
#include "io/backend.h"
#include "mortal_io.h"

namespace outrigger::test {
namespace {

using State = io::Health::State;

struct Reading {
  std::atomic<bool> on{false};
  std::atomic<int64_t> asked{0};
  std::atomic<int64_t> askedOfAll{0};  // about any memory: by a sender that leaves it
  std::atomic<int> opened{0};          // times that the backend after it was
  std::atomic<int64_t> lent{0};
  std::atomic<int64_t> notLent{0};
  std::atomic<int> open{0};
  std::atomic<int64_t> errors{0};  // that each instance has counted
};

class ReadingIo final : public outrigger::testing::ForwardingIo {
 public:
  ReadingIo(std::shared_ptr<Reading> reading, std::unique_ptr<io::DatagramIo> inner)
      : ForwardingIo(std::move(inner)), reading_(std::move(reading)) {
    ++reading_->open;
  }
  ~ReadingIo() override { --reading_->open; }

  uint32_t transmit(io::Endpoint& endpoint, std::span<io::TxItem> items) override {
    for (const io::TxItem& item : items) ++(item.lent ? reading_->lent : reading_->notLent);
    return inner().transmit(endpoint, items);
  }
  bool stillReads(const uint8_t* data, size_t) override {
    ++reading_->asked;
    if (data == nullptr) ++reading_->askedOfAll;
    return reading_->on;
  }
  io::IoTotals totals() const override {
    io::IoTotals totals = inner().totals();
    totals.sendErrors += reading_->errors;
    return totals;
  }

 private:
  std::shared_ptr<Reading> reading_;
};

class LentStream {
 public:
  static constexpr int64_t kTermLength = 64 * 1024;

  explicit LentStream(ThreadingMode mode) {
    DriverConfig config = DriverWorld::smallConfig(mode, "");
    config.backends = {"reading", "plain"};
    driver::MediaDriverParts parts;
    parts.openBackend = [fates = fates_, reading = reading_](const std::string& name) -> Result<io::IoPair> {
      if (name == "plain") {
        ++reading->opened;
        return io::openPair("mmsg", {});
      }
      return openMortal(name, fates, [&]() -> Result<std::unique_ptr<io::DatagramIo>> {
        auto inner = io::makeBackend("mmsg", {});
        if (!inner) return inner.error();
        return std::unique_ptr<io::DatagramIo>(std::make_unique<ReadingIo>(reading, inner.take()));
      });
    };
    world_ = std::make_unique<DriverWorld>(config, std::move(parts));
    client_ = &world_->addClient();
    const std::string channel = "aeron:udp?endpoint=127.0.0.1:" + std::to_string(freePort());
    subscription_ = world_->addSubscription(*client_, channel, 1);
    publication_ = world_->addExclusive(*client_, channel, 1);
  }

  // Publishes as much as is taken, up to a position, and reads.
  void pump(int64_t position = INT64_MAX) {
    for (int burst = 0; burst < 8 && publication_->position() < position; ++burst) {
      makeMessage(message_, sent_, 1000);
      if (publication_->offer(message_.data(), static_cast<int32_t>(message_.size())) < 0) break;
      ++sent_;
    }
    subscription_->pollMessages([&](const uint8_t* data, int32_t length, const auto&) { check_.onMessage(data, length); }, 64);
    ASSERT_EQ(check_.error, "");
  }
  bool pumpUntil(const std::function<bool()>& condition, const char* what, int64_t position = INT64_MAX) {
    return world_->until(
        [&] {
          pump(position);
          return ::testing::Test::HasFatalFailure() || condition();
        },
        what);
  }
  // What was taken has arrived, too.
  bool publishTo(int64_t position, const char* what) {
    return pumpUntil([&] { return publication_->position() >= position && check_.next == sent_; }, what, position);
  }

  std::shared_ptr<Fates> fates_ = std::make_shared<Fates>();
  std::shared_ptr<Reading> reading_ = std::make_shared<Reading>();
  std::unique_ptr<DriverWorld> world_;
  MediaClient* client_ = nullptr;
  std::shared_ptr<Subscription> subscription_;
  std::shared_ptr<ExclusivePublication> publication_;
  MessageCheck check_;
  std::vector<uint8_t> message_;
  uint64_t sent_ = 0;
};

class LentMemory : public ::testing::TestWithParam<ThreadingMode>, protected LentStream {
 protected:
  LentMemory() : LentStream(GetParam()) {}
};

TEST_P(LentMemory, IsNotWrittenOverWhileItIsRead) {
  reading_->on = true;
  // Fresh memory needs no cleaning: three terms less the half that is kept in hand, and no byte of the second round.
  const int64_t limit = 3 * kTermLength - kTermLength / 2;
  ASSERT_TRUE(publishTo(limit - 2000, "what needs no cleaning"));
  const int64_t asked = reading_->asked;
  ASSERT_TRUE(pumpUntil([&] { return reading_->asked > asked + 100; }, "the sender to ask again and again"));
  EXPECT_LE(publication_->position(), limit + 2000) << "the publisher ran into memory that is read";
  ASSERT_TRUE(publishTo(0, "what was taken to arrive"));
  EXPECT_GT(reading_->lent, 0);
  EXPECT_EQ(reading_->notLent, 0);

  reading_->on = false;
  EXPECT_TRUE(publishTo(limit + 20 * kTermLength, "the stream to go on"));
}

TEST_P(LentMemory, KeepsTheBackendThatReadsItOpenWhenItsStreamsGoOnElsewhere) {
  SystemClock clock;
  ASSERT_TRUE(publishTo(kTermLength / 4, "the first messages"));
  EXPECT_EQ(reading_->open, 2);
  reading_->on = true;
  const int64_t beganNs = clock.nanoTime();
  fates_->set("reading", State::kGone);
  // Nothing goes through the first any more.
  ASSERT_TRUE(publishTo(2 * kTermLength, "messages over the next backend"));
  const int openBefore = reading_->open;
  const bool soon = clock.nanoTime() - beganNs < 4 * driver::kSecondNs;
  if (soon) {
    EXPECT_EQ(openBefore, 2) << "closed while it reads";
  }
  const int64_t errorsBefore = world_->counter(cnc::OutriggerCounter::kSendErrors);
  reading_->errors = 7;
  const bool counts = clock.nanoTime() - beganNs < 5 * driver::kSecondNs;  // else it may have been let go of before
  reading_->on = false;
  EXPECT_TRUE(pumpUntil([&] { return reading_->open == 0; }, "the first backend to be closed"));
  if (counts) {
    // A moment after the conductor has heard that the backend can be closed.
    EXPECT_TRUE(pumpUntil([&] { return world_->counter(cnc::OutriggerCounter::kSendErrors) == errorsBefore + 7; },
                          "what the sender's counted while it was leaving"));
  }
  EXPECT_TRUE(publishTo(20 * kTermLength, "the stream to go on"));
  EXPECT_EQ(world_->counter(cnc::OutriggerCounter::kBackendChanges), 1);
}

// The first would be read for five seconds more; a driver that is told to end has one in all.
TEST_P(LentMemory, HoldsUpNoDriverThatEndsWhileItsStreamsLeaveWhatReadsIt) {
  ASSERT_TRUE(publishTo(kTermLength / 4, "the first messages"));
  reading_->on = true;
  fates_->set("reading", State::kGone);
  ASSERT_TRUE(pumpUntil([&] { return reading_->askedOfAll > 0; }, "the sender to leave it"));
  ASSERT_EQ(world_->counter(cnc::OutriggerCounter::kBackendChanges), 0);
  world_->stopDriver();
  EXPECT_EQ(world_->counter(cnc::OutriggerCounter::kBackendChanges), 1) << "the move was cut off, not brought to its end";
  EXPECT_EQ(reading_->open, 0);
}

TEST(LentMemoryOfAnInvoker, HoldsUpNoDriverThatIsToldToEndAtAnyStepOfAMove) {
  int before = 0;
  int meanwhile = 0;
  for (int steps = 0; steps < 8; ++steps) {
    LentStream stream(ThreadingMode::kInvoker);
    ASSERT_TRUE(stream.publishTo(LentStream::kTermLength / 4, "the first messages"));
    stream.reading_->on = true;
    stream.fates_->set("reading", State::kGone);
    const int64_t looks = stream.fates_->looks("reading");
    ASSERT_TRUE(stream.pumpUntil([&] { return stream.fates_->looks("reading") > looks; }, "the driver to look"));
    for (int i = 0; i < steps; ++i) stream.world_->driver().doWork();
    const int opened = stream.reading_->opened;
    stream.world_->stopDriver();
    ++(opened > 0 ? before : meanwhile);
    // What was begun ends in order, whichever comes first: the order to change over or that to end.
    EXPECT_EQ(stream.world_->counter(cnc::OutriggerCounter::kBackendChanges), stream.reading_->opened) << "after " << steps << " steps";
  }
  EXPECT_GT(before, 0);
  EXPECT_GT(meanwhile, 0);
}

INSTANTIATE_TEST_SUITE_P(Modes, LentMemory,
                         ::testing::Values(ThreadingMode::kDedicated, ThreadingMode::kSharedNetwork, ThreadingMode::kShared,
                                           ThreadingMode::kInvoker),
                         [](const auto& mode) { return nameOf(mode.param); });

}  // namespace
}  // namespace outrigger::test
