// SPDX-License-Identifier: Apache-2.0
// What `outrigger explain` prints about xdp.
#include <cerrno>

#include "io/nicd_client/nicd_xdp.h"
#include "io/xdp/xdp_open.h"
#include "io/xdp/xdp_plan.h"

namespace outrigger::io::xdp {
namespace {

void impossible(BackendReport& report, const std::string& what, const std::string& cause, const std::string& fix) {
  report.availability = Availability::kImpossible;
  report.causes.push_back({what, cause, fix});
}

void degraded(BackendReport& report, const std::string& what, const std::string& cause, const std::string& fix) {
  if (report.availability == Availability::kAvailable) report.availability = Availability::kDegraded;
  report.causes.push_back({what, cause, fix});
}

// A socket and its memory, bound to nothing: shows capabilities, kernel and memory limits.
void probeSocket(const BackendOptions& options, const Plan& plan, BackendReport& report) {
  auto socket = openXsk();
  if (!socket) {
    const bool denied = socket.error().sysErrno == EPERM || socket.error().sysErrno == EACCES;
    impossible(report, "open AF_XDP socket", socket.error().message, denied ? kCapabilitiesFix : "use a kernel with CONFIG_XDP_SOCKETS");
    return;
  }
  std::string hugepageReason;
  auto memory = UmemMemory::allocate(options.umemBytes, options.hugepages, hugepageReason);
  if (!memory) {
    impossible(report, "memory", memory.error().message, "raise the memory limit, or use less (the size of the UMEM)");
    return;
  }
  if (!hugepageReason.empty()) degraded(report, "hugepages", hugepageReason, kHugepagesFix);
  report.facts.emplace_back("umem",
                            std::to_string(memory->lengthBytes()) + " bytes on " + (memory->hugepages() ? "hugepages" : "4 KiB pages"));
  if (auto r = registerUmem(socket->get(), memory->data(), memory->lengthBytes(), plan.layout); !r) {
    impossible(report, "locked memory", r.error().message, "raise RLIMIT_MEMLOCK, give the process CAP_IPC_LOCK, or use less memory");
    return;
  }
  if (auto r = setRings(socket->get(), plan.rings); !r) impossible(report, "rings", r.error().message, "use less memory for the UMEM");
}

void probeProgram(const Plan& plan, BackendReport& report) {
  if (auto r = XdpProgram::tryLoad(plan.facts.mtu > kLongestNativeSingle); !r) {
    const bool denied = r.error().sysErrno == EPERM || r.error().sysErrno == EACCES;
    impossible(report, "load XDP program", r.error().message,
               denied ? kCapabilitiesFix : "use Linux 5.10 or later, 5.18 for an MTU above " + std::to_string(kLongestNativeSingle));
  }
  auto holder = describeAttachedProgram(plan.netdev.index);
  if (holder && holder->has_value()) {
    impossible(report, "XDP slot of interface " + plan.netdev.name, "taken by " + **holder + ", which is never replaced",
               "remove it ('ip link set " + plan.netdev.name + " xdp off', or end its owner), or name another interface");
  }
}

// By what the driver says of itself: which of `rungs` would open.
void probeRungs(const Plan& plan, const std::vector<Rung>& rungs, BackendReport& report) {
  const auto& features = plan.facts.features;
  if (!features) {
    report.facts.emplace_back("mode", "known when opened (the kernel lists what drivers can do from 6.3 on)");
    return;
  }
  const bool jumbo = plan.facts.mtu > kLongestNativeSingle;
  for (const Rung& rung : rungs) {
    std::string missing;
    Plan shaped = plan;
    auto shape = shapeFor(rung.bind, shaped);
    if (rung.attach == AttachMode::kNative && !features->native) {
      missing = driverOf(plan) + " runs no XDP program natively";
    } else if (rung.attach == AttachMode::kNative && jumbo && !features->multiBuffer) {
      missing =
          driverOf(plan) + " gives native programs frames of one buffer, and MTU " + std::to_string(plan.facts.mtu) + " needs several";
    } else if (rung.bind == XskMode::kZeroCopy && !features->zeroCopy) {
      missing = driverOf(plan) + " has no AF_XDP zero-copy";
    } else if (rung.bind == XskMode::kZeroCopy && shaped.multiBuffer && features->zeroCopyBuffers < 2) {
      missing =
          driverOf(plan) + " has zero-copy for frames of one buffer only, and MTU " + std::to_string(plan.facts.mtu) + " needs several";
    }
    if (missing.empty() && !shape) missing = shape.error().message;
    if (missing.empty()) {
      report.facts.emplace_back("mode", rung.name);
      report.facts.emplace_back("transmit checksum", deviceFillsChecksum(plan, rung) ? "by the device"
                                                     : rung.bind == XskMode::kZeroCopy
                                                         ? driverOf(plan) + " takes no transmit metadata with zero-copy"
                                                         : "in software");
      return;
    }
    degraded(report, rung.name, missing, fixOf(rung, plan, shape ? Error{} : shape.error()));
  }
  report.availability = Availability::kImpossible;
}

}  // namespace

BackendReport probeXdp(const BackendOptions& options) {
  BackendReport report;
  report.name = "xdp";
  // With nicd neither clang nor libbpf is needed here: the program is nicd's.
  if (!options.nicdSocket.empty()) return nicd::probeNicdXdp(options);
  if (!programsAreBuilt()) {
    report.availability = Availability::kNotBuilt;
    report.causes.push_back({"build", "clang or libbpf was missing when this was built", "install clang and libbpf-dev, then build again"});
    return report;
  }
  auto rungs = rungsOf(options.xdpMode);
  if (!rungs) {
    impossible(report, "mode", rungs.error().message, "name one of these");
    return report;
  }
  auto plan = makePlan(options);
  if (!plan) {
    impossible(report, "interface", plan.error().message, "name an interface, queues and a UMEM size that fit");
    return report;
  }
  report.facts.emplace_back("interface", plan->netdev.name);
  if (!plan->facts.driver.empty()) report.facts.emplace_back("driver", plan->facts.driver);
  report.facts.emplace_back("queues", std::to_string(plan->queues.size()));
  report.facts.emplace_back("mtu", std::to_string(plan->facts.mtu));
  report.facts.emplace_back("timestamps", kTimestampsWhenRead);
  if (plan->multiBuffer) report.facts.emplace_back("frames", "of several buffers");
  probeSocket(options, *plan, report);
  probeProgram(*plan, report);
  probeRungs(*plan, *rungs, report);
  return report;
}

}  // namespace outrigger::io::xdp
