// SPDX-License-Identifier: Apache-2.0
// Appending to a log buffer, and reading it back through an image.
#include <gtest/gtest.h>

#include <atomic>
#include <numeric>
#include <thread>

#include "client/batch_publisher.h"
#include "client_world.h"

namespace outrigger::client {
namespace {

std::vector<std::string> readAll(Image& image, int32_t limit = 1 << 20) {
  std::vector<std::string> messages;
  for (int32_t idle = 0; idle < 4;) {
    const int64_t before = image.position();
    image.pollMessages(
        [&](const uint8_t* data, int32_t length, const FragmentHeader&) {
          messages.emplace_back(reinterpret_cast<const char*>(data), static_cast<size_t>(length));
        },
        limit);
    idle = image.position() == before ? idle + 1 : 0;
  }
  return messages;
}

std::string patterned(size_t length, int32_t seed) {
  std::string out(length, '\0');
  for (size_t i = 0; i < length; ++i) out[i] = static_cast<char>((static_cast<size_t>(seed) * 31 + i * 7) & 0xFF);
  return out;
}

int32_t lengthOf(const std::string& message) { return static_cast<int32_t>(message.size()); }

// Both kinds obey the same rules, so each rule is tested on both.
template <typename Kind>
std::unique_ptr<Kind> make(PublicationBench& bench) {
  if constexpr (std::is_same_v<Kind, Publication>) {
    return bench.concurrent();
  } else {
    return bench.exclusive();
  }
}
template <typename Kind>
class BothKinds : public ::testing::Test {};
using Kinds = ::testing::Types<Publication, ExclusivePublication>;
TYPED_TEST_SUITE(BothKinds, Kinds);

TYPED_TEST(BothKinds, AMessageIsReadAsItWasOffered) {
  PublicationBench bench;
  auto publication = make<TypeParam>(bench);
  EXPECT_EQ(publication->offer("hello", 5), 64);
  EXPECT_EQ(publication->offer("", 0), 96);
  auto image = bench.image();
  EXPECT_EQ(readAll(*image), (std::vector<std::string>{"hello", ""}));
  EXPECT_EQ(bench.subscriberPosition.get(), 96);
  EXPECT_EQ(publication->position(), 96);
}

TYPED_TEST(BothKinds, PartsBecomeOneMessage) {
  PublicationBench bench;
  auto publication = make<TypeParam>(bench);
  const std::string large = patterned(3000, 1);
  const MessagePart parts[] = {{"ab", 2}, {nullptr, 0}, {large.data(), 3000}, {"z", 1}};
  EXPECT_GT(publication->offer(parts, 4), 0);
  auto image = bench.image();
  EXPECT_EQ(readAll(*image), (std::vector<std::string>{"ab" + large + "z"}));
}

TYPED_TEST(BothKinds, MessagesOfEveryLengthUpToTheMaximumTravelThroughManyTerms) {
  PublicationBench bench;
  auto publication = make<TypeParam>(bench);
  auto image = bench.image();
  int32_t round = 0;
  for (int32_t length = 0; length <= publication->maxMessageLength(); length += (length % 5 == 0 ? 97 : 211)) {
    const std::string message = patterned(static_cast<size_t>(length), round++);
    int64_t result = kOfferAdminAction;
    while (result == kOfferAdminAction) result = publication->offer(message.data(), length);
    ASSERT_GT(result, 0);
    ASSERT_EQ(readAll(*image), (std::vector<std::string>{message}));
    ASSERT_EQ(image->position(), result);
    const int32_t index = logbuffer::indexByPosition(result, bench.log.log.bits());
    bench.cleanTerm((index + 1) % 3);
  }
  EXPECT_GT(image->position(), 3 * kTestTermLength);
  const std::string largest = patterned(static_cast<size_t>(publication->maxMessageLength()), 99);
  EXPECT_EQ(publication->offer(largest.data(), lengthOf(largest) + 1), kOfferMessageTooLong);
  EXPECT_EQ(publication->offer(largest.data(), -1), kOfferMessageTooLong);
  EXPECT_EQ(publication->offer(largest.data(), INT32_MAX), kOfferMessageTooLong);
}

TYPED_TEST(BothKinds, AClaimIsInvisibleUntilItIsCommittedAndSkippedWhenAborted) {
  PublicationBench bench;
  auto publication = make<TypeParam>(bench);
  auto image = bench.image();
  BufferClaim first;
  BufferClaim second;
  EXPECT_EQ(publication->tryClaim(10, first), 64);
  EXPECT_EQ(publication->tryClaim(3, second), 128);
  std::memcpy(second.data(), "two", 3);
  second.reservedValue(42);
  second.commit();
  EXPECT_TRUE(readAll(*image).empty());
  EXPECT_FALSE(image->hasWork());
  first.abort();
  int64_t reserved = 0;
  image->poll([&](const uint8_t*, int32_t, const FragmentHeader& header) { reserved = header.reservedValue(); }, 10);
  EXPECT_EQ(reserved, 42);
  EXPECT_EQ(image->position(), 128);
  BufferClaim none;
  EXPECT_EQ(publication->tryClaim(publication->maxPayloadLength() + 1, none), kOfferMessageTooLong);
  second.commit();  // nothing is left to commit
}

TYPED_TEST(BothKinds, TheEndOfATermIsPaddedAndTheNextOneGoesOn) {
  PublicationBench bench(INT32_MAX);  // term ids wrap
  auto publication = make<TypeParam>(bench);
  const std::string message = patterned(1000, 3);
  int32_t rotations = 0;
  std::vector<std::string> expected;
  while (rotations < 2) {
    const int64_t result = publication->offer(message.data(), 1000);
    if (result == kOfferAdminAction) {
      ++rotations;
    } else {
      ASSERT_GT(result, 0);
      expected.push_back(message);
    }
  }
  auto image = bench.image();
  EXPECT_EQ(readAll(*image), expected);
  EXPECT_EQ(image->position(), 2 * kTestTermLength);
  EXPECT_EQ(bench.log.log.template get<int32_t>(logbuffer::meta::kActiveTermCount), 2);
}

TYPED_TEST(BothKinds, AtTheLimitItIsBackPressuredOrNotConnected) {
  PublicationBench bench;
  auto publication = make<TypeParam>(bench);
  bench.limit.set(64);
  EXPECT_EQ(publication->offer("x", 1), 64);
  EXPECT_EQ(publication->offer("x", 1), kOfferBackPressured);
  bench.log.log.template put<int32_t>(logbuffer::meta::kIsConnected, 0);
  EXPECT_EQ(publication->offer("x", 1), kOfferNotConnected);
  EXPECT_FALSE(publication->isConnected());
  bench.limit.set(65);
  EXPECT_EQ(publication->offer("x", 1), 128);
  publication->markClosed();
  EXPECT_EQ(publication->offer("x", 1), kOfferClosed);
  BufferClaim claim;
  EXPECT_EQ(publication->tryClaim(1, claim), kOfferClosed);
  EXPECT_EQ(publication->positionLimit(), kOfferClosed);
}

TYPED_TEST(BothKinds, TheLastPositionOfAStreamIsItsEnd) {
  const int64_t last = logbuffer::maxPossiblePosition(kTestTermLength);
  PublicationBench bench(9, last - 128);
  auto publication = make<TypeParam>(bench);
  EXPECT_EQ(publication->offer("x", 1), last - 64);
  EXPECT_EQ(publication->offer("x", 1), last);
  int64_t result = publication->offer("x", 1);
  for (int32_t i = 0; i < 3 && result != kOfferMaxPositionExceeded; ++i) result = publication->offer("x", 1);
  EXPECT_EQ(result, kOfferMaxPositionExceeded);
}

TYPED_TEST(BothKinds, NoTailInSharedMemoryLeadsOutOfTheLog) {
  const int64_t tails[] = {INT64_MIN,   INT64_MAX,         -1, 0, 1, 0x500000001, 0x5FFFFFFFF, 0x50000FFE0, 0x50000FFFF,
                           0x510000000, 0x7FFFFFFF00000000};
  for (const int64_t tail : tails) {
    for (const int32_t count : {INT32_MIN, -1, 0, 1, 2, INT32_MAX}) {
      PublicationBench bench;
      std::vector<uint8_t> before(bench.log.log.metadata() + 128, bench.log.log.metadata() + 4096);
      for (int32_t i = 0; i < 3; ++i) storeRelease<int64_t>(bench.log.log.tailAddress(i), tail);
      bench.log.log.template put<int32_t>(logbuffer::meta::kActiveTermCount, count);
      auto publication = make<TypeParam>(bench);
      for (int32_t i = 0; i < 4; ++i) {
        publication->offer("0123456789", 10);
        BufferClaim claim;
        if (publication->tryClaim(100, claim) > 0) claim.abort();
        const std::string large = patterned(8000, 1);
        publication->offer(large.data(), 8000);
      }
      EXPECT_EQ(std::memcmp(before.data(), bench.log.log.metadata() + 128, before.size()), 0) << tail << " " << count;
    }
  }
}

TEST(ExclusivePublicationMany, TakesRunsFragmentsAndRotationsInOneCall) {
  PublicationBench bench;
  auto publication = bench.exclusive();
  std::vector<std::string> messages;
  for (int32_t i = 0; i < 130; ++i) messages.push_back(patterned(i % 10 == 0 ? 4000 : static_cast<size_t>(i * 5), i));
  std::vector<MessagePart> parts;
  for (const auto& message : messages) parts.push_back({message.data(), lengthOf(message)});
  const ManyResult many = publication->offerMany(parts.data(), static_cast<int32_t>(parts.size()));
  EXPECT_EQ(many.accepted, 130);
  EXPECT_EQ(many.result, publication->position());
  EXPECT_EQ(many.position, publication->position());
  EXPECT_GT(many.position, kTestTermLength);
  auto image = bench.image();
  EXPECT_EQ(readAll(*image), messages);
}

TEST(ExclusivePublicationMany, StopsWhereThereIsNoRoomAndSaysHowFarItCame) {
  PublicationBench bench;
  auto publication = bench.exclusive();
  bench.limit.set(100);
  const std::vector<MessagePart> parts(5, MessagePart{"abc", 3});
  ManyResult many = publication->offerMany(parts.data(), 5);
  EXPECT_EQ(many.accepted, 2);
  EXPECT_EQ(many.result, kOfferBackPressured);
  EXPECT_EQ(many.position, 128);
  many = publication->offerMany(parts.data(), 5);
  EXPECT_EQ(many.accepted, 0);
  EXPECT_EQ(many.position, 0);
  for (const int32_t hostile : {-1, INT32_MIN, INT32_MAX, publication->maxMessageLength() + 1}) {
    const MessagePart part{"abc", hostile};
    EXPECT_EQ(publication->offerMany(&part, 1).result, kOfferMessageTooLong);
  }
  EXPECT_EQ(publication->offerMany(parts.data(), 0).accepted, 0);
}

TEST(ExclusivePublicationMany, AfterARotationWithoutRoomThePositionIsThatOfTheLastMessage) {
  PublicationBench bench(5, kTestTermLength - 96);
  auto publication = bench.exclusive();
  bench.limit.set(kTestTermLength);
  const std::string large = patterned(200, 1);
  const MessagePart parts[] = {{"a", 1}, {large.data(), 200}};
  const ManyResult many = publication->offerMany(parts, 2);
  EXPECT_EQ(many.accepted, 1);
  EXPECT_EQ(many.result, kOfferBackPressured);
  EXPECT_EQ(many.position, kTestTermLength - 32);
}

TEST(ConcurrentPublication, PublishersOfManyThreadsLoseAndMixNothing) {
  PublicationBench bench;
  bench.limit.set(kTestTermLength / 2);
  constexpr int32_t kThreads = 4;
  constexpr int32_t kPerThread = 4000;
  std::vector<std::unique_ptr<Publication>> publications;
  for (int32_t i = 0; i < kThreads; ++i) publications.push_back(bench.concurrent());
  std::vector<std::thread> threads;
  for (int32_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int32_t i = 0; i < kPerThread;) {
        const std::string message = std::to_string(t) + " " + std::to_string(i) + std::string(static_cast<size_t>(i % 3) * 1500, 'f');
        if (publications[static_cast<size_t>(t)]->offer(message.data(), lengthOf(message)) > 0) {
          ++i;
        } else {
          std::this_thread::yield();
        }
      }
    });
  }
  // The driver's part: the limit follows the reader half a term behind, and terms are clean before they come round again.
  auto image = bench.image();
  std::vector<int32_t> next(kThreads, 0);
  int32_t seen = 0;
  int64_t cleaned = 0;
  int32_t wrong = 0;
  while (seen < kThreads * kPerThread) {
    image->pollMessages(
        [&](const uint8_t* data, int32_t length, const FragmentHeader&) {
          const std::string message(reinterpret_cast<const char*>(data), static_cast<size_t>(length));
          const auto thread = static_cast<size_t>(message[0] - '0');
          const int32_t number = std::stoi(message.substr(2));
          wrong += thread < kThreads && number == next[thread]++ &&
                           message.size() == 2 + std::to_string(number).size() + static_cast<size_t>(number % 3) * 1500
                       ? 0
                       : 1;
          ++seen;
        },
        1000);
    for (; cleaned + kTestTermLength <= image->position(); cleaned += kTestTermLength) {
      bench.cleanTerm(logbuffer::indexByPosition(cleaned, bench.log.log.bits()));
    }
    bench.limit.set(image->position() + kTestTermLength / 2);
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(next, std::vector<int32_t>(kThreads, kPerThread));
  EXPECT_EQ(image->assembler().dropped(), 0U);
}

TEST(BatchPublisherTest, BothKindsAnswerAlike) {
  PublicationBench one;
  PublicationBench other;
  BatchPublisher concurrent{std::shared_ptr<Publication>(one.concurrent())};
  BatchPublisher exclusive{std::shared_ptr<ExclusivePublication>(other.exclusive())};
  const std::string large = patterned(5000, 5);
  const std::vector<MessagePart> parts = {{"a", 1}, {large.data(), 5000}, {nullptr, 0}, {"b", 1}};
  for (const auto& [bench, publisher] : {std::pair{&one, &concurrent}, std::pair{&other, &exclusive}}) {
    bench->limit.set(5248);  // the first three, to the byte
    EXPECT_EQ(publisher->offer(parts.data(), 0).status, OfferStatus::kAccepted);
    OfferOutcome outcome = publisher->offer(parts.data(), parts.size());
    EXPECT_EQ(outcome.status, OfferStatus::kBackPressured);
    EXPECT_EQ(outcome.accepted, 3U);
    EXPECT_EQ(outcome.bytes, 5001U);
    EXPECT_EQ(outcome.position, publisher->position());
    bench->limit.set(INT64_MAX);
    const std::vector<MessagePart> tooLong = {{"a", 1}, {large.data(), 1 << 20}, {"b", 1}};
    outcome = publisher->offer(tooLong.data(), tooLong.size());
    EXPECT_EQ(outcome.status, OfferStatus::kMessageTooLong);
    EXPECT_EQ(outcome.accepted, 1U);
  }
  EXPECT_EQ(concurrent.position(), exclusive.position());
}

TEST(BatchPublisherTest, APublisherThatDiedInARotationIsBackPressureAndNotALoop) {
  PublicationBench bench;
  BatchPublisher publisher{std::shared_ptr<Publication>(bench.concurrent())};
  storeRelease<int64_t>(bench.log.log.tailAddress(0), logbuffer::packTail(6, 0));  // a tail of the next term under the old count
  const MessagePart part{"a", 1};
  EXPECT_EQ(publisher.offer(&part, 1).status, OfferStatus::kBackPressured);
}

}  // namespace
}  // namespace outrigger::client
