// SPDX-License-Identifier: Apache-2.0
// The one EAL of this process: started at most once, never ended (DPDK refuses a second start), with devices plugged and unplugged as
// ports open and close. Control threads only.
#pragma once

#include <mutex>
#include <string>

#include "base/result.h"
#include "io/dpdk_loader/eal_plan.h"

namespace outrigger::io::dpdk {

// Held while EAL starts and while a device is plugged, configured or removed: ethdev's control calls are not thread-safe for one port,
// and two opens must not both start EAL.
std::mutex& ealMutex();

// Starts EAL as `plan` says, unless it runs. Fails when it can't be started, or when it runs in a way that `plan` can't use.
Result<void> startEal(const EalPlan& plan);

// The errors that EAL and its drivers logged since the last call, one line; empty when there are none. They name the cause where the
// return value is only a number.
std::string takeEalErrors();

}  // namespace outrigger::io::dpdk
