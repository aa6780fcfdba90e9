// SPDX-License-Identifier: Apache-2.0
// The Internet checksum (RFC 1071), alone and fused with the copy of a payload into its frame. Sums are of 16-bit words in memory order, so
// that folding, complementing and storing them needs no byte swap (RFC 1071, section 2B).
#pragma once

#include <cstddef>
#include <cstdint>

namespace outrigger::io {

// Sum of the bytes at `data`, an odd last one as the first of a word. Partial sums add up as long as each but the last is of even length.
// Never overflows for lengths below 2^34.
uint64_t sumBytes(const uint8_t* data, size_t length);

// Copies and sums in one pass over the memory.
uint64_t copyAndSum(uint8_t* to, const uint8_t* from, size_t length);

// 32-bit steps of the pass above for machines without AVX2, and for tests.
uint64_t sumBytesPortable(const uint8_t* data, size_t length);
uint64_t copyAndSumPortable(uint8_t* to, const uint8_t* from, size_t length);

inline uint16_t foldSum(uint64_t sum) {
  sum = (sum & 0xFFFFFFFF) + (sum >> 32);
  sum = (sum & 0xFFFFFFFF) + (sum >> 32);
  sum = (sum & 0xFFFF) + (sum >> 16);
  sum = (sum & 0xFFFF) + (sum >> 16);
  return static_cast<uint16_t>(sum);
}

}  // namespace outrigger::io
