// SPDX-License-Identifier: Apache-2.0
// Attributes of rtnetlink messages, see rtnetlink(7). Attributes are copied out: the kernel aligns them to four bytes only.
#include "net/netlink_message.h"

#include <arpa/inet.h>
#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>

#include <algorithm>

namespace outrigger::net {
namespace {

struct Attribute {
  uint16_t type = 0;
  const uint8_t* data = nullptr;
  size_t length = 0;

  uint32_t u32() const {
    uint32_t value = 0;
    if (length >= sizeof(value)) std::memcpy(&value, data, sizeof(value));
    return value;
  }
  uint16_t u16() const {
    uint16_t value = 0;
    if (length >= sizeof(value)) std::memcpy(&value, data, sizeof(value));
    return value;
  }
  // Without the zero at its end.
  std::string text(size_t longest) const {
    const auto* end = std::find(data, data + std::min(length, longest), uint8_t{0});
    return {reinterpret_cast<const char*>(data), static_cast<size_t>(end - data)};
  }
  bool address(uint8_t family, IpAddress& out) const {
    if ((family != AF_INET && family != AF_INET6) || length != (family == AF_INET6 ? 16U : 4U)) return false;
    out = IpAddress::fromBytes(family, data);
    return true;
  }
};

template <typename Visit>
void forEachAttribute(const uint8_t* at, size_t left, Visit&& visit) {
  while (left >= sizeof(rtattr)) {
    rtattr header;
    std::memcpy(&header, at, sizeof(header));
    if (header.rta_len < sizeof(rtattr) || header.rta_len > left) return;
    visit(Attribute{static_cast<uint16_t>(header.rta_type & NLA_TYPE_MASK), at + sizeof(rtattr), header.rta_len - sizeof(rtattr)});
    const size_t step = RTA_ALIGN(static_cast<size_t>(header.rta_len));
    if (step >= left) return;
    at += step;
    left -= step;
  }
}

// Reads the fixed part and walks the attributes behind it.
template <typename Fixed, typename Visit>
bool readMessage(const nlmsghdr* message, Fixed& fixed, Visit&& visit) {
  if (message->nlmsg_len < NLMSG_LENGTH(sizeof(Fixed))) return false;
  const auto* body = reinterpret_cast<const uint8_t*>(message) + NLMSG_HDRLEN;
  std::memcpy(&fixed, body, sizeof(Fixed));
  const size_t offset = NLMSG_ALIGN(sizeof(Fixed));
  const size_t length = message->nlmsg_len - NLMSG_HDRLEN;
  if (length > offset) forEachAttribute(body + offset, length - offset, visit);
  return true;
}

NeighbourState stateOf(uint16_t nud) {
  if ((nud & (NUD_REACHABLE | NUD_PERMANENT | NUD_NOARP)) != 0) return NeighbourState::kUsable;
  // DELAY and PROBE: the kernel is about to confirm it, and uses it meanwhile.
  if ((nud & (NUD_DELAY | NUD_PROBE)) != 0) return NeighbourState::kUsable;
  if ((nud & NUD_STALE) != 0) return NeighbourState::kStale;
  return NeighbourState::kMissing;
}

// Of IFLA_LINKINFO: the id, where the kind is vlan and the tag that of 802.1Q.
uint16_t vlanOf(const Attribute& linkInfo) {
  std::string kind;
  uint16_t id = 0;
  uint16_t protocol = htons(ETH_P_8021Q);  // kernels before 3.10 say none
  forEachAttribute(linkInfo.data, linkInfo.length, [&](const Attribute& part) {
    if (part.type == IFLA_INFO_KIND) kind = part.text(IFNAMSIZ);
    if (part.type != IFLA_INFO_DATA) return;
    forEachAttribute(part.data, part.length, [&](const Attribute& field) {
      if (field.type == IFLA_VLAN_ID) id = field.u16();
      if (field.type == IFLA_VLAN_PROTOCOL) protocol = field.u16();
    });
  });
  return kind == "vlan" && protocol == htons(ETH_P_8021Q) ? id : uint16_t{0};
}

}  // namespace

bool parseLink(const nlmsghdr* message, NetlinkLink& out) {
  if (message->nlmsg_type != RTM_NEWLINK && message->nlmsg_type != RTM_DELLINK) return false;
  ifinfomsg fixed{};
  bool lowerIsElsewhere = false;
  const bool whole = readMessage(message, fixed, [&](const Attribute& attribute) {
    if (attribute.type == IFLA_MTU) out.mtu = attribute.u32();
    if (attribute.type == IFLA_IFNAME) out.name = attribute.text(IFNAMSIZ);
    if (attribute.type == IFLA_LINK) out.lower = attribute.u32();
    if (attribute.type == IFLA_LINK_NETNSID) lowerIsElsewhere = true;
    if (attribute.type == IFLA_LINKINFO) out.vlan = vlanOf(attribute);
  });
  if (lowerIsElsewhere) out.lower = 0;
  if (!whole || fixed.ifi_index <= 0) return false;
  out.index = static_cast<uint32_t>(fixed.ifi_index);
  out.up = (fixed.ifi_flags & IFF_UP) != 0 && (fixed.ifi_flags & IFF_LOWER_UP) != 0;
  out.deleted = message->nlmsg_type == RTM_DELLINK;
  return true;
}

bool parseAddress(const nlmsghdr* message, NetlinkAddress& out) {
  if (message->nlmsg_type != RTM_NEWADDR && message->nlmsg_type != RTM_DELADDR) return false;
  ifaddrmsg fixed{};
  IpAddress address;
  IpAddress local;
  bool hasAddress = false;
  bool hasLocal = false;
  // The family stands in the fixed part, which is read before the attributes.
  const bool whole = readMessage(message, fixed, [&](const Attribute& attribute) {
    if (attribute.type == IFA_ADDRESS) hasAddress = attribute.address(fixed.ifa_family, address);
    if (attribute.type == IFA_LOCAL) hasLocal = attribute.address(fixed.ifa_family, local);
  });
  if (!whole || (!hasAddress && !hasLocal)) return false;
  // On a point-to-point link IFA_ADDRESS is the peer's.
  out.local.address = hasLocal ? local : address;
  out.local.interfaceIndex = fixed.ifa_index;
  out.local.prefixLength = fixed.ifa_prefixlen;
  out.deleted = message->nlmsg_type == RTM_DELADDR;
  return true;
}

bool parseNeighbour(const nlmsghdr* message, NetlinkNeighbour& out) {
  if (message->nlmsg_type != RTM_NEWNEIGH && message->nlmsg_type != RTM_DELNEIGH) return false;
  ndmsg fixed{};
  bool hasAddress = false;
  bool hasMac = false;
  const bool whole = readMessage(message, fixed, [&](const Attribute& attribute) {
    if (attribute.type == NDA_DST) hasAddress = attribute.address(fixed.ndm_family, out.address);
    if (attribute.type == NDA_LLADDR && attribute.length == out.mac.size()) {
      std::memcpy(out.mac.data(), attribute.data, out.mac.size());
      hasMac = true;
    }
  });
  if (!whole || !hasAddress || fixed.ndm_ifindex <= 0 || (fixed.ndm_flags & NTF_PROXY) != 0) return false;
  out.interfaceIndex = static_cast<uint32_t>(fixed.ndm_ifindex);
  out.state = hasMac ? stateOf(fixed.ndm_state) : NeighbourState::kMissing;
  out.deleted = message->nlmsg_type == RTM_DELNEIGH;
  return true;
}

bool parseRoute(const nlmsghdr* message, NetlinkRoute& out) {
  if (message->nlmsg_type != RTM_NEWROUTE) return false;
  rtmsg fixed{};
  const bool whole = readMessage(message, fixed, [&](const Attribute& attribute) {
    switch (attribute.type) {
      case RTA_OIF:
        out.interfaceIndex = attribute.u32();
        break;
      case RTA_PREFSRC:
        attribute.address(fixed.rtm_family, out.source);
        break;
      case RTA_GATEWAY:
        attribute.address(fixed.rtm_family, out.gateway);
        break;
      case RTA_VIA:  // an IPv4 route through an IPv6 gateway (RFC 5549): struct rtvia, a family and the bytes
        if (attribute.length > sizeof(uint16_t)) {
          uint16_t family = 0;
          std::memcpy(&family, attribute.data, sizeof(family));
          Attribute{0, attribute.data + sizeof(family), attribute.length - sizeof(family)}.address(static_cast<uint8_t>(family),
                                                                                                   out.gateway);
        }
        break;
      case RTA_METRICS:
        forEachAttribute(attribute.data, attribute.length, [&](const Attribute& metric) {
          if (metric.type == RTAX_MTU) out.mtu = metric.u32();
        });
        break;
      default:
        break;
    }
  });
  if (!whole || (fixed.rtm_family != AF_INET && fixed.rtm_family != AF_INET6)) return false;
  out.type = fixed.rtm_type;
  return true;
}

}  // namespace outrigger::net
