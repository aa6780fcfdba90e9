// SPDX-License-Identifier: Apache-2.0
// Backend names to backends, and the environment's overrides.
#include "io/backend.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <type_traits>

#include "io/dpdk_loader/dpdk_loader.h"
#include "io/impair/impair_config.h"
#include "io/impair/impair_io.h"
#include "io/mmsg/mmsg_io.h"
#include "io/packet/packet_backend.h"
#include "io/socket/socket_io.h"
#include "io/uring/uring_io.h"
#include "io/verbs/verbs_backend.h"
#include "io/xdp/xdp_backend.h"
#include "io/xdp/xdp_open.h"

namespace outrigger::io {
namespace {

constexpr int32_t kMaxBusyPollUs = 1'000'000;

Error badVariable(const char* name, const char* value, const std::string& allowed) {
  return makeError(ErrorCode::kGeneric, std::string(name) + "=" + value + " is not valid, allowed is " + allowed);
}

Result<void> readSwitch(const char* name, bool& out) {
  const char* value = std::getenv(name);
  if (value == nullptr || *value == '\0') return {};
  const std::string text = value;
  if (text == "on") {
    out = true;
  } else if (text == "off") {
    out = false;
  } else {
    return badVariable(name, value, "on, off");
  }
  return {};
}

template <typename Io>
Result<IoPair> openSockets(const BackendOptions& options) {
  auto sender = Io::create(options);
  if (!sender) return sender.error();
  auto receiver = Io::create(options);
  if (!receiver) return receiver.error();
  IoPair pair;
  pair.sender = sender.take();
  pair.receiver = receiver.take();
  return pair;
}

template <typename Io>
BackendReport probeSockets(const BackendOptions& options) {
  BackendReport report;
  auto io = Io::create(options);
  if (!io) {
    report.availability = Availability::kImpossible;
    report.causes.push_back({"open sockets", io.error().message, "allow the process to open UDP sockets and epoll descriptors"});
    return report;
  }
  const Caps& caps = (*io)->caps();
  report.name = caps.name;
  // `socket` sends one datagram a call by design: there is nothing that it could do better.
  const auto lacks = [&](const char* what, bool wanted, const char* variable) {
    report.availability = Availability::kDegraded;
    report.causes.push_back({what, wanted ? caps.reason : "switched off by configuration",
                             wanted ? "use a kernel from 5.0 on" : std::string("unset ") + variable});
  };
  if (std::is_same_v<Io, MmsgIo> && !caps.segmentationOffload) lacks("UDP_SEGMENT", options.segmentation, "OUTRIGGER_UDP_SEGMENT");
  if (std::is_same_v<Io, MmsgIo> && !caps.receiveCoalescing) lacks("UDP_GRO", options.coalescing, "OUTRIGGER_UDP_GRO");
  report.facts = (*io)->facts();
  return report;
}

Error unknownBackend(const std::string& name) {
  std::string allowed;
  for (const std::string& known : backendNames()) allowed += (allowed.empty() ? "" : ", ") + known;
  return makeError(ErrorCode::kGeneric, "backend '" + name + "' is unknown, allowed are " + allowed);
}

Result<std::unique_ptr<DatagramIo>> impaired(std::unique_ptr<DatagramIo> io, const BackendOptions& options) {
  if (options.impair.empty() || options.impair == "none") return io;
  auto config = ImpairConfig::parse(options.impair);
  if (!config) return config.error();
  return ImpairIo::wrap(std::move(io), *config);
}

}  // namespace

const std::vector<Backend>& backends() {
  static const std::vector<Backend> table{
      {"dpdk", openDpdk, probeDpdk},
      {"verbs", openVerbs, probeVerbs},
      {"xdp", openXdpPair, xdp::probeXdp},
      {"packet", openPacket, probePacket},
      {"uring", openUring, probeUring},
      {"mmsg", openSockets<MmsgIo>, probeSockets<MmsgIo>},
      {"socket", openSockets<SocketIo>, probeSockets<SocketIo>},
  };
  return table;
}

const std::vector<std::string>& backendNames() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const Backend& backend : backends()) all.push_back(backend.name);
    return all;
  }();
  return names;
}

BackendCause vlanCause(const std::string& name, const BackendOptions& options) {
  // Where the kernel routes, its routes decide about the VLAN too.
  const bool opensInterface = name == "packet" || name == "xdp" || name == "verbs";
  if (options.vlan == 0 || !opensInterface) return {};
  const std::string vlan = std::to_string(options.vlan);
  const std::string interface = (options.interface.empty() ? "eth0" : options.interface) + "." + vlan;
  return {"VLAN", "OUTRIGGER_VLAN=" + vlan + " is for dpdk, whose device brings the frames of all VLANs; " + name + " adds no tags",
          "leave it out and open the VLAN's interface (OUTRIGGER_INTERFACE=" + interface + ")"};
}

bool countsNetworkEvents(const std::string& name) {
  static const std::vector<std::string> counting{"dpdk", "verbs", "xdp", "packet", "uring"};
  return std::find(counting.begin(), counting.end(), name) != counting.end();
}

bool parseZeroCopy(std::string_view text, ZeroCopyMode& mode) {
  if (text == "auto") {
    mode = ZeroCopyMode::kAuto;
  } else if (text == "on") {
    mode = ZeroCopyMode::kOn;
  } else if (text == "off") {
    mode = ZeroCopyMode::kOff;
  } else {
    return false;
  }
  return true;
}

Result<void> applyEnvironment(BackendOptions& options) {
  if (auto r = readSwitch("OUTRIGGER_UDP_SEGMENT", options.segmentation); !r) return r;
  if (auto r = readSwitch("OUTRIGGER_UDP_GRO", options.coalescing); !r) return r;
  if (const char* value = std::getenv("OUTRIGGER_URING_ZERO_COPY"); value != nullptr && *value != '\0') {
    if (!parseZeroCopy(value, options.zeroCopy)) return badVariable("OUTRIGGER_URING_ZERO_COPY", value, "auto, on, off");
  }
  if (const char* value = std::getenv("OUTRIGGER_BUSY_POLL_US"); value != nullptr && *value != '\0') {
    const std::string_view text = value;
    int32_t microseconds = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), microseconds);
    if (error != std::errc() || end != text.data() + text.size() || microseconds < 0 || microseconds > kMaxBusyPollUs) {
      return badVariable("OUTRIGGER_BUSY_POLL_US", value, "a whole number of microseconds from 0 to 1000000");
    }
    options.busyPollUs = microseconds;
  }
  if (const char* value = std::getenv("OUTRIGGER_IMPAIR"); value != nullptr && *value != '\0') {
    if (auto config = ImpairConfig::parse(value); !config) {
      return makeError(ErrorCode::kGeneric, "OUTRIGGER_IMPAIR: " + config.error().message);
    }
    options.impair = value;
  }
  return {};
}

Result<IoPair> openPair(const std::string& name, const BackendOptions& options) {
  if (options.receiveSlots < 1 || options.receiveSlots > RxBurst::kMaxPackets) {
    return makeError(ErrorCode::kGeneric, "backend " + name + ": receiveSlots=" + std::to_string(options.receiveSlots) +
                                              " is out of range: allowed is 1 to " + std::to_string(RxBurst::kMaxPackets));
  }
  const auto row = std::find_if(backends().begin(), backends().end(), [&](const Backend& backend) { return backend.name == name; });
  if (row == backends().end()) return unknownBackend(name);
  if (const BackendCause cause = vlanCause(name, options); !cause.what.empty()) {
    return makeError(ErrorCode::kGeneric, "backend " + name + ": " + cause.cause + ": " + cause.fix);
  }
  auto pair = row->open(options);
  if (!pair) return pair;
  auto sender = impaired(std::move(pair->sender), options);
  if (!sender) return sender.error();
  auto receiver = impaired(std::move(pair->receiver), options);
  if (!receiver) return receiver.error();
  pair->sender = sender.take();
  pair->receiver = receiver.take();
  return pair;
}

Result<std::unique_ptr<DatagramIo>> makeBackend(const std::string& name, const BackendOptions& options) {
  auto pair = openPair(name, options);
  if (!pair) return pair.error();
  return std::move(pair->receiver);
}

}  // namespace outrigger::io
