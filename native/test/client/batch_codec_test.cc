// SPDX-License-Identifier: Apache-2.0
#include "client/batch_codec.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace outrigger::client {
namespace {

std::string bytes(std::initializer_list<int> values) {
  std::string out;
  for (const int value : values) out.push_back(static_cast<char>(value));
  return out;
}

// The messages of the batch point into the request, which must outlive them.
CodecError read(const std::string& request, PublishBatch& batch) {
  return readPublishBatch(reinterpret_cast<const uint8_t*>(request.data()), request.size(), batch);
}

std::string textOf(const MessagePart& part) { return {static_cast<const char*>(part.data), static_cast<size_t>(part.length)}; }

std::string responseAt(const ResponseChunk& chunk, size_t index) {
  const auto& slice = chunk.responses().at(index);
  return {reinterpret_cast<const char*>(chunk.data()) + slice.begin, slice.length};
}

const uint8_t* text(const char* value) { return reinterpret_cast<const uint8_t*>(value); }

TEST(ReadPublishBatch, ReadsSequenceAndMessagesInOrder) {
  PublishBatch batch;
  const std::string request = bytes({0x12, 9, 0x08, 0x96, 0x01, 0x12, 2, 'h', 'i', 0x12, 0});
  ASSERT_EQ(read(request, batch), CodecError::kNone);
  EXPECT_EQ(batch.sequence, 150U);
  ASSERT_EQ(batch.messages.size(), 2U);
  EXPECT_EQ(textOf(batch.messages[0]), "hi");
  EXPECT_EQ(batch.messages[1].length, 0);
}

TEST(ReadPublishBatch, AnEmptyBatchIsABatch) {
  PublishBatch batch;
  EXPECT_EQ(read(bytes({0x12, 0}), batch), CodecError::kNone);
  EXPECT_TRUE(batch.messages.empty());
}

TEST(ReadPublishBatch, SkipsUnknownFieldsOfEveryWireType) {
  PublishBatch batch;
  const std::string unknown = bytes({0x78, 0x01}) + bytes({0x79, 1, 2, 3, 4, 5, 6, 7, 8}) + bytes({0x7a, 2, 0xff, 0xff}) +
                              bytes({0x7b, 0x08, 0x01, 0x13, 0x14, 0x7c}) + bytes({0x7d, 1, 2, 3, 4});
  std::string body = unknown + bytes({0x12, 1, 'x'}) + unknown;
  const std::string request = unknown + bytes({0x12, static_cast<int>(body.size())}) + body + unknown;
  ASSERT_EQ(read(request, batch), CodecError::kNone);
  ASSERT_EQ(batch.messages.size(), 1U);
  EXPECT_EQ(textOf(batch.messages[0]), "x");
}

TEST(ReadPublishBatch, AKnownFieldOfAnotherWireTypeIsUnknown) {
  PublishBatch batch;
  ASSERT_EQ(read(bytes({0x10, 5, 0x12, 4, 0x10, 7, 0x0a, 0}), batch), CodecError::kNone);
  EXPECT_TRUE(batch.messages.empty());
  EXPECT_EQ(batch.sequence, 0U);
}

TEST(ReadPublishBatch, PartsOfASplitBatchArePutTogether) {
  PublishBatch batch;
  ASSERT_EQ(read(bytes({0x12, 5, 0x08, 1, 0x12, 1, 'a', 0x12, 5, 0x08, 2, 0x12, 1, 'b'}), batch), CodecError::kNone);
  ASSERT_EQ(batch.messages.size(), 2U);
  EXPECT_EQ(batch.sequence, 2U);
}

TEST(ReadPublishBatch, OfSeveralMembersTheLastCounts) {
  PublishBatch batch;
  EXPECT_EQ(read(bytes({0x12, 3, 0x12, 1, 'a', 0x0a, 0}), batch), CodecError::kIsOpen);
  const std::string request = bytes({0x12, 3, 0x12, 1, 'a', 0x0a, 0, 0x12, 3, 0x12, 1, 'b'});
  ASSERT_EQ(read(request, batch), CodecError::kNone);
  ASSERT_EQ(batch.messages.size(), 1U);
  EXPECT_EQ(textOf(batch.messages[0]), "b");
}

TEST(ReadPublishBatch, SaysWhatIsWrongWithBytesThatAreNone) {
  PublishBatch batch;
  EXPECT_EQ(read("", batch), CodecError::kNoBatch);
  EXPECT_EQ(read(bytes({0x18, 1}), batch), CodecError::kNoBatch);
  EXPECT_EQ(read(bytes({0x12}), batch), CodecError::kTruncated);
  EXPECT_EQ(read(bytes({0x12, 2, 0x12}), batch), CodecError::kTruncated);
  EXPECT_EQ(read(bytes({0x12, 2, 0x12, 1}), batch), CodecError::kTruncated);
  EXPECT_EQ(read(bytes({0x12, 0xff, 0xff, 0xff, 0xff, 0x0f, 1}), batch), CodecError::kTruncated);
  EXPECT_EQ(read(bytes({0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}), batch), CodecError::kTruncated);
  EXPECT_EQ(read(bytes({0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02}), batch), CodecError::kBadVarint);
  EXPECT_EQ(read(bytes({0x02, 0}), batch), CodecError::kBadTag);
  EXPECT_EQ(read(bytes({0xf8, 0xff, 0xff, 0xff, 0x1f, 0}), batch), CodecError::kBadTag);
  EXPECT_EQ(read(bytes({0x7e}), batch), CodecError::kBadWireType);
  EXPECT_EQ(read(bytes({0x7c}), batch), CodecError::kBadWireType);
  EXPECT_EQ(read(bytes({0x7b, 0x74}), batch), CodecError::kBadWireType);
  EXPECT_EQ(read(std::string(500, '\x7b'), batch), CodecError::kTooDeep);
}

TEST(ReadPublishBatch, EveryPrefixAndEveryFlippedBitOfABatchIsReadOrRefused) {
  const std::string good = bytes({0x12, 16, 0x08, 0x96, 0x01, 0x12, 2, 'h', 'i', 0x7a, 1, 0, 0x12, 3, 'a', 'b', 'c', 0x12, 0});
  PublishBatch batch;
  for (size_t length = 0; length < good.size(); ++length) {
    // A copy of just that length, so that a sanitizer sees a read past it.
    EXPECT_NE(read(good.substr(0, length), batch), CodecError::kNone) << length;
  }
  for (size_t bit = 0; bit < good.size() * 8; ++bit) {
    std::string damaged = good;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << (bit % 8)));
    if (read(damaged, batch) != CodecError::kNone) continue;
    for (const MessagePart& part : batch.messages) {
      const auto* begin = reinterpret_cast<const uint8_t*>(damaged.data());
      const auto* at = static_cast<const uint8_t*>(part.data);
      EXPECT_TRUE(at >= begin && at + part.length <= begin + damaged.size());
    }
  }
}

TEST(ResponseChunk, WritesABatchWithItsHeaderInFront) {
  ResponseChunk chunk;
  chunk.addMessage(1, 2, 96, text("ab"), 2, 1000);
  chunk.addMessage(1, 2, 300, text("c"), 1, 1000);
  EXPECT_TRUE(chunk.responses().empty());
  chunk.seal();
  ASSERT_EQ(chunk.responses().size(), 1U);
  EXPECT_EQ(responseAt(chunk, 0), bytes({0x12, 14, 0x08, 1, 0x10, 2, 0x18, 0xac, 0x02, 0x22, 2, 'a', 'b', 0x22, 1, 'c'}));
  EXPECT_EQ(chunk.messages(), 2U);
  EXPECT_EQ(chunk.payloadBytes(), 3U);
}

TEST(ResponseChunk, NegativeNumbersTakeTenBytesAndZerosNone) {
  ResponseChunk chunk;
  chunk.addMessage(-1, 0, 0, nullptr, 0, 10);
  chunk.seal();
  EXPECT_EQ(responseAt(chunk, 0), bytes({0x12, 13, 0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0x22, 0}));
}

TEST(ResponseChunk, AnotherImageOrAFullBatchBeginsANewOne) {
  ResponseChunk chunk;
  const std::string payload(600, 'x');
  const auto* data = reinterpret_cast<const uint8_t*>(payload.data());
  chunk.addMessage(1, 9, 1, data, 600, 1000);
  chunk.addMessage(1, 9, 2, data, 400, 1000);
  chunk.addMessage(1, 9, 3, data, 1, 1000);
  chunk.addMessage(2, 9, 4, data, 1, 1000);
  chunk.addMessage(2, 9, 5, data, 600, 100);  // over the size: alone
  chunk.addMessage(2, 9, 6, data, 1, 100);
  chunk.seal();
  EXPECT_EQ(chunk.responses().size(), 5U);
}

TEST(ResponseChunk, EventsStandWhereTheyHappened) {
  ResponseChunk chunk;
  chunk.addImageAvailable(1, 32, "a:1");
  chunk.addMessage(1, 9, 64, text("m"), 1, 100);
  chunk.addGap(1, 64, 128, 3, GapCode::kSkipped);
  chunk.addLagging(0);
  chunk.addImageUnavailable(1, 128, ImageEndCode::kRevoked);
  chunk.seal();
  ASSERT_EQ(chunk.responses().size(), 5U);
  EXPECT_EQ(responseAt(chunk, 0), bytes({0x1a, 11, 0x0a, 9, 0x08, 1, 0x10, 32, 0x1a, 3, 'a', ':', '1'}));
  EXPECT_EQ(responseAt(chunk, 1), bytes({0x12, 9, 0x08, 1, 0x10, 9, 0x18, 64, 0x22, 1, 'm'}));
  EXPECT_EQ(responseAt(chunk, 2), bytes({0x1a, 13, 0x1a, 11, 0x08, 1, 0x10, 64, 0x18, 0x80, 0x01, 0x20, 3, 0x28, 1}));
  EXPECT_EQ(responseAt(chunk, 3), bytes({0x1a, 2, 0x20, 0}));
  EXPECT_EQ(responseAt(chunk, 4), bytes({0x1a, 9, 0x12, 7, 0x08, 1, 0x10, 0x80, 0x01, 0x18, 4}));
}

TEST(ResponseChunk, ASourceOfAnyBytesAndLengthBecomesShortAscii) {
  ResponseChunk chunk;
  chunk.addImageAvailable(INT32_MIN, INT64_MIN, std::string(4000, '\xff'));
  ASSERT_EQ(chunk.responses().size(), 1U);
  EXPECT_NE(responseAt(chunk, 0).find("????"), std::string::npos);
  EXPECT_EQ(responseAt(chunk, 0).find('\xfe'), std::string::npos);
  EXPECT_LT(responseAt(chunk, 0).size(), 400U);
}

TEST(ResponseChunk, CanBeUsedAgainAndGivesBackMemoryThatItNeedsNoMore) {
  ResponseChunk chunk;
  const std::string large(100'000, 'x');
  chunk.addMessage(1, 1, 1, reinterpret_cast<const uint8_t*>(large.data()), large.size(), 1 << 20);
  chunk.clear(1000);
  EXPECT_TRUE(chunk.empty());
  EXPECT_EQ(chunk.data(), nullptr);
  chunk.addMessage(1, 1, 1, text("y"), 1, 100);
  chunk.seal();
  EXPECT_EQ(responseAt(chunk, 0), bytes({0x12, 9, 0x08, 1, 0x10, 1, 0x18, 1, 0x22, 1, 'y'}));
}

}  // namespace
}  // namespace outrigger::client
