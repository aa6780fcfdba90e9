// SPDX-License-Identifier: Apache-2.0
// What both sides of a stream, its publication and its images, wait for and bound alike.
#pragma once

#include <cstdint>

#include "driver/driver_config.h"

namespace outrigger::driver {

// Commands of the conductor that an agent takes in one duty cycle.
inline constexpr int32_t kCommandsPerCycle = 64;
// A full socket tells nobody when it has room again: how soon to look.
inline constexpr int64_t kSocketRetryNs = 50 * kMicroNs;
// How long a request for memory may stay unanswered (a full volume) until it is made again.
inline constexpr int64_t kMemoryRetryNs = kSecondNs;
// A round trip is asked for until it is known, then only where losses are repaired.
inline constexpr int64_t kRttRetryIntervalNs = 2 * kMilliNs;
inline constexpr int64_t kRttRequestIntervalNs = 100 * kMilliNs;
// What takes longer is no answer.
inline constexpr int64_t kMaxRttNs = 10 * kSecondNs;

}  // namespace outrigger::driver
