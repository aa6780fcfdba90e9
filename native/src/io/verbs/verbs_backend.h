// SPDX-License-Identifier: Apache-2.0
// The row `verbs` of the table of backends: which port of which device, and why not.
#pragma once

#include "io/backend.h"
#include "io/verbs/rdma_port.h"
#include "net/ip_address.h"

namespace outrigger::io {

Result<IoPair> openVerbs(const BackendOptions& options);
BackendReport probeVerbs(const BackendOptions& options);

namespace verbs {

// An address of this network namespace, and its interface.
struct HostAddress {
  net::IpAddress address;
  std::string interface;
};
std::vector<HostAddress> hostAddresses();

struct PortChoice {
  bool found = false;
  PortFacts port;                    // only with the GIDs of `addresses`
  std::vector<BackendCause> causes;  // why each other one can't be used; all of them, where none is found
};

// The first port that is up and has a RoCE v2 GID of an address of this host: of options.address or options.interface, where these are set.
PortChoice choosePort(const std::vector<PortFacts>& ports, const std::vector<HostAddress>& addresses, const BackendOptions& options);

// Slots of MTU bytes in one half of the memory for frames, a power of two that the device can hold.
uint32_t slotsIn(uint32_t bytes, uint32_t mtu);

}  // namespace verbs
}  // namespace outrigger::io
