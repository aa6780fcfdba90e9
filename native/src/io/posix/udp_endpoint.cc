// SPDX-License-Identifier: Apache-2.0
// Socket options of UDP endpoints, each with an error that names it.
#include "io/posix/udp_endpoint.h"

#include <fcntl.h>
#include <net/if.h>
#include <netinet/udp.h>

#include "io/posix/port_holder.h"

#ifndef IP_RECVFRAGSIZE
#define IP_RECVFRAGSIZE 25
#endif
#ifndef IPV6_RECVFRAGSIZE
#define IPV6_RECVFRAGSIZE 77
#endif

namespace outrigger::io {
namespace {

Error failed(const EndpointConfig& config, const std::string& what, int err) {
  return makeError(ErrorCode::kChannelEndpointError, "UDP endpoint " + config.bindAddress.toString() + ": " + what, err);
}

bool isWildcard(const SockAddr& address) {
  if (address.family() == AF_INET) {
    return reinterpret_cast<const sockaddr_in*>(&address.storage)->sin_addr.s_addr == htonl(INADDR_ANY);
  }
  return IN6_IS_ADDR_UNSPECIFIED(&reinterpret_cast<const sockaddr_in6*>(&address.storage)->sin6_addr) != 0;
}

bool isMulticast(const SockAddr& address) {
  if (address.family() == AF_INET) {
    return IN_MULTICAST(ntohl(reinterpret_cast<const sockaddr_in*>(&address.storage)->sin_addr.s_addr));
  }
  return IN6_IS_ADDR_MULTICAST(&reinterpret_cast<const sockaddr_in6*>(&address.storage)->sin6_addr) != 0;
}

// The kernel doubles what it is asked for, to cover its own bookkeeping, and reports the double (socket(7)).
int32_t grantedBuffer(int fd, int option) {
  int value = 0;
  socklen_t length = sizeof(value);
  return ::getsockopt(fd, SOL_SOCKET, option, &value, &length) == 0 ? value / 2 : 0;
}

Result<void> setInt(const EndpointConfig& config, int fd, int level, int option, int value, const char* name) {
  if (::setsockopt(fd, level, option, &value, sizeof(value)) == 0) return {};
  return failed(config, "cannot set " + std::string(name) + "=" + std::to_string(value), errno);
}

bool isTakenOver(const EndpointConfig& config) { return config.predecessor != nullptr && config.predecessor->socketFd() >= 0; }

Result<void> configure(const EndpointConfig& config, const UdpSocketOptions& options, int fd) {
  const bool v6 = config.bindAddress.isV6();
  // A v6 endpoint takes v6 only, so that the v4 wildcard on the same port can be an endpoint of its own.
  if (v6 && !isTakenOver(config)) {  // EINVAL on a bound socket, which has it already
    if (auto r = setInt(config, fd, IPPROTO_IPV6, IPV6_V6ONLY, 1, "IPV6_V6ONLY"); !r) return r;
  }
  if (config.reuseAddress) {
    if (auto r = setInt(config, fd, SOL_SOCKET, SO_REUSEADDR, 1, "SO_REUSEADDR"); !r) return r;
  }
  if (config.receiveBufferBytes > 0) {
    if (auto r = setInt(config, fd, SOL_SOCKET, SO_RCVBUF, config.receiveBufferBytes, "SO_RCVBUF"); !r) return r;
  }
  if (config.sendBufferBytes > 0) {
    if (auto r = setInt(config, fd, SOL_SOCKET, SO_SNDBUF, config.sendBufferBytes, "SO_SNDBUF"); !r) return r;
  }
  if (config.ttl > 0) {
    if (auto r = v6 ? setInt(config, fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, config.ttl, "IPV6_UNICAST_HOPS")
                    : setInt(config, fd, IPPROTO_IP, IP_TTL, config.ttl, "IP_TTL");
        !r) {
      return r;
    }
  }
  if (auto r = setInt(config, fd, SOL_SOCKET, SO_RXQ_OVFL, options.countDrops ? 1 : 0, "SO_RXQ_OVFL"); !r) return r;
  if (config.arrivalTimes || isTakenOver(config)) {
    if (auto r = setInt(config, fd, SOL_SOCKET, SO_TIMESTAMPNS, config.arrivalTimes ? 1 : 0, "SO_TIMESTAMPNS"); !r) return r;
  }
  const bool wildcard = isWildcard(config.bindAddress);
  if (options.arrival || isTakenOver(config)) {
    const int on = options.arrival ? 1 : 0;
    if (auto r = v6 ? setInt(config, fd, IPPROTO_IPV6, IPV6_RECVFRAGSIZE, on, "IPV6_RECVFRAGSIZE")
                    : setInt(config, fd, IPPROTO_IP, IP_RECVFRAGSIZE, on, "IP_RECVFRAGSIZE");
        !r) {
      return r;
    }
    if (!v6) {
      if (auto r = setInt(config, fd, IPPROTO_IP, IP_RECVOPTS, on, "IP_RECVOPTS"); !r) return r;
    }
  }
  // Only a wildcard bind leaves open which local address a datagram was sent to.
  if (wildcard || options.arrival) {
    if (auto r = v6 ? setInt(config, fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1, "IPV6_RECVPKTINFO")
                    : setInt(config, fd, IPPROTO_IP, IP_PKTINFO, 1, "IP_PKTINFO");
        !r) {
      return r;
    }
  }
  // A specific address already selects the interface; a device bind would also cut off local delivery over lo.
  if (wildcard && !config.interfaceName.empty()) {
    if (config.interfaceName.size() >= IFNAMSIZ) {
      return failed(config, "interface name '" + config.interfaceName + "' is longer than 15 characters", 0);
    }
    if (::setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, config.interfaceName.c_str(), static_cast<socklen_t>(config.interfaceName.size())) !=
        0) {
      return failed(config, "cannot bind to interface '" + config.interfaceName + "'", errno);
    }
  }
  if (options.freeBind) {
    if (auto r = v6 ? setInt(config, fd, IPPROTO_IPV6, IPV6_FREEBIND, 1, "IPV6_FREEBIND")
                    : setInt(config, fd, IPPROTO_IP, IP_FREEBIND, 1, "IP_FREEBIND");
        !r) {
      return r;
    }
  }
  if (options.receiveErrors || isTakenOver(config)) {
    const int on = options.receiveErrors ? 1 : 0;
    if (auto r = v6 ? setInt(config, fd, IPPROTO_IPV6, IPV6_RECVERR, on, "IPV6_RECVERR")
                    : setInt(config, fd, IPPROTO_IP, IP_RECVERR, on, "IP_RECVERR");
        !r) {
      return r;
    }
  }
  if (options.coalescing || isTakenOver(config)) {
    if (auto r = setInt(config, fd, SOL_UDP, UDP_GRO, options.coalescing ? 1 : 0, "UDP_GRO"); !r) return r;
  }
  if (options.busyPollUs > 0) {
    if (auto r = setInt(config, fd, SOL_SOCKET, SO_BUSY_POLL, options.busyPollUs, "SO_BUSY_POLL"); !r) return r;
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<UdpEndpoint>> UdpEndpoint::open(const EndpointConfig& config, const UdpSocketOptions& options) {
  auto endpoint = std::make_unique<UdpEndpoint>();
  if (auto r = openInto(*endpoint, config, options); !r) return r.error();
  return endpoint;
}

Result<void> UdpEndpoint::openInto(UdpEndpoint& endpoint, const EndpointConfig& config, const UdpSocketOptions& options) {
  const sa_family_t family = config.bindAddress.family();
  if (family != AF_INET && family != AF_INET6) return failed(config, "the bind address has no IPv4 or IPv6 family", 0);
  if (isMulticast(config.bindAddress)) {
    return makeError(ErrorCode::kNotSupported, "UDP endpoint " + config.bindAddress.toString() +
                                                   ": multicast groups are not supported, use unicast or multi-destination-cast");
  }
  if (isTakenOver(config)) {
    endpoint.fd_ = UniqueFd(::fcntl(config.predecessor->socketFd(), F_DUPFD_CLOEXEC, 0));
    if (!endpoint.fd_.valid()) return failed(config, "cannot take over the socket of the backend before", errno);
    // Raw backends let their socket drop what they receive themselves. ENOENT: there is no filter.
    const int none = 0;
    if (::setsockopt(endpoint.fd(), SOL_SOCKET, SO_DETACH_FILTER, &none, sizeof(none)) != 0 && errno != ENOENT) {
      return failed(config, "cannot remove the filter of the socket of the backend before", errno);
    }
    const int flags = ::fcntl(endpoint.fd(), F_GETFL);
    if (::fcntl(endpoint.fd(), F_SETFL, flags | O_NONBLOCK) != 0) return failed(config, "cannot make the socket non-blocking", errno);
  } else {
    endpoint.fd_ = UniqueFd(::socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_UDP));
    if (!endpoint.fd_.valid()) return failed(config, "cannot create a socket", errno);
  }
  const int fd = endpoint.fd();
  if (auto r = configure(config, options, fd); !r) return r.error();
  if (!isTakenOver(config) && ::bind(fd, config.bindAddress.get(), config.bindAddress.length) != 0) {
    const int err = errno;
    if (err == EADDRINUSE) {
      const std::string holder = portHolder(config.bindAddress);
      return failed(config,
                    "cannot bind: this port is held by " + (holder.empty() ? "another socket ('ss -ulnp' may name its process)" : holder) +
                        "; choose another port, or stop it",
                    err);
    }
    if (err == EADDRNOTAVAIL) return failed(config, "cannot bind: no local interface has this address", err);
    return failed(config, "cannot bind", err);
  }
  endpoint.localAddress_.length = sizeof(endpoint.localAddress_.storage);
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&endpoint.localAddress_.storage), &endpoint.localAddress_.length) != 0) {
    return failed(config, "cannot read the bound address", errno);
  }
  endpoint.sign_ = putPortSign(fd, endpoint.localAddress_, portOwner());
  endpoint.receiveBufferBytes_ = grantedBuffer(fd, SO_RCVBUF);
  endpoint.sendBufferBytes_ = grantedBuffer(fd, SO_SNDBUF);
  return {};
}

}  // namespace outrigger::io
