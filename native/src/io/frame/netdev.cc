// SPDX-License-Identifier: Apache-2.0
// Interfaces by ioctl and /proc: see the header. ethtool's feature list: Linux Documentation/networking/netdev-features.rst.
#include "io/frame/netdev.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/utsname.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <vector>

#include "io/frame/vnet_header.h"

namespace outrigger::io {
namespace {

struct Candidate {
  std::string name;
  bool loopback = false;
  bool up = false;
};

struct FreeAddresses {
  void operator()(ifaddrs* list) const { ::freeifaddrs(list); }
};

std::unique_ptr<ifaddrs, FreeAddresses> interfaceAddresses() {
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return nullptr;
  return std::unique_ptr<ifaddrs, FreeAddresses>(list);
}

std::vector<Candidate> candidates() {
  std::vector<Candidate> all;
  const auto list = interfaceAddresses();
  for (const ifaddrs* one = list.get(); one != nullptr; one = one->ifa_next) {
    const bool known = std::any_of(all.begin(), all.end(), [&](const Candidate& c) { return c.name == one->ifa_name; });
    if (!known) all.push_back({one->ifa_name, (one->ifa_flags & IFF_LOOPBACK) != 0, (one->ifa_flags & IFF_UP) != 0});
  }
  return all;
}

std::string listOf(const std::vector<Candidate>& all) {
  std::string text;
  for (const Candidate& one : all) text += (text.empty() ? "" : ", ") + one.name;
  return text.empty() ? "none" : text;
}

bool sameHost(const sockaddr* left, const SockAddr& right) {
  if (left == nullptr || left->sa_family != right.family()) return false;
  if (right.family() == AF_INET) {
    return reinterpret_cast<const sockaddr_in*>(left)->sin_addr.s_addr ==
           reinterpret_cast<const sockaddr_in*>(&right.storage)->sin_addr.s_addr;
  }
  return std::memcmp(&reinterpret_cast<const sockaddr_in6*>(left)->sin6_addr,
                     &reinterpret_cast<const sockaddr_in6*>(&right.storage)->sin6_addr, sizeof(in6_addr)) == 0;
}

// First lines of /proc/thread-self/net/{route,ipv6_route} that are a default route: proc(5), fields by position.
std::string defaultRouteInterface() {
  std::ifstream v4("/proc/thread-self/net/route");
  std::string line;
  while (std::getline(v4, line)) {
    std::istringstream fields(line);
    std::string name, destination, gateway, flags, refCount, use, metric, mask;
    if (fields >> name >> destination >> gateway >> flags >> refCount >> use >> metric >> mask && destination == "00000000" &&
        mask == "00000000") {
      return name;
    }
  }
  std::ifstream v6("/proc/thread-self/net/ipv6_route");
  while (std::getline(v6, line)) {
    std::istringstream fields(line);
    std::string destination, length, source, sourceLength, gateway, metric, refCount, use, flags, name;
    if (fields >> destination >> length >> source >> sourceLength >> gateway >> metric >> refCount >> use >> flags >> name &&
        length == "00" && destination.find_first_not_of('0') == std::string::npos && name != "lo") {
      return name;
    }
  }
  return "";
}

Result<Netdev> byName(const std::string& name, const std::string& why) {
  if (name.size() >= IFNAMSIZ) {
    return makeError(ErrorCode::kGeneric, "interface '" + name + "' is longer than 15 characters: name it as 'ip link' prints it");
  }
  const unsigned index = ::if_nametoindex(name.c_str());
  if (index == 0) {
    return makeError(ErrorCode::kGeneric, "interface '" + name + "'" + why + " does not exist here, there are: " + listOf(candidates()));
  }
  return Netdev{name, index};
}

ifreq requestOf(const std::string& name) {
  ifreq request{};
  std::memcpy(request.ifr_name, name.data(), std::min<size_t>(name.size(), IFNAMSIZ - 1));
  return request;
}

bool ethtool(int fd, const Netdev& netdev, void* command) {
  ifreq request = requestOf(netdev.name);
  request.ifr_data = static_cast<char*>(command);
  return ::ioctl(fd, SIOCETHTOOL, &request) == 0;
}

// The flag IFF_RUNNING follows the carrier up to a second late (Linux net/core/link_watch.c), ethtool's answer at once; not every driver has
// one. `request` has name and flags.
bool hasCarrier(int fd, const ifreq& request) {
  ethtool_value link{};
  link.cmd = ETHTOOL_GLINK;
  ifreq question = request;
  question.ifr_data = reinterpret_cast<char*>(&link);
  if (::ioctl(fd, SIOCETHTOOL, &question) == 0) return link.data != 0;
  return (request.ifr_flags & IFF_RUNNING) != 0;
}

// A variable-length ethtool structure: `count` elements of `elementLength` behind the fixed part.
template <typename T>
class EthtoolBuffer {
 public:
  EthtoolBuffer(uint32_t count, size_t elementLength) : memory_((sizeof(T) + count * elementLength + 7) / 8) {}
  T* get() { return reinterpret_cast<T*>(memory_.data()); }
  template <typename E>
  const E* elements() const {
    return reinterpret_cast<const E*>(reinterpret_cast<const uint8_t*>(memory_.data()) + sizeof(T));
  }

 private:
  std::vector<uint64_t> memory_;
};

bool hasFeature(int control, const Netdev& netdev, const std::string& feature) {
  EthtoolBuffer<ethtool_sset_info> sets(1, sizeof(uint32_t));
  sets.get()->cmd = ETHTOOL_GSSET_INFO;
  sets.get()->sset_mask = 1ULL << ETH_SS_FEATURES;
  if (!ethtool(control, netdev, sets.get()) || sets.get()->sset_mask == 0) return false;
  const uint32_t count = *sets.elements<uint32_t>();
  EthtoolBuffer<ethtool_gstrings> names(count, ETH_GSTRING_LEN);
  names.get()->cmd = ETHTOOL_GSTRINGS;
  names.get()->string_set = ETH_SS_FEATURES;
  names.get()->len = count;
  if (!ethtool(control, netdev, names.get())) return false;
  const uint32_t blocks = (count + 31) / 32;
  EthtoolBuffer<ethtool_gfeatures> features(blocks, sizeof(ethtool_get_features_block));
  features.get()->cmd = ETHTOOL_GFEATURES;
  features.get()->size = blocks;
  if (!ethtool(control, netdev, features.get())) return false;
  for (uint32_t i = 0; i < count; ++i) {
    const char* name = names.elements<char>() + static_cast<size_t>(i) * ETH_GSTRING_LEN;
    if (feature != std::string(name, ::strnlen(name, ETH_GSTRING_LEN))) continue;
    return (features.elements<ethtool_get_features_block>()[i / 32].active & (1U << (i % 32))) != 0;
  }
  return false;
}

}  // namespace

Result<Netdev> chooseNetdev(const std::string& interface, const std::string& address) {
  if (!interface.empty()) return byName(interface, "");
  if (!address.empty()) {
    auto wanted = SockAddr::parseNumeric(address, 0);
    if (!wanted) return wanted.error();
    const auto list = interfaceAddresses();
    for (const ifaddrs* one = list.get(); one != nullptr; one = one->ifa_next) {
      if (sameHost(one->ifa_addr, *wanted)) return byName(one->ifa_name, "");
    }
    return makeError(ErrorCode::kGeneric, "no interface has the address " + address + ": name one of this host's, 'ip address' lists them");
  }
  if (const std::string name = defaultRouteInterface(); !name.empty()) return byName(name, " of the default route");
  std::vector<Candidate> usable = candidates();
  std::erase_if(usable, [](const Candidate& one) { return one.loopback || !one.up; });
  if (usable.size() == 1) return byName(usable[0].name, "");
  return makeError(ErrorCode::kGeneric,
                   "which interface to open is unclear: there is no default route, and besides loopback those up are: " + listOf(usable) +
                       "; name the interface, or the local address");
}

bool netdevFeature(const Netdev& netdev, const std::string& feature) {
  const UniqueFd control(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  return control.valid() && hasFeature(control.get(), netdev, feature);
}

Result<std::unique_ptr<LinkReader>> LinkReader::open(const Netdev& netdev) {
  UniqueFd control(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!control.valid()) control = UniqueFd(::socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!control.valid()) return makeError(ErrorCode::kGeneric, "cannot open a socket to read the link of " + netdev.name, errno);
  std::unique_ptr<LinkReader> reader(new LinkReader(netdev, std::move(control)));
  reader->last_ = reader->query();
  return reader;
}

Result<std::unique_ptr<LinkReader>> LinkReader::through(int socket, const Netdev& netdev) {
  UniqueFd control(::fcntl(socket, F_DUPFD_CLOEXEC, 0));
  if (!control.valid()) return makeError(ErrorCode::kGeneric, "cannot duplicate a socket to read the link of " + netdev.name, errno);
  std::unique_ptr<LinkReader> reader(new LinkReader(netdev, std::move(control)));
  reader->last_ = reader->query();
  return reader;
}

bool LinkReader::feature(const std::string& feature) const { return hasFeature(control_.get(), netdev_, feature); }

LinkState LinkReader::query() const {
  LinkState state;
  ifreq request{};
  request.ifr_ifindex = static_cast<int>(netdev_.index);
  if (::ioctl(control_.get(), SIOCGIFNAME, &request) != 0) {
    state.gone = true;
    state.reason =
        "interface " + netdev_.name + " (index " + std::to_string(netdev_.index) + ") was removed or left this network namespace";
    return state;
  }
  if (::ioctl(control_.get(), SIOCGIFMTU, &request) == 0) state.mtu = static_cast<uint32_t>(request.ifr_mtu);
  if (::ioctl(control_.get(), SIOCGIFHWADDR, &request) == 0) std::memcpy(state.mac.data(), request.ifr_hwaddr.sa_data, state.mac.size());
  if (::ioctl(control_.get(), SIOCGIFFLAGS, &request) != 0) {
    state.reason = "the flags of interface " + netdev_.name + " can't be read: " + std::strerror(errno);
  } else if ((request.ifr_flags & IFF_UP) == 0) {
    state.reason = "interface " + netdev_.name + " is down: 'ip link set " + netdev_.name + " up' starts it";
  } else if (!hasCarrier(control_.get(), request)) {
    state.reason = "interface " + netdev_.name + " has no carrier: its far end is down or unplugged";
  } else {
    state.up = true;
  }
  return state;
}

LinkState LinkReader::read() {
  LinkState now = query();
  const std::lock_guard<std::mutex> lock(mutex_);
  const bool changed = now.mac != last_.mac || now.mtu != last_.mtu || now.up != last_.up || now.gone != last_.gone;
  now.generation = last_.generation + (changed ? 1 : 0);
  last_ = now;
  return now;
}

std::string vnetTrainRefusal() {
  utsname system{};
  if (::uname(&system) != 0) return "the kernel's version can't be read";
  int major = 0;
  int minor = 0;
  if (std::sscanf(system.release, "%d.%d", &major, &minor) != 2) return std::string("kernel version '") + system.release + "' is unknown";
  if (major > 6 || (major == 6 && minor >= 2)) return "";
  return std::string("kernel ") + system.release + " has no UDP trains in the virtio-net header: use one from 6.2 on";
}

}  // namespace outrigger::io
