// SPDX-License-Identifier: Apache-2.0
// The one table of the driver's options: variable, meaning, what is allowed, default. Parsing sources (environment, flags, files) is
// config_parser's.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "driver/driver_config.h"

namespace outrigger::driver {

struct ConfigOption {
  std::string name;     // environment variable; the flag is it without the prefix: AERON_TERM_BUFFER_LENGTH, --term-buffer-length
  std::string meaning;  // one line
  std::string allowed;  // what a value may be, units and range
  // Applies the text; false when it is not allowed. `notice` may say what is not as asked.
  std::function<bool(DriverConfig&, std::string_view, std::string& notice)> apply;
  std::function<std::string(const DriverConfig&)> show;  // empty function: accepted for compatibility, has no value of its own

  std::string flag() const;
};

const std::vector<ConfigOption>& configOptions();
const ConfigOption* findOption(std::string_view name);

// Checks that span options; the error names both. `notices` gets what is allowed but unwise.
Result<void> checkConfig(const DriverConfig& config, std::vector<std::string>& notices);

}  // namespace outrigger::driver
