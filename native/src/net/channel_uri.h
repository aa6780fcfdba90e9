// SPDX-License-Identifier: Apache-2.0
// Parses and prints `aeron[-spy]:udp|ipc?key=value|...` (contract). Text only: no address is looked up here.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace outrigger::net {

constexpr size_t kMaxChannelUriLength = 4095;

// "4096", "64k", "16m", "1g" (either case) to bytes; "7", "7ns", "10us", "100ms", "5s" to nanoseconds. False when malformed,
// negative or over int64.
bool parseSizeText(std::string_view text, int64_t& bytes);
bool parseDurationText(std::string_view text, int64_t& ns);

class ChannelUri {
 public:
  enum class Media : uint8_t { kUdp, kIpc };

  // Fails with kInvalidChannel naming the URI and what is wrong with it (prefix, media, parameter without '=', too long).
  static Result<ChannelUri> parse(std::string_view text);

  Media media() const { return media_; }
  bool isSpy() const { return spy_; }
  const std::string& text() const { return text_; }

  // Value of a parameter, or an empty view when absent (see has() to tell empty from absent).
  std::string_view get(std::string_view key) const;
  bool has(std::string_view key) const;

  // Typed parameters. Absent: the fallback. Malformed or out of range: kInvalidChannel naming key, value and the allowed form.
  Result<int64_t> getInt64(std::string_view key, int64_t fallback, int64_t minimum, int64_t maximum) const;
  Result<bool> getBool(std::string_view key, bool fallback) const;
  Result<int64_t> getSizeBytes(std::string_view key, int64_t fallback, int64_t minimum, int64_t maximum) const;  // 64k, 16m, 1g
  Result<int64_t> getDurationNs(std::string_view key, int64_t fallback) const;                                   // 5s, 100ms, 10us, 1ns

  // For building channels in clients and tests: set or replace a parameter, print the URI.
  void set(std::string_view key, std::string_view value);
  std::string toString() const;

 private:
  Media media_ = Media::kUdp;
  bool spy_ = false;
  std::string text_;
  std::vector<std::pair<std::string, std::string>> params_;
};

}  // namespace outrigger::net
