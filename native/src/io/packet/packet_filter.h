// SPDX-License-Identifier: Apache-2.0
// Steer rules as a classic BPF program (Linux Documentation/networking/filter.rst): unfragmented UDP without IP options to one of the
// addresses and ports, and nothing else. What it leaves out (fragments, options, everything of others) stays the kernel's.
#pragma once

#include <linux/filter.h>

#include <vector>

#include "base/result.h"
#include "io/frame/frame_io.h"

namespace outrigger::io {

enum class FilterView {
  kPacketSocket,  // sees outgoing frames and those of other hosts too: left out
  kDevice,        // sees only what is for the one who reads
};

// Without rules: drops everything. Fails when the rules don't fit into a program, naming how many there are.
Result<std::vector<sock_filter>> buildPacketFilter(const std::vector<SteerRule>& rules, FilterView view);

}  // namespace outrigger::io
