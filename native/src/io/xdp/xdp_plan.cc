// SPDX-License-Identifier: Apache-2.0
// Arithmetic and look-ups; nothing is opened.
#include "io/xdp/xdp_plan.h"

#include <algorithm>
#include <bit>
#include <cerrno>

#include "io/xdp/xdp_frame_io.h"

namespace outrigger::io::xdp {
namespace {

constexpr uint32_t kSmallChunkBytes = 2048;
constexpr uint32_t kLargeChunkBytes = 4096;
constexpr uint32_t kLayer2Bytes = 14 + 4;  // Ethernet and one VLAN tag
constexpr uint32_t kMinChunksPerQueue = 32;

constexpr Rung kZeroCopyRung{"zero-copy", AttachMode::kNative, XskMode::kZeroCopy};
constexpr Rung kNativeRung{"native copy", AttachMode::kNative, XskMode::kCopy};
constexpr Rung kGenericRung{"generic", AttachMode::kGeneric, XskMode::kCopy};

}  // namespace

const char* const kHugepagesFix = "reserve 2 MiB hugepages (vm.nr_hugepages), and give the container a limit of hugepages-2Mi";
const char* const kCapabilitiesFix = "give the process CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF, or let outrigger-nicd open the device";

uint32_t longestInOneBuffer(uint32_t chunkBytes, XskMode mode) {
  uint32_t frameBytes = chunkBytes - kKernelHeadroom;
  // Some devices count their buffers in KiB (igb, ixgbe's 82599: SRRCTL.BSIZEPKT) and would cut longer frames into pieces.
  if (mode == XskMode::kZeroCopy) frameBytes = frameBytes / 1024 * 1024;
  return frameBytes - kLayer2Bytes;
}

Result<void> checkZeroCopyRings(const InterfaceFacts& facts, const std::string& interface, const RingSizes& rings, uint32_t queues,
                                uint32_t chunkBytes) {
  constexpr uint32_t kUsualDescriptors = 256;  // igb's ring, when it does not say
  constexpr uint32_t kHeldFrames = 256;        // the most that the stack has taken and not given back
  if (facts.driver != "igb") return {};
  const uint32_t descriptors = facts.receiveDescriptors == 0 ? kUsualDescriptors : facts.receiveDescriptors;
  if (rings.fill >= descriptors + rings.receive + kHeldFrames) return {};
  const uint64_t fill = std::bit_ceil(2 * (descriptors + kHeldFrames));
  return makeError(ErrorCode::kNotSupported,
                   "xdp: driver igb mistakes old frames for new ones when a fill ring runs dry, and on interface " + interface +
                       " one of " + std::to_string(rings.fill) + " chunks can, beside " + std::to_string(descriptors) +
                       " descriptors of the device and a receive ring of " + std::to_string(rings.receive) + ": a UMEM of " +
                       std::to_string(2 * queues * fill * chunkBytes) + " bytes would be enough");
}

bool deviceFillsChecksum(const Plan& plan, const Rung& rung) {
  if (rung.bind == XskMode::kZeroCopy) return plan.facts.features && plan.facts.features->transmitChecksum;
  // With copies the kernel hands the request on to any device. Where that is only memory, nobody computes the sum and the peer has to know;
  // our own pass over the payload computes it at no cost to speak of.
  return plan.facts.hardware && netdevFeature(plan.netdev, "tx-checksum-ip-generic");
}

std::string driverOf(const Plan& plan) { return plan.facts.driver.empty() ? "its driver" : "driver " + plan.facts.driver; }

std::string fixOf(const Rung& rung, const Plan& plan, const Error& error) {
  if (error.sysErrno == EPERM || error.sysErrno == EACCES) return kCapabilitiesFix;
  if (error.sysErrno == EBUSY) return "close what holds it, or name another interface or other queues";
  if (error.code == ErrorCode::kNotSupported && plan.facts.driver == "igb") {
    return "set OUTRIGGER_UMEM_SIZE to that, or give the device fewer descriptors ('ethtool -G " + plan.netdev.name + " rx 64')";
  }
  if (rung.bind == XskMode::kZeroCopy)
    return "use a device whose driver has AF_XDP zero-copy (ice, i40e, ixgbe, igb, igc, mlx5, virtio_net)";
  if (rung.attach == AttachMode::kNative && plan.facts.mtu > kLongestNativeSingle) {
    return "lower the interface's MTU to " + std::to_string(kLongestNativeSingle) + " or less: 'ip link set " + plan.netdev.name + " mtu " +
           std::to_string(kLongestNativeSingle) + "'";
  }
  if (rung.attach == AttachMode::kNative) return "use a device whose driver runs XDP programs natively";
  return "see the kernel's log";
}

Result<std::vector<Rung>> rungsOf(const std::string& mode) {
  if (mode == "auto") return std::vector<Rung>{kZeroCopyRung, kNativeRung, kGenericRung};
  if (mode == "zero-copy") return std::vector<Rung>{kZeroCopyRung};
  if (mode == "native") return std::vector<Rung>{kNativeRung};
  if (mode == "generic") return std::vector<Rung>{kGenericRung};
  return makeError(ErrorCode::kGeneric, "xdp: mode '" + mode + "' is unknown, allowed are auto, zero-copy, native, generic");
}

Result<Plan> makePlan(const BackendOptions& options) {
  Plan plan;
  auto netdev = chooseNetdev(options.interface, options.address);
  if (!netdev) return netdev.error();
  plan.netdev = netdev.take();
  plan.facts = readInterfaceFacts(plan.netdev);
  plan.busyPollUs = options.busyPollUs;
  plan.queues = options.queues;
  for (uint32_t queue = 0; options.queues.empty() && queue < plan.facts.queues; ++queue) plan.queues.push_back(queue);
  for (const uint32_t queue : plan.queues) {
    if (queue >= plan.facts.queues) {
      return makeError(ErrorCode::kGeneric, "xdp: interface " + plan.netdev.name + " has no queue " + std::to_string(queue) + ": it has " +
                                                std::to_string(plan.facts.queues) + ", numbered from 0");
    }
  }
  plan.umemBytes = options.umemBytes;
  if (auto r = shapeFor(XskMode::kCopy, plan); !r) return r.error();
  return plan;
}

Result<void> shapeFor(XskMode mode, Plan& plan) {
  plan.layout.chunkBytes = plan.facts.mtu <= longestInOneBuffer(kSmallChunkBytes, mode) ? kSmallChunkBytes : kLargeChunkBytes;
  plan.multiBuffer = plan.facts.mtu > longestInOneBuffer(plan.layout.chunkBytes, mode);
  const auto queueCount = static_cast<uint32_t>(plan.queues.size());
  const uint32_t needed = 2 * queueCount * kMinChunksPerQueue * plan.layout.chunkBytes;
  if (plan.umemBytes < needed) {
    return makeError(ErrorCode::kGeneric, "xdp: UMEM of " + std::to_string(plan.umemBytes) + " bytes is too small for " +
                                              std::to_string(queueCount) + " queues of interface " + plan.netdev.name + ": give it " +
                                              std::to_string(needed) + " or more");
  }
  plan.rings = ringSizesFor(plan.umemBytes, plan.layout.chunkBytes, queueCount, mode);
  if (mode != XskMode::kZeroCopy) return {};
  return checkZeroCopyRings(plan.facts, plan.netdev.name, plan.rings, queueCount, plan.layout.chunkBytes);
}

}  // namespace outrigger::io::xdp
