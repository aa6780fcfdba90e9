// SPDX-License-Identifier: Apache-2.0
// Checks and counts the messages of one stream: whole, in order, none twice, none missing.
#pragma once

#include <cstdint>
#include <string>

#include "payload.h"

namespace outrigger::bench {

class Checker {
 public:
  void onMessage(const uint8_t* data, int32_t length) {
    if (!payload_.matches(data, length)) {
      ++corrupt_;
      return;
    }
    const int64_t sequence = Payload::sequence(data);
    if (sequence != expected_) {
      if (sequence < expected_) {
        ++outOfOrder_;
        return;
      }
      lost_ += sequence - expected_;
    }
    expected_ = sequence + 1;
    ++messages_;
    bytes_ += length;
  }
  int64_t messages() const { return messages_; }
  int64_t bytes() const { return bytes_; }
  int64_t lost() const { return lost_; }
  bool intact() const { return corrupt_ == 0 && outOfOrder_ == 0; }
  bool clean() const { return intact() && lost_ == 0; }
  std::string json() const {
    return "\"lost\":" + std::to_string(lost_) + ",\"outOfOrder\":" + std::to_string(outOfOrder_) +
           ",\"corrupt\":" + std::to_string(corrupt_);
  }

 private:
  Payload payload_;
  int64_t expected_ = 0;
  int64_t messages_ = 0;
  int64_t bytes_ = 0;
  int64_t lost_ = 0;
  int64_t outOfOrder_ = 0;
  int64_t corrupt_ = 0;
};

}  // namespace outrigger::bench
