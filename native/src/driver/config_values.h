// SPDX-License-Identifier: Apache-2.0
// Text to values for the driver's configuration: whole numbers, sizes with k/m/g, durations with units, switches. No option lives here.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "driver/driver_config.h"

namespace outrigger::driver {

// Decimal or 0x hexadecimal, with a sign. Nothing when the text is no whole number of 64 bits.
std::optional<int64_t> parseInteger(std::string_view text);
// "64k", "16m", "1g" or plain bytes.
std::optional<int64_t> parseSize(std::string_view text);
// "5s", "100ms", "50us", "10ns"; a plain number counts in `plainUnitNs`.
std::optional<int64_t> parseDurationNs(std::string_view text, int64_t plainUnitNs = 1);
// true, on, yes, 1 and their opposites, in any case.
std::optional<bool> parseSwitch(std::string_view text);
// An idle strategy by any of its names in Aeron's drivers, or "adaptive".
std::optional<IdleKind> parseIdleKind(std::string_view text);
// "spins|yields|minPark|maxPark" for kBackoff, "duration" for kSleep; others take none.
Result<void> applyIdleArguments(IdleStrategy& strategy, std::string_view text);

std::string sizeText(int64_t bytes);
std::string durationText(int64_t ns);
const char* idleKindText(IdleKind kind);

std::string lowerCase(std::string_view text);
std::string_view trimmed(std::string_view text);
std::vector<std::string> splitList(std::string_view text, char separator);
// Insertions, deletions and replacements between two words.
size_t editDistance(std::string_view a, std::string_view b);

}  // namespace outrigger::driver
