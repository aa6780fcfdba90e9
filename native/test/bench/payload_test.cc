// SPDX-License-Identifier: Apache-2.0
// The check that every benchmark message goes through finds what it is there to find.
#include "../../bench/payload.h"

#include <gtest/gtest.h>

#include <vector>

namespace outrigger::bench {
namespace {

class PayloadTest : public testing::TestWithParam<int32_t> {
 protected:
  PayloadTest() : message_(static_cast<size_t>(GetParam())) {}
  int32_t length() const { return GetParam(); }

  const Payload payload_;
  std::vector<uint8_t> message_;
};

TEST_P(PayloadTest, AcceptsWhatWasFilled) {
  for (const int64_t sequence : {int64_t{0}, int64_t{1}, int64_t{16}, int64_t{1} << 40}) {
    payload_.fill(message_.data(), length(), sequence, 12345);
    EXPECT_TRUE(payload_.matches(message_.data(), length()));
    EXPECT_EQ(Payload::sequence(message_.data()), sequence);
    EXPECT_EQ(Payload::timeNs(message_.data()), 12345);
  }
}

TEST_P(PayloadTest, RefusesAnyChangedByteOfAMessageWhoseBodyIsChecked) {
  payload_.fill(message_.data(), length(), kBodyCheckInterval, 0);
  for (int32_t at = 0; at < length(); ++at) {
    if (at >= 8 && at < 16) continue;  // the time is not covered: it is data of the sender alone
    message_[static_cast<size_t>(at)] ^= 0x40;
    EXPECT_FALSE(payload_.matches(message_.data(), length())) << "byte " << at;
    message_[static_cast<size_t>(at)] ^= 0x40;
  }
}

TEST_P(PayloadTest, RefusesACutMessageAndAnotherMessagesEnd) {
  payload_.fill(message_.data(), length(), 7, 0);
  EXPECT_FALSE(payload_.matches(message_.data(), length() - 1));
  std::vector<uint8_t> other(message_.size());
  payload_.fill(other.data(), length(), 8, 0);
  std::copy(other.end() - 8, other.end(), message_.end() - 8);
  EXPECT_FALSE(payload_.matches(message_.data(), length()));
}

INSTANTIATE_TEST_SUITE_P(Lengths, PayloadTest, testing::Values(32, 33, 288, 1344, 4000));

TEST(LengthsTest, AMixHasShortAndFragmentedMessagesAndRepeatsTheSameWay) {
  const Lengths one("mix");
  const Lengths two("mix");
  int64_t total = 0;
  bool shortest = false;
  bool fragmented = false;
  for (int64_t sequence = 0; sequence < 4096; ++sequence) {
    ASSERT_EQ(one.of(sequence), two.of(sequence));
    total += one.of(sequence);
    shortest = shortest || one.of(sequence) == 32;
    fragmented = fragmented || one.of(sequence) > 1376;
  }
  EXPECT_TRUE(shortest && fragmented);
  RecordProperty("meanBytes", static_cast<int>(total / 4096));
  EXPECT_EQ(total / 4096, kMixMeanLength);
}

}  // namespace
}  // namespace outrigger::bench
