// SPDX-License-Identifier: Apache-2.0
// What opening an interface will need, worked out before anything is touched: queues, chunks, rings, and the rungs of the ladder. Shared by
// opening (xdp_open.cc) and by saying what would happen (xdp_probe.cc).
#pragma once

#include <string>
#include <vector>

#include "io/backend.h"
#include "io/xdp/interface_facts.h"
#include "io/xdp/xdp_program.h"
#include "io/xdp/xsk.h"

namespace outrigger::io::xdp {

// Native programs that take one buffer get it with 256 bytes of headroom and the kernel's skb_shared_info (320) behind it, in one page.
constexpr uint32_t kLongestNativeSingle = 4096 - kKernelHeadroom - 320 - 14;  // 3506

struct Plan {
  Netdev netdev;
  InterfaceFacts facts;
  std::vector<uint32_t> queues;
  UmemLayout layout;
  RingSizes rings;
  bool multiBuffer = false;
  uint32_t umemBytes = 0;
  int32_t busyPollUs = 0;
};

struct Rung {
  const char* name;
  AttachMode attach;
  XskMode bind;
};

// Best first; one of them where the mode is forced. Fails naming the modes that there are.
Result<std::vector<Rung>> rungsOf(const std::string& mode);

// Fails naming the interface, queue or size that can't be. Chunks and rings are those of a copying mode.
Result<Plan> makePlan(const BackendOptions& options);

// Sets chunks, rings and multiBuffer for a mode. Fails when the memory does not hold them.
Result<void> shapeFor(XskMode mode, Plan& plan);

// Whether a device can be trusted with zero-copy on rings of these sizes. igb (as of Linux 7.3) takes the frames of its last round for new ones
// when the fill ring runs dry, so that a chunk is written to while it is read: there, all rings after the fill ring have to run full first.
Result<void> checkZeroCopyRings(const InterfaceFacts& facts, const std::string& interface, const RingSizes& rings, uint32_t queues,
                                uint32_t chunkBytes);

// Whether a checksum that the transmit metadata of a frame asks for is computed by the device.
bool deviceFillsChecksum(const Plan& plan, const Rung& rung);

std::string driverOf(const Plan& plan);  // "driver veth"
// What whoever runs this can do about `error` on a rung.
std::string fixOf(const Rung& rung, const Plan& plan, const Error& error);

extern const char* const kHugepagesFix;
extern const char* const kCapabilitiesFix;

// The longest IP packet that one chunk holds: above, frames need several (XDP_USE_SG). What zero-copy holds, every mode does.
uint32_t longestInOneBuffer(uint32_t chunkBytes, XskMode mode = XskMode::kZeroCopy);

}  // namespace outrigger::io::xdp
