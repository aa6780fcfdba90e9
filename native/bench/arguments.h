// SPDX-License-Identifier: Apache-2.0
// `--key value` arguments of the benchmark programs. A program ends with a sentence about what is wrong; it measures nothing half right.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>

namespace outrigger::bench {

[[noreturn]] inline void die(const std::string& why) {
  std::fprintf(stderr, "%s\n", why.c_str());
  std::exit(2);
}

class Arguments {
 public:
  Arguments(int argc, char** argv) {
    for (int i = 1; i < argc; i += 2) {
      const std::string key = argv[i];
      if (!key.starts_with("--") || i + 1 >= argc) die("expected '--key value', got '" + key + "'");
      values_[key.substr(2)] = argv[i + 1];
    }
  }

  std::string text(const std::string& key) const {
    const auto found = values_.find(key);
    if (found == values_.end()) die("missing --" + key);
    return found->second;
  }
  std::string text(const std::string& key, const std::string& fallback) const {
    const auto found = values_.find(key);
    return found == values_.end() ? fallback : found->second;
  }
  int64_t number(const std::string& key, int64_t fallback) const {
    const auto found = values_.find(key);
    if (found == values_.end()) return fallback;
    char* end = nullptr;
    const long long value = std::strtoll(found->second.c_str(), &end, 10);
    if (end == found->second.c_str() || *end != '\0') die("--" + key + " '" + found->second + "' is no whole number");
    return value;
  }

 private:
  std::map<std::string, std::string> values_;
};

}  // namespace outrigger::bench
