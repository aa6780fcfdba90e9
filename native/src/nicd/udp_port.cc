// SPDX-License-Identifier: Apache-2.0
#include "nicd/udp_port.h"

#include <ifaddrs.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

#include "io/posix/port_holder.h"
#include "nicd/refusal.h"

namespace outrigger::nicd {
namespace {

struct FreeAddresses {
  void operator()(ifaddrs* list) const { ::freeifaddrs(list); }
};

void raiseReceiveBuffer(int socket, int32_t bytes) {
  if (bytes == 0) return;
  // Past the system's limit: the driver could not do this itself. How much is bounded by the protocol.
  if (::setsockopt(socket, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) != 0) {
    ::setsockopt(socket, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
  }
}

Result<UniqueFd> makeSocket(const std::string& interface, const Address& address, int32_t receiveBufferBytes) {
  const int family = address.family == 6 ? AF_INET6 : AF_INET;
  UniqueFd socket(::socket(family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.valid()) return makeError(ErrorCode::kGeneric, "cannot create a UDP socket", errno);
  const int on = 1;
  if (family == AF_INET6) ::setsockopt(socket.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
  if (::setsockopt(socket.get(), SOL_SOCKET, SO_BINDTODEVICE, interface.c_str(), static_cast<socklen_t>(interface.size() + 1)) != 0) {
    return makeError(ErrorCode::kGeneric, "cannot bind a UDP socket to the interface " + interface, errno);
  }
  raiseReceiveBuffer(socket.get(), receiveBufferBytes);
  return socket;
}

// 0, or errno.
int bindTo(int socket, const io::SockAddr& address) { return ::bind(socket, address.get(), address.length) == 0 ? 0 : errno; }

int bindInRanges(int socket, io::SockAddr address, const std::vector<PortRange>& ranges) {
  int error = EADDRINUSE;
  for (const PortRange& range : ranges) {
    for (uint32_t port = range.first; port <= range.last; ++port) {
      address.setPort(static_cast<uint16_t>(port));
      error = bindTo(socket, address);
      if (error != EADDRINUSE) return error;
    }
  }
  return error;
}

}  // namespace

bool isWildcard(const Address& address) {
  return std::all_of(std::begin(address.bytes), std::end(address.bytes), [](uint8_t byte) { return byte == 0; });
}

bool isLocalAddress(const std::string& interface, const Address& address) {
  ifaddrs* raw = nullptr;
  if (::getifaddrs(&raw) != 0) return false;
  const std::unique_ptr<ifaddrs, FreeAddresses> list(raw);
  for (const ifaddrs* each = raw; each != nullptr; each = each->ifa_next) {
    if (each->ifa_addr == nullptr || interface != each->ifa_name) continue;
    if (address.family == 4 && each->ifa_addr->sa_family == AF_INET &&
        std::memcmp(&reinterpret_cast<const sockaddr_in*>(each->ifa_addr)->sin_addr, address.bytes, 4) == 0) {
      return true;
    }
    if (address.family == 6 && each->ifa_addr->sa_family == AF_INET6 &&
        std::memcmp(&reinterpret_cast<const sockaddr_in6*>(each->ifa_addr)->sin6_addr, address.bytes, 16) == 0) {
      return true;
    }
  }
  return false;
}

Result<UdpPort> openUdpPort(const std::string& interface, const Address& address, const std::vector<PortRange>& ranges,
                            int32_t receiveBufferBytes) {
  auto socket = makeSocket(interface, address, receiveBufferBytes);
  if (!socket) return socket.error();
  UdpPort port{socket.take(), address};
  io::SockAddr wanted = sockAddrOf(address);
  const int error =
      address.port == 0 && !ranges.empty() ? bindInRanges(port.socket.get(), wanted, ranges) : bindTo(port.socket.get(), wanted);
  if (error != 0) {
    const std::string what = "cannot bind UDP " + wanted.toString() + " on " + interface;
    if (error != EADDRINUSE) return refuse(Refusal::kSystem, what, error);
    if (address.port == 0) return refuse(Refusal::kBusy, what + ": all ports that this client may use are taken", error);
    const std::string holder = io::portHolder(wanted, io::HolderLook::kUser);
    return refuse(Refusal::kBusy, what + ": this port is held by " + (holder.empty() ? "another socket" : holder), error);
  }
  io::SockAddr bound;
  bound.length = sizeof(bound.storage);
  if (::getsockname(port.socket.get(), reinterpret_cast<sockaddr*>(&bound.storage), &bound.length) != 0) {
    return makeError(ErrorCode::kGeneric, "cannot read the address of a UDP socket", errno);
  }
  port.address.port = bound.port();
  return port;
}

}  // namespace outrigger::nicd
