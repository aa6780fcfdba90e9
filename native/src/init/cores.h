// SPDX-License-Identifier: Apache-2.0
// CPUs of a container shared out between driver and sidecar, so that whole cores are the driver's alone. No thread is placed here: within its
// cores the driver's threads are the kernel's, or AERON_*_CPU_AFFINITY's.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace outrigger::init {

struct CorePlan {
  // Both empty: nobody is bound, and `reason` says why when cores were asked for.
  std::vector<int> driver;
  std::vector<int> sidecar;
  std::string reason;
};

// `allowed`: CPUs that this process may run on, ascending. `cores`: how many the driver is to have; 0: none. `promised`: how many CPUs the
// container was promised, 0 when nobody says; where it may run on another number of them, they are others' too.
CorePlan planCores(const std::vector<int>& allowed, int64_t cores, int64_t promised);

}  // namespace outrigger::init
