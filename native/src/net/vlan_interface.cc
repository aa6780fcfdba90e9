// SPDX-License-Identifier: Apache-2.0
// See the header.
#include "net/vlan_interface.h"

#include "net/netlink_socket.h"

namespace outrigger::net {

Result<NetlinkLink> vlanInterface(uint32_t lower, uint16_t vlan) {
  auto socket = NetlinkSocket::open({});
  if (!socket) return socket.error();
  NetlinkLink found;
  const auto dumped = socket->dump(
      RTM_GETLINK, AF_UNSPEC, [&] { found = {}; },
      [&](const nlmsghdr* message) {
        NetlinkLink link;
        if (parseLink(message, link) && link.vlan == vlan && link.lower == lower) found = link;
      });
  if (!dumped) return dumped.error();
  return found;
}

}  // namespace outrigger::net
