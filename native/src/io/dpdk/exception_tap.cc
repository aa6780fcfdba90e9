// SPDX-License-Identifier: Apache-2.0
#include "io/dpdk/exception_tap.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace outrigger::io::dpdk {
namespace {

// Behind any default route of the pod's own network: only what asks for this interface takes it.
constexpr uint32_t kGatewayMetric = 4096;

// One rtnetlink request, and the kernel's answer to it.
class Request {
 public:
  Request(uint16_t type, uint16_t flags) {
    auto* header = reinterpret_cast<nlmsghdr*>(bytes_);
    header->nlmsg_type = type;
    header->nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | NLM_F_ACK | flags);
    header->nlmsg_len = NLMSG_HDRLEN;
  }

  template <typename T>
  T& body() {
    auto* header = reinterpret_cast<nlmsghdr*>(bytes_);
    header->nlmsg_len = NLMSG_LENGTH(sizeof(T));
    return *static_cast<T*>(NLMSG_DATA(header));
  }

  void add(uint16_t type, const void* data, size_t length) {
    auto* header = reinterpret_cast<nlmsghdr*>(bytes_);
    auto* attribute = reinterpret_cast<rtattr*>(bytes_ + NLMSG_ALIGN(header->nlmsg_len));
    attribute->rta_type = type;
    attribute->rta_len = static_cast<uint16_t>(RTA_LENGTH(length));
    std::memcpy(RTA_DATA(attribute), data, length);
    header->nlmsg_len = static_cast<uint32_t>(NLMSG_ALIGN(header->nlmsg_len) + RTA_LENGTH(length));
  }

  // 0, or the errno.
  int send(int socket) {
    const auto* header = reinterpret_cast<const nlmsghdr*>(bytes_);
    if (::send(socket, bytes_, header->nlmsg_len, 0) < 0) return errno;
    alignas(8) char answer[1024];
    const ssize_t length = ::recv(socket, answer, sizeof(answer), 0);
    if (length < static_cast<ssize_t>(NLMSG_LENGTH(sizeof(nlmsgerr)))) return length < 0 ? errno : EPROTO;
    const auto* reply = reinterpret_cast<const nlmsghdr*>(answer);
    if (reply->nlmsg_type != NLMSG_ERROR) return EPROTO;
    return -static_cast<const nlmsgerr*>(NLMSG_DATA(reply))->error;
  }

 private:
  alignas(8) char bytes_[512] = {};
};

const void* bytesOf(const SockAddr& address, size_t& length) {
  if (address.isV6()) {
    length = sizeof(in6_addr);
    return &reinterpret_cast<const sockaddr_in6*>(&address.storage)->sin6_addr;
  }
  length = sizeof(in_addr);
  return &reinterpret_cast<const sockaddr_in*>(&address.storage)->sin_addr;
}

int setLink(int socket, uint32_t index, const ExceptionTapConfig& config) {
  Request request(RTM_NEWLINK, 0);
  auto& link = request.body<ifinfomsg>();
  link.ifi_family = AF_UNSPEC;
  link.ifi_index = static_cast<int>(index);
  link.ifi_flags = IFF_UP;
  link.ifi_change = IFF_UP;
  request.add(IFLA_ADDRESS, config.mac.data(), config.mac.size());
  request.add(IFLA_MTU, &config.mtu, sizeof(config.mtu));
  return request.send(socket);
}

int addAddress(int socket, uint32_t index, const InterfaceAddress& entry) {
  Request request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE);
  auto& address = request.body<ifaddrmsg>();
  address.ifa_family = static_cast<uint8_t>(entry.address.family());
  address.ifa_prefixlen = entry.prefixLength;
  address.ifa_index = index;
  size_t length = 0;
  const void* bytes = bytesOf(entry.address, length);
  request.add(IFA_LOCAL, bytes, length);
  request.add(IFA_ADDRESS, bytes, length);
  // The address was given to this device; waiting a second for a duplicate would only delay the first bind.
  const uint32_t flags = entry.address.isV6() ? IFA_F_NODAD : 0;
  request.add(IFA_FLAGS, &flags, sizeof(flags));
  return request.send(socket);
}

int addGateway(int socket, uint32_t index, const SockAddr& gateway) {
  Request request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE);
  auto& route = request.body<rtmsg>();
  route.rtm_family = static_cast<uint8_t>(gateway.family());
  route.rtm_table = RT_TABLE_MAIN;
  route.rtm_protocol = RTPROT_STATIC;
  route.rtm_scope = RT_SCOPE_UNIVERSE;
  route.rtm_type = RTN_UNICAST;
  // Pool networks give /32 addresses with a gateway outside of them.
  route.rtm_flags = RTNH_F_ONLINK;
  size_t length = 0;
  const void* bytes = bytesOf(gateway, length);
  request.add(RTA_GATEWAY, bytes, length);
  request.add(RTA_OIF, &index, sizeof(index));
  request.add(RTA_PRIORITY, &kGatewayMetric, sizeof(kGatewayMetric));
  return request.send(socket);
}

Error failed(const std::string& name, const std::string& what, int error, const std::string& fix) {
  return makeError(ErrorCode::kGeneric, "dpdk: exception interface " + name + ": " + fix + ": " + what, error);
}

}  // namespace

Result<ExceptionTap> ExceptionTap::open(const ExceptionTapConfig& config) {
  const std::string privilege = "give the process CAP_NET_ADMIN, or make the interface beforehand (`ip tuntap add " + config.name +
                                " mode tap user <uid>`, address, up)";
  if (config.name.empty() || config.name.size() >= IFNAMSIZ) {
    return makeError(ErrorCode::kGeneric, "dpdk: exception interface '" + config.name + "': the name is not valid, allowed are 1 to " +
                                              std::to_string(IFNAMSIZ - 1) + " characters");
  }
  ExceptionTap tap;
  tap.fd_ = UniqueFd(::open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK));
  if (!tap.fd_.valid()) return failed(config.name, "open /dev/net/tun", errno, "give the container /dev/net/tun, or load the module tun");
  ifreq request{};
  std::strncpy(request.ifr_name, config.name.c_str(), IFNAMSIZ - 1);
  request.ifr_flags = IFF_TAP | IFF_NO_PI;
  if (::ioctl(tap.fd_.get(), TUNSETIFF, &request) != 0) {
    const int error = errno;
    return failed(config.name, "TUNSETIFF", error,
                  error == EBUSY ? "another process holds it: give each driver a name of its own" : privilege);
  }
  tap.name_ = request.ifr_name;
  tap.index_ = ::if_nametoindex(request.ifr_name);
  tap.control_ = UniqueFd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!tap.control_.valid()) return failed(tap.name_, "open a socket", errno, "allow more open files (ulimit -n)");

  const UniqueFd netlink(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (!netlink.valid()) return failed(tap.name_, "open a netlink socket", errno, privilege);
  const int link = setLink(netlink.get(), tap.index_, config);
  // Without the privilege a prepared interface is taken as it is; it needs the device's MAC address, or the peers' answers miss it.
  if (link == EPERM) {
    ifreq query{};
    std::strncpy(query.ifr_name, tap.name_.c_str(), IFNAMSIZ - 1);
    const bool same = ::ioctl(tap.control_.get(), SIOCGIFHWADDR, &query) == 0 &&
                      std::memcmp(query.ifr_hwaddr.sa_data, config.mac.data(), config.mac.size()) == 0;
    if (same) return tap;
  }
  if (link != 0) return failed(tap.name_, "set MAC address and MTU, bring up", link, privilege);
  for (const InterfaceAddress& address : config.addresses) {
    if (const int error = addAddress(netlink.get(), tap.index_, address); error != 0) {
      return failed(tap.name_, "add address " + address.address.toString(), error, privilege);
    }
  }
  for (const SockAddr& gateway : config.gateways) {
    if (const int error = addGateway(netlink.get(), tap.index_, gateway); error != 0) {
      return failed(tap.name_, "add gateway " + gateway.toString(), error, privilege);
    }
  }
  return tap;
}

bool ExceptionTap::give(std::span<const iovec> pieces, size_t length) {
  return ::writev(fd_.get(), pieces.data(), static_cast<int>(pieces.size())) == static_cast<ssize_t>(length);
}

uint32_t ExceptionTap::take(std::span<uint8_t> room) {
  const ssize_t length = ::read(fd_.get(), room.data(), room.size());
  return length > 0 ? static_cast<uint32_t>(length) : 0;
}

void ExceptionTap::setCarrier(bool on) {
  // Before 5.0 the kernel knows no such call: the interface then always has a carrier.
  int carrier = on ? 1 : 0;
  ::ioctl(fd_.get(), TUNSETCARRIER, &carrier);
}

void ExceptionTap::setMtu(uint32_t mtu) {
  ifreq request{};
  std::strncpy(request.ifr_name, name_.c_str(), IFNAMSIZ - 1);
  request.ifr_mtu = static_cast<int>(mtu);
  ::ioctl(control_.get(), SIOCSIFMTU, &request);
}

}  // namespace outrigger::io::dpdk
