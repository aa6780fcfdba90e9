// SPDX-License-Identifier: Apache-2.0
// JSON out: for logs, `explain` and notes in the driver's directory. Nothing is read here.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

namespace outrigger {

inline std::string jsonQuoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      char escaped[8];
      std::snprintf(escaped, sizeof(escaped), "\\u%04x", static_cast<unsigned>(c));
      out += escaped;
    } else {
      out += c;
    }
  }
  return out + '"';
}

// Values and their commas; that keys stand in objects only is the caller's care.
class JsonWriter {
 public:
  JsonWriter& beginObject() { return open('{'); }
  JsonWriter& endObject() { return close('}'); }
  JsonWriter& beginArray() { return open('['); }
  JsonWriter& endArray() { return close(']'); }
  JsonWriter& key(std::string_view name) {
    separate();
    text_ += jsonQuoted(name) + ":";
    comma_ = false;
    return *this;
  }
  JsonWriter& value(std::string_view text) { return raw(jsonQuoted(text)); }
  JsonWriter& value(int64_t number) { return raw(std::to_string(number)); }
  JsonWriter& field(std::string_view name, std::string_view text) { return key(name).value(text); }
  JsonWriter& field(std::string_view name, int64_t number) { return key(name).value(number); }
  const std::string& text() const { return text_; }

 private:
  void separate() {
    if (comma_) text_ += ',';
    comma_ = true;
  }
  JsonWriter& open(char bracket) {
    separate();
    text_ += bracket;
    comma_ = false;
    return *this;
  }
  JsonWriter& close(char bracket) {
    text_ += bracket;
    comma_ = true;
    return *this;
  }
  JsonWriter& raw(const std::string& text) {
    separate();
    text_ += text;
    return *this;
  }

  std::string text_;
  bool comma_ = false;
};

}  // namespace outrigger
