// SPDX-License-Identifier: Apache-2.0
// The checksum against the words of RFC 1071, over every length and alignment that the fast passes treat differently.
#include <gtest/gtest.h>

#include <vector>

#include "base/random.h"
#include "io/stack/checksum.h"

namespace outrigger::io {
namespace {

// As the RFC's own program: 16-bit words in network order, carries folded back.
uint16_t reference(const uint8_t* data, size_t length) {
  uint32_t sum = 0;
  for (size_t i = 0; i < length; i += 2) {
    sum += static_cast<uint32_t>(data[i] << 8 | (i + 1 < length ? data[i + 1] : 0));
    sum = (sum & 0xFFFF) + (sum >> 16);
  }
  return static_cast<uint16_t>(sum);
}

uint16_t inNetworkOrder(uint16_t memoryOrder) { return __builtin_bswap16(memoryOrder); }

// 0 and 0xFFFF are both zero in one's complement.
uint16_t normal(uint16_t sum) { return sum == 0xFFFF ? uint16_t{0} : sum; }

std::vector<uint8_t> randomBytes(size_t length, uint64_t seed) {
  Random random(seed);
  std::vector<uint8_t> bytes(length);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random.next());
  return bytes;
}

TEST(Checksum, equalsTheReferenceForEveryLengthAndAlignment) {
  const std::vector<uint8_t> bytes = randomBytes(700, 1);
  for (size_t offset = 0; offset < 9; ++offset) {
    for (size_t length = 0; length <= 600; ++length) {
      const uint16_t expected = normal(reference(bytes.data() + offset, length));
      ASSERT_EQ(normal(inNetworkOrder(foldSum(sumBytes(bytes.data() + offset, length)))), expected) << offset << " " << length;
      ASSERT_EQ(normal(inNetworkOrder(foldSum(sumBytesPortable(bytes.data() + offset, length)))), expected) << offset << " " << length;
    }
  }
}

TEST(Checksum, copiesExactlyWhatItSums) {
  const std::vector<uint8_t> from = randomBytes(2100, 2);
  for (const size_t length : {0, 1, 2, 3, 4, 7, 15, 16, 17, 31, 63, 64, 65, 127, 128, 1407, 1408, 1409, 2047}) {
    for (const size_t offset : {0, 1, 2, 42}) {
      std::vector<uint8_t> fast(2200, 0xEE);
      std::vector<uint8_t> portable(2200, 0xEE);
      const uint64_t sum = copyAndSum(fast.data() + offset, from.data() + 3, length);
      ASSERT_EQ(foldSum(sum), foldSum(sumBytes(from.data() + 3, length)));
      ASSERT_EQ(foldSum(copyAndSumPortable(portable.data() + offset, from.data() + 3, length)), foldSum(sum));
      std::vector<uint8_t> expected(2200, 0xEE);
      std::copy_n(from.begin() + 3, length, expected.begin() + static_cast<ptrdiff_t>(offset));
      ASSERT_EQ(fast, expected) << length;
      ASSERT_EQ(portable, expected) << length;
    }
  }
}

TEST(Checksum, carriesDoNotGetLostInTheLongestDatagramOfOnes) {
  const std::vector<uint8_t> ones(65535, 0xFF);
  EXPECT_EQ(normal(inNetworkOrder(foldSum(sumBytes(ones.data(), ones.size())))), normal(reference(ones.data(), ones.size())));
}

TEST(Checksum, sumsOfEvenPartsAddUp) {
  const std::vector<uint8_t> bytes = randomBytes(3001, 3);
  EXPECT_EQ(foldSum(sumBytes(bytes.data(), 1442) + sumBytes(bytes.data() + 1442, 1559)), foldSum(sumBytes(bytes.data(), 3001)));
}

}  // namespace
}  // namespace outrigger::io
