// SPDX-License-Identifier: Apache-2.0
// Parsing and printing of configuration values.
#include "driver/config_values.h"

#include <algorithm>
#include <array>
#include <charconv>

namespace outrigger::driver {
namespace {

struct Unit {
  std::string_view suffix;
  int64_t factor;
};

constexpr std::array<Unit, 3> kSizeUnits = {{{"k", 1024}, {"m", 1024 * 1024}, {"g", 1024 * 1024 * 1024}}};
// Longer suffixes first: "ms" also ends in "s".
constexpr std::array<Unit, 4> kDurationUnits = {{{"ns", 1}, {"us", kMicroNs}, {"ms", kMilliNs}, {"s", kSecondNs}}};

std::optional<int64_t> scaled(std::string_view digits, int64_t factor) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  if (value > static_cast<uint64_t>(INT64_MAX / factor)) return std::nullopt;
  return static_cast<int64_t>(value) * factor;
}

template <size_t N>
std::optional<int64_t> withUnit(std::string_view text, const std::array<Unit, N>& units, int64_t plainFactor) {
  const std::string lower = lowerCase(text);
  for (const Unit& unit : units) {
    if (lower.size() > unit.suffix.size() && lower.ends_with(unit.suffix)) {
      return scaled(std::string_view(lower).substr(0, lower.size() - unit.suffix.size()), unit.factor);
    }
  }
  return scaled(lower, plainFactor);
}

template <size_t N>
std::string inUnits(int64_t value, const std::array<Unit, N>& units, std::string plain) {
  std::string out = std::to_string(value) + plain;
  for (const Unit& unit : units) {
    if (value != 0 && value % unit.factor == 0) out = std::to_string(value / unit.factor) + std::string(unit.suffix);
  }
  return out;
}

struct IdleName {
  std::string_view name;
  IdleKind kind;
};
// First of each kind is what is printed. C driver names, their symbols, and the class names of the Java driver.
constexpr std::array<IdleName, 24> kIdleNames = {{
    {"adaptive", IdleKind::kAdaptive},
    {"busy-spin", IdleKind::kBusySpin},
    {"busy_spin", IdleKind::kBusySpin},
    {"spin", IdleKind::kBusySpin},
    {"noop", IdleKind::kBusySpin},
    {"no-op", IdleKind::kBusySpin},
    {"no_op", IdleKind::kBusySpin},
    {"aeron_idle_strategy_busy_spinning", IdleKind::kBusySpin},
    {"aeron_idle_strategy_noop", IdleKind::kBusySpin},
    {"org.agrona.concurrent.busyspinidlestrategy", IdleKind::kBusySpin},
    {"org.agrona.concurrent.noopidlestrategy", IdleKind::kBusySpin},
    {"yield", IdleKind::kYield},
    {"yielding", IdleKind::kYield},
    {"aeron_idle_strategy_yielding", IdleKind::kYield},
    {"org.agrona.concurrent.yieldingidlestrategy", IdleKind::kYield},
    {"sleep-ns", IdleKind::kSleep},
    {"sleep_ns", IdleKind::kSleep},
    {"sleeping", IdleKind::kSleep},
    {"aeron_idle_strategy_sleeping", IdleKind::kSleep},
    {"org.agrona.concurrent.sleepingidlestrategy", IdleKind::kSleep},
    {"org.agrona.concurrent.sleepingmillisidlestrategy", IdleKind::kSleep},
    {"backoff", IdleKind::kBackoff},
    {"aeron_idle_strategy_backoff", IdleKind::kBackoff},
    {"org.agrona.concurrent.backoffidlestrategy", IdleKind::kBackoff},
}};

}  // namespace

std::string lowerCase(std::string_view text) {
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return lower;
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n\f";
  const size_t first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

std::vector<std::string> splitList(std::string_view text, char separator) {
  std::vector<std::string> parts;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(separator, begin), text.size());
    parts.emplace_back(trimmed(text.substr(begin, end - begin)));
    begin = end + 1;
  }
  return parts;
}

std::optional<int64_t> parseInteger(std::string_view text) {
  const bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  const bool hex = text.starts_with("0x") || text.starts_with("0X");
  if (hex) text.remove_prefix(2);
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, hex ? 16 : 10);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  if (negative) {
    if (value > static_cast<uint64_t>(INT64_MAX) + 1) return std::nullopt;
    return static_cast<int64_t>(0 - value);
  }
  if (value > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
  return static_cast<int64_t>(value);
}

std::optional<int64_t> parseSize(std::string_view text) { return withUnit(text, kSizeUnits, 1); }

std::optional<int64_t> parseDurationNs(std::string_view text, int64_t plainUnitNs) { return withUnit(text, kDurationUnits, plainUnitNs); }

std::optional<bool> parseSwitch(std::string_view text) {
  const std::string lower = lowerCase(text);
  if (lower == "true" || lower == "on" || lower == "yes" || lower == "1") return true;
  if (lower == "false" || lower == "off" || lower == "no" || lower == "0") return false;
  return std::nullopt;
}

std::optional<IdleKind> parseIdleKind(std::string_view text) {
  const std::string lower = lowerCase(text);
  for (const IdleName& known : kIdleNames) {
    if (known.name == lower) return known.kind;
  }
  return std::nullopt;
}

const char* idleKindText(IdleKind kind) {
  for (const IdleName& known : kIdleNames) {
    if (known.kind == kind) return known.name.data();
  }
  return "";
}

Result<void> applyIdleArguments(IdleStrategy& strategy, std::string_view text) {
  const auto wrong = [&](const char* form) {
    return makeError(ErrorCode::kGeneric, std::string("idle strategy ") + idleKindText(strategy.kind) + " takes " + form);
  };
  switch (strategy.kind) {
    case IdleKind::kSleep: {
      const auto sleepNs = parseDurationNs(text);
      if (!sleepNs || *sleepNs > kSecondNs) return wrong("one duration of at most 1s, like 100us");
      strategy.minParkNs = *sleepNs;
      return {};
    }
    case IdleKind::kBackoff: {
      std::string uniform(text);
      std::replace(uniform.begin(), uniform.end(), ',', '|');
      const auto parts = splitList(uniform, '|');
      if (parts.size() != 4) return wrong("four values, spins|yields|minPark|maxPark, like 10|20|1us|1ms");
      const auto spins = parseInteger(parts[0]);
      const auto yields = parseInteger(parts[1]);
      const auto minPark = parseDurationNs(parts[2]);
      const auto maxPark = parseDurationNs(parts[3]);
      if (!spins || !yields || !minPark || !maxPark || *spins < 0 || *yields < 0 || *minPark < 1 || *maxPark < *minPark ||
          *maxPark > kSecondNs) {
        return wrong("spins|yields|minPark|maxPark with 1ns <= minPark <= maxPark <= 1s, like 10|20|1us|1ms");
      }
      strategy.spins = *spins;
      strategy.yields = *yields;
      strategy.minParkNs = *minPark;
      strategy.maxParkNs = *maxPark;
      return {};
    }
    case IdleKind::kAdaptive:
    case IdleKind::kBusySpin:
    case IdleKind::kYield:
      return {};  // as Aeron's, which ignore them
  }
  return {};
}

std::string sizeText(int64_t bytes) { return inUnits(bytes, kSizeUnits, ""); }
std::string durationText(int64_t ns) { return inUnits(ns, kDurationUnits, "ns"); }

size_t editDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row[b.size()];
}

}  // namespace outrigger::driver
