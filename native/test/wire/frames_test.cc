// SPDX-License-Identifier: Apache-2.0
// Whole-datagram validation: each frame type as it should be, and what a hostile or broken peer may send instead.
#include "wire/frames.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "base/random.h"

namespace outrigger::wire {
namespace {

using Bytes = std::vector<uint8_t>;

// A datagram in a heap block of exactly its length, so that a sanitizer sees a read past the end.
PacketKind classified(const Bytes& bytes) {
  const Bytes exact(bytes.begin(), bytes.end());
  return classify(exact.data(), exact.size());
}

template <typename Frame>
Bytes bytesOf(const Frame& frame) {
  Bytes bytes(sizeof(Frame));
  store(bytes.data(), frame);
  return bytes;
}

FrameHeader header(FrameType type, int32_t length, uint8_t flags = 0) { return FrameHeader{length, 0, flags, static_cast<uint16_t>(type)}; }

Bytes dataFrame(int32_t termOffset, int32_t payloadLength, FrameType type = FrameType::kData) {
  DataHeader frame{header(type, kDataHeaderLength + payloadLength, kFlagUnfragmented), termOffset, 11, 1001, 7, 0};
  Bytes bytes = bytesOf(frame);
  bytes.resize(static_cast<size_t>(alignedFrameLength(kDataHeaderLength + payloadLength)), 0x5A);
  return bytes;
}

Bytes joined(std::initializer_list<Bytes> parts) {
  Bytes all;
  for (const Bytes& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

template <typename T>
Bytes with(Bytes bytes, size_t offset, T value) {
  std::memcpy(bytes.data() + offset, &value, sizeof(value));
  return bytes;
}

Bytes pad(int32_t termOffset, int32_t frameLength) {
  return bytesOf(DataHeader{header(FrameType::kPad, frameLength), termOffset, 11, 1001, 7, 0});
}

constexpr size_t kLengthAt = 0;
constexpr size_t kVersionAt = 4;
constexpr size_t kTypeAt = 6;
constexpr size_t kTermOffsetAt = 8;
constexpr size_t kSessionAt = 12;
constexpr size_t kStreamAt = 16;
constexpr size_t kTermIdAt = 20;

Bytes heartbeat(uint8_t flags = kFlagUnfragmented) { return bytesOf(DataHeader{header(FrameType::kData, 0, flags), 4096, 11, 1001, 7, 0}); }

Bytes statusMessage() { return bytesOf(StatusMessageFrame{header(FrameType::kStatusMessage, 36), 11, 1001, 7, 4096, 131072, 99}); }
Bytes nak() { return bytesOf(NakFrame{header(FrameType::kNak, 28), 11, 1001, 7, 4096, 1408}); }
Bytes setup() { return bytesOf(SetupFrame{header(FrameType::kSetup, 40), 0, 11, 1001, 7, 7, 65536, 1408, 0}); }
Bytes rttm() { return bytesOf(RttMeasurementFrame{header(FrameType::kRttMeasurement, 40, kRttmFlagReply), 11, 1001, 1, 0, 99}); }
Bytes responseSetup() { return bytesOf(ResponseSetupFrame{header(FrameType::kResponseSetup, 20), 11, 1001, 12}); }
Bytes error(int32_t textLength) {
  Bytes bytes = bytesOf(ErrorFrame{header(FrameType::kError, 40 + textLength), 11, 1001, 99, 0, 13, textLength});
  bytes.resize(bytes.size() + static_cast<size_t>(textLength), 'x');
  return bytes;
}

TEST(Classify, takesOneDataFrame) {
  for (const int32_t payload : {0, 1, 31, 32, 33, 1376}) {
    EXPECT_EQ(classified(dataFrame(0, payload)), PacketKind::kData) << payload;
  }
  EXPECT_EQ(classified(dataFrame(1 << 20, 65504 - 32)), PacketKind::kData);
}

TEST(Classify, takesSeveralContiguousDataFramesAndAPadBehind) {
  EXPECT_EQ(classified(joined({dataFrame(64, 10), dataFrame(128, 100), dataFrame(288, 0)})), PacketKind::kData);
  EXPECT_EQ(classified(joined({dataFrame(64, 10), pad(128, 65536 - 128)})), PacketKind::kData);
  EXPECT_EQ(classified(pad(65536 - 32, 32)), PacketKind::kData);
}

TEST(Classify, takesHeartbeats) {
  EXPECT_EQ(classified(heartbeat()), PacketKind::kData);
  EXPECT_EQ(classified(heartbeat(kFlagUnfragmented | kFlagEos)), PacketKind::kData);
  EXPECT_TRUE(isHeartbeat(heartbeat().data(), 32));
  EXPECT_FALSE(isHeartbeat(dataFrame(0, 0).data(), 32));
  EXPECT_FALSE(isHeartbeat(heartbeat().data(), 64));
}

TEST(Classify, takesEachControlFrame) {
  EXPECT_EQ(classified(nak()), PacketKind::kNak);
  EXPECT_EQ(classified(statusMessage()), PacketKind::kStatusMessage);
  EXPECT_EQ(classified(setup()), PacketKind::kSetup);
  EXPECT_EQ(classified(rttm()), PacketKind::kRttMeasurement);
  EXPECT_EQ(classified(responseSetup()), PacketKind::kResponseSetup);
  EXPECT_EQ(classified(error(0)), PacketKind::kError);
  EXPECT_EQ(classified(error(kMaxErrorTextLength)), PacketKind::kError);
  EXPECT_EQ(classified(bytesOf(header(FrameType::kResolution, 8))), PacketKind::kResolution);
}

TEST(Classify, takesAStatusMessageWithAGroupTag) {
  Bytes bytes = with<int32_t>(statusMessage(), kLengthAt, kStatusMessageWithGroupTagLength);
  bytes.resize(kStatusMessageWithGroupTagLength);
  EXPECT_EQ(classified(bytes), PacketKind::kStatusMessage);
}

TEST(Classify, setsAsideTypesItTakesNoPartIn) {
  for (const uint16_t type : {uint16_t{8}, uint16_t{9}, uint16_t{10}, uint16_t{0xFFFF}}) {
    EXPECT_EQ(classified(bytesOf(FrameHeader{8, 0, 0, type})), PacketKind::kUnsupported) << type;
  }
  for (const uint16_t type : {uint16_t{12}, uint16_t{0x0100}, uint16_t{0x7FFF}}) {
    EXPECT_EQ(classified(bytesOf(FrameHeader{8, 0, 0, type})), PacketKind::kInvalid) << type;
  }
}

TEST(Classify, refusesWhatIsShorterThanItsFrame) {
  for (const Bytes& whole :
       {nak(), statusMessage(), setup(), rttm(), responseSetup(), error(0), dataFrame(0, 0), pad(0, 64), heartbeat()}) {
    for (size_t length = 0; length < whole.size(); ++length) {
      EXPECT_EQ(classified(Bytes(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(length))), PacketKind::kInvalid)
          << "type " << static_cast<int>(frameType(whole.data())) << " cut to " << length;
    }
  }
}

TEST(Classify, refusesOtherVersionsAndNegativeLengths) {
  for (const Bytes& whole :
       {nak(), statusMessage(), setup(), rttm(), responseSetup(), error(3), dataFrame(0, 8), pad(0, 64), heartbeat()}) {
    EXPECT_EQ(classified(with<uint8_t>(whole, kVersionAt, 1)), PacketKind::kInvalid);
    EXPECT_EQ(classified(with<int32_t>(whole, kLengthAt, -1)), PacketKind::kInvalid);
    EXPECT_EQ(classified(with<int32_t>(whole, kLengthAt, INT32_MIN)), PacketKind::kInvalid);
    EXPECT_EQ(classified(with<int32_t>(whole, kLengthAt, 7)), PacketKind::kInvalid);
  }
}

TEST(Classify, refusesControlFramesThatClaimMoreThanTheDatagramHolds) {
  for (const Bytes& whole : {nak(), statusMessage(), setup(), rttm(), responseSetup(), error(3)}) {
    for (const int32_t claimed : {static_cast<int32_t>(whole.size()) + 1, INT32_MAX}) {
      EXPECT_EQ(classified(with<int32_t>(whole, kLengthAt, claimed)), PacketKind::kInvalid);
    }
  }
}

TEST(Classify, refusesControlFramesWithNegativeFields) {
  EXPECT_EQ(classified(with<int32_t>(nak(), 20, -32)), PacketKind::kInvalid) << "term offset";
  EXPECT_EQ(classified(with<int32_t>(nak(), 24, -1)), PacketKind::kInvalid) << "length";
  EXPECT_EQ(classified(with<int32_t>(statusMessage(), 20, -32)), PacketKind::kInvalid) << "consumption term offset";
  EXPECT_EQ(classified(with<int32_t>(statusMessage(), 24, -1)), PacketKind::kInvalid) << "receiver window";
}

TEST(Classify, refusesErrorFramesWhoseTextIsNotThere) {
  EXPECT_EQ(classified(with<int32_t>(error(10), 36, 11)), PacketKind::kInvalid);
  EXPECT_EQ(classified(with<int32_t>(error(10), 36, -1)), PacketKind::kInvalid);
  EXPECT_EQ(classified(with<int32_t>(error(10), 36, INT32_MAX)), PacketKind::kInvalid);
  EXPECT_EQ(classified(error(kMaxErrorTextLength + 1)), PacketKind::kInvalid);
}

TEST(Classify, refusesDataThatIsNotAMultipleOfTheAlignment) {
  Bytes bytes = dataFrame(0, 64);
  bytes.push_back(0);
  EXPECT_EQ(classified(bytes), PacketKind::kInvalid);
  bytes.resize(dataFrame(0, 64).size() - 1);
  EXPECT_EQ(classified(bytes), PacketKind::kInvalid);
}

TEST(Classify, refusesDataWithBadOffsets) {
  EXPECT_EQ(classified(with<int32_t>(dataFrame(0, 8), kTermOffsetAt, -32)), PacketKind::kInvalid);
  EXPECT_EQ(classified(with<int32_t>(dataFrame(0, 8), kTermOffsetAt, 8)), PacketKind::kInvalid);
  EXPECT_EQ(classified(with<int32_t>(heartbeat(), kTermOffsetAt, -32)), PacketKind::kInvalid);
  EXPECT_EQ(classified(joined({dataFrame(64, 10), dataFrame(64, 10)})), PacketKind::kInvalid) << "the same offset twice";
  EXPECT_EQ(classified(joined({dataFrame(64, 10), dataFrame(160, 10)})), PacketKind::kInvalid) << "a hole";
  EXPECT_EQ(classified(joined({dataFrame(0x7FFFFFE0, 0), with<int32_t>(dataFrame(0, 0), kTermOffsetAt, INT32_MIN)})), PacketKind::kInvalid)
      << "offsets that wrap";
}

TEST(Classify, refusesSeveralStreamsInOneDatagram) {
  for (const size_t at : {kSessionAt, kStreamAt, kTermIdAt}) {
    EXPECT_EQ(classified(joined({dataFrame(0, 0), with<int32_t>(dataFrame(32, 0), at, 5)})), PacketKind::kInvalid) << at;
  }
}

TEST(Classify, refusesLaterFramesThatBreakARule) {
  const Bytes first = dataFrame(0, 0);
  EXPECT_EQ(classified(joined({first, with<int32_t>(dataFrame(32, 0), kLengthAt, 0)})), PacketKind::kInvalid) << "a heartbeat inside";
  EXPECT_EQ(classified(joined({first, with<int32_t>(dataFrame(32, 0), kLengthAt, -32)})), PacketKind::kInvalid) << "a claimed frame";
  EXPECT_EQ(classified(joined({first, with<int32_t>(dataFrame(32, 0), kLengthAt, 31)})), PacketKind::kInvalid);
  EXPECT_EQ(classified(joined({first, with<int32_t>(dataFrame(32, 0), kLengthAt, 33)})), PacketKind::kInvalid) << "past the end";
  EXPECT_EQ(classified(joined({first, with<int32_t>(dataFrame(32, 0), kLengthAt, INT32_MAX)})), PacketKind::kInvalid);
  EXPECT_EQ(classified(joined({first, with<uint8_t>(dataFrame(32, 0), kVersionAt, 1)})), PacketKind::kInvalid);
  EXPECT_EQ(classified(joined({first, with<uint16_t>(dataFrame(32, 0), kTypeAt, 3)})), PacketKind::kInvalid) << "a status message inside";
  EXPECT_EQ(classified(joined({first, Bytes(32, 0)})), PacketKind::kInvalid) << "trailing zeros";
}

TEST(Classify, refusesDataFramesThatOverflow) {
  EXPECT_EQ(classified(with<int32_t>(dataFrame(0, 0), kLengthAt, INT32_MAX)), PacketKind::kInvalid);
  EXPECT_EQ(classified(with<int32_t>(dataFrame(0, 0), kLengthAt, INT32_MAX - 30)), PacketKind::kInvalid);
  EXPECT_EQ(classified(with<int32_t>(dataFrame(0, 0), kLengthAt, 64)), PacketKind::kInvalid);
}

TEST(Classify, refusesPadsInTheWrongPlace) {
  EXPECT_EQ(classified(joined({pad(0, 32), dataFrame(32, 0)})), PacketKind::kInvalid) << "a PAD is last";
  Bytes withBody = pad(0, 64);
  withBody.resize(64);
  EXPECT_EQ(classified(withBody), PacketKind::kInvalid) << "a PAD travels without its body";
  EXPECT_EQ(classified(pad(0, 0)), PacketKind::kInvalid) << "a heartbeat is DATA";
  EXPECT_EQ(classified(pad(0, 31)), PacketKind::kInvalid);
}

// Every accepted datagram keeps its promise whatever the bytes: walking its frames stays inside it.
TEST(Classify, neverAcceptsWhatCannotBeWalked) {
  Random random(2026);
  const Bytes base = joined({dataFrame(64, 10), dataFrame(128, 100), pad(288, 1024)});
  for (int round = 0; round < 200'000; ++round) {
    Bytes bytes = base;
    for (uint64_t changes = 1 + random.below(3); changes > 0; --changes) {
      bytes[random.below(bytes.size())] = static_cast<uint8_t>(random.next());
    }
    if (random.chance(0.2)) bytes.resize(random.below(bytes.size() + 1));
    if (classified(bytes) != PacketKind::kData || isHeartbeat(bytes.data(), bytes.size())) continue;
    size_t offset = 0;
    while (offset < bytes.size()) {
      ASSERT_LE(offset + kDataHeaderLength, bytes.size());
      const auto frame = load<DataHeader>(bytes.data() + offset);
      ASSERT_GE(frame.header.frameLength, kDataHeaderLength);
      const bool isPad = frameType(bytes.data() + offset) == FrameType::kPad;
      offset += isPad ? static_cast<size_t>(kDataHeaderLength) : static_cast<size_t>(alignedFrameLength(frame.header.frameLength));
    }
    ASSERT_EQ(offset, bytes.size());
  }
}

}  // namespace
}  // namespace outrigger::wire
