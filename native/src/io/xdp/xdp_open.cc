// SPDX-License-Identifier: Apache-2.0
// The ladder, and the device it ends with: program, link reader, rules.
#include "io/xdp/xdp_open.h"

#include <algorithm>
#include <cerrno>
#include <mutex>
#include <optional>
#include <utility>

#include "io/frame/netdev.h"
#include "io/xdp/xdp_plan.h"
#include "io/xdp/xdp_program.h"

namespace outrigger::io::xdp {
namespace {

constexpr uint32_t kTxMetadataRoom = 32;  // TxMetadata, and frames that start on a multiple of 16
constexpr uint32_t kLongestPacket = 65'535;

class AttachedDevice final : public DeviceControl {
 public:
  AttachedDevice(XdpProgram program, std::unique_ptr<LinkReader> reader, std::string interface, uint32_t receivable, uint32_t mtu)
      : program_(std::move(program)),
        reader_(std::move(reader)),
        interface_(std::move(interface)),
        receivable_(receivable),
        steeredMtu_(mtu) {}

  Result<void> steer(const SteerRule& rule) override { return program_.addRule(rule.address); }
  Result<void> unsteer(const SteerRule& rule) override { return program_.removeRule(rule.address); }

  int64_t framesLeftToKernel() override { return program_.framesLeftToKernel(); }

  LinkState link() override {
    LinkState state = reader_->read();
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!state.gone && !program_.attached()) {
      state.gone = true;
      state.up = false;
      state.reason = "the XDP program of interface " + interface_ + " was detached: nothing is received any more";
    }
    if (state.gone && !wasGone_) ++extraGenerations_;
    wasGone_ = wasGone_ || state.gone;
    state.generation += extraGenerations_;
    // What no longer fits into the buffers that were bound goes to the kernel, and its socket, instead of nowhere.
    if (!state.gone && state.mtu != steeredMtu_ && program_.setMtu(std::min(state.mtu, receivable_))) steeredMtu_ = state.mtu;
    return state;
  }

 private:
  XdpProgram program_;
  std::unique_ptr<LinkReader> reader_;
  std::string interface_;
  uint32_t receivable_;  // longest IP packet that the bound sockets take
  std::mutex mutex_;
  uint32_t steeredMtu_;
  bool wasGone_ = false;
  uint64_t extraGenerations_ = 0;
};

// EPERM by a capability stays EPERM on each rung, a taken slot taken: going down the ladder would only repeat it.
bool endsTheLadder(const Error& error) { return error.sysErrno == EPERM || error.sysErrno == EACCES || error.sysErrno == EBUSY; }

Result<std::vector<UniqueFd>> bindQueues(const Plan& plan, const UmemMemory& memory, XskMode mode) {
  std::vector<UniqueFd> sockets;
  for (const uint32_t queue : plan.queues) {
    auto socket = openXsk();
    if (!socket) return socket.error();
    XskBinding binding;
    binding.interfaceIndex = plan.netdev.index;
    binding.queue = queue;
    binding.mode = mode;
    binding.multiBuffer = plan.multiBuffer;
    if (sockets.empty()) {
      if (auto r = registerUmem(socket->get(), memory.data(), memory.lengthBytes(), plan.layout); !r) return r.error();
    } else {
      binding.sharedUmemSocket = sockets[0].get();
    }
    if (auto r = setRings(socket->get(), plan.rings); !r) return r.error();
    if (auto r = bindXsk(socket->get(), binding); !r) return r.error();
    sockets.push_back(socket.take());
  }
  return sockets;
}

// Of every queue, or of none: each poll is a system call then.
bool preferBusyPollOfAll(const Plan& plan, const std::vector<UniqueFd>& sockets, std::vector<BackendCause>& refused) {
  for (const UniqueFd& socket : sockets) {
    if (auto cause = preferBusyPoll(socket.get(), plan.netdev.name, plan.busyPollUs)) {
      refused.push_back(std::move(*cause));
      return false;
    }
  }
  return true;
}

bool wantsTransmitChecksum(const Plan& plan, const Rung& rung, Offload wish) {
  return wish == Offload::kAuto ? deviceFillsChecksum(plan, rung) : wish == Offload::kOn;
}

bool wantsBusyPolling(const Plan& plan, Offload wish) { return wish == Offload::kAuto ? plan.facts.hardware : wish == Offload::kOn; }

// The program of one mode, kept from rung to rung: attaching restarts the link of some devices.
struct Attachment {
  std::optional<XdpProgram> program;
  AttachMode mode = AttachMode::kNative;
};

Result<void> attach(const Plan& plan, AttachMode mode, Attachment& attachment) {
  if (attachment.program.has_value() && attachment.mode == mode) return {};
  attachment.program.reset();
  XdpProgram::Options options;
  options.interfaceIndex = plan.netdev.index;
  options.mode = mode;
  // In generic mode the kernel makes one buffer of each packet before the program.
  options.multiBuffer = mode == AttachMode::kNative && plan.facts.mtu > kLongestNativeSingle;
  options.queues = *std::max_element(plan.queues.begin(), plan.queues.end()) + 1;
  options.mtu = plan.facts.mtu;
  auto program = XdpProgram::attach(options);
  if (!program) return program.error();
  attachment.program.emplace(program.take());
  attachment.mode = mode;
  return {};
}

Result<XdpParts> climb(const Plan& plan, const Rung& rung, UmemMemory& memory, Attachment& attachment, Offload checksum,
                       Offload busyPolling, XdpAttempt& attempt) {
  Plan actual = plan;
  if (auto r = shapeFor(rung.bind, actual); !r) return r.error();
  if (auto r = attach(plan, rung.attach, attachment); !r) return r.error();
  bool offload = wantsTransmitChecksum(plan, rung, checksum);
  if (offload) actual.layout.txMetadataBytes = kTxMetadataRoom;
  auto sockets = bindQueues(actual, memory, rung.bind);
  if (!sockets && offload && sockets.error().sysErrno == EINVAL) {
    attempt.refused.push_back({"transmit checksum", sockets.error().message, "use Linux 6.11 or later"});
    offload = false;
    actual.layout.txMetadataBytes = 0;
    sockets = bindQueues(actual, memory, rung.bind);
  }
  if (!sockets) return sockets.error();
  for (size_t i = 0; i < sockets->size(); ++i) {
    if (auto r = attachment.program->setSocket(plan.queues[i], (*sockets)[i].get()); !r) return r.error();
  }
  auto reader = LinkReader::open(plan.netdev);
  if (!reader) return reader.error();

  XdpParts parts;
  parts.busyPoll = plan.busyPollUs > 0 && wantsBusyPolling(plan, busyPolling) && preferBusyPollOfAll(plan, *sockets, attempt.refused);
  if (rung.attach == AttachMode::kGeneric) {
    attempt.refused.push_back(
        {"segmentation trains",
         "in generic mode a train from a sender on this machine comes in one piece that nothing tells from a datagram: "
         "what such senders leave to offloads is received through the kernel's socket instead",
         "use a device whose driver runs XDP programs natively"});
  }
  parts.caps.mode = rung.name;
  parts.caps.interface = plan.netdev.name;
  parts.caps.interfaceIndex = plan.netdev.index;
  parts.caps.offloads.push_back("need-wakeup");
  if (actual.multiBuffer) parts.caps.offloads.push_back("multi-buffer");
  if (offload) parts.caps.offloads.push_back("transmit checksum");
  if (parts.busyPoll) parts.caps.offloads.push_back("preferred busy polling");
  if (memory.hugepages()) parts.caps.offloads.push_back("hugepages");
  parts.layout = actual.layout;
  parts.rings = actual.rings;
  parts.sockets = sockets.take();
  parts.multiBuffer = actual.multiBuffer;
  parts.transmitChecksum = offload;
  parts.zeroCopy = rung.bind == XskMode::kZeroCopy;
  const uint32_t receivable = actual.multiBuffer ? kLongestPacket : longestInOneBuffer(actual.layout.chunkBytes, rung.bind);
  parts.device =
      std::make_unique<AttachedDevice>(std::move(*attachment.program), reader.take(), plan.netdev.name, receivable, plan.facts.mtu);
  parts.memory = std::move(memory);
  return parts;
}

}  // namespace

Result<XdpParts> openXdp(const BackendOptions& options, XdpAttempt& attempt, Offload transmitChecksum, Offload busyPolling) {
  if (!programsAreBuilt()) {
    return makeError(ErrorCode::kNotSupported, "xdp: not in this build: install clang and libbpf-dev, then build again");
  }
  auto rungs = rungsOf(options.xdpMode);
  if (!rungs) return rungs.error();
  auto plan = makePlan(options);
  if (!plan) return plan.error();
  std::string hugepageReason;
  auto memory = UmemMemory::allocate(options.umemBytes, options.hugepages, hugepageReason);
  if (!memory) return memory.error();
  if (!hugepageReason.empty()) {
    attempt.refused.push_back({"hugepages", hugepageReason, kHugepagesFix});
  }
  std::string tried;
  Error last;
  Attachment attachment;
  for (const Rung& rung : *rungs) {
    auto parts = climb(*plan, rung, *memory, attachment, transmitChecksum, busyPolling, attempt);
    if (parts) {
      for (const BackendCause& cause : attempt.refused) {
        parts->caps.reason += (parts->caps.reason.empty() ? "" : "; ") + cause.what + ": " + cause.cause;
      }
      return parts;
    }
    last = parts.error();
    attempt.refused.push_back({rung.name, last.message, fixOf(rung, *plan, last)});
    tried += (tried.empty() ? "" : "; ") + std::string(rung.name) + ": " + last.message;
    if (endsTheLadder(last)) break;
  }
  return Error{last.code, last.sysErrno, "xdp on interface " + plan->netdev.name + " (" + driverOf(*plan) + "): " + tried};
}

}  // namespace outrigger::io::xdp
