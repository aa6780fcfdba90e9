// SPDX-License-Identifier: Apache-2.0
// The ordinary UDP socket that goes with a steered port: it reserves the port in the NIC's namespace, shows in `ss`, gives ephemeral ports,
// takes ICMP errors and what the NIC did not steer.
#pragma once

#include <string>

#include "base/fd.h"
#include "base/result.h"
#include "nicd/claims.h"

namespace outrigger::nicd {

struct UdpPort {
  UniqueFd socket;
  Address address;  // with the real port
};

// Bound to the interface too, so that its holder reaches neither the node's loopback nor its other networks. Port 0: one of `ranges`, or
// the system's choice when there are none.
Result<UdpPort> openUdpPort(const std::string& interface, const Address& address, const std::vector<PortRange>& ranges,
                            int32_t receiveBufferBytes);

// Whether the interface has the address.
bool isLocalAddress(const std::string& interface, const Address& address);
bool isWildcard(const Address& address);

}  // namespace outrigger::nicd
