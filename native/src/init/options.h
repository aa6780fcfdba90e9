// SPDX-License-Identifier: Apache-2.0
// Settings of outrigger-init, from its arguments and, behind them, its environment. No behaviour.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace outrigger::init {

struct Options {
  std::vector<std::string> driver;   // program and arguments
  std::vector<std::string> sidecar;  // program and arguments
  int64_t drainTimeoutMs = 25'000;   // SIGTERM to SIGKILL, both children: less than the 30 s that Kubernetes grants by default
  int64_t driverDrainMs = 5'000;     // the end of that time, kept for the driver: an end-of-stream and one linger
  int64_t backoffMinMs = 100;        // pause before the first restart; doubles each time
  int64_t backoffMaxMs = 10'000;
  int64_t stableAfterMs = 10'000;  // a child that ran this long starts again at the shortest pause
  int64_t configAttempts = 3;      // EX_CONFIG in a row before init gives up: a file may be read while it is being written
  int64_t driverCores = 0;         // CPUs for the driver alone; 0: driver and sidecar share all
  int64_t cpus = 0;                // CPUs that the container was promised for itself; 0: unknown
  bool help = false;
};

// What `--help` prints.
std::string helpText();

// An error names the argument or variable, its value and what is allowed. `env` as execve takes it: "NAME=value", ended by null.
Result<Options> parseOptions(int argc, const char* const* argv, const char* const* env);

}  // namespace outrigger::init
