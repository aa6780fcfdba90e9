// SPDX-License-Identifier: Apache-2.0
// `outrigger-driver --explain`: what each backend could do here with the given configuration, why it could not do more, and which one a driver
// would take. Starts no driver and leaves nothing behind.
#pragma once

#include <string>
#include <vector>

#include "driver/driver_config.h"
#include "io/backend.h"
#include "io/preload.h"

namespace outrigger::driver {

struct Explanation {
  std::vector<io::BackendReport> reports;  // every backend that there is, best first
  std::vector<std::string> order;          // OUTRIGGER_BACKENDS
  std::string wouldUse;                    // empty: none of `order` opens
  std::vector<io::Preload> preloads;
};

// Probes every row of `table`.
Explanation explain(const DriverConfig& config, const std::vector<io::Backend>& table = io::backends());

const char* availabilityText(io::Availability availability);
std::string explanationText(const Explanation& explanation);
std::string explanationJson(const Explanation& explanation);

}  // namespace outrigger::driver
