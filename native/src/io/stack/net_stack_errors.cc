// SPDX-License-Identifier: Apache-2.0
// What the network says about what we sent: ICMP errors, from the reserved sockets' error queues, or from the wire where no kernel owns the device.
// Anybody can forge them, so they do no more than have a path looked at again or made narrower (path_mtus.h).
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>
#include <time.h>
// After what it does not include itself.
#include <linux/errqueue.h>

#include <array>
#include <cstring>

#include "io/stack/net_stack.h"

namespace outrigger::io {
namespace {

constexpr int kMaxErrorsPerLook = 64;
// IPv4 routers of before RFC 1191 say that a packet is too big and not what would fit.
constexpr uint32_t kUnknownMtu = 576;

// Whether a router says that a packet was too big for the next link, and what that takes.
bool isTooBig(msghdr& header, uint32_t& mtu) {
  for (cmsghdr* each = CMSG_FIRSTHDR(&header); each != nullptr; each = CMSG_NXTHDR(&header, each)) {
    const bool v4 = each->cmsg_level == IPPROTO_IP && each->cmsg_type == IP_RECVERR;
    const bool v6 = each->cmsg_level == IPPROTO_IPV6 && each->cmsg_type == IPV6_RECVERR;
    if ((!v4 && !v6) || each->cmsg_len < CMSG_LEN(sizeof(sock_extended_err))) continue;
    sock_extended_err error{};
    std::memcpy(&error, CMSG_DATA(each), sizeof(error));
    mtu = error.ee_info;
    return v4 ? error.ee_origin == SO_EE_ORIGIN_ICMP && error.ee_type == ICMP_DEST_UNREACH && error.ee_code == ICMP_FRAG_NEEDED
              : error.ee_origin == SO_EE_ORIGIN_ICMP6 && error.ee_type == ICMP6_PACKET_TOO_BIG;
  }
  return false;
}

}  // namespace

// About what the endpoint sent, whichever way it went: the kernel finds the socket by the ports in the message.
void NetStack::readErrors(StackEndpoint& endpoint) {
  for (int i = 0; i < kMaxErrorsPerLook; ++i) {
    SockAddr destination;
    alignas(cmsghdr) std::array<uint8_t, 256> control{};
    uint8_t ignored[64];
    iovec vector{ignored, sizeof(ignored)};
    msghdr header{};
    header.msg_name = &destination.storage;
    header.msg_namelen = sizeof(destination.storage);
    header.msg_iov = &vector;
    header.msg_iovlen = 1;
    header.msg_control = control.data();
    header.msg_controllen = control.size();
    if (::recvmsg(endpoint.reserved().fd(), &header, MSG_ERRQUEUE | MSG_DONTWAIT) < 0) return;
    destination.length = header.msg_namelen;
    uint32_t mtu = 0;
    const bool tooBig = isTooBig(header, mtu);
    onError(endpoint, header.msg_namelen > 0 ? net::IpAddress::of(destination) : net::IpAddress{}, tooBig, mtu);
  }
}

void NetStack::onIcmpError(const IcmpError& error) {
  StackEndpoint* endpoint = ports_[error.sourcePort % kPortBuckets];
  while (endpoint != nullptr && (endpoint->port() != error.sourcePort || endpoint->ip().family != error.source.family ||
                                 !(endpoint->wildcard() || endpoint->ip() == error.source))) {
    endpoint = endpoint->nextOfBucket;
  }
  // A forged error would have to know an address and a port of ours.
  if (endpoint == nullptr || !isLocal(error.source)) return stats_.add(StackCounter::kIcmpErrorsIgnored);
  onError(*endpoint, error.destination, error.tooBig, error.mtu);
}

void NetStack::onError(StackEndpoint& endpoint, const net::IpAddress& destination, bool tooBig, uint32_t mtu) {
  const bool looked = errorLimit_.allow(nowNs_);
  // And one that we send to.
  if (looked && !refreshRoutesTo(destination)) return stats_.add(StackCounter::kIcmpErrorsIgnored);
  stats_.add(StackCounter::kIcmpErrors);
  endpoint.stats.sendErrors.fetch_add(1, std::memory_order_relaxed);
  if (!looked || !tooBig) return;
  // The tables learn it too, but their answer comes later, and until then all that is sent is lost.
  const uint32_t fits = mtu == 0 ? kUnknownMtu : mtu;
  if (fits < link_.mtu && pathMtus_.lower(destination, fits, nowNs_)) ++version_;
}

}  // namespace outrigger::io
