// SPDX-License-Identifier: Apache-2.0
// `--key value` arguments of outrigger-probe. Everything is checked before anything is opened.
#pragma once

#include <charconv>
#include <map>
#include <set>
#include <string>
#include <string_view>

#include "base/result.h"

namespace outrigger::probe {

class Options {
 public:
  // Fails on what is no pair, is unknown, or comes twice.
  static Result<Options> parse(int count, char** values, const std::set<std::string>& known) {
    Options options;
    for (int i = 0; i < count; i += 2) {
      const std::string key = values[i];
      if (!key.starts_with("--") || !known.contains(key.substr(2))) {
        std::string allowed;
        for (const std::string& one : known) allowed += " --" + one;
        return makeError(ErrorCode::kGeneric, "unknown option '" + key + "', known are:" + allowed);
      }
      if (i + 1 >= count) return makeError(ErrorCode::kGeneric, "option " + key + " has no value");
      if (!options.values_.emplace(key.substr(2), values[i + 1]).second)
        return makeError(ErrorCode::kGeneric, "option " + key + " is given twice");
    }
    return options;
  }

  std::string text(const std::string& key, const std::string& fallback) const {
    const auto found = values_.find(key);
    return found == values_.end() ? fallback : found->second;
  }

  Result<int64_t> number(const std::string& key, int64_t fallback, int64_t least, int64_t most) const {
    const auto found = values_.find(key);
    if (found == values_.end()) return fallback;
    const std::string_view text = found->second;
    int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || value < least || value > most) {
      return makeError(ErrorCode::kGeneric, "--" + key + " '" + found->second + "' is not valid: allowed is a whole number from " +
                                                std::to_string(least) + " to " + std::to_string(most));
    }
    return value;
  }

 private:
  std::map<std::string, std::string> values_;
};

}  // namespace outrigger::probe
