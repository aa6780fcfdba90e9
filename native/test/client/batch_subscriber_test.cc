// SPDX-License-Identifier: Apache-2.0
// Credit, slow-subscriber policies and events of one subscriber, on a log that the test writes.
#include "client/batch_subscriber.h"

#include <gtest/gtest.h>

#include "client_world.h"

namespace outrigger::client {
namespace {

// What a chunk says, one word a response: "batch<n>@position", "available@join", "unavailable<reason>@position",
// "gap<reason>:messages:from-to", "lag". A small reader of its own, independent of the writer under test.
class Spoken {
 public:
  explicit Spoken(const ResponseChunk& chunk) {
    for (const auto& slice : chunk.responses()) words_.push_back(wordOf(chunk.data() + slice.begin, slice.length));
  }
  const std::vector<std::string>& words() const { return words_; }

 private:
  struct Field {
    uint32_t number;
    uint64_t value;
    const uint8_t* data;
  };
  static uint64_t varint(const uint8_t*& at) {
    uint64_t value = 0;
    for (uint32_t shift = 0;; shift += 7) {
      const uint8_t byte = *at++;
      value |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
  }
  static std::vector<Field> fields(const uint8_t* at, uint64_t length) {
    std::vector<Field> found;
    const uint8_t* end = at + length;
    while (at < end) {
      const uint64_t tag = varint(at);
      Field field{static_cast<uint32_t>(tag >> 3), varint(at), nullptr};
      if ((tag & 7) == 2) {
        field.data = at;
        at += field.value;
      }
      found.push_back(field);
    }
    return found;
  }
  static uint64_t valueOf(const std::vector<Field>& all, uint32_t number) {
    for (const Field& field : all) {
      if (field.number == number) return field.value;
    }
    return 0;
  }
  static std::string wordOf(const uint8_t* response, size_t length) {
    const Field outer = fields(response, length).at(0);
    const auto inner = fields(outer.data, outer.value);
    const auto text = [](uint64_t value) { return std::to_string(value); };
    if (outer.number == 2) {
      size_t messages = 0;
      for (const Field& field : inner) messages += field.number == 4 ? 1 : 0;
      return "batch" + text(messages) + "@" + text(valueOf(inner, 3));
    }
    const Field event = inner.at(0);
    if (event.number == 4) return "lag";
    const auto body = fields(event.data, event.value);
    if (event.number == 1) return "available@" + text(valueOf(body, 2));
    if (event.number == 2) return "unavailable" + text(valueOf(body, 3)) + "@" + text(valueOf(body, 2));
    return "gap" + text(valueOf(body, 5)) + ":" + text(valueOf(body, 4)) + ":" + text(valueOf(body, 2)) + "-" + text(valueOf(body, 3));
  }

  std::vector<std::string> words_;
};

using Words = std::vector<std::string>;

struct SubscriberBench {
  explicit SubscriberBench(SubscriberOptions options, int64_t position = 0)
      : bench(5, position), publication(bench.exclusive()), image(bench.image(position, options.reliable)), subscriber(options) {
    subscriber.onAvailable(image);
  }
  void publish(int32_t count, int32_t length = 10) {
    const std::string message(static_cast<size_t>(length), 'm');
    for (int32_t i = 0; i < count;) {
      const int64_t result = publication->offer(message.data(), length);
      ASSERT_TRUE(result > 0 || result == kOfferAdminAction);
      i += result > 0 ? 1 : 0;
    }
  }
  void poll(int32_t times = 3) {
    for (int32_t i = 0; i < times; ++i) subscriber.poll(nowNs);
  }
  Words take() {
    ResponseChunk chunk;
    return subscriber.take(chunk, nullptr) ? Spoken(chunk).words() : Words{};
  }

  PublicationBench bench;
  std::unique_ptr<ExclusivePublication> publication;
  std::shared_ptr<Image> image;
  BatchSubscriber subscriber;
  int64_t nowNs = 1'000'000'000;
};

SubscriberOptions options(SlowPolicy policy) {
  SubscriberOptions made;
  made.policy = policy;
  made.disconnectAfterNs = 500 * kMs;
  return made;
}

TEST(BatchSubscriberTest, WithoutCreditOnlyEventsAreSaid) {
  SubscriberBench bench(options(SlowPolicy::kBlock), 128);
  bench.publish(3);
  bench.poll();
  EXPECT_EQ(bench.take(), Words{"available@128"});
  EXPECT_EQ(bench.image->position(), 128);
  EXPECT_EQ(bench.subscriber.stats().images, 1U);
}

TEST(BatchSubscriberTest, CreditInMessagesAndBytesIsSpentAndTheLastMessageMayOverdraw) {
  SubscriberBench bench(options(SlowPolicy::kBlock));
  bench.publish(10);
  bench.subscriber.addCredit(2, 1000);
  bench.poll();
  EXPECT_EQ(bench.take(), (Words{"available@0", "batch2@128"}));
  bench.subscriber.addCredit(100, 0);
  bench.poll();
  EXPECT_EQ(bench.take(), Words{"batch8@640"}) << "980 bytes were left";
  bench.publish(10);
  SubscriberBench other(options(SlowPolicy::kBlock));
  other.publish(10);
  other.subscriber.addCredit(100, 15);
  other.poll();
  EXPECT_EQ(other.take(), (Words{"available@0", "batch2@128"})) << "15 bytes are two messages of 10";
  other.subscriber.addCredit(0, 5);
  other.poll();
  EXPECT_EQ(other.take(), Words{}) << "the debt is paid, nothing is left";
  other.subscriber.addCredit(0, 1);
  other.poll();
  EXPECT_EQ(other.take(), Words{"batch1@192"});
  EXPECT_EQ(other.subscriber.stats().messages, 3U);
  EXPECT_EQ(other.subscriber.stats().bytes, 30U);
}

TEST(BatchSubscriberTest, CreditBeyondAllNumbersSaturates) {
  SubscriberBench bench(options(SlowPolicy::kBlock));
  bench.subscriber.addCredit(UINT64_MAX, UINT64_MAX);
  bench.subscriber.addCredit(UINT64_MAX, UINT64_MAX);
  bench.publish(3);
  bench.poll();
  EXPECT_EQ(bench.take(), (Words{"available@0", "batch3@192"}));
}

TEST(BatchSubscriberTest, AFragmentedMessageIsOneMessage) {
  SubscriberBench bench(options(SlowPolicy::kBlock));
  bench.publish(2, 5000);
  bench.subscriber.addCredit(1, 1);
  bench.poll();
  const int64_t end = bench.publication->position();
  EXPECT_EQ(bench.take(), (Words{"available@0", "batch1@" + std::to_string(end / 2)}));
  EXPECT_LT(bench.image->position(), end);
  bench.subscriber.addCredit(1, 10'000);
  bench.poll();
  EXPECT_EQ(bench.take(), Words{"batch1@" + std::to_string(end)});
}

TEST(BatchSubscriberTest, BlockSaysHowLongMessagesWaitLessAndLessOften) {
  SubscriberBench bench(options(SlowPolicy::kBlock));
  bench.poll();
  bench.take();
  EXPECT_EQ(bench.subscriber.nextDeadlineNs(), INT64_MAX) << "nothing waits";
  EXPECT_FALSE(bench.subscriber.hasWork());
  bench.publish(1);
  EXPECT_TRUE(bench.subscriber.hasWork()) << "the wait begins";
  int32_t lags = 0;
  for (int32_t i = 0; i < 70; ++i) {
    bench.poll(1);
    lags += static_cast<int32_t>(bench.take().size());
    EXPECT_FALSE(bench.subscriber.hasWork());
    EXPECT_GT(bench.subscriber.nextDeadlineNs(), bench.nowNs);
    bench.nowNs += 1000 * kMs;
  }
  EXPECT_EQ(lags, 7) << "after 1, 2, 4 ... 64 seconds";
  EXPECT_FALSE(bench.subscriber.isSlow());
  bench.subscriber.addCredit(1, 100);
  EXPECT_TRUE(bench.subscriber.hasWork());
  bench.poll();
  EXPECT_EQ(bench.take(), Words{"batch1@64"});
}

TEST(BatchSubscriberTest, DisconnectAfterCountsOnlyTheTimeThatMessagesWait) {
  SubscriberBench bench(options(SlowPolicy::kDisconnectAfter));
  bench.poll();
  bench.nowNs += 10'000 * kMs;
  bench.poll();
  EXPECT_FALSE(bench.subscriber.isSlow());
  bench.publish(2);
  bench.poll();
  bench.nowNs += 499 * kMs;
  bench.poll();
  EXPECT_FALSE(bench.subscriber.isSlow());
  bench.subscriber.addCredit(1, 100);
  bench.poll();
  bench.nowNs += 499 * kMs;
  bench.poll();
  EXPECT_FALSE(bench.subscriber.isSlow()) << "the wait began anew";
  bench.nowNs += 1 * kMs;
  bench.poll();
  EXPECT_EQ(bench.subscriber.nextDeadlineNs(), INT64_MAX);
  EXPECT_TRUE(bench.subscriber.isSlow());
  EXPECT_EQ(bench.take(), (Words{"available@0", "batch1@64"})) << "what it was given stays given";
}

TEST(BatchSubscriberTest, SkipCountsWhatItSkipsAndSaysSoBeforeTheNextMessage) {
  SubscriberBench bench(options(SlowPolicy::kSkip));
  bench.subscriber.addCredit(1, 100);
  bench.publish(4);
  bench.poll();
  EXPECT_EQ(bench.take(), (Words{"available@0", "batch1@64", "gap1:3:64-256"}));
  bench.publish(2);
  bench.poll();
  EXPECT_EQ(bench.take(), Words{}) << "not once a burst";
  bench.nowNs += 500 * kMs;
  EXPECT_LE(bench.subscriber.nextDeadlineNs(), bench.nowNs);
  bench.publish(1);
  bench.poll();
  EXPECT_EQ(bench.take(), Words{"gap1:3:256-448"});
  bench.publish(1);
  bench.poll();
  bench.subscriber.addCredit(5, 100);
  bench.publish(1);
  bench.poll();
  EXPECT_EQ(bench.take(), (Words{"gap1:1:448-512", "batch1@576"}));
  EXPECT_EQ(bench.subscriber.stats().skipped, 7U);
  EXPECT_EQ(bench.subscriber.stats().gaps, 3U);
}

TEST(BatchSubscriberTest, AGapThatWasNotSaidIsSaidBeforeItsImageEnds) {
  SubscriberBench bench(options(SlowPolicy::kSkip));
  bench.publish(1);
  bench.poll();
  bench.publish(2);
  bench.poll();
  bench.take();
  bench.image->close(ImageEndReason::kEndOfStream);
  bench.subscriber.onUnavailable(bench.image, bench.nowNs);
  EXPECT_EQ(bench.take(), (Words{"gap1:2:64-192", "unavailable1@192"}));
  EXPECT_EQ(bench.subscriber.stats().images, 0U);
}

TEST(BatchSubscriberTest, ASessionThatComesBackElsewhereHasAGap) {
  for (const int64_t again : {int64_t{64}, int64_t{640}}) {
    SubscriberBench bench(options(SlowPolicy::kBlock));
    bench.subscriber.addCredit(100, 1000);
    bench.publish(1);
    bench.poll();
    bench.image->close(ImageEndReason::kTimedOut);
    bench.subscriber.onUnavailable(bench.image, bench.nowNs);
    bench.take();
    bench.subscriber.onAvailable(bench.bench.image(again));
    const Words expected = again == 64 ? Words{"available@64"} : Words{"available@640", "gap2:0:64-640"};
    EXPECT_EQ(bench.take(), expected);
    bench.subscriber.onUnavailable(bench.bench.image(0), bench.nowNs);  // one it does not know
    EXPECT_EQ(bench.take(), Words{});
  }
}

TEST(BatchSubscriberTest, TheEndOfTheDriverIsNotSaidForEachImage) {
  SubscriberBench bench(options(SlowPolicy::kBlock));
  bench.take();
  bench.image->close(ImageEndReason::kDriverLost);
  bench.subscriber.onUnavailable(bench.image, bench.nowNs);
  EXPECT_EQ(bench.take(), Words{});
}

TEST(BatchSubscriberTest, LossOnAnUnreliableStreamIsAGapAndTheEndOfATermIsNone) {
  SubscriberOptions unreliable = options(SlowPolicy::kBlock);
  unreliable.reliable = false;
  for (const bool reliable : {true, false}) {
    SubscriberBench bench(reliable ? options(SlowPolicy::kBlock) : unreliable);
    bench.subscriber.addCredit(10'000, 10'000'000);
    bench.publish(1);
    BufferClaim hole;
    bench.publication->tryClaim(100, hole);
    hole.abort();
    bench.publish(1);
    bench.poll();
    const Words expected = reliable ? Words{"available@0", "batch2@288"} : Words{"available@0", "batch1@64", "gap3:0:64-224", "batch1@288"};
    EXPECT_EQ(bench.take(), expected);
    bench.publish(60, 1200);  // over the end of the term
    bench.poll(10);
    const Words rest = bench.take();
    EXPECT_GT(bench.image->position(), kTestTermLength);
    EXPECT_TRUE(std::none_of(rest.begin(), rest.end(), [](const auto& word) { return word.starts_with("gap"); }));
  }
}

TEST(BatchSubscriberTest, ADamagedImageIsNoticed) {
  SubscriberBench bench(options(SlowPolicy::kBlock));
  bench.subscriber.addCredit(10, 1000);
  storeRelease<int32_t>(bench.bench.log.log.term(0), 7);
  bench.poll();
  EXPECT_TRUE(bench.subscriber.isDamaged());
  EXPECT_FALSE(bench.subscriber.hasWork());
}

TEST(BatchSubscriberTest, WhatIsNotTakenFillsUpAndStopsTheImage) {
  SubscriberOptions small = options(SlowPolicy::kBlock);
  small.maxBatchBytes = 1000;
  SubscriberBench bench(small);
  bench.subscriber.addCredit(UINT64_MAX, UINT64_MAX);
  int64_t published = 0;
  for (int32_t round = 0; round < 20; ++round) {
    bench.publish(40, 1000);
    bench.poll();
    published = bench.publication->position();
    bench.bench.cleanTerm((logbuffer::indexByPosition(published, bench.bench.log.log.bits()) + 1) % 3);
    if (bench.image->position() < published) break;
  }
  EXPECT_LT(bench.image->position(), published);
  EXPECT_FALSE(bench.subscriber.hasWork()) << "or the poll thread would spin";
  ResponseChunk chunk;
  bool wasFull = false;
  EXPECT_TRUE(bench.subscriber.take(chunk, &wasFull));
  EXPECT_TRUE(wasFull);
  EXPECT_LT(chunk.size(), 300U * 1024);
  EXPECT_TRUE(bench.subscriber.hasWork());
}

TEST(BatchSubscriberTest, ImagesTakeTurns) {
  SubscriberBench bench(options(SlowPolicy::kBlock));
  PublicationBench second;
  auto other = second.exclusive();
  auto image = second.image();
  bench.subscriber.onAvailable(image);
  bench.publish(600);
  for (int32_t i = 0; i < 600; ++i) other->offer("x", 1);
  bench.subscriber.addCredit(300, 1'000'000);
  bench.poll(1);
  bench.subscriber.addCredit(300, 1'000'000);
  bench.poll(1);
  EXPECT_GT(bench.image->position(), 0);
  EXPECT_GT(image->position(), 256 * 64 / 2);
}

}  // namespace
}  // namespace outrigger::client
