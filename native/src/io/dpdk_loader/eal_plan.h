// SPDX-License-Identifier: Apache-2.0
// From the configuration to what EAL is started with and which device is opened: a pure function, so that it can be tested without DPDK.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "io/backend.h"
#include "io/dpdk_loader/address_list.h"

namespace outrigger::io {

inline constexpr uint64_t kMiB = 1ull << 20;

// A device as EAL takes it: "0000:01:10.0" or "net_af_packet0", and its arguments ("iface=eth0,qpairs=2").
struct EalDevice {
  std::string name;
  std::string arguments;
  bool pci = false;

  std::string text() const { return arguments.empty() ? name : name + "," + arguments; }
  // The value of one of its arguments, empty when it is not there.
  std::string argument(const std::string& key) const;
};

struct EalPlan {
  std::vector<std::string> arguments;  // of rte_eal_init, without the program's name; devices are plugged afterwards, except PCI
  std::vector<EalDevice> devices;      // all that the configuration names
  EalDevice device;                    // the one to open
  bool hugepages = true;
  bool usesPci = false;
  uint64_t memoryBytes = 0;  // that EAL needs for buffers and rings
  uint32_t bufferBytes = 0;  // of receive and transmit buffers together
  uint32_t queues = 1;       // pairs of receive and transmit queues
  uint32_t mtu = 0;          // to set on the device, 0: as it is
  uint16_t vlan = 0;         // 802.1Q tag of all traffic, 0: untagged
  uint32_t logLevel = 4;     // RTE_LOG_ERR
  // Of a device that the kernel does not own: its exception interface, made when there are addresses.
  std::string exceptionInterface;
  std::vector<InterfaceAddress> addresses;
  std::vector<SockAddr> gateways;
};

// `cpus`: those this process may run on; none, where the kernel does not say: CPU 0. Fails naming the argument that is not allowed and why.
Result<EalPlan> planEal(const BackendOptions& options, const std::vector<int>& cpus);

// "0000:01:10.0" or "01:10.0", with any case of the digits; answers the long form, or an empty string.
std::string pciAddress(const std::string& text);

}  // namespace outrigger::io
