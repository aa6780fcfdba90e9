// SPDX-License-Identifier: Apache-2.0
// Finds the local interface that `interface=` of a channel means. Reads the kernel's address list; control path only.
#pragma once

#include <string>

#include "base/result.h"
#include "io/datagram_io.h"
#include "net/udp_channel.h"

namespace outrigger::net {

struct InterfaceMatch {
  io::SockAddr address;  // to bind to, with the port of the specification or 0
  std::string name;      // netdev name, empty when no local interface has exactly this address
};

// Forms: "{eth0}", "host", "host:port", "[v6]", "[v6]:port", each of the address forms with "/prefix" to search by subnet.
// `family` limits the search (AF_UNSPEC: any). Without a prefix the address need not exist locally: binding tells.
Result<InterfaceMatch> searchInterface(const std::string& spec, int family, const HostResolver& resolver);

}  // namespace outrigger::net
