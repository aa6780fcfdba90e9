// SPDX-License-Identifier: Apache-2.0
// The kernel's interface of a VLAN.
#pragma once

#include "base/result.h"
#include "net/netlink_message.h"

namespace outrigger::net {

// That of `vlan` (802.1Q) over the interface `lower` of this network namespace; its index is 0 where there is none. Needs no privilege.
Result<NetlinkLink> vlanInterface(uint32_t lower, uint16_t vlan);

}  // namespace outrigger::net
