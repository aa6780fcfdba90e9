// SPDX-License-Identifier: Apache-2.0
// Fuzzes the reading of rtnetlink datagrams: nothing is read outside the message, and what is accepted is whole.
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "net/netlink_message.h"

using namespace outrigger::net;

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

bool isAddress(const IpAddress& address) { return address.family == AF_INET || address.family == AF_INET6; }

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // Aligned as the kernel's are, and no longer than what was received.
  std::vector<uint32_t> aligned((size + 3) / 4);
  if (size > 0) std::memcpy(aligned.data(), data, size);
  forEachMessage(aligned.data(), size, [](const nlmsghdr* message) {
    if (NetlinkLink link; parseLink(message, link)) require(link.index > 0 && link.name.size() <= 16);
    if (NetlinkAddress address; parseAddress(message, address)) require(isAddress(address.local.address));
    if (NetlinkNeighbour neighbour; parseNeighbour(message, neighbour)) {
      require(isAddress(neighbour.address) && neighbour.interfaceIndex > 0);
    }
    if (NetlinkRoute route; parseRoute(message, route)) {
      require(route.gateway.family == AF_UNSPEC || isAddress(route.gateway));
    }
    return true;
  });
  return 0;
}
