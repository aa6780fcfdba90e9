// SPDX-License-Identifier: Apache-2.0
// The version of the driver, as --version and its log say it.
#pragma once

namespace outrigger::driver {
constexpr const char* kVersion = "0.1.0";
}
