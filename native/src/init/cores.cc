// SPDX-License-Identifier: Apache-2.0
#include "init/cores.h"

#include "base/cpus.h"

namespace outrigger::init {

CorePlan planCores(const std::vector<int>& allowed, int64_t cores, int64_t promised) {
  CorePlan plan;
  if (cores == 0) return plan;
  const auto count = static_cast<int64_t>(allowed.size());
  const std::string here = std::to_string(count) + " CPUs (" + cpuListText(allowed) + ")";
  if (count == 0) {
    plan.reason = "the kernel does not say which CPUs init may run on: a seccomp filter may forbid sched_getaffinity, allow it";
  } else if (promised != 0 && count < promised) {
    plan.reason = "the container was promised " + std::to_string(promised) + " CPUs and may run only on " + here +
                  ": the node has no more, or a cpuset takes some away; lower the container's CPU limit, or free them";
  } else if (promised != 0 && count > promised) {
    plan.reason = "the container was promised " + std::to_string(promised) + " CPUs and may run on " + here +
                  ", so they are others' too: the kubelet of the node needs cpuManagerPolicy static";
  } else if (count <= cores) {
    plan.reason = std::to_string(cores) + " cores for the driver leave the sidecar none of " + here +
                  ": lower OUTRIGGER_INIT_DRIVER_CORES, or raise the container's CPU limit";
  } else {
    // The first ones are the sidecar's: interrupts of many machines go to CPU 0.
    const auto first = allowed.begin() + (count - cores);
    plan.sidecar.assign(allowed.begin(), first);
    plan.driver.assign(first, allowed.end());
  }
  return plan;
}

}  // namespace outrigger::init
