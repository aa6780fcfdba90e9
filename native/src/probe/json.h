// SPDX-License-Identifier: Apache-2.0
// One flat JSON object at a time.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>

namespace outrigger::probe {

inline std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      char escape[8];
      std::snprintf(escape, sizeof(escape), "\\u%04x", static_cast<unsigned>(static_cast<unsigned char>(c)));
      out += escape;
    } else {
      out += c;
    }
  }
  return out + "\"";
}

class JsonObject {
 public:
  JsonObject& raw(const std::string& key, const std::string& json) {
    text_ += (text_.empty() ? "{" : ",") + quoted(key) + ":" + json;
    return *this;
  }
  JsonObject& text(const std::string& key, const std::string& value) { return raw(key, quoted(value)); }
  JsonObject& number(const std::string& key, int64_t value) { return raw(key, std::to_string(value)); }
  std::string done() const { return text_.empty() ? "{}" : text_ + "}"; }

 private:
  std::string text_;
};

}  // namespace outrigger::probe
