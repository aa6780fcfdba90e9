// SPDX-License-Identifier: Apache-2.0
// What an interface says about itself without being touched: its driver, its queues, and what of XDP its driver can do (the kernel's generic
// netlink family "netdev", Linux 6.3). Attaching a program to find out would restart the link of some devices.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/result.h"
#include "io/frame/netdev.h"

namespace outrigger::io::xdp {

struct InterfaceFacts {
  std::string driver;               // "veth", "mlx5_core", as ethtool -i prints it; empty when it has none
  bool hardware = false;            // stands on a bus: frames come from outside of this kernel
  uint32_t queues = 1;              // receive queues in use
  uint32_t receiveDescriptors = 0;  // of each queue's ring in the device; 0 when it does not say
  uint32_t mtu = 0;
  // From the netdev family; without it (an older kernel) nothing is known.
  struct Features {
    bool native = false;  // runs a program and redirects from it
    bool zeroCopy = false;
    bool multiBuffer = false;       // a native program may see frames longer than a page
    uint32_t zeroCopyBuffers = 1;   // of one frame
    bool transmitChecksum = false;  // zero-copy: the device fills checksums that the transmit metadata asks for
  };
  std::optional<Features> features;
};

InterfaceFacts readInterfaceFacts(const Netdev& netdev);

}  // namespace outrigger::io::xdp
