// SPDX-License-Identifier: Apache-2.0
// The client of --status.
#pragma once

#include <string>

#include "base/result.h"

namespace outrigger::nicd {

// Fails naming the socket when nobody answers there.
Result<std::string> fetchStatus(const std::string& socket, bool json);

}  // namespace outrigger::nicd
