// SPDX-License-Identifier: Apache-2.0
// Where the driver's configuration comes from: environment, then arguments in their order (flags, -Dname=value, properties files).
// Later ones win. What options there are is config_options'.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "driver/driver_config.h"

namespace outrigger::driver {

using Environment = std::vector<std::pair<std::string, std::string>>;

struct ParsedConfig {
  DriverConfig config;
  std::vector<std::string> notices;  // a line each: variables that are unknown or without effect
  bool help = false;                 // -h, --help
  bool version = false;              // -v, --version
  bool explain = false;              // --explain: no driver, only what its backends could do
  bool json = false;                 // --json, with --explain
};

// The AERON_ and OUTRIGGER_ variables of this process.
Environment processEnvironment();

// An error names the variable or flag, the value and what is allowed; for an unknown flag, the nearest known one.
Result<ParsedConfig> parseConfig(const std::vector<std::string>& arguments, const Environment& environment);

// The directory when none is named: /dev/shm/aeron-<user>, as Aeron's clients look for it.
std::string defaultDirectory();

std::string configHelp();
// NAME=value lines of all options that have a value.
std::vector<std::string> describeConfig(const DriverConfig& config);

}  // namespace outrigger::driver
