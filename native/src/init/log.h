// SPDX-License-Identifier: Apache-2.0
// JSON lines on standard error, in the form of the sidecar's log, so that one reader takes both.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace outrigger::init {

enum class Level { kInfo = 30, kWarn = 40, kError = 50 };

// One line: `LogLine(Level::kWarn).add("child", "driver").add("status", 1).write("the driver ended")`.
class LogLine {
 public:
  explicit LogLine(Level level);

  LogLine& add(std::string_view key, std::string_view value);
  LogLine& add(std::string_view key, int64_t value);
  // Whole lines: a line of a child never starts inside it (up to PIPE_BUF bytes).
  void write(std::string_view message);

 private:
  void addKey(std::string_view key);
  void addText(std::string_view text);

  std::string line_;
};

}  // namespace outrigger::init
