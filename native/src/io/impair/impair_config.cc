// SPDX-License-Identifier: Apache-2.0
// Text form of ImpairConfig.
#include "io/impair/impair_config.h"

#include <charconv>
#include <cstdio>
#include <functional>

namespace outrigger::io {
namespace {

constexpr std::string_view kNone = "none";
constexpr std::string_view kAllowedKeys = "loss, dup, corrupt, reorder (each also as rx- and tx-), mask, seed";

Error invalid(std::string_view text, const std::string& what) {
  return makeError(ErrorCode::kGeneric, "impairment '" + std::string(text) + "': " + what);
}

bool parseProbability(std::string_view text, double& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() && end == text.data() + text.size() && out >= 0 && out <= 1;
}

template <typename T>
bool parseUnsigned(std::string_view text, T& out) {
  const bool hex = text.starts_with("0x") || text.starts_with("0X");
  if (hex) text.remove_prefix(2);
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out, hex ? 16 : 10);
  return error == std::errc() && end == text.data() + text.size();
}

// Calls `take(key, value)` for each parameter; stops at the first error.
Result<void> forEachParameter(std::string_view text, char separator,
                              const std::function<Result<void>(std::string_view, std::string_view)>& take) {
  std::string_view rest = text;
  bool more = true;
  while (more) {
    const size_t end = rest.find(separator);
    const std::string_view parameter = rest.substr(0, end);
    more = end != std::string_view::npos;
    if (more) rest.remove_prefix(end + 1);
    const size_t equals = parameter.find('=');
    if (equals == std::string_view::npos) {
      return invalid(text, "parameter '" + std::string(parameter) + "' has no '=': write key=value");
    }
    if (auto r = take(parameter.substr(0, equals), parameter.substr(equals + 1)); !r) return r;
  }
  return {};
}

double ImpairProfile::*memberOf(std::string_view name) {
  if (name == "loss") return &ImpairProfile::loss;
  if (name == "dup") return &ImpairProfile::duplicate;
  if (name == "corrupt") return &ImpairProfile::corrupt;
  if (name == "reorder") return &ImpairProfile::reorder;
  return nullptr;
}

void append(std::string& out, const std::string& parameter) { out += (out.empty() ? "" : ",") + parameter; }

void appendProfile(std::string& out, const char* direction, const ImpairProfile& profile) {
  const auto one = [&](const char* name, double value) {
    char text[48];
    std::snprintf(text, sizeof(text), "%s-%s=%g", direction, name, value);
    if (value > 0) append(out, text);
  };
  one("loss", profile.loss);
  one("dup", profile.duplicate);
  one("corrupt", profile.corrupt);
  one("reorder", profile.reorder);
}

}  // namespace

Result<ImpairConfig> ImpairConfig::parse(std::string_view text) {
  ImpairConfig config;
  if (text == kNone) return config;
  const auto take = [&](std::string_view key, std::string_view value) -> Result<void> {
    const auto quoted = "parameter " + std::string(key) + "=" + std::string(value);
    if (key == "seed") {
      if (parseUnsigned(value, config.seed)) return {};
      return invalid(text, quoted + " is not a whole number of 64 bits");
    }
    if (key == "mask") {
      if (parseUnsigned(value, config.frameMask)) return {};
      return invalid(text, quoted + " is not a 32-bit mask: add up 1 << frame type, as in 0x2 for data");
    }
    if (key == "delay" || key == "jitter") {
      return invalid(text, quoted + ": delay would need memory for what is under way; use the simulator for it");
    }
    const bool rx = key.starts_with("rx-");
    const bool tx = key.starts_with("tx-");
    const auto member = memberOf(rx || tx ? key.substr(3) : key);
    if (member == nullptr) return invalid(text, quoted + " is unknown, allowed are " + std::string(kAllowedKeys));
    double probability = 0;
    if (!parseProbability(value, probability)) return invalid(text, quoted + " is not a probability from 0 to 1");
    if (!tx) config.receive.*member = probability;
    if (!rx) config.transmit.*member = probability;
    return {};
  };
  if (auto r = forEachParameter(text, ',', take); !r) return r.error();
  return config;
}

Result<ImpairConfig> ImpairConfig::parseAeronLoss(std::string_view text) {
  ImpairConfig config;
  config.frameMask = 0;
  const auto take = [&](std::string_view key, std::string_view value) -> Result<void> {
    const auto quoted = "parameter " + std::string(key) + "=" + std::string(value);
    if (key == "rate") {
      if (parseProbability(value, config.receive.loss)) return {};
      return invalid(text, quoted + " is not a probability from 0 to 1");
    }
    if (key == "seed") {
      if (parseUnsigned(value, config.seed)) return {};
      return invalid(text, quoted + " is not a whole number of 64 bits");
    }
    if (key == "recv-msg-mask") {
      // Always hexadecimal there, with or without 0x.
      const std::string hex = value.starts_with("0x") || value.starts_with("0X") ? std::string(value) : "0x" + std::string(value);
      if (parseUnsigned(hex, config.frameMask)) return {};
      return invalid(text, quoted + " is not a hexadecimal 32-bit mask");
    }
    return invalid(text, quoted + " is unknown, allowed are rate, seed, recv-msg-mask");
  };
  if (auto r = forEachParameter(text, '|', take); !r) return r.error();
  return config;
}

std::string ImpairConfig::toString() const {
  std::string out;
  appendProfile(out, "rx", receive);
  appendProfile(out, "tx", transmit);
  if (out.empty()) return std::string(kNone);
  if (frameMask != kAllFrames) {
    char text[24];
    std::snprintf(text, sizeof(text), "mask=0x%x", frameMask);
    append(out, text);
  }
  append(out, "seed=" + std::to_string(seed));
  return out;
}

}  // namespace outrigger::io
