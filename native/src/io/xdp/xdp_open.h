// SPDX-License-Identifier: Apache-2.0
// From options to bound sockets: which memory, which queues, and the ladder zero-copy → native copy → generic, in this process. Each rung that
// was refused says why. (The other way to bound sockets is outrigger-nicd.)
#pragma once

#include <vector>

#include "io/backend.h"
#include "io/xdp/interface_facts.h"
#include "io/xdp/xdp_frame_io.h"

namespace outrigger::io::xdp {

enum class Offload : uint8_t {
  kAuto,  // where the device, not this machine, does the work
  kOn,    // for tests: also where the kernel does it
  kOff,
};

// What the ladder tried. `refused` has a cause for each rung above the one that opened, and for what else it runs without.
struct XdpAttempt {
  std::vector<BackendCause> refused;
};

// The parts of an XdpFrameIo, with caps.mode and caps.reason set. Needs CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF. Takes until the device is ready: some
// drivers restart the link when a program is attached. The error is that of the lowest rung, with those above in its message.
// `busyPolling` is about options.busyPollUs above 0: kAuto on hardware only.
Result<XdpParts> openXdp(const BackendOptions& options, XdpAttempt& attempt, Offload transmitChecksum = Offload::kAuto,
                         Offload busyPolling = Offload::kAuto);

// What openXdp would meet, found out without touching the interface: no program is attached and no queue bound, since both interrupt traffic on
// some devices. So "available" means that nothing known speaks against it.
BackendReport probeXdp(const BackendOptions& options);

}  // namespace outrigger::io::xdp
