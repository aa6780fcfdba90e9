// SPDX-License-Identifier: Apache-2.0
#include "base/json_log.h"

#include <ctime>

#include <unistd.h>

#include <cstdio>

namespace outrigger {
namespace {

const char* programName = "outrigger";

std::string utcNow() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  tm parts{};
  ::gmtime_r(&now.tv_sec, &parts);
  char text[64];
  const size_t length = ::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &parts);
  std::snprintf(text + length, sizeof(text) - length, ".%03dZ", static_cast<int>(now.tv_nsec / 1'000'000));
  return text;
}

}  // namespace

LogLine::LogLine(LogLevel level) {
  line_ = "{\"level\":" + std::to_string(static_cast<int>(level));
  add("time", utcNow()).add("pid", static_cast<int64_t>(::getpid())).add("name", programName);
}

void LogLine::setProgram(const char* name) { programName = name; }

LogLine& LogLine::add(std::string_view key, std::string_view value) {
  addKey(key);
  addText(value);
  return *this;
}

LogLine& LogLine::add(std::string_view key, int64_t value) {
  addKey(key);
  line_ += std::to_string(value);
  return *this;
}

void LogLine::write(std::string_view message) {
  add("msg", message);
  line_ += "}\n";
  // A reader that went away is no reason to stop: SIGPIPE is ignored, and there is nowhere else to say so.
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line_.data(), line_.size());
}

void LogLine::addKey(std::string_view key) {
  line_ += ',';
  addText(key);
  line_ += ':';
}

void LogLine::addText(std::string_view text) {
  line_ += '"';
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      line_ += '\\';
      line_ += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      char escape[8];
      std::snprintf(escape, sizeof(escape), "\\u%04x", static_cast<unsigned>(c));
      line_ += escape;
    } else {
      line_ += c;
    }
  }
  line_ += '"';
}

}  // namespace outrigger
