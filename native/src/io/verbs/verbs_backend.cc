// SPDX-License-Identifier: Apache-2.0
// See the header.
#include "io/verbs/verbs_backend.h"

#include <ifaddrs.h>

#include <algorithm>
#include <bit>
#include <filesystem>

#include "io/verbs/gid.h"
#include "io/verbs/verbs_io.h"
#include "io/verbs/verbs_loader.h"

namespace outrigger::io {
namespace verbs {
namespace {

// Less makes a burst of one window overflow; more is beyond what many devices hold in one queue.
constexpr uint32_t kMinSlots = 256;
constexpr uint32_t kMaxSlots = 8192;

std::string nameOf(const PortFacts& port) { return port.device + " port " + std::to_string(port.port); }

std::string joined(const std::vector<GidEntry>& gids) {
  std::string text;
  for (const GidEntry& each : gids) text += (text.empty() ? "" : ", ") + addressOf(each.gid).toString();
  return text.empty() ? "none" : text;
}

BackendCause deviceNodes(const std::string& cause) {
  return {
      "/dev/infiniband", cause,
      "load ib_uverbs on the node ('modprobe ib_uverbs'), and hand its device nodes to the container (an RDMA device plugin, or --device "
      "/dev/infiniband/uverbs0)"};
}

std::vector<std::string> kernelDevices() {
  std::vector<std::string> names;
  std::error_code error;
  std::filesystem::directory_iterator each("/sys/class/infiniband", error);
  // A folder that changes under it must not throw: range-for would.
  for (; !error && each != std::filesystem::directory_iterator(); each.increment(error)) names.push_back(each->path().filename());
  return names;
}

// Why there is nothing to choose from.
BackendCause nothingThere(const std::string& answer) {
  const std::vector<std::string> names = kernelDevices();
  if (names.empty()) {
    return {"RDMA device", "there is none: /sys/class/infiniband is empty" + (answer.empty() ? "" : " (" + answer + ")"),
            "load the RDMA driver of the NIC (mlx5_ib, irdma, bnxt_re), or, to try without hardware, 'modprobe rdma_rxe; rdma link add "
            "rxe0 type "
            "rxe netdev eth0'"};
  }
  return deviceNodes("the kernel has the device " + names.front() + ", but its node can't be found" +
                     (answer.empty() ? "" : " (" + answer + ")"));
}

std::string memoryFix() {
  return "give less memory (OUTRIGGER_UMEM_SIZE), raise the limit ('ulimit -l'), or grant CAP_IPC_LOCK: what the device writes into must "
         "stay in "
         "memory";
}

struct Opened {
  std::shared_ptr<PeerDirectory> directory;
  std::unique_ptr<VerbsIo> sender;
  std::unique_ptr<VerbsIo> receiver;
};

// Two instances: what the receiver sends and the sender receives are control frames, for which small queues do.
Result<Opened> openOn(std::shared_ptr<RdmaPort> port, const BackendOptions& options) {
  auto directory = PeerDirectory::create(port);
  if (!directory) return directory.error();
  const uint32_t data = slotsIn(options.umemBytes / 2, port->facts().mtu);
  const auto make = [&](uint32_t in, uint32_t out, bool countsPort) {
    VerbsOptions each;
    each.receiveSlots = in;
    each.sendSlots = out;
    each.busyPollUs = options.busyPollUs;
    each.segmentation = options.segmentation;
    each.countsPort = countsPort;
    return VerbsIo::create(*directory, each);
  };
  auto sender = make(kMinSlots, data, false);
  if (!sender) return sender.error();
  auto receiver = make(data, kMinSlots, true);
  if (!receiver) return receiver.error();
  return Opened{directory.take(), sender.take(), receiver.take()};
}

struct Attempt {
  BackendReport report;
  Opened opened;
  bool ok = false;
};

Attempt attempt(const BackendOptions& options) {
  Attempt result;
  BackendReport& report = result.report;
  report.name = "verbs";
  report.availability = Availability::kImpossible;
  const LoadedVerbs& loaded = loadVerbs();
  if (loaded.module == nullptr) {
    if (!loaded.built) report.availability = Availability::kNotBuilt;
    report.causes.push_back(loaded.cause);
    return result;
  }
  auto ports = loaded.module->list();
  if (!ports || ports->empty()) {
    report.causes.push_back(nothingThere(ports ? "" : ports.error().message));
    return result;
  }
  PortChoice choice = choosePort(*ports, hostAddresses(), options);
  report.causes = choice.causes;
  if (!choice.found) return result;
  auto port = loaded.module->open(choice.port);
  if (!port) {
    report.causes.push_back({nameOf(choice.port), port.error().message, "see that " + choice.port.node + " may be read and written"});
    return result;
  }
  auto opened = openOn(*port, options);
  if (!opened) {
    const bool memory = opened.error().sysErrno == ENOMEM;
    report.causes.push_back({memory ? "locked memory" : nameOf(choice.port), opened.error().message,
                             memory ? memoryFix() : "use another device (OUTRIGGER_INTERFACE), or mmsg"});
    return result;
  }
  result.opened = opened.take();
  result.ok = true;
  // Ports that are not used are no fault of the one that is.
  report.causes.clear();
  report.availability = Availability::kAvailable;
  report.facts = result.opened.receiver->facts();
  return result;
}

}  // namespace

std::vector<HostAddress> hostAddresses() {
  std::vector<HostAddress> all;
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return all;
  for (const ifaddrs* each = list; each != nullptr; each = each->ifa_next) {
    if (each->ifa_addr == nullptr || (each->ifa_addr->sa_family != AF_INET && each->ifa_addr->sa_family != AF_INET6)) continue;
    SockAddr address;
    address.length = each->ifa_addr->sa_family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
    std::memcpy(&address.storage, each->ifa_addr, address.length);
    all.push_back({net::IpAddress::of(address), each->ifa_name});
  }
  ::freeifaddrs(list);
  return all;
}

PortChoice choosePort(const std::vector<PortFacts>& ports, const std::vector<HostAddress>& addresses, const BackendOptions& options) {
  PortChoice choice;
  std::optional<net::IpAddress> wanted;
  if (!options.address.empty()) {
    if (auto parsed = SockAddr::parseNumeric(options.address, 0)) wanted = net::IpAddress::of(*parsed);
  }
  const std::string what = wanted                      ? "address " + options.address
                           : options.interface.empty() ? "any address of this host"
                                                       : "an address of interface " + options.interface;
  for (const PortFacts& port : ports) {
    const auto refuse = [&](const std::string& cause, const std::string& fix) { choice.causes.push_back({nameOf(port), cause, fix}); };
    if (!port.trouble.empty() && !port.unopened) {
      refuse(port.trouble,
             "look for the device in the kernel's log (dmesg), or name another one (OUTRIGGER_INTERFACE, OUTRIGGER_INTERFACE_ADDRESS)");
      continue;
    }
    if (!port.trouble.empty()) {
      BackendCause cause = deviceNodes(port.node + ": " + port.trouble);
      cause.what = nameOf(port);
      choice.causes.push_back(cause);
      continue;
    }
    if (!port.ethernet) {
      refuse("its link is InfiniBand, whose GIDs are not IP addresses", "use a port with RoCE v2, or mmsg over IPoIB");
      continue;
    }
    std::vector<GidEntry> usable;
    for (const GidEntry& gid : port.gids) {
      const net::IpAddress address = addressOf(gid.gid);
      const auto host = std::find_if(addresses.begin(), addresses.end(), [&](const HostAddress& each) { return each.address == address; });
      // A device may be seen in a network namespace that its interface is not in.
      if (host == addresses.end() || address.isLinkLocalV6()) continue;
      if (wanted ? address == *wanted : options.interface.empty() || host->interface == options.interface) usable.push_back(gid);
    }
    if (usable.empty()) {
      refuse("it has no RoCE v2 GID of " + what + "; it has those of: " + joined(port.gids),
             "give its interface" + (port.interface.empty() ? std::string() : " " + port.interface) +
                 " the address, or name another one (OUTRIGGER_INTERFACE, OUTRIGGER_INTERFACE_ADDRESS)");
      continue;
    }
    if (!port.active) {
      refuse("the port is " + port.state, "start its interface and the far end of its cable");
      continue;
    }
    choice.found = true;
    choice.port = port;
    // The others of the interface are served as well, the wanted one only had to be among them.
    if (!wanted) choice.port.gids = usable;
    std::erase_if(choice.port.gids, [&](const GidEntry& gid) {
      const net::IpAddress address = addressOf(gid.gid);
      return std::none_of(addresses.begin(), addresses.end(), [&](const HostAddress& each) { return each.address == address; });
    });
    return choice;
  }
  return choice;
}

uint32_t slotsIn(uint32_t bytes, uint32_t mtu) {
  return std::clamp(std::bit_floor(std::max(1U, bytes / (mtu + kRouteHeaderLength))), kMinSlots, kMaxSlots);
}

}  // namespace verbs

Result<IoPair> openVerbs(const BackendOptions& options) {
  verbs::Attempt made = verbs::attempt(options);
  if (!made.ok) {
    std::string text;
    for (const BackendCause& cause : made.report.causes) {
      text += (text.empty() ? "backend verbs: " : "; ") + cause.what + ": " + cause.cause + "; " + cause.fix;
    }
    return makeError(ErrorCode::kGeneric, text);
  }
  IoPair pair;
  pair.sender = std::move(made.opened.sender);
  pair.receiver = std::move(made.opened.receiver);
  return pair;
}

BackendReport probeVerbs(const BackendOptions& options) { return verbs::attempt(options).report; }

}  // namespace outrigger::io
