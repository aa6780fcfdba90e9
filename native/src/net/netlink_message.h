// SPDX-License-Identifier: Apache-2.0
// Reading of rtnetlink messages: links, addresses, neighbours, routes. Bounds-checked, no socket here: fuzzed as it is.
#pragma once

#include <linux/netlink.h>
#include <linux/rtnetlink.h>

#include <cstdint>
#include <string>

#include "net/kernel_tables.h"

namespace outrigger::net {

struct NetlinkLink {
  uint32_t index = 0;
  std::string name;
  uint32_t mtu = 0;
  bool up = false;
  uint32_t lower = 0;  // the interface beneath, of this network namespace; 0: none
  uint16_t vlan = 0;   // of an interface for a VLAN (802.1Q): which; 0: something else
  bool deleted = false;
};

struct NetlinkAddress {
  LocalAddress local;
  bool deleted = false;
};

struct NetlinkNeighbour {
  uint32_t interfaceIndex = 0;
  IpAddress address;
  std::array<uint8_t, 6> mac{};
  NeighbourState state = NeighbourState::kMissing;
  bool deleted = false;
};

// The answer to RTM_GETROUTE.
struct NetlinkRoute {
  uint8_t type = 0;  // RTN_UNICAST, RTN_LOCAL, ...
  uint32_t interfaceIndex = 0;
  uint32_t mtu = 0;  // of route or path MTU discovery, 0: the link's
  IpAddress source;
  IpAddress gateway;  // family AF_UNSPEC: on-link
};

// Each answers false when the message is not of its kind, is cut short, or lacks what makes it useful (an address that is neither IPv4 nor
// IPv6, a neighbour with a link-layer address that is no Ethernet one). `message` has header.nlmsg_len bytes.
bool parseLink(const nlmsghdr* message, NetlinkLink& out);
bool parseAddress(const nlmsghdr* message, NetlinkAddress& out);
bool parseNeighbour(const nlmsghdr* message, NetlinkNeighbour& out);
bool parseRoute(const nlmsghdr* message, NetlinkRoute& out);

// Walks the messages of one datagram; stops at the first that does not fit. visit(const nlmsghdr*) answers false to stop.
template <typename Visit>
void forEachMessage(const void* data, size_t length, Visit&& visit) {
  const auto* at = static_cast<const uint8_t*>(data);
  while (length >= sizeof(nlmsghdr)) {
    const auto* message = reinterpret_cast<const nlmsghdr*>(at);
    if (message->nlmsg_len < sizeof(nlmsghdr) || message->nlmsg_len > length) return;
    if (!visit(message)) return;
    const size_t step = NLMSG_ALIGN(message->nlmsg_len);
    if (step >= length) return;
    at += step;
    length -= step;
  }
}

}  // namespace outrigger::net
