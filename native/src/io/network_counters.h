// SPDX-License-Identifier: Apache-2.0
// What raw backends count, as one list: NetStack's counters, then those of the device under it. A driver shows each under its name.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "io/stack/stack_stats.h"

namespace outrigger::io {

// FrameStats, as far as something was lost or went another way.
enum class DeviceCounter : uint8_t {
  kFramesReceived,
  kFramesSent,
  kRingFullDrops,
  kNoBuffer,
  kFillRingEmpty,
  kInvalidDescriptors,
  kTransmitErrors,
  kOversizedFrames,
  kOtherVlanFrames,
  kLeftToKernel,
  kReceiveErrors,
  kExceptionFrames,
  kExceptionDrops,
  kZeroCopySends,    // uring: messages sent without a copy
  kZeroCopyCopied,   // of those, that the kernel copied all the same
  kZeroCopyRefused,  // beside those, that it refused to send so and that went plainly
  kZeroCopyLate,     // of those, that were still read when their memory was to be written over
  kCount,
};

constexpr size_t kNetworkCounters = static_cast<size_t>(StackCounter::kCount) + static_cast<size_t>(DeviceCounter::kCount);
using NetworkCounts = std::array<int64_t, kNetworkCounters>;

constexpr size_t networkIndex(StackCounter counter) { return static_cast<size_t>(counter); }
constexpr size_t networkIndex(DeviceCounter counter) { return static_cast<size_t>(StackCounter::kCount) + static_cast<size_t>(counter); }

// Snake case: "bad_udp_checksums", "device_ring_full_drops".
const char* networkCounterName(size_t index);

}  // namespace outrigger::io
