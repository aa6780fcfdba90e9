// SPDX-License-Identifier: Apache-2.0
// Messages that prove themselves: number, length and checksum in each, contents that follow from the number.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "base/random.h"

namespace outrigger::test {

constexpr int32_t kMessageHeader = 16;

inline uint32_t checksum(const uint8_t* data, size_t length) {
  uint32_t hash = 2166136261U;  // FNV-1a
  for (size_t i = 0; i < length; ++i) hash = (hash ^ data[i]) * 16777619U;
  return hash;
}

// length >= kMessageHeader.
inline void makeMessage(std::vector<uint8_t>& out, uint64_t number, int32_t length) {
  out.resize(static_cast<size_t>(length));
  Random random(number * 0x9E37 + 1);
  for (size_t i = kMessageHeader; i < out.size(); i += 8) {
    const uint64_t word = random.next();
    std::memcpy(out.data() + i, &word, std::min<size_t>(8, out.size() - i));
  }
  const uint32_t sum = checksum(out.data() + kMessageHeader, out.size() - kMessageHeader);
  const auto size = static_cast<uint32_t>(length);
  std::memcpy(out.data(), &number, 8);
  std::memcpy(out.data() + 8, &size, 4);
  std::memcpy(out.data() + 12, &sum, 4);
}

// What one subscriber saw of one session.
class MessageCheck {
 public:
  // Accepts any first number when `joinsLate`.
  explicit MessageCheck(bool joinsLate = false) : started_(!joinsLate) {}

  void onMessage(const uint8_t* data, int32_t length) {
    ++received;
    uint64_t number = 0;
    uint32_t size = 0;
    uint32_t sum = 0;
    if (length < kMessageHeader) return fail("a message of " + std::to_string(length) + " bytes");
    std::memcpy(&number, data, 8);
    std::memcpy(&size, data + 8, 4);
    std::memcpy(&sum, data + 12, 4);
    if (size != static_cast<uint32_t>(length)) {
      return fail("message " + std::to_string(number) + " has " + std::to_string(length) + " of " + std::to_string(size) + " bytes");
    }
    if (checksum(data + kMessageHeader, static_cast<size_t>(length - kMessageHeader)) != sum) {
      return fail("message " + std::to_string(number) + " is damaged");
    }
    if (!started_) next = number;
    started_ = true;
    if (number != next) return fail("message " + std::to_string(number) + " came instead of " + std::to_string(next));
    next = number + 1;
  }
  // The next message may have any number: after a gap that was announced.
  void expectGap() { started_ = false; }

  uint64_t next = 0;
  uint64_t received = 0;
  std::string error;  // the first one

 private:
  void fail(const std::string& what) {
    if (error.empty()) error = what;
  }
  bool started_;
};

}  // namespace outrigger::test
