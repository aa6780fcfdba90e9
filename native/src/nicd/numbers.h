// SPDX-License-Identifier: Apache-2.0
// Numbers in text, and of time, as nicd reads and counts them.
#pragma once

#include <charconv>
#include <cstdint>
#include <string_view>

namespace outrigger::nicd {

inline constexpr int64_t kMillisecond = 1'000'000;  // in nanoseconds

// False when `text` is anything but one number that fits `value`.
template <typename Number>
bool parseNumber(std::string_view text, Number& value, int base = 10) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  return error == std::errc() && end == text.data() + text.size() && !text.empty();
}

}  // namespace outrigger::nicd
