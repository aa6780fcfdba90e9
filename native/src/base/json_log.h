// SPDX-License-Identifier: Apache-2.0
// JSON lines on standard error, in the form of the sidecar's log, so that one reader takes both.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace outrigger {

enum class LogLevel { kInfo = 30, kWarn = 40, kError = 50 };

// One line: `LogLine(LogLevel::kWarn).add("child", "driver").add("status", 1).write("the driver ended")`.
class LogLine {
 public:
  explicit LogLine(LogLevel level);

  // The program's name in each line. Before the first line, from one thread.
  static void setProgram(const char* name);

  LogLine& add(std::string_view key, std::string_view value);
  LogLine& add(std::string_view key, int64_t value);
  // Whole lines: a line of a child never starts inside it (up to PIPE_BUF bytes).
  void write(std::string_view message);

 private:
  void addKey(std::string_view key);
  void addText(std::string_view text);

  std::string line_;
};

}  // namespace outrigger
