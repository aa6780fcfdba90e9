// SPDX-License-Identifier: Apache-2.0
// Reading a log buffer: order, limits, fragments, and values that no driver writes.
#include <gtest/gtest.h>

#include "client_world.h"

namespace outrigger::client {
namespace {

using Messages = std::vector<std::string>;

std::string textOf(const uint8_t* data, int32_t length) { return {reinterpret_cast<const char*>(data), static_cast<size_t>(length)}; }

void writeFrame(const TestLog& log, int32_t offset, int32_t frameLength, wire::FrameType type, uint8_t flags) {
  uint8_t* frame = log.log.term(0) + offset;
  writeAt<uint32_t>(frame, 4, (static_cast<uint32_t>(type) << 16) | (static_cast<uint32_t>(flags) << 8));
  logbuffer::frameLengthRelease(frame, frameLength);
}

TEST(ImageTest, BreakConsumesAndAbortDoesNot) {
  PublicationBench bench;
  auto publication = bench.exclusive();
  for (const char* text : {"a", "b", "c"}) publication->offer(text, 1);
  auto image = bench.image();
  Messages seen;
  const auto until = [&](PollAction atB) {
    return [&seen, atB](const uint8_t* data, int32_t length, const FragmentHeader&) {
      seen.push_back(textOf(data, length));
      return seen.back() == "b" ? atB : PollAction::kContinue;
    };
  };
  EXPECT_EQ(image->poll(until(PollAction::kAbort), 10), 1);
  EXPECT_EQ(bench.subscriberPosition.get(), 64);
  EXPECT_TRUE(image->hasWork());
  EXPECT_EQ(image->poll(until(PollAction::kBreak), 10), 1);
  EXPECT_EQ(bench.subscriberPosition.get(), 128);
  EXPECT_EQ(image->poll(until(PollAction::kBreak), 10), 1);
  EXPECT_EQ(seen, (Messages{"a", "b", "b", "c"}));
  EXPECT_FALSE(image->hasWork());
}

TEST(ImageTest, APollTakesAtMostItsLimitAndNeverPassesTheEndOfATerm) {
  PublicationBench bench;
  auto publication = bench.exclusive();
  for (int32_t i = 0; i < kTestTermLength / 64 + 10; ++i) {
    while (publication->offer("x", 1) == kOfferAdminAction) {
    }
  }
  auto image = bench.image();
  const auto ignore = [](const uint8_t*, int32_t, const FragmentHeader&) {};
  EXPECT_EQ(image->poll(ignore, 7), 7);
  EXPECT_EQ(image->poll(ignore, 1 << 20), kTestTermLength / 64 - 7);
  EXPECT_EQ(image->position(), kTestTermLength);
  EXPECT_EQ(image->poll(ignore, 1 << 20), 10);
}

TEST(ImageTest, PaddingIsToldWithItsPlaceAndIsNoFragment) {
  PublicationBench bench;
  auto publication = bench.exclusive();
  publication->offer("x", 1);
  BufferClaim claim;
  publication->tryClaim(100, claim);
  claim.abort();
  auto image = bench.image();
  std::vector<int64_t> pads;
  const auto onPad = [&](int64_t start, int32_t length, bool atTermEnd) { pads.insert(pads.end(), {start, length, atTermEnd ? 1 : 0}); };
  EXPECT_EQ(image->pollFrames([](const uint8_t*, int32_t, const FragmentHeader&) {}, onPad, 10), 1);
  EXPECT_EQ(pads, (std::vector<int64_t>{64, 160, 0}));
  EXPECT_EQ(image->position(), 224);
}

TEST(ImageTest, AnImpossibleFrameLengthStopsTheImageForGood) {
  for (const int32_t length : {1, 31, kTestTermLength + 1, INT32_MAX}) {
    PublicationBench bench;
    writeFrame(bench.log, 0, length, wire::FrameType::kData, wire::kFlagUnfragmented);
    auto image = bench.image();
    EXPECT_EQ(image->poll([](const uint8_t*, int32_t, const FragmentHeader&) {}, 10), 0) << length;
    EXPECT_TRUE(image->isDamaged()) << length;
    EXPECT_FALSE(image->hasWork());
    EXPECT_EQ(image->position(), 0);
  }
}

TEST(ImageTest, AJoinPositionThatIsNoneMakesItDamaged) {
  for (const int64_t position : {int64_t{-32}, int64_t{1}, INT64_MAX, INT64_MIN}) {
    PublicationBench bench;
    auto image = bench.image(position);
    EXPECT_TRUE(image->isDamaged()) << position;
    EXPECT_EQ(image->poll([](const uint8_t*, int32_t, const FragmentHeader&) {}, 10), 0);
  }
}

TEST(ImageTest, AClosedImageReadsNothingAndLeavesItsCounterAlone) {
  PublicationBench bench;
  bench.exclusive()->offer("x", 1);
  auto image = bench.image();
  image->close(ImageEndReason::kTimedOut);
  image->close(ImageEndReason::kClosed);
  EXPECT_EQ(image->endReason(), ImageEndReason::kTimedOut);
  EXPECT_EQ(image->poll([](const uint8_t*, int32_t, const FragmentHeader&) {}, 10), 0);
  EXPECT_EQ(bench.subscriberPosition.get(), 0);
}

TEST(ImageTest, ATermWithoutMemoryIsNotTouched) {
  PublicationBench bench;
  auto image = bench.image();
  struct stat before {};
  ASSERT_EQ(::fstat(bench.log.file.fd(), &before), 0);
  EXPECT_FALSE(image->hasWork());
  EXPECT_EQ(image->poll([](const uint8_t*, int32_t, const FragmentHeader&) {}, 10), 0);
  struct stat after {};
  ASSERT_EQ(::fstat(bench.log.file.fd(), &after), 0);
  EXPECT_EQ(before.st_blocks, after.st_blocks);
}

// ---- fragments ----

struct AssemblerBench {
  FragmentAssembler assembler{10'000};
  int64_t position = 0;
  uint8_t frame[64] = {};
  Messages messages;
  PollAction answer = PollAction::kContinue;

  PollAction feed(const std::string& data, uint8_t flags, int64_t hole = 0) {
    position += hole;
    FragmentHeader header{frame, position, position + 64, flags, nullptr};
    position += 64;
    const PollAction action = assembler.onFragment(reinterpret_cast<const uint8_t*>(data.data()), static_cast<int32_t>(data.size()), header,
                                                   [&](const uint8_t* message, int32_t length, const FragmentHeader&) {
                                                     messages.push_back(textOf(message, length));
                                                     return answer;
                                                   });
    if (action == PollAction::kAbort) position -= 64;
    return action;
  }
};

TEST(FragmentAssemblerTest, PutsFragmentsTogetherAndPassesWholeMessagesThrough) {
  AssemblerBench bench;
  bench.feed("whole", wire::kFlagUnfragmented);
  bench.feed("one ", wire::kFlagBegin);
  bench.feed("two ", 0);
  bench.feed("three", wire::kFlagEnd);
  EXPECT_EQ(bench.messages, (Messages{"whole", "one two three"}));
  EXPECT_FALSE(bench.assembler.isBuilding());
}

TEST(FragmentAssemblerTest, ALastFragmentThatIsAbortedComesAgain) {
  AssemblerBench bench;
  bench.feed("a", wire::kFlagBegin);
  bench.answer = PollAction::kAbort;
  EXPECT_EQ(bench.feed("b", wire::kFlagEnd), PollAction::kAbort);
  EXPECT_EQ(bench.feed("b", wire::kFlagEnd), PollAction::kAbort);
  bench.answer = PollAction::kContinue;
  bench.feed("b", wire::kFlagEnd);
  EXPECT_EQ(bench.messages, (Messages{"ab", "ab", "ab"}));
  EXPECT_EQ(bench.assembler.dropped(), 0U);
}

TEST(FragmentAssemblerTest, AMessageWithAHoleIsDroppedAndCounted) {
  AssemblerBench bench;
  bench.feed("a", wire::kFlagBegin);
  bench.feed("c", wire::kFlagEnd, 64);
  bench.feed("lost", wire::kFlagBegin);
  bench.feed("whole", wire::kFlagUnfragmented);
  bench.feed("rest of a message joined in its middle", 0);
  bench.feed("end", wire::kFlagEnd);
  EXPECT_EQ(bench.messages, (Messages{"whole"}));
  EXPECT_EQ(bench.assembler.dropped(), 2U);
}

TEST(FragmentAssemblerTest, FragmentsBeyondTheMaximumAreDropped) {
  AssemblerBench bench;
  const std::string large(4000, 'x');
  bench.feed(large, wire::kFlagBegin);
  bench.feed(large, 0);
  bench.feed(large, 0);
  bench.feed(large, wire::kFlagEnd);
  EXPECT_TRUE(bench.messages.empty());
  EXPECT_EQ(bench.assembler.dropped(), 1U);
}

// ---- log files ----

TEST(LogMappingTest, AFileThatContradictsItselfIsRefusedWithTheValue) {
  using namespace logbuffer;
  const auto refused = [](size_t offset, int32_t value) {
    PublicationBench bench;
    bench.log.log.put<int32_t>(offset, value);
    const auto mapping = LogMapping::open(bench.log.path, "/nowhere");
    return mapping.ok() ? std::string("taken") : mapping.error().message;
  };
  EXPECT_NE(refused(meta::kTermLength, 65537).find("term length 65537"), std::string::npos);
  EXPECT_NE(refused(meta::kTermLength, 128 * 1024).find("does not match"), std::string::npos);
  EXPECT_NE(refused(meta::kTermLength, -1).find("term length -1"), std::string::npos);
  EXPECT_NE(refused(meta::kPageSize, 3000).find("page size 3000"), std::string::npos);
  EXPECT_NE(refused(meta::kMtu, 33).find("MTU 33"), std::string::npos);
  EXPECT_NE(refused(meta::kMtu, 1 << 20).find("MTU 1048576"), std::string::npos);
  EXPECT_FALSE(LogMapping::open("/nowhere/at/all", "/nowhere").ok());
}

TEST(LogMappingTest, IsFoundWhereThisProcessSeesTheDirectory) {
  PublicationBench bench;
  const std::string name = bench.log.path.substr(bench.world.directory.path().size());
  const auto mapping = LogMapping::open("/mounted/elsewhere" + name, bench.world.directory.path());
  ASSERT_TRUE(mapping.ok()) << mapping.error().message;
  EXPECT_EQ((*mapping)->termLength(), kTestTermLength);
}

}  // namespace
}  // namespace outrigger::client
