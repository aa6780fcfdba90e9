// SPDX-License-Identifier: Apache-2.0
// 32-bit words are added up in 64-bit lanes, whose carries can wait for the fold: four lanes at once with AVX2, two without.
#include "io/stack/checksum.h"

#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace outrigger::io {
namespace {

template <typename T>
T load(const uint8_t* at) {
  T value;
  std::memcpy(&value, at, sizeof(value));
  return value;
}

// What is left below a block: at most 31 bytes.
template <bool kCopy>
uint64_t sumTail(uint8_t* to, const uint8_t* from, size_t length) {
  uint64_t sum = 0;
  while (length >= 4) {
    const auto word = load<uint32_t>(from);
    if constexpr (kCopy) {
      std::memcpy(to, &word, sizeof(word));
      to += 4;
    }
    sum += word;
    from += 4;
    length -= 4;
  }
  if (length > 0) {
    uint8_t last[4] = {0, 0, 0, 0};
    std::memcpy(last, from, length);
    if constexpr (kCopy) std::memcpy(to, last, length);
    sum += load<uint32_t>(last);
  }
  return sum;
}

template <bool kCopy>
uint64_t sumPortable(uint8_t* to, const uint8_t* from, size_t length) {
  uint64_t low = 0;
  uint64_t high = 0;
  while (length >= 16) {
    const auto first = load<uint64_t>(from);
    const auto second = load<uint64_t>(from + 8);
    if constexpr (kCopy) {
      std::memcpy(to, &first, sizeof(first));
      std::memcpy(to + 8, &second, sizeof(second));
      to += 16;
    }
    low += (first & 0xFFFFFFFF) + (second & 0xFFFFFFFF);
    high += (first >> 32) + (second >> 32);
    from += 16;
    length -= 16;
  }
  return low + high + sumTail<kCopy>(to, from, length);
}

#if defined(__x86_64__)
template <bool kCopy>
__attribute__((target("avx2"))) uint64_t sumAvx2(uint8_t* to, const uint8_t* from, size_t length) {
  const __m256i lowHalves = _mm256_set1_epi64x(0xFFFFFFFF);
  __m256i even = _mm256_setzero_si256();
  __m256i odd = _mm256_setzero_si256();
  while (length >= 64) {
    const __m256i first = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    const __m256i second = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + 32));
    if constexpr (kCopy) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), first);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 32), second);
      to += 64;
    }
    even = _mm256_add_epi64(even, _mm256_and_si256(first, lowHalves));
    odd = _mm256_add_epi64(odd, _mm256_srli_epi64(first, 32));
    even = _mm256_add_epi64(even, _mm256_and_si256(second, lowHalves));
    odd = _mm256_add_epi64(odd, _mm256_srli_epi64(second, 32));
    from += 64;
    length -= 64;
  }
  alignas(32) uint64_t lanes[4];
  _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), _mm256_add_epi64(even, odd));
  return lanes[0] + lanes[1] + lanes[2] + lanes[3] + sumPortable<kCopy>(to, from, length);
}

const bool kHasAvx2 = __builtin_cpu_supports("avx2") != 0;
#endif

template <bool kCopy>
uint64_t sum(uint8_t* to, const uint8_t* from, size_t length) {
#if defined(__x86_64__)
  if (kHasAvx2) return sumAvx2<kCopy>(to, from, length);
#endif
  return sumPortable<kCopy>(to, from, length);
}

}  // namespace

uint64_t sumBytes(const uint8_t* data, size_t length) { return sum<false>(nullptr, data, length); }
uint64_t copyAndSum(uint8_t* to, const uint8_t* from, size_t length) { return sum<true>(to, from, length); }
uint64_t sumBytesPortable(const uint8_t* data, size_t length) { return sumPortable<false>(nullptr, data, length); }
uint64_t copyAndSumPortable(uint8_t* to, const uint8_t* from, size_t length) { return sumPortable<true>(to, from, length); }

}  // namespace outrigger::io
