// SPDX-License-Identifier: Apache-2.0
#include "io/nicd_client/nicd_xdp.h"

#include <algorithm>
#include <utility>

#include "io/nicd_client/handed_control.h"
#include "io/nicd_client/nicd_open.h"
#include "io/stack/raw_backend.h"
#include "io/xdp/xdp_plan.h"

namespace outrigger::nicd {
namespace {

constexpr uint32_t kSmallChunkBytes = 2048;
constexpr uint32_t kLargeChunkBytes = 4096;
constexpr uint32_t kTxMetadataRoom = 32;  // xdp::TxMetadata, and frames that start on a multiple of 16

Result<XdpMode> modeOf(const std::string& name) {
  if (name == "auto") return XdpMode::kAuto;
  if (name == "zero-copy") return XdpMode::kZeroCopy;
  if (name == "native") return XdpMode::kNativeCopy;
  if (name == "generic") return XdpMode::kGeneric;
  return makeError(ErrorCode::kGeneric, "xdp: mode '" + name + "' is unknown, allowed are auto, zero-copy, native, generic");
}

const char* nameOfMode(uint32_t mode) {
  switch (static_cast<XdpMode>(mode)) {
    case XdpMode::kZeroCopy:
      return "zero-copy";
    case XdpMode::kNativeCopy:
      return "native copy";
    default:
      return "generic";
  }
}

// What is asked for each queue, and what it was laid out by.
struct Plan {
  Described interface;
  std::vector<uint32_t> queues;
  io::xdp::UmemLayout layout;
  io::xdp::RingSizes rings;
  OpenXdp request;
};

Result<Plan> makePlan(const io::BackendOptions& options, const Described& interface) {
  Plan plan;
  plan.interface = interface;
  auto mode = modeOf(options.xdpMode);
  if (!mode) return mode.error();
  plan.queues = options.queues.empty() ? allowedQueues(interface) : options.queues;
  if (plan.queues.empty()) {
    return makeError(ErrorCode::kGeneric, "xdp: interface " + nameOf(interface.interface) +
                                              " has no queue that this driver may open: it has " + std::to_string(interface.queues) +
                                              ", and the claim names others");
  }
  const uint32_t mtu = interface.mtu;
  // Chunks are laid out before nicd tries its ladder: for zero-copy, which needs the larger ones, where it may come to that.
  const bool mayZeroCopy = (interface.features & kFeatureZeroCopy) != 0 && (*mode == XdpMode::kAuto || *mode == XdpMode::kZeroCopy);
  const io::xdp::XskMode bind = mayZeroCopy ? io::xdp::XskMode::kZeroCopy : io::xdp::XskMode::kCopy;
  plan.layout.chunkBytes = mtu <= io::xdp::longestInOneBuffer(kSmallChunkBytes, bind) ? kSmallChunkBytes : kLargeChunkBytes;
  if ((interface.features & kFeatureChecksum) != 0) plan.layout.txMetadataBytes = kTxMetadataRoom;
  plan.rings = io::xdp::ringSizesFor(options.umemBytes, plan.layout.chunkBytes, static_cast<uint32_t>(plan.queues.size()), bind);
  OpenXdp& request = plan.request;
  std::copy(std::begin(interface.interface), std::end(interface.interface), request.interface);
  request.mode = static_cast<uint32_t>(*mode);
  request.chunkLength = plan.layout.chunkBytes;
  request.headroom = plan.layout.headroom;
  request.txMetadataLength = plan.layout.txMetadataBytes;
  request.fillEntries = plan.rings.fill;
  request.completionEntries = plan.rings.completion;
  request.receiveEntries = plan.rings.receive;
  request.transmitEntries = plan.rings.transmit;
  request.flags = kXdpNeedWakeup;
  if (mtu > io::xdp::longestInOneBuffer(plan.layout.chunkBytes, bind)) request.flags |= kXdpMultiBuffer;
  if (options.busyPollUs > 0 && (interface.features & kFeatureHardware) != 0) request.flags |= kXdpBusyPoll;
  return plan;
}

// One session and socket a queue; those that were opened end with `sessions` when a later one fails.
struct Queues {
  std::vector<uint64_t> sessions;
  std::vector<UniqueFd> sockets;
  OpenedText first;
  bool busyPoll = true;  // of all queues: the device polls them as one
};

Result<void> openQueue(Connection& connection, const Plan& plan, const io::xdp::UmemMemory& memory, uint32_t queue, Queues& queues) {
  OpenXdp request = plan.request;
  request.queue = queue;
  request.umemLength = memory.lengthBytes();
  int beside = memory.fd();
  if (!queues.sockets.empty()) {
    request.sharedSession = queues.sessions.front();
    beside = queues.sockets.front().get();
  }
  auto session = openSession(connection, MessageType::kOpenXdp, request, {&beside, 1});
  if (!session) return session.error();
  if (queues.sessions.empty()) queues.first = session->answer;
  queues.busyPoll = queues.busyPoll && (session->answer.opened.flags & kXdpBusyPoll) != 0;
  queues.sessions.push_back(session->answer.opened.session);
  queues.sockets.push_back(std::move(session->socket));
  return {};
}

void addReason(std::string& reason, const io::BackendCause& cause) {
  reason += (reason.empty() ? "" : "; ") + cause.what + ": " + cause.cause;
}

io::FrameCaps capsOf(const io::BackendOptions& options, const Plan& plan, const Queues& queues, bool hugepages) {
  io::FrameCaps caps;
  caps.mode = nameOfMode(queues.first.opened.mode);
  caps.interface = nameOf(plan.interface.interface);
  caps.interfaceIndex = queues.first.opened.interfaceIndex;
  caps.openedBy = nicdAt(options);
  caps.offloads = {"need-wakeup"};
  if ((queues.first.opened.flags & kXdpMultiBuffer) != 0) caps.offloads.push_back("multi-buffer");
  if (plan.layout.txMetadataBytes != 0) caps.offloads.push_back("transmit checksum");
  if (queues.busyPoll) caps.offloads.push_back("preferred busy polling");
  if (hugepages) caps.offloads.push_back("hugepages");
  return caps;
}

}  // namespace

Result<NicdXdp> openNicdXdp(const io::BackendOptions& options) {
  auto connection = connectForDriver(options);
  if (!connection) return connection.error();
  auto interface = describeInterface(**connection, options.interface);
  if (!interface) return interface.error();
  auto plan = makePlan(options, *interface);
  if (!plan) return plan.error();
  NicdXdp opened;
  std::string hugepageReason;
  auto memory = io::xdp::UmemMemory::allocate(options.umemBytes, options.hugepages, hugepageReason);
  if (!memory) return memory.error();
  if (!hugepageReason.empty()) {
    opened.refused.push_back(
        {"hugepages", hugepageReason, "reserve 2 MiB hugepages (vm.nr_hugepages), and give the container a limit of hugepages-2Mi"});
  }
  Queues queues;
  for (const uint32_t queue : plan->queues) {
    if (auto r = openQueue(**connection, *plan, *memory, queue, queues); !r) {
      for (const uint64_t session : queues.sessions) (*connection)->drop(session);
      return r.error();
    }
  }
  if (!queues.first.reason.empty()) {
    opened.refused.push_back({"zero-copy", queues.first.reason,
                              "use a device whose driver has AF_XDP zero-copy (ice, i40e, ixgbe, igb, igc, mlx5, virtio_net)"});
  }
  if (options.busyPollUs > 0 && (interface->features & kFeatureHardware) != 0 && !queues.busyPoll) {
    const std::string folder = "/sys/class/net/" + nameOf(interface->interface) + "/";
    opened.refused.push_back({"busy polling", "outrigger-nicd could not have it for this interface: its log says why",
                              "on the node: echo 2 > " + folder + "napi_defer_hard_irqs; echo 200000 > " + folder + "gro_flush_timeout"});
  }
  opened.tables = NicdTables::create(*connection, queues.first.opened, nameOf(interface->interface));
  io::xdp::XdpParts parts;
  parts.caps = capsOf(options, *plan, queues, memory->hugepages());
  for (const io::BackendCause& cause : opened.refused) addReason(parts.caps.reason, cause);
  parts.memory = memory.take();
  parts.layout = plan->layout;
  parts.rings = plan->rings;
  parts.multiBuffer = (queues.first.opened.flags & kXdpMultiBuffer) != 0;
  parts.transmitChecksum = plan->layout.txMetadataBytes != 0;
  parts.zeroCopy = queues.first.opened.mode == static_cast<uint32_t>(XdpMode::kZeroCopy);
  parts.busyPoll = queues.busyPoll;
  parts.sockets = std::move(queues.sockets);
  parts.device = std::make_unique<HandedControl>(*connection, std::move(queues.sessions), opened.tables);
  auto device = io::xdp::XdpFrameIo::create(std::move(parts));
  if (!device) return device.error();
  opened.device = device.take();
  return opened;
}

io::BackendReport probeNicdXdp(const io::BackendOptions& options) {
  io::BackendReport report;
  report.name = "xdp";
  const auto impossible = [&](const std::string& what, const Error& error, const std::string& fix) {
    report.availability = io::Availability::kImpossible;
    report.causes.push_back({what, error.message, fix});
    return report;
  };
  auto connection = connectForDriver(options);
  if (!connection)
    return impossible("connect to outrigger-nicd", connection.error(),
                      "run it on this node, mount its socket, and allow this user or give it a claim");
  auto interface = describeInterface(**connection, options.interface);
  if (!interface) return impossible("interface", interface.error(), "name one that outrigger-nicd serves and the claim is for");
  auto plan = makePlan(options, *interface);
  if (!plan) return impossible("queues", plan.error(), "name queues that the interface has and the claim is for");
  report.facts = {{"mode", "known when opened: " + options.xdpMode}, {"by", nicdAt(options)},
                  {"interface", nameOf(interface->interface)},       {"driver", nameOf(interface->driver)},
                  {"queues", std::to_string(plan->queues.size())},   {"mtu", std::to_string(interface->mtu)}};
  if (interface->up == 0) {
    report.availability = io::Availability::kDegraded;
    report.causes.push_back(
        {"link", "interface " + nameOf(interface->interface) + " is down, or has no carrier", "start it and its far end"});
  }
  return report;
}

Result<io::IoPair> openNicdXdpPair(const io::BackendOptions& options) {
  auto opened = openNicdXdp(options);
  if (!opened) return opened.error();
  return io::makeRawPair(std::move(opened->device), nullptr, opened->tables, options);
}

}  // namespace outrigger::nicd
