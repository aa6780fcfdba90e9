// SPDX-License-Identifier: Apache-2.0
// What every benchmark message carries, and how it is checked: sequence, a time, its length, a body that follows from the sequence, and a
// closing word that is a function of sequence and length. Head, length and closing word of every message are checked, the whole body of
// one in kBodyCheckInterval, so that checking does not become what is measured. Both contenders' messages go through this same code.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "arguments.h"
#include "base/random.h"

namespace outrigger::bench {

constexpr int32_t kMinMessageLength = 32;
constexpr int32_t kMaxMessageLength = 64 * 1024;
constexpr int64_t kBodyCheckInterval = 16;
constexpr int64_t kMixMeanLength = 498;  // what the results give as the size of a mix

class Payload {
 public:
  Payload() : pattern_(kMaxMessageLength + kRotations * 8) {
    Random random(kPatternSeed);
    for (uint8_t& byte : pattern_) byte = static_cast<uint8_t>(random.next());
  }

  void fill(uint8_t* message, int32_t length, int64_t sequence, int64_t timeNs) const {
    put(message, 0, sequence);
    put(message, 8, timeNs);
    put(message, 16, static_cast<int64_t>(length));
    std::memcpy(message + kHead, body(sequence), static_cast<size_t>(length - kHead - kTail));
    put(message, length - kTail, closing(sequence, length));
  }

  static int64_t sequence(const uint8_t* message) { return get(message, 0); }
  static int64_t timeNs(const uint8_t* message) { return get(message, 8); }

  // The message is whole and is the one that its sequence number says.
  bool matches(const uint8_t* message, int32_t length) const {
    if (length < kMinMessageLength || length > kMaxMessageLength || get(message, 16) != length) return false;
    const int64_t number = sequence(message);
    if (get(message, length - kTail) != closing(number, length)) return false;
    if (number % kBodyCheckInterval != 0) return true;
    return std::memcmp(message + kHead, body(number), static_cast<size_t>(length - kHead - kTail)) == 0;
  }

 private:
  static constexpr int32_t kHead = 24;
  static constexpr int32_t kTail = 8;
  static constexpr int32_t kRotations = 512;
  static constexpr uint64_t kPatternSeed = 0x6F757472;

  static void put(uint8_t* message, int32_t offset, int64_t value) { std::memcpy(message + offset, &value, sizeof(value)); }
  static int64_t get(const uint8_t* message, int32_t offset) {
    int64_t value = 0;
    std::memcpy(&value, message + offset, sizeof(value));
    return value;
  }
  static int64_t closing(int64_t sequence, int32_t length) {
    return static_cast<int64_t>(static_cast<uint64_t>(sequence) * 0x9E3779B97F4A7C15ULL ^ static_cast<uint64_t>(length));
  }
  const uint8_t* body(int64_t sequence) const { return pattern_.data() + (sequence & (kRotations - 1)) * 8; }

  std::vector<uint8_t> pattern_;
};

// Lengths of the messages of a run: all the same, or `mix`, a fixed seeded sequence in which one in twenty is longer than a datagram.
class Lengths {
 public:
  explicit Lengths(const std::string& size) : lengths_(kPeriod) {
    if (size == "mix") {
      Random random(7);
      for (int32_t& length : lengths_) length = pick(random.below(100));
    } else {
      const long value = std::strtol(size.c_str(), nullptr, 10);
      if (value < kMinMessageLength || value > kMaxMessageLength) {
        die("--size '" + size + "' is neither 'mix' nor a number in " + std::to_string(kMinMessageLength) + ".." +
            std::to_string(kMaxMessageLength));
      }
      std::fill(lengths_.begin(), lengths_.end(), static_cast<int32_t>(value));
    }
  }
  int32_t of(int64_t sequence) const { return lengths_[static_cast<size_t>(sequence & (kPeriod - 1))]; }

 private:
  static constexpr int64_t kPeriod = 4096;

  static int32_t pick(uint64_t percent) {
    if (percent < 30) return 32;
    if (percent < 50) return 104;
    if (percent < 75) return 288;
    if (percent < 85) return 704;
    if (percent < 95) return 1344;
    return 4000;
  }

  std::vector<int32_t> lengths_;
};

}  // namespace outrigger::bench
