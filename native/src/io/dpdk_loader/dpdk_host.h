// SPDX-License-Identifier: Apache-2.0
// What DPDK needs of the machine, read from sysfs and /dev without DPDK: each thing that is missing is a cause with its fix. EAL itself
// answers most of them with a number.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/backend.h"
#include "io/dpdk_loader/eal_plan.h"

namespace outrigger::io {

// Where to look; tests have their own tree.
struct HostPaths {
  std::string sys = "/sys";
  std::string dev = "/dev";
};

struct HugepageSize {
  uint64_t bytes = 0;
  uint64_t total = 0;
  uint64_t free = 0;
};
std::vector<HugepageSize> hugepages(const HostPaths& paths);

// Empty when `plan` finds as many free hugepages as it needs, or needs none.
std::vector<BackendCause> hugepageCauses(const EalPlan& plan, const HostPaths& paths = {});

// Empty when the device can be opened as far as can be seen from outside: it exists, is bound to vfio-pci (or has a bifurcated driver),
// stands behind an IOMMU, its group is whole, and its device nodes may be opened.
std::vector<BackendCause> pciCauses(const std::string& address, const HostPaths& paths = {});

// Of a device that the kernel does not keep: what its exception interface (dpdk/exception_tap.h) lacks, first of all addresses. Empty for all others.
std::vector<BackendCause> exceptionCauses(const EalPlan& plan, const HostPaths& paths = {});
BackendCause noAddressesCause(const EalDevice& device);

// Empty when the interfaces that a virtual device names exist, and that of `vlan` (0: none) where the kernel keeps the device.
std::vector<BackendCause> vdevCauses(const EalDevice& device, uint16_t vlan = 0);
BackendCause noVlanInterfaceCause(const std::string& interface, uint16_t vlan);

}  // namespace outrigger::io
