// SPDX-License-Identifier: Apache-2.0
// What the driver does to terms: positions, insertion, gaps, trains, unblocking.
#include "logbuffer/term_ops.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace outrigger::logbuffer {
namespace {

constexpr int32_t kTerm = kMinTermLength;
constexpr int32_t kMtu = 1408;

class Term : public ::testing::Test {
 protected:
  std::vector<int64_t> memory = std::vector<int64_t>(static_cast<size_t>(logFileLength(kTerm, 4096)) / 8);
  LogBuffer log{reinterpret_cast<uint8_t*>(memory.data()), kTerm};
  static constexpr int32_t kInitial = 100;

  Term() { log.initialiseTails(kInitial, kInitial, 0); }
  // A committed frame; returns the offset behind it.
  static int32_t put(uint8_t* term, int32_t offset, int32_t length, wire::FrameType type = wire::FrameType::kData) {
    writeAt<uint16_t>(term, static_cast<size_t>(offset) + 6, static_cast<uint16_t>(type));
    writeAt<int32_t>(term, static_cast<size_t>(offset) + 8, offset);
    frameLengthRelease(term + offset, length);
    return offset + wire::alignedFrameLength(length);
  }
  static std::vector<uint8_t> frame(int32_t offset, int32_t length, uint8_t fill, wire::FrameType type = wire::FrameType::kData) {
    std::vector<uint8_t> bytes(static_cast<size_t>(wire::alignedFrameLength(length)), 0);
    if (type == wire::FrameType::kPad) bytes.resize(wire::kDataHeaderLength);
    writeAt<int32_t>(bytes.data(), 0, length);
    bytes[5] = wire::kFlagUnfragmented;
    writeAt<uint16_t>(bytes.data(), 6, static_cast<uint16_t>(type));
    writeAt<int32_t>(bytes.data(), 8, offset);
    for (size_t i = wire::kDataHeaderLength; i < static_cast<size_t>(length) && i < bytes.size(); ++i) bytes[i] = fill;
    return bytes;
  }
  void tail(int32_t index, int32_t termId, int32_t offset) { storeRelease<int64_t>(log.tailAddress(index), packTail(termId, offset)); }
};

// ---- positions ----

TEST_F(Term, PositionsAndTermIdsConvertBothWaysAcrossTheWrapOfTermIds) {
  const int32_t bits = positionBitsToShift(kTerm);
  for (const int32_t initial : {0, 7, -1, INT32_MAX, INT32_MIN}) {
    for (const int64_t terms : {int64_t{0}, int64_t{1}, int64_t{5}, int64_t{INT32_MAX}}) {
      const int64_t position = terms * kTerm + 96;
      const int32_t termId = termIdFromPosition(position, bits, initial);
      EXPECT_EQ(computePosition(termId, 96, bits, initial), position) << initial << " " << terms;
      EXPECT_EQ(termOffsetFromPosition(position, kTerm), 96);
      EXPECT_EQ(indexByPosition(position, bits), terms % 3);
    }
  }
}

TEST_F(Term, ATailThatOverranItsTermIsCut) {
  EXPECT_EQ(tailOffset(packTail(5, kTerm + 4096), kTerm), kTerm);
  EXPECT_EQ(tailOffset(packTail(5, 64), kTerm), 64);
  EXPECT_EQ(tailTermId(packTail(-3, 64)), -3);
}

TEST_F(Term, RotationGoesToTheNextTermOnceWhoeverTries) {
  EXPECT_TRUE(log.rotate(0, kInitial));
  EXPECT_FALSE(log.rotate(0, kInitial));
  EXPECT_EQ(log.producerPosition(kInitial), kTerm);
  EXPECT_TRUE(log.rotate(1, kInitial + 1));
  EXPECT_TRUE(log.rotate(2, kInitial + 2));
  EXPECT_EQ(log.producerPosition(kInitial), 3 * int64_t{kTerm});
}

TEST_F(Term, APublicationMayStartAnywhere) {
  log.initialiseTails(kInitial, kInitial + 7, 320);
  EXPECT_EQ(log.producerPosition(kInitial), 7 * int64_t{kTerm} + 320);
  EXPECT_TRUE(log.rotate(7, kInitial + 7));
  EXPECT_EQ(log.producerPosition(kInitial), 8 * int64_t{kTerm});
}

TEST_F(Term, TheMetadataOfAPaddedFileIsItsLastPage) {
  constexpr int32_t kPage = 64 * 1024;
  EXPECT_EQ(logFileLength(kTerm, kPage) % kPage, 0U);
  const LogBuffer padded(reinterpret_cast<uint8_t*>(memory.data()), kTerm, logFileLength(kTerm, kPage));
  EXPECT_EQ(padded.metadata() - reinterpret_cast<uint8_t*>(memory.data()),
            static_cast<std::ptrdiff_t>(logFileLength(kTerm, kPage)) - kMetadataLength);
}

// ---- insertion and gaps ----

TEST_F(Term, InsertedFramesBecomeReadableAndDuplicatesChangeNothing) {
  uint8_t* term = log.term(0);
  const auto first = frame(64, 100, 0xAA);
  insertFrames(term, 64, first.data(), static_cast<int32_t>(first.size()));
  EXPECT_EQ(frameLengthAcquire(term + 64), 100);
  EXPECT_EQ(term[64 + 40], 0xAA);
  const auto liar = frame(64, 100, 0xBB);
  insertFrames(term, 64, liar.data(), static_cast<int32_t>(liar.size()));
  EXPECT_EQ(term[64 + 40], 0xAA);
}

TEST_F(Term, ADatagramOfSeveralFramesFillsOnlyTheHolesItMeets) {
  uint8_t* term = log.term(0);
  put(term, 128, 64);
  std::vector<uint8_t> packet = frame(0, 100, 1);
  for (const auto& more : {frame(128, 64, 2), frame(192, 50, 3)}) packet.insert(packet.end(), more.begin(), more.end());
  insertFrames(term, 0, packet.data(), static_cast<int32_t>(packet.size()));
  EXPECT_EQ(scanContiguous(term, 0, kTerm), 256);
  EXPECT_EQ(term[128 + 40], 0) << "what stood there stays";
  EXPECT_EQ(term[192 + 40], 3);
}

TEST_F(Term, APadIsStoredWithItsHeaderAndCoversItsWholeLength) {
  uint8_t* term = log.term(0);
  const auto pad = frame(0, 4096, 0, wire::FrameType::kPad);
  insertFrames(term, 0, pad.data(), static_cast<int32_t>(pad.size()));
  EXPECT_EQ(scanContiguous(term, 0, kTerm), 4096);
}

TEST_F(Term, TheFirstGapIsFoundWithItsLength) {
  uint8_t* term = log.term(0);
  put(term, 0, 64);
  put(term, 160, 64);
  int32_t length = 0;
  EXPECT_EQ(findGap(term, 0, 224, length), 64);
  EXPECT_EQ(length, 96);
  EXPECT_EQ(findGap(term, 160, 224, length), 224);
  EXPECT_EQ(length, 0);
}

TEST_F(Term, AGapOfAnUnreliableImageIsFilledUnlessAFrameCame) {
  uint8_t* term = log.term(0);
  put(term, 0, 64);
  put(term, 192, 64);
  EXPECT_FALSE(fillGap(term, 64, 192, 1, 2, kInitial)) << "a frame stands inside";
  EXPECT_TRUE(fillGap(term, 64, 128, 1, 2, kInitial));
  EXPECT_EQ(wire::frameType(term + 64), wire::FrameType::kPad);
  EXPECT_EQ(scanContiguous(term, 0, kTerm), 256);
}

// ---- trains ----

Train cut(const uint8_t* term, int32_t offset, int32_t maxLength, bool& invalid, int32_t segments = 64, int32_t bytes = 65'000) {
  return cutTrain(term, kTerm, offset, maxLength, kMtu, segments, bytes, invalid);
}

TEST_F(Term, FramesOfOneLengthBecomeOneTrain) {
  uint8_t* term = log.term(0);
  int32_t end = 0;
  for (int i = 0; i < 10; ++i) end = put(term, end, kMtu);
  bool invalid = true;
  const Train train = cut(term, 0, kTerm, invalid);
  EXPECT_FALSE(invalid);
  EXPECT_EQ(train.length, 10 * kMtu);
  EXPECT_EQ(train.segmentLength, kMtu);
  EXPECT_EQ(train.padding, 0);
}

TEST_F(Term, SmallFramesShareADatagramUpToTheMtu) {
  uint8_t* term = log.term(0);
  int32_t end = 0;
  for (int i = 0; i < 30; ++i) end = put(term, end, 320);
  bool invalid = false;
  const Train train = cut(term, 0, kTerm, invalid);
  EXPECT_EQ(train.segmentLength, 4 * 320);
  EXPECT_EQ(train.length, 30 * 320) << "the last datagram may be shorter";
}

TEST_F(Term, ATrainEndsAtAShorterDatagramAClaimAndItsLimits) {
  uint8_t* term = log.term(0);
  bool invalid = false;
  int32_t end = put(term, 0, kMtu);
  end = put(term, end, 640);
  end = put(term, end, kMtu);
  EXPECT_EQ(cut(term, 0, kTerm, invalid).length, kMtu + 640);
  EXPECT_EQ(cut(term, 0, kMtu, invalid).length, kMtu);
  EXPECT_EQ(cut(term, 0, kMtu - 32, invalid).length, 0) << "a frame is never cut";
  EXPECT_EQ(cut(term, 0, kTerm, invalid, 1).length, kMtu);
  EXPECT_EQ(cut(term, 0, kTerm, invalid, 64, kMtu + 100).length, kMtu);
  frameLengthRelease(term + end, -100);
  EXPECT_EQ(cut(term, end, kTerm, invalid).length, 0);
  EXPECT_FALSE(invalid);
}

TEST_F(Term, APadTravelsAsItsHeaderAndAccountsForTheRest) {
  uint8_t* term = log.term(0);
  const int32_t end = put(term, 0, 640);
  put(term, end, kTerm - end, wire::FrameType::kPad);
  bool invalid = false;
  const Train train = cut(term, 0, kTerm, invalid);
  EXPECT_EQ(train.length, 640 + wire::kDataHeaderLength);
  EXPECT_EQ(train.length + train.padding, kTerm);
  const Train windowed = cut(term, end, wire::kDataHeaderLength, invalid);
  EXPECT_EQ(windowed.length + windowed.padding, kTerm - end) << "a PAD may be longer than any window";
}

TEST_F(Term, ImpossibleFrameLengthsNeverLeaveTheTerm) {
  uint8_t* term = log.term(0);
  for (const int32_t length : {1, 31, kTerm + 32, INT32_MAX, kMtu + 32}) {
    put(term, 0, 32);
    frameLengthRelease(term, length);
    bool invalid = false;
    EXPECT_EQ(cut(term, 0, kTerm, invalid).length, 0) << length;
    EXPECT_TRUE(invalid) << length;
  }
  frameLengthRelease(term + kTerm - 32, 64);
  bool invalid = false;
  EXPECT_EQ(cut(term, kTerm - 32, 32, invalid).length, 0);
  EXPECT_TRUE(invalid);
}

// ---- unblocking ----

TEST_F(Term, AClaimWithALengthBecomesAPadOfThatLength) {
  uint8_t* term = log.term(0);
  frameLengthRelease(term + 64, -128);
  tail(0, kInitial, 256);
  ASSERT_TRUE(unblockLog(log, 64, kInitial));
  EXPECT_EQ(frameLengthAcquire(term + 64), 128);
  EXPECT_EQ(wire::frameType(term + 64), wire::FrameType::kPad);
  EXPECT_EQ(readAt<int32_t>(term, 64 + 8), 64);
  EXPECT_EQ(readAt<int32_t>(term, 64 + 20), kInitial);
}

TEST_F(Term, AClaimWithoutALengthIsPaddedUpToTheNextFrame) {
  uint8_t* term = log.term(0);
  put(term, 192, 64);
  tail(0, kInitial, 256);
  ASSERT_TRUE(unblockLog(log, 64, kInitial));
  EXPECT_EQ(frameLengthAcquire(term + 64), 128);
}

TEST_F(Term, AClaimAtTheTailIsPaddedUpToIt) {
  tail(0, kInitial, 256);
  ASSERT_TRUE(unblockLog(log, 64, kInitial));
  EXPECT_EQ(frameLengthAcquire(log.term(0) + 64), 192);
  EXPECT_FALSE(unblockLog(log, 256, kInitial)) << "nothing is claimed there";
}

TEST_F(Term, ATripThatNobodyFinishedIsPaddedAndRotated) {
  tail(0, kInitial, kTerm + 1024);
  ASSERT_TRUE(unblockLog(log, kTerm - 128, kInitial));
  EXPECT_EQ(frameLengthAcquire(log.term(0) + kTerm - 128), 128);
  EXPECT_EQ(log.producerPosition(kInitial), kTerm);
}

TEST_F(Term, ARotationThatNobodyFinishedIsFinished) {
  put(log.term(0), 0, kTerm, wire::FrameType::kPad);
  tail(0, kInitial, kTerm + 64);
  ASSERT_TRUE(unblockLog(log, kTerm, kInitial));
  EXPECT_EQ(log.producerPosition(kInitial), kTerm);
  EXPECT_FALSE(unblockLog(log, kTerm, kInitial));
}

TEST_F(Term, ACommittedFrameIsNotTouched) {
  put(log.term(0), 64, 100);
  tail(0, kInitial, 256);
  EXPECT_FALSE(unblockLog(log, 64, kInitial));
  EXPECT_EQ(frameLengthAcquire(log.term(0) + 64), 100);
}

TEST_F(Term, HostileClaimsAndTailsStayInsideTheTerm) {
  uint8_t* term = log.term(0);
  for (const int32_t claimed : {INT32_MIN, -1, -31, -(kTerm + 1)}) {
    frameLengthRelease(term + 64, claimed);
    tail(0, kInitial, 256);
    EXPECT_FALSE(unblockLog(log, 64, kInitial)) << claimed;
  }
  frameLengthRelease(term + 64, 0);
  tail(0, kInitial + 5, 256);
  EXPECT_FALSE(unblockLog(log, 64, kInitial)) << "the tail is of another term";
  tail(0, kInitial, 32);
  EXPECT_FALSE(unblockLog(log, 64, kInitial)) << "the tail is behind";
}

// Frames of one run, their flags as told, and what a time leaves in them.
class Stamps : public ::testing::Test {
 protected:
  static constexpr int64_t kTime = 0x0102030405060708;

  void add(int32_t length, uint8_t flags = wire::kFlagUnfragmented, wire::FrameType type = wire::FrameType::kData) {
    const size_t at = run.size();
    const bool pad = type == wire::FrameType::kPad;
    run.resize(at + static_cast<size_t>(pad ? wire::kDataHeaderLength : wire::alignedFrameLength(length)), 0);
    writeAt<int32_t>(run.data(), at, length);
    run[at + 5] = flags;
    writeAt<uint16_t>(run.data(), at + 6, static_cast<uint16_t>(type));
    begins.push_back(at);
  }
  void stamp(int32_t offset) { stampFrames(run.data(), run.data(), static_cast<int32_t>(run.size()), FrameStamp{offset, kTime}); }
  int64_t timeOf(size_t frame, int32_t offset) const {
    return readAt<int64_t>(run.data(), begins[frame] + static_cast<size_t>(wire::kDataHeaderLength + offset));
  }
  // Bytes that are not zero behind the first 8 of each header.
  size_t written() const {
    std::vector<uint8_t> rest = run;
    for (const size_t at : begins) std::fill_n(rest.begin() + static_cast<std::ptrdiff_t>(at), 8, uint8_t{0});
    return static_cast<size_t>(std::count_if(rest.begin(), rest.end(), [](uint8_t byte) { return byte != 0; }));
  }

  std::vector<uint8_t> run;
  std::vector<size_t> begins;
};

TEST_F(Stamps, EveryMessageOfARunGetsTheTimeWhereItBeginsAndNothingElseDoes) {
  add(32 + 8);
  add(32 + 100, wire::kFlagBegin);
  add(32 + 100, 0);
  add(32 + 50, wire::kFlagEnd);
  add(32);
  add(4096, wire::kFlagUnfragmented, wire::FrameType::kPad);
  stamp(kReservedValueStamp);
  for (const size_t frame : {0U, 1U, 4U}) EXPECT_EQ(timeOf(frame, kReservedValueStamp), kTime) << frame;
  EXPECT_EQ(written(), 3 * sizeof(kTime));
}

TEST_F(Stamps, AMessageThatIsTooShortForTheTimeIsLeftAlone) {
  add(32 + 15);
  add(32 + 16);
  add(32 + 23);
  stamp(8);
  EXPECT_EQ(timeOf(1, 8), kTime);
  EXPECT_EQ(timeOf(2, 8), kTime);
  EXPECT_EQ(written(), 2 * sizeof(kTime));
  stamp(kMaxStampOffset);
  EXPECT_EQ(written(), 2 * sizeof(kTime));
}

TEST_F(Stamps, NothingIsWrittenOutsideOfARunWhateverLengthsItClaims) {
  for (const int32_t claimed : {INT32_MIN, -1, 0, 31, 96 + 1, INT32_MAX - 31, INT32_MAX}) {
    run.assign(96, 0);
    begins = {0};
    run[5] = wire::kFlagUnfragmented;
    writeAt<uint16_t>(run.data(), 6, static_cast<uint16_t>(wire::FrameType::kData));
    writeAt<int32_t>(run.data(), 0, claimed);
    for (const int32_t offset : {kReservedValueStamp, 0, 56, kMaxStampOffset}) stamp(offset);
    EXPECT_EQ(written(), 0U) << claimed;
  }
}

TEST_F(Stamps, AFreshRunIsReadableWithItsTimesIn) {
  add(32 + 64);
  add(32 + 64);
  std::vector<uint8_t> term(1024, 0xFF);
  const FrameStamp stamps[] = {{kReservedValueStamp, 5}, {16, 6}};
  insertFreshRun(term.data(), 64, run.data(), static_cast<int32_t>(run.size()), stamps);
  for (const size_t at : begins) {
    EXPECT_EQ(readAt<int64_t>(term.data(), 64 + at + 24), 5);
    EXPECT_EQ(readAt<int64_t>(term.data(), 64 + at + 32 + 16), 6);
  }
  EXPECT_EQ(frameLengthAcquire(term.data() + 64), 96);
  EXPECT_EQ(written(), 0U) << "what arrived is as it arrived";
}

}  // namespace
}  // namespace outrigger::logbuffer
